"""Detection of leaked threads and sockets of this process."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

RETURN_S = 30.0


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if the block leaves a thread or a socket open."""
    threads, sockets = set(threading.enumerate()), open_sockets()
    yield
    until = time.monotonic() + RETURN_S
    while open_sockets() > sockets or not set(threading.enumerate()) <= threads:
        left = [thread.name for thread in threading.enumerate() if thread not in threads]
        assert time.monotonic() < until, (left, open_sockets(), sockets)
        time.sleep(0.02)


def open_sockets() -> int:
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(link.readlink()).startswith("socket:")
    return found


def resident_mib() -> float:
    """Return the resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
