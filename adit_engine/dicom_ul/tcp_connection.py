"""The TCP connection below an association; every wait on it has a deadline.

Used by `association` and our Storage SCP. Also holds the name resolution with a time limit.
"""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from adit_engine.dicom_ul.deadlines import ConnectionDeadlines
from adit_engine.dicom_ul.pdu import PDU_HEADER, PDU_TYPES, PduType, encode_pdu
from adit_engine.dicom_ul.peer import Peer
from adit_engine.elements import Buffer
from adit_engine.errors import Unreachable
from adit_engine.messages import Message

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import TlsSession

SocketAddress = tuple[int, Any]
"""Its family, and the argument of `connect`."""


class DnsLookup:
    """One name resolution, used by one thread.

    Only `end` may be called from any other thread, or by a signal handler.
    """

    def __init__(self, host: str, port: int) -> None:
        # Bytes if possible: getaddrinfo encodes a str by the IDNA codec, a module of its own.
        self._host = host.encode() if host.isascii() else host
        self._port = port
        self._found: SimpleQueue[list[SocketAddress]] = SimpleQueue()

    def addresses(self, within_s: float) -> list[SocketAddress]:
        """Resolve the host. Raises TimeoutError.

        The list is empty if the host is unknown, or after `end`.
        """
        try:
            return self._query_resolver(socket.AI_NUMERICHOST)
        except (OSError, UnicodeError):
            pass
        # In a thread of its own, since getaddrinfo has no time limit.
        threading.Thread(target=self._resolve, name="resolve host", daemon=True).start()
        try:
            return self._found.get(timeout=within_s)
        except Empty:
            raise TimeoutError from None

    def end(self) -> None:
        self._found.put([])

    def _resolve(self) -> None:
        try:
            self._found.put(self._query_resolver(0))
        except (OSError, UnicodeError):
            self._found.put([])

    def _query_resolver(self, flags: int) -> list[SocketAddress]:
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=flags)
        return [(entry[0], entry[4]) for entry in found]


# Set again before each wait, since Linux resets it; other systems have no such option.
_QUICKACK = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)
_MAX_CONTROL_PDU = 1024 * 1024
_READ_BYTES = 256 * 1024
_TLS_RECORDS = (0x15, 0x16)
"""TLS record types of an alert and a handshake (RFC 8446 5.1); no PDU type has these numbers."""


def unreachable_error(
    node: str, host: str, port: int, connect_s: float, error: OSError | None
) -> Unreachable:
    """Return the error for a failed attempt to connect; `error` is that of the last address."""
    place = {"host": host, "port": port}
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(node, "host.connection-refused", **place)
    if isinstance(error, TimeoutError):
        return Unreachable(node, "host.connect-timeout", seconds=f"{connect_s:g}", **place)
    reason = error.strerror if error is not None else None
    return Unreachable(
        node, "host.unreachable", reason=reason or Message("clause.no-address"), **place
    )


