"""A TCP proxy that delays each direction, as a network between two buildings does.

Run in a process of its own: `python -m benchmarks.delayed_network TARGET_PORT SECONDS`; it prints
its port. Used by `benchmarks.compare`, since delays cannot be set for the network of this machine.
"""

import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 1 << 18
_MOST_CHUNKS = 256
"""Chunks on their way in one direction of one connection."""


@contextmanager
def delayed_port(target: int, seconds: float) -> Iterator[int]:
    """Yield a port that forwards to `target`, delayed by `seconds` in each direction."""
    command = [sys.executable, "-m", "benchmarks.delayed_network", str(target), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def serve(target: int, seconds: float) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(listener.getsockname()[1], flush=True)
    while True:
        caller, _ = listener.accept()
        try:
            called = socket.create_connection(("127.0.0.1", target))
        except OSError:
            caller.close()
            continue
        for one in (caller, called):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _forward(caller, called, seconds)
        _forward(called, caller, seconds)


def _forward(one: socket.socket, other: socket.socket, seconds: float) -> None:
    under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(_MOST_CHUNKS)
    for work, side in ((_read, one), (_write, other)):
        threading.Thread(target=work, args=(side, under_way, seconds), daemon=True).start()


def _read(
    one: socket.socket, under_way: "queue.Queue[tuple[float, bytes]]", seconds: float
) -> None:
    data = b"-"
    while data:
        try:
            data = one.recv(_CHUNK)
        except OSError:
            data = b""
        under_way.put((time.monotonic() + seconds, data))


def _write(other: socket.socket, under_way: "queue.Queue[tuple[float, bytes]]", _: float) -> None:
    with suppress(OSError):
        while True:
            due_at, data = under_way.get()
            time.sleep(max(0.0, due_at - time.monotonic()))
            if not data:
                break
            other.sendall(data)
    with suppress(OSError):
        other.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]))
