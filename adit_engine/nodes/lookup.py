"""Lookup: where a host is; the name service is asked in a time limit of ours."""

import socket
import threading
from queue import Empty, SimpleQueue
from typing import Any

Address = tuple[int, Any]
"""Its family, and what `connect` takes."""


class Lookup:
    """Used once, by one thread; only `end` may be called from any other, even by a signal handler."""

    def __init__(self, host: str, port: int) -> None:
        # As bytes where that does: text is checked letter by letter, by a module of its own.
        self._host = host.encode() if host.isascii() else host
        self._port = port
        self._found: SimpleQueue[list[Address]] = SimpleQueue()

    def addresses(self, within_s: float) -> list[Address]:
        """None are found where nobody knows the host, or after `end`. Raises TimeoutError."""
        try:
            return self._asked(socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            pass
        # In a thread of its own, since nothing else can give the name service a deadline.
        threading.Thread(target=self._ask, name="resolve host", daemon=True).start()
        try:
            return self._found.get(timeout=within_s)
        except Empty:
            raise TimeoutError from None

    def end(self) -> None:
        self._found.put([])

    def _ask(self) -> None:
        try:
            self._found.put(self._asked(0))
        except (OSError, UnicodeError):
            self._found.put([])

    def _asked(self, flags: int) -> list[Address]:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=flags)
        return [(entry[0], entry[4]) for entry in found]
