"""Start the processes of `adit up`, restart those that end, and stop them all completely.

Used by `adit.cli`.
"""

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from adit.processes import get_process_name

GRACE_S = 8.0
POLL_S = 0.1
FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
STABLE_AFTER_S = 60.0
"""A process that ran for this time does not crash at its start: its next pause is short again."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class AlreadyRunning(Exception):
    """Another supervisor uses the same data folder."""


class NotReady(Exception):
    """A process did not become ready in time, or ends repeatedly."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process to keep running.

    `ready` returns whether it does its work; None: once it runs.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] | None = None
    output: Path | None = None
    """Where its output goes; None: to the supervisor's output."""
    cleanup: Sequence[str] = ()
    """A command to run each time the process has crashed, with its name as last argument."""


@dataclass
class _Running:
    """A process as it runs now; `popen` is None while it waits for its restart."""

    process: Process
    popen: subprocess.Popen[bytes] | None = None
    name: str = ""
    """Identifies the process beyond its end; see get_process_name()."""
    started_at: float = 0.0
    crashes: int = 0
    start_again_at: float = 0.0
    last_exit: int | None = None


class Supervisor:
    """Runs a set of processes. Needs the main thread of a process without others.

    sup = Supervisor([...]); sup.start(); sup.wait_ready(10); sup.run_until_signal()
    """

    def __init__(self, processes: Sequence[Process], *, grace_s: float = GRACE_S) -> None:
        self._running = [_Running(process) for process in processes]
        self._grace_s = grace_s
        self._asked = False
        self._is_stopped = False
        self._cleanups: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Supervisor":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def stop_requested(self) -> bool:
        """Whether a signal requested the end."""
        return self._asked

    def pids(self) -> dict[str, int]:
        return {r.process.name: r.popen.pid for r in self._running if r.popen is not None}

    def start(self) -> None:
        """Start all processes. From now on SIGTERM, SIGINT and SIGHUP request the end."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        for running in self._running:
            if not self._asked:
                self._spawn(running)

    def wait_ready(self, deadline_s: float) -> bool:
        """Wait until all are ready; return False if a signal came first.

        Raises NotReady with a reason.
        """
        end = time.monotonic() + deadline_s
        waiting = list(self._running)
        while not self._asked:
            self.restart_ended()
            waiting = [running for running in waiting if not _is_ready(running)]
            if not waiting:
                return True
            if time.monotonic() > end:
                raise NotReady(_explain_not_ready(waiting[0], deadline_s))
            time.sleep(POLL_S)
        return False

    def run_until_signal(self) -> None:
        """Keep all running until SIGTERM, SIGINT or SIGHUP; then stop them."""
        while not self._asked:
            self.restart_ended()
            time.sleep(POLL_S)
        self.stop()

    def restart_ended(self) -> None:
        """Restart processes that ended, each after a pause that grows."""
        now = time.monotonic()
        self._cleanups = [popen for popen in self._cleanups if popen.poll() is None]
        for running in self._running:
            if running.popen is not None and running.popen.poll() is not None:
                self._note_crash(running, now)
            if running.popen is None and running.start_again_at <= now and not self._asked:
                self._spawn(running)

    def stop(self) -> None:
        """Terminate all; kill those left after the grace time. Safe to repeat."""
        self._asked = True
        if self._is_stopped:
            return
        self._is_stopped = True
        left = [r.popen for r in self._running if r.popen is not None] + self._cleanups
        for popen in left:
            with contextlib.suppress(ProcessLookupError):
                popen.terminate()
        end = time.monotonic() + self._grace_s
        for popen in left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(max(0.0, end - time.monotonic()))
        for popen in left:
            _kill_group(popen)
            popen.wait()

    def _spawn(self, running: _Running) -> None:
        process = running.process
        running.popen = self._run(process, process.argv)
        running.name = get_process_name(running.popen.pid)
        running.started_at = time.monotonic()

    def _run(self, process: Process, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        with _open_output(process.output) as output:
            return subprocess.Popen(  # noqa: S603
                list(argv),
                env={**os.environ, **process.env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with_parent(os.getpid()),
            )

    def _note_crash(self, running: _Running, now: float) -> None:
        assert running.popen is not None
        _kill_group(running.popen)
        if now - running.started_at > STABLE_AFTER_S:
            running.crashes = 0
        running.last_exit = running.popen.returncode
        running.popen = None
        pause = min(FIRST_PAUSE_S * 2**running.crashes, MAX_PAUSE_S)
        running.crashes += 1
        running.start_again_at = now + pause
        print_message(
            f"{running.process.name} ended ({_describe_exit(running.last_exit)}). "
            f"Restart in {pause:g} s."
        )
        if running.process.cleanup and not self._asked:
            argv = [*running.process.cleanup, running.name]
            self._cleanups.append(self._run(running.process, argv))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


@contextlib.contextmanager
def lock_data_folder(data_dir: Path) -> Iterator[None]:
    """Hold the lock of the data folder; it is released with the process.

    Raises AlreadyRunning.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / "adit.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise AlreadyRunning(
                f"ADIT already uses the data folder {data_dir} (process {pid}). "
                "Stop it first, or set ADIT_DATA to another folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def print_message(text: str) -> None:
    """Print a message to the person at the terminal."""
    print(f"adit: {text}", file=sys.stderr, flush=True)


def _end_with_parent(parent: int) -> Callable[[], None]:
    """Return a function for the child that ends it when the supervisor is killed."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


@contextlib.contextmanager
def _open_output(path: Path | None) -> Iterator[int | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        yield file.fileno()


def _kill_group(popen: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(popen.pid, signal.SIGKILL)


def _is_ready(running: _Running) -> bool:
    alive = running.popen is not None and running.popen.poll() is None
    return alive and (running.process.ready is None or running.process.ready())


def _explain_not_ready(running: _Running, deadline_s: float) -> str:
    name = running.process.name
    if running.crashes:
        return (
            f"{name} ends repeatedly ({_describe_exit(running.last_exit)}). "
            "For the reason, see its output above."
        )
    return f"{name} was not ready within {deadline_s:g} s. See its output above."


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "not started"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
