"""The supervisor restarts its processes, and ends all of them when it ends or is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adit.supervisor import AlreadyRunning, NotReady, Process, Supervisor, lock_data_folder

SLEEPER = "import time; time.sleep(600)"
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print(1, flush=True); time.sleep(600)"
)
PARENT = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
    "time.sleep(600)"
)


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def python(name: str, code: str, *arguments: str, **values: object) -> Process:
    return Process(name, [sys.executable, "-c", code, *arguments], **values)  # type: ignore[arg-type]


def until(condition: Callable[[], object], deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Return whether the process is running; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_stop_ends_processes_and_their_children() -> None:
    supervisor = Supervisor([python("parent", PARENT, DEAF)], grace_s=1)
    supervisor.start()
    (parent,) = supervisor.pids().values()
    until(lambda: children_of(parent))
    (child,) = children_of(parent)
    supervisor.stop()
    assert not is_alive(parent)
    until(lambda: not is_alive(child))


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    output = tmp_path / "log"
    supervisor = Supervisor([python("deaf", DEAF, output=output)], grace_s=1)
    supervisor.start()
    until(lambda: output.exists() and output.read_text())
    (pid,) = supervisor.pids().values()
    begun = time.monotonic()
    supervisor.stop()
    assert 1 <= time.monotonic() - begun < 60
    assert not is_alive(pid)


def test_a_killed_process_is_restarted(capfd: pytest.CaptureFixture[str]) -> None:
    with Supervisor([python("worker", SLEEPER)], grace_s=2) as supervisor:
        first = supervisor.pids()["worker"]
        os.kill(first, signal.SIGKILL)

        def again() -> bool:
            supervisor.restart_ended()
            return supervisor.pids().get("worker", first) != first

        until(again)
        assert is_alive(supervisor.pids()["worker"])
    assert "worker ended (killed by SIGKILL). Restart in 0.5 s." in capfd.readouterr().err


def test_the_delay_between_restarts_grows(capfd: pytest.CaptureFixture[str]) -> None:
    with Supervisor([python("broken", "raise SystemExit(3)")], grace_s=1) as supervisor:
        seen: list[str] = []

        def three() -> bool:
            supervisor.restart_ended()
            seen.extend(capfd.readouterr().err.splitlines())
            return len(seen) >= 3

        until(three)
    assert [line.rsplit("Restart in ", 1)[1] for line in seen[:3]] == ["0.5 s.", "1 s.", "2 s."]


def test_the_not_ready_error_names_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    silent = Supervisor([python("web", SLEEPER, ready=lambda: False)], grace_s=1)
    with silent, pytest.raises(NotReady, match=r"web was not ready within 0\.3 s"):
        silent.wait_ready(0.3)
    broken = Supervisor([python("web", "raise SystemExit(3)", ready=lambda: False)], grace_s=1)
    with broken, pytest.raises(NotReady, match=r"web ends repeatedly \(exit code 3\)"):
        broken.wait_ready(30)


def test_wait_ready_succeeds_when_a_process_is_ready(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    code = f"import pathlib, time; pathlib.Path({str(sign)!r}).touch(); time.sleep(600)"
    with Supervisor([python("one", code, ready=sign.exists)], grace_s=1) as supervisor:
        assert supervisor.wait_ready(60)


def test_sigterm_ends_the_supervisor_and_its_processes(tmp_path: Path) -> None:
    supervisor, pids = supervised(tmp_path)
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    until(lambda: not any(is_alive(pid) for pid in pids))


def test_processes_end_if_the_supervisor_is_killed(tmp_path: Path) -> None:
    supervisor, pids = supervised(tmp_path)
    supervisor.kill()
    supervisor.wait()
    until(lambda: not any(is_alive(pid) for pid in pids))


def supervised(tmp_path: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """Start a supervisor process with two children; return it and the PIDs of the children."""
    code = (
        "import sys; from adit.supervisor import *\n"
        f"two = [Process(n, [sys.executable, '-c', {SLEEPER!r}]) for n in 'ab']\n"
        "with Supervisor(two, grace_s=3) as s: s.wait_ready(5); s.run_until_signal()\n"
    )
    popen = subprocess.Popen([sys.executable, "-c", code])
    until(lambda: len(children_of(popen.pid)) == 2)
    children = children_of(popen.pid)
    until(lambda: all(b"sleep" in Path(f"/proc/{c}/cmdline").read_bytes() for c in children))
    return popen, children


def test_a_data_folder_is_locked_by_one_process(tmp_path: Path) -> None:
    refused = pytest.raises(AlreadyRunning, match=f"process {os.getpid()}.*ADIT_DATA")
    with lock_data_folder(tmp_path), refused, lock_data_folder(tmp_path):
        pass
    with lock_data_folder(tmp_path):
        pass


def test_processes_load_no_libraries_for_pixels_before_they_need_them() -> None:
    code = "import sys, adit.cli, django; django.setup();"
    code += "print(sorted({'numpy', 'PIL', 'pydicom', 'fpdf'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=True
    )
    assert done.stdout.strip() == "[]"