class TcpConnection(ConnectionDeadlines):
    """An unencrypted connection.

    Used by one thread. Only `abort` may be called from any other thread, or by a signal handler.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer)
        self._socket: socket.socket | None = None
        self._lookup = DnsLookup(peer.host, peer.port)
        self._sending = threading.Lock()
        self._buffer = memoryview(bytearray(max(_READ_BYTES, peer.max_pdu + PDU_HEADER.size)))
        self._start = self._end = 0

    # Opening and closing -----------------------------------------------------------------------

    @classmethod
    def from_socket(cls, one: socket.socket, peer: Peer) -> "TcpConnection":
        """Return the connection for a socket that the peer has opened."""
        line = cls(peer)
        line._socket = one
        line._mark_connected(one)
        return line

    def connect(self) -> None:
        """Connect to the peer. Raises Unreachable, or Stopped after an abort."""
        until = time.monotonic() + self.peer.timeouts.connect_s
        error: OSError | None = None
        left = list(self._addresses())
        while left:
            family, address = left.pop(0)
            one = socket.socket(family, socket.SOCK_STREAM)
            self._socket = one
            try:
                self._check_aborted()
                # An address that does not respond must leave time for the others.
                one.settimeout(max((until - time.monotonic()) / (1 + len(left)), 0.001))
                one.connect(address)
                self._mark_connected(one)
                return
            except OSError as failed:
                error = failed
                self._socket = None
                one.close()
        self._check_aborted()
        raise self._unreachable_error(error)

    def _mark_connected(self, one: socket.socket) -> None:
        """Use kernel timeouts from now on, which saves two system calls per wait."""
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.settimeout(None)

    def handshake(self) -> None:
        """Do nothing: an unencrypted connection has no handshake."""

    @property
    def tls_session(self) -> "TlsSession | None":
        """The TLS session; None for an unencrypted connection."""
        return None

    def abort(self) -> None:
        """End every wait on this connection now; the waiting thread gets Stopped."""
        self._aborted = True
        self._lookup.end()
        one = self._socket
        if one is not None:
            self._send_abort(one)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, with an A-ABORT if the association was not over."""
        one, self._socket = self._socket, None
        if one is not None:
            if not self.is_closed and not self._aborted:
                self._send_abort(one)
            one.close()
        self.is_closed = True

    def _send_abort(self, one: socket.socket) -> None:
        """Send an A-ABORT if that is possible without waiting and without splitting another PDU."""
        if self._sending.acquire(blocking=False):
            try:
                with suppress(OSError):
                    one.setblocking(False)
                    one.send(encode_pdu(PduType.ABORT))
            finally:
                self._sending.release()

    def _addresses(self) -> list[SocketAddress]:
        peer = self.peer
        try:
            addresses = self._lookup.addresses(peer.timeouts.connect_s)
        except TimeoutError:
            raise Unreachable(peer.name, "host.no-dns-answer", host=peer.host) from None
        self._check_aborted()
        if not addresses:
            raise Unreachable(peer.name, "host.unknown", host=peer.host)
        return addresses

    def _unreachable_error(self, error: OSError | None) -> Unreachable:
        peer = self.peer
        return unreachable_error(peer.name, peer.host, peer.port, peer.timeouts.connect_s, error)

    # Reading and writing -----------------------------------------------------------------------

    def poll(self, within_s: float) -> bool:
        """Return whether bytes, or the end of the connection, have come in time.

        Raises Stopped.
        """
        return self._start < self._end or self._readable(within_s)

    def _readable(self, within_s: float) -> bool:
        poll = select.poll()
        poll.register(self._require_socket(), select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    def read_pdu(self) -> tuple[PduType, memoryview]:
        """Return the next PDU. The next call overwrites the buffer of its body.

        Raises ConnectionLost, also for an A-ABORT, TimedOut and Stopped.
        """
        self._check_aborted()
        if self._start < self._end:
            self._count_first_byte()
        self._fill_buffer(PDU_HEADER.size)
        number, length = PDU_HEADER.unpack_from(self._buffer, self._start)
        kind = PDU_TYPES.get(number)
        most = 2 * self.peer.max_pdu if kind is PduType.P_DATA else _MAX_CONTROL_PDU
        if number in _TLS_RECORDS:
            raise self._tls_expected_error()
        if kind is None or length > most:
            raise self.protocol_error("association.not-dicom")
        self._fill_buffer(PDU_HEADER.size + length)
        begin = self._start + PDU_HEADER.size
        self._start = begin + length
        if kind is PduType.ABORT:
            # The peer of our receiver has no called AE title: it calls us.
            if self.peer.called:
                raise self._lost_error(
                    "association.aborted-for-title", calling_title=self.peer.calling
                )
            raise self._lost_error("association.aborted")
        return kind, self._buffer[begin : self._start]

    def _fill_buffer(self, count: int) -> None:
        """Read until `count` bytes are buffered, and as many more as have already arrived."""
        if self._end - self._start >= count:
            return
        if len(self._buffer) - self._start < count:
            ready = self._buffer[self._start : self._end]
            if len(self._buffer) < count:
                self._buffer = memoryview(bytearray(count))
            self._buffer[: len(ready)] = ready
            self._start, self._end = 0, len(ready)
        elif self._start == self._end:
            self._start = self._end = 0
        while self._end - self._start < count:
            self._end += self._receive_into(self._buffer[self._end :])

    def _receive_into(self, view: memoryview) -> int:
        return self._read_available(view)

    def _count_first_byte(self) -> None:
        """Count the first byte, which may have arrived before the deadline was set."""
        if not self._begun:
            self._progress(0, time.monotonic())

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Send all buffers without joining them. Raises ConnectionLost, TimedOut, Stopped."""
        queue = deque(memoryview(buffer) for buffer in buffers)
        one = self._require_socket()
        with self._sending:
            self._send_queue(one, queue)

    def _send_queue(self, one: socket.socket, queue: deque[memoryview]) -> None:
        while queue:
            started = self._arm(one)
            try:
                count = one.sendmsg(queue)
            except BlockingIOError:
                self._record_timeout(started)
                continue
            except OSError as error:
                raise self._lost_error("connection.lost") from error
            self._progress(count, started)
            while queue and count >= len(queue[0]):
                count -= len(queue.popleft())
            if count:
                queue[0] = queue[0][count:]

    def _read_available(self, view: memoryview) -> int:
        """Read the available bytes; wait for at least one."""
        one = self._require_socket()
        while True:
            started = self._arm(one)
            try:
                one.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
                count = one.recv_into(view)
            except BlockingIOError:
                self._record_timeout(started)
                continue
            except OSError as error:
                raise self._lost_error("connection.lost") from error
            if not count:
                raise self._lost_error("connection.closed")
            self._progress(count, started)
            return count

    def _require_socket(self) -> socket.socket:
        self._check_aborted()
        if self._socket is None:
            raise self._lost_error("connection.not-open")
        return self._socket
