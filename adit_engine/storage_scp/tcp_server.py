"""Accept TCP connections, one thread each, and limit their number. Used by the Storage SCP."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from adit_engine.storage_scp.pending_moves import normalize_address

MAX_SILENT = 128
MAX_SILENT_PER_ADDRESS = 32
"""Limits for connections without an association, in total and per address.

One more, and the oldest is closed.
"""
MAX_ASSOCIATIONS = 64
MAX_ASSOCIATIONS_PER_ADDRESS = 32

_POLL_S = 0.5


@dataclass(eq=False)
class IncomingConnection:
    """One connection. `talks` is set once it has an association."""

    socket: socket.socket
    address: str
    port: int
    since: float = field(default_factory=time.monotonic)
    has_association: bool = False

    def shut_down(self) -> None:
        """Shut the socket down: this reliably wakes a thread that waits on it."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class TcpServer:
    """Listens on a port. `serve` runs in one thread per connection and closes nothing."""

    def __init__(self, host: str, port: int, serve: Callable[[IncomingConnection], None]) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._callers: dict[IncomingConnection, threading.Thread] = {}
        self._is_stopping = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=256)
        self._listener.settimeout(_POLL_S)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._listen, name="receiver", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close all connections; their threads have ended when this returns."""
        self._is_stopping = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            threads = list(self._callers.values())
            for caller in self._callers:
                caller.shut_down()
        for thread in threads:
            thread.join()

    def can_accept(self, caller: IncomingConnection) -> bool:
        """Return whether the caller may have an association; if so, count it from now on."""
        with self._lock:
            talking = [other for other in self._callers if other.has_association]
            near = [other for other in talking if other.address == caller.address]
            caller.has_association = (
                len(talking) < MAX_ASSOCIATIONS and len(near) < MAX_ASSOCIATIONS_PER_ADDRESS
            )
            return caller.has_association

    def _listen(self) -> None:
        while not self._is_stopping:
            try:
                one, (host, port, *_) = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                # Out of descriptors for a moment, or the caller has disconnected already.
                time.sleep(0 if self._is_stopping else 0.05)
                continue
            one.setblocking(True)
            self._accept_connection(IncomingConnection(one, normalize_address(host), port))

    def _accept_connection(self, caller: IncomingConnection) -> None:
        thread = threading.Thread(target=self._run, args=(caller,), name="caller", daemon=True)
        with self._lock:
            self._drop_oldest_silent(caller.address)
            self._callers[caller] = thread
            # Start under the lock: an unlisted thread would be missed when all are cut.
            thread.start()

    def _drop_oldest_silent(self, address: str) -> None:
        """Close the oldest connection without an association; a real peer requests one at once."""
        silent = [caller for caller in self._callers if not caller.has_association]
        near = [caller for caller in silent if caller.address == address]
        if len(near) >= MAX_SILENT_PER_ADDRESS:
            self._drop(near[0])
        elif len(silent) >= MAX_SILENT:
            self._drop(silent[0])

    def _drop(self, caller: IncomingConnection) -> None:
        caller.shut_down()
        del self._callers[caller]

    def _run(self, caller: IncomingConnection) -> None:
        try:
            self._serve(caller)
        finally:
            with self._lock:
                self._callers.pop(caller, None)
            caller.socket.close()
