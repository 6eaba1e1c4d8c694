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
_VERIFICATION = b"\x30\x00\x00\x111.2.840.10008.1.1"
"""The item of the abstract syntax of Verification (DICOM PS3.8, table 9-14)."""
_ABSTRACT_SYNTAX = b"\x30\x00\x00"


@dataclass
class Span:
    """One association; its times are those of `clock`."""

    port: int
    """The port of the proxy that it passed."""
    begun: datetime
    beside: int = 0
    """Number of open associations when it began, including itself; for any but an echo, without
    echoes, which have a limit of their own."""
    is_echo: bool = False
    ended: datetime | None = None


@dataclass
class AssociationCounts:
    """The associations of several proxies together."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    spans: list[Span] = field(default_factory=list)
    most: int = 0
    """Maximum number of associations open at the same time."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, port: int, *, is_echo: bool = False) -> Span:
        with self._lock:
            span = Span(port, self.clock(), is_echo=is_echo)
            self.spans.append(span)
            span.beside = sum(one.ended is None and one.is_echo <= is_echo for one in self.spans)
            self.most = max(self.most, self.open)
            return span

    def end(self, span: Span) -> None:
        with self._lock:
            if span.ended is None:
                span.ended = self.clock()

    @property
    def open(self) -> int:
        return sum(span.ended is None for span in self.spans)


class CountingProxy:
    """Listens on `port` and forwards everything to the target. Use it with `with`."""

    def __init__(
        self,
        target: int,
        counts: AssociationCounts,
        delay_s: float = 0.0,
        stalls_after_bytes: int | None = None,
    ) -> None:
        self.target = target
        self.counts = counts
        self._delay_s = delay_s
        """Delay before each chunk from the target is forwarded."""
        self._stalls_after_bytes = stalls_after_bytes
        """After these, a connection forwards nothing more from the target."""
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
        back = threading.Thread(target=self._return, args=(called, caller, reader), daemon=True)
        back.start()
        with suppress(OSError):
            while data := caller.recv(65536):
                reader.feed(data)
                called.sendall(data)
        self._end(caller, called, reader)
        back.join(30)
        self._open -= {caller, called}

    def _return(self, called: socket.socket, caller: socket.socket, reader: "_Reader") -> None:
        forwarded = 0
        with suppress(OSError):
            while data := called.recv(65536):
                if self._stalls_after_bytes is not None and forwarded > self._stalls_after_bytes:
                    continue
                if self._delay_s:
                    time.sleep(self._delay_s)
                forwarded += len(data)
                caller.sendall(data)
        self._end(called, caller, reader)

    def _end(self, one: socket.socket, other: socket.socket, reader: "_Reader") -> None:
        """End the association before a side can notice that the other has closed it."""
        reader.over()
        _shut(one)
        _shut(other)


class _Reader:
    """Reads the PDUs of a stream; of their bodies only the request of the association."""

    def __init__(self, counts: AssociationCounts, port: int) -> None:
        self._counts = counts
        self._port = port
        self._span: Span | None = None
        self._head = b""
        self._request: bytes | None = None
        self._skip = 0

    def feed(self, data: bytes) -> None:
        while data:
            if self._skip:
                part, data = data[: self._skip], data[self._skip :]
                self._skip -= len(part)
                if self._request is not None:
                    self._request += part
                    self._begin()
                continue
            taken = 6 - len(self._head)
            self._head, data = self._head + data[:taken], data[taken:]
            if len(self._head) == 6:
                kind, self._skip = self._head[0], int.from_bytes(self._head[2:], "big")
                self._head = b""
                if kind == _ASSOCIATE_RQ:
                    self._request = b""
                elif kind in (_RELEASE_RQ, _ABORT):
                    self.over()

    def _begin(self) -> None:
        if self._request is not None and not self._skip:
            is_echo = (
                0 < self._request.count(_ABSTRACT_SYNTAX) == self._request.count(_VERIFICATION)
            )
            self._span = self._counts.begin(self._port, is_echo=is_echo)
            self._request = None

    def over(self) -> None:
        if self._span is not None:
            self._counts.end(self._span)


def _shut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
