"""ADIT on several simulated machines, each with its own data folder and the usual commands.

They share PostgreSQL, RabbitMQ, Redis and the keys, but no disk.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import ROOT, answers, free_port
from lab import services
from lab.services import Service

QUICK = {
    "ADIT_LEASE_S": "5",
    "ADIT_BEAT_S": "1",
    "ADIT_SWEEP_S": "1",
    "ADIT_RETRY_PAUSES_S": "1",
    "ADIT_MAX_FAILURES": "100",
    "ADIT_RECEPTION_LIVES_S": "8",
}
AGAIN_S = 0.5

needs_services = [services.needs_postgresql, services.needs_rabbitmq, services.needs_redis]


@dataclass
class Cluster:
    """Processes by name, and the settings common to all machines."""

    folder: Path
    settings: dict[str, str]
    services: dict[str, Service]
    web_port: int = field(default_factory=free_port)
    receiver_port: int = field(default_factory=free_port)
    _commands: dict[str, tuple[str, str]] = field(default_factory=dict)
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _again_at: dict[str, float] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}"

    def data(self, machine: str) -> Path:
        return self.folder / machine

    def env(self, machine: str) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_", "DATA"))
        }
        return {**kept, **self.told(machine), "PYTHONPATH": str(ROOT)}

    def told(self, machine: str) -> dict[str, str]:
        return {
            "ADIT_DATA": str(self.data(machine)),
            "PORT": str(self.web_port),
            "ADIT_RECEIVER_PORT": str(self.receiver_port),
            "ADIT_RECEIVER_HOST": "127.0.0.1",
            **self.settings,
        }

    def run(self, machine: str, *words: str) -> str:
        """Run a command on a machine and return its output."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=ROOT,
            env=self.env(machine),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def run_on_web(self, *words: str) -> str:
        return self.run("web", *words)

    def start(self, name: str, machine: str, command: str) -> None:
        self._commands[name] = (machine, command)
        self._begin(name)

    def tend(self) -> None:
        """Restart processes that have ended, as a container runtime does."""
        for name, process in list(self._running.items()):
            if process.poll() is not None:
                due = self._again_at.setdefault(name, time.monotonic() + AGAIN_S)
                if time.monotonic() >= due:
                    self._begin(name)

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._running[name].pid, how)

    def runs(self, name: str) -> bool:
        return self._running[name].poll() is None

    def names(self, command: str) -> list[str]:
        return [name for name, (_, used) in self._commands.items() if used == command]

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def wait_for(self, happened: Callable[[], bool], what: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            self.tend()
            if time.monotonic() > deadline:
                pytest.fail(f"{what}: not within {seconds} s\n{self.log()[-6000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _begin(self, name: str) -> None:
        machine, command = self._commands[name]
        self._again_at.pop(name, None)
        self.data(machine).mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "adit.cli", command],
                cwd=ROOT,
                env=self.env(machine),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@contextmanager
def cluster(folder: Path, *, workers: int = 2, **settings: str) -> Iterator[Cluster]:
    """Cluster prepared by `adit prepare`, with services only. Secrets are read from files."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(getattr(services, name)())
            for name in ("postgresql", "rabbitmq", "redis")
        }
        given = {
            "DATABASE_URL": running["postgresql"].url,
            "ADIT_BROKER_URL": running["rabbitmq"].url,
            "ADIT_REDIS_URL": running["redis"].url,
        }
        told = {
            **QUICK,
            "ADIT_WORKERS": str(workers),
            "ADIT_KEY_FILE": str(folder / "master.key"),
            "ADIT_SECRET_KEY_FILE": str(folder / "web.key"),
        }
        for name, value in given.items():
            path = folder / name.lower()
            path.write_text(value + "\n")
            path.chmod(0o600)
            told[f"{name}_FILE"] = str(path)
        one = Cluster(folder, {**told, **settings}, running)
        one.run("web", "-m", "adit.cli", "prepare")
        try:
            yield one
        finally:
            one.stop()


def start_all(one: Cluster, workers: int = 2) -> None:
    """Start web, scheduler, receiver and the workers, each on its own machine."""
    one.start("web", "web", "web")
    one.start("scheduler", "scheduler", "scheduler")
    one.start("receiver", "receiver", "receiver")
    for number in range(1, workers + 1):
        one.start(f"worker-{number}", f"worker-{number}", "worker")
    one.wait_for(lambda: answers(f"{one.url}/healthz"), "the pages", 180)


def at_orthanc(one: Cluster) -> Mapping[str, object]:
    """Orthanc configuration for C-MOVE to our receiver."""
    return {"DicomModalities": {"adit": ["ADIT", "127.0.0.1", one.receiver_port]}}
