"""Reaper: ends all processes that the tests started, however the tests end.

Each process that the tests start has a mark in its environment. A separate process waits for the
end of its input; then it kills all processes with the mark and removes the folders it was given.
Services also have a keeper (keeper.py), which has no mark.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

MARK = "STARTED_BY_TESTS"
WITHIN_S = 60.0


def unmarked() -> dict[str, str]:
    """Return the environment without the mark, for processes that end by themselves."""
    return {name: value for name, value in os.environ.items() if name != MARK}


@contextlib.contextmanager
def reaping() -> Iterator[Callable[[Path], None]]:
    """Mark all processes started in the block; yield a function that registers a folder."""
    mark = secrets.token_hex(16)
    reaper = subprocess.Popen(
        [sys.executable, __file__, mark],
        stdin=subprocess.PIPE,
        env=unmarked(),
        text=True,
        start_new_session=True,
    )
    told = reaper.stdin
    assert told is not None

    def remove(folder: Path) -> None:
        told.write(f"{folder}\n")
        told.flush()

    outer = os.environ.get(MARK)
    os.environ[MARK] = mark
    try:
        yield remove
    finally:
        if outer is None:
            del os.environ[MARK]
        else:
            os.environ[MARK] = outer
        told.close()
        reaper.wait(WITHIN_S + 5)


def marked(mark: str) -> list[int]:
    """Return the IDs of running processes with this mark."""
    sought, found = f"{MARK}={mark}".encode(), []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                if sought in (place / "environ").read_bytes().split(b"\0"):
                    found.append(int(place.name))
    return found


def main(mark: str) -> None:
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    folders = sys.stdin.read().splitlines()
    until = time.monotonic() + WITHIN_S
    while (left := marked(mark)) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
