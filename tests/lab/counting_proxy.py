"""A proxy in front of a PACS or a receiver that records when associations are open.

An association begins with its A-ASSOCIATE-RQ and ends with its A-RELEASE-RQ, its A-ABORT or the end
of the connection, whichever comes first.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

_ASSOCIATE_RQ, _RELEASE_RQ, _ABORT = 1, 5, 7


@dataclass
class Span:
    """One association; its times are those of `clock`."""

    port: int
    """The port of the proxy that it passed."""
    begun: datetime
    beside: int = 0
    """Number of open associations when it began, including itself."""
    ended: datetime | None = None


@dataclass
class AssociationCounts:
    """The associations of several proxies together."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    spans: list[Span] = field(default_factory=list)
    most: int = 0
    """Maximum number of associations open at the same time."""
    last_at: float = 0.0
    """Monotonic time at which the last one ended."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, port: int) -> Span:
        with self._lock:
            span = Span(port, self.clock())
            self.spans.append(span)
            span.beside = self.open
            self.most = max(self.most, span.beside)
            return span

    def end(self, span: Span) -> None:
        with self._lock:
            if span.ended is None:
                span.ended, self.last_at = self.clock(), time.monotonic()

    @property
    def open(self) -> int:
        return sum(span.ended is None for span in self.spans)


class CountingProxy:
    """Listens on `port` and forwards everything to the target. Use it with `with`."""

    def __init__(self, target: int, counts: AssociationCounts, delay_s: float = 0.0) -> None:
        self.target = target
        self.counts = counts
        self._delay_s = delay_s
        """Delay before each chunk from the target is forwarded."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._open: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> "CountingProxy":
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *tuple(self._open)):
            _shut(one)

    def _listen(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(caller,), daemon=True).start()

    def _carry(self, caller: socket.socket) -> None:
        try:
            called = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            _shut(caller)
            return
        self._open |= {caller, called}
        reader = _Reader(self.counts, self.port)
        back = threading.Thread(target=self._pump, args=(called, caller, None), daemon=True)
        back.start()
        self._pump(caller, called, reader)
        reader.over()
        back.join(30)
        self._open -= {caller, called}

    def _pump(self, one: socket.socket, other: socket.socket, reader: "_Reader | None") -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if reader is not None:
                    reader.feed(data)
                elif self._delay_s:
                    time.sleep(self._delay_s)
                other.sendall(data)
        _shut(one)
        _shut(other)


class _Reader:
    """Reads the PDU headers of a stream."""

    def __init__(self, counts: AssociationCounts, port: int) -> None:
        self._counts = counts
        self._port = port
        self._span: Span | None = None
        self._head = b""
        self._skip = 0

    def feed(self, data: bytes) -> None:
        while data:
            if self._skip:
                gone = min(self._skip, len(data))
                self._skip -= gone
                data = data[gone:]
                continue
            taken = 6 - len(self._head)
            self._head, data = self._head + data[:taken], data[taken:]
            if len(self._head) == 6:
                kind, self._skip = self._head[0], int.from_bytes(self._head[2:], "big")
                self._head = b""
                self._saw(kind)

    def _saw(self, kind: int) -> None:
        if kind == _ASSOCIATE_RQ:
            self._span = self._counts.begin(self._port)
        elif kind in (_RELEASE_RQ, _ABORT):
            self.over()

    def over(self) -> None:
        if self._span is not None:
            self._counts.end(self._span)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
