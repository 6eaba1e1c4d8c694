"""Line: the network connection under an association; every wait on it has a deadline.

A peer that only trickles does not move a deadline: bytes count as progress from MIN_BYTES_PER_S on.
"""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from typing import TYPE_CHECKING

from adit_engine.elements import Buffer
from adit_engine.errors import AditError, ConnectionLost, Stopped, TimedOut, Unreachable, Untrusted
from adit_engine.nodes.lookup import Address, Lookup
from adit_engine.pace import Pace

if TYPE_CHECKING:
    from adit_engine.nodes.tls import Seal, Tls

MIN_BYTES_PER_S = 1000

# Set again before each wait, since Linux forgets it; other systems have nothing like it.
_QUICKACK = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)
_MAX_CONTROL_PDU = 1024 * 1024
_READ_BYTES = 256 * 1024
_SLICE_S = 1.0
"""A wait in the kernel is at most so long; then it is seen whether there is more time."""
_PDU_HEAD = Struct(">BxI")
_TIMEVAL = Struct("@ll")
_TLS_RECORDS = (0x15, 0x16)
"""With what TLS begins to speak, and to refuse (RFC 8446 5.1); no PDU has these numbers."""
_OPENING_HINT = (
    "Check that it is a DICOM port, that it does not want TLS, and that the PACS knows our "
    "address and AE title."
)
_WORKING_HINT = "Retry; if it happens again, ask its administrator to look into its log."


class Pdu(IntEnum):
    """The kinds of protocol data units (PS3.8 9.3)."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


_PDUS = {int(kind): kind for kind in Pdu}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds. `total_s` bounds the waiting of one association in sum."""

    connect_s: float = 5
    association_s: float = 15
    first_byte_s: float = 600
    no_progress_s: float = 60
    total_s: float = 24 * 3600
    pace: Pace = field(default_factory=Pace, compare=False)
    """How quickly bytes may travel; waiting for that is on nobody's account."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to call, as whom, and how patiently. `name` is the node's, for errors."""

    name: str
    host: str
    port: int
    called: str
    calling: str
    max_pdu: int
    patience: Patience
    tls: "Tls | None" = None
    """None: in the clear."""


def pdu(kind: Pdu, body: bytes = bytes(4)) -> bytes:
    return _PDU_HEAD.pack(kind, len(body)) + body


class Line:
    """Used by one thread; only `abort` may be called from any other, even by a signal handler."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.pace = peer.patience.pace
        self.over = False
        """True once nothing more can be said: released, aborted, or broken off by the peer."""
        self.faulty = False
        """True once the peer has left the protocol, so that no answer of it can be trusted."""
        self._socket: socket.socket | None = None
        self._lookup = Lookup(peer.host, peer.port)
        self._aborted = False
        self._sending = threading.Lock()
        self._hint = _OPENING_HINT
        self._buffer = memoryview(bytearray(max(_READ_BYTES, peer.max_pdu + _PDU_HEAD.size)))
        self._start = self._end = 0
        self._slice_s = 0.0
        self._left_s = peer.patience.total_s
        self._deadline = 0.0
        self._within_s = 0.0
        self._what = ""
        self._begun = False
        self._firm = False
        self._gathered = 0

    # Opening and ending ------------------------------------------------------------------------

    @classmethod
    def accepted(cls, one: socket.socket, peer: Peer) -> "Line":
        """The line of a connection that somebody else has opened."""
        line = cls(peer)
        line._socket = one
        line._connected_now(one)
        return line

    def connect(self) -> None:
        """Raises Unreachable, or Stopped after an abort."""
        until = time.monotonic() + self.peer.patience.connect_s
        error: OSError | None = None
        for family, address in self._addresses():
            one = socket.socket(family, socket.SOCK_STREAM)
            self._socket = one
            try:
                self._check_aborted()
                one.settimeout(max(until - time.monotonic(), 0.001))
                one.connect(address)
                self._connected_now(one)
                return
            except OSError as failed:
                error = failed
                self._socket = None
                one.close()
        self._check_aborted()
        raise self._unreachable(error)

    def _connected_now(self, one: socket.socket) -> None:
        """The kernel minds the time from now on, which saves two calls at each wait."""
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.settimeout(None)

    def shake_hands(self) -> None:
        """Nothing to agree on in the clear."""

    @property
    def seal(self) -> "Seal | None":
        """How it is secured; None in the clear."""
        return None

    def established(self) -> None:
        """From now on a fault is one of the work, no longer of the settings."""
        self._hint = _WORKING_HINT

    def abort(self) -> None:
        """Ends every wait on this line now; the thread in it gets Stopped."""
        self._aborted = True
        self._lookup.end()
        one = self._socket
        if one is not None:
            self._say_abort(one)
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the socket, with an A-ABORT when the conversation was not over."""
        one, self._socket = self._socket, None
        if one is not None:
            if not self.over and not self._aborted:
                self._say_abort(one)
            one.close()
        self.over = True

    def _say_abort(self, one: socket.socket) -> None:
        """A-ABORT, as far as it goes without waiting and without cutting a PDU in two."""
        if self._sending.acquire(blocking=False):
            try:
                with suppress(OSError):
                    one.setblocking(False)
                    one.send(pdu(Pdu.ABORT))
            finally:
                self._sending.release()

    def _addresses(self) -> list[Address]:
        peer = self.peer
        try:
            addresses = self._lookup.addresses(peer.patience.connect_s)
        except TimeoutError:
            text = f"the name service did not answer for {peer.host}. Check the network."
            raise Unreachable(peer.name, text) from None
        self._check_aborted()
        if not addresses:
            raise Unreachable(peer.name, f"the host name {peer.host} is unknown. Check the host.")
        return addresses

    def _unreachable(self, error: OSError | None) -> Unreachable:
        place = f"{self.peer.host} port {self.peer.port}"
        if isinstance(error, ConnectionRefusedError):
            text = f"nothing listens on {place}. Check host and port, and whether it is running."
        elif isinstance(error, TimeoutError):
            text = (
                f"{place} did not answer within {self.peer.patience.connect_s:g} s. "
                "Check host, port and firewall."
            )
        else:
            reason = error.strerror if error is not None else "no address"
            text = f"no connection to {place}: {reason}. Check host, port and network."
        return Unreachable(self.peer.name, text)

    # Bytes -------------------------------------------------------------------------------------

    def heard(self, within_s: float) -> bool:
        """Whether bytes, or the connection's end, have come within that time. Raises Stopped."""
        return self._start < self._end or self._readable(within_s)

    def _readable(self, within_s: float) -> bool:
        poll = select.poll()
        poll.register(self._connected(), select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    def read_pdu(self) -> tuple[Pdu, memoryview]:
        """The next PDU; its body lies in a buffer that the next call overwrites.

        Raises ConnectionLost, also for an A-ABORT, TimedOut and Stopped.
        """
        self._check_aborted()
        if self._start < self._end:
            self._begin()
        self._gather(_PDU_HEAD.size)
        number, length = _PDU_HEAD.unpack_from(self._buffer, self._start)
        kind = _PDUS.get(number)
        most = 2 * self.peer.max_pdu if kind is Pdu.P_DATA else _MAX_CONTROL_PDU
        if number in _TLS_RECORDS:
            raise self._speaks_tls()
        if kind is None or length > most:
            raise self.fault("sent something that is not DICOM")
        self._gather(_PDU_HEAD.size + length)
        begin = self._start + _PDU_HEAD.size
        self._start = begin + length
        if kind is Pdu.ABORT:
            raise self._lost("aborted the association")
        return kind, self._buffer[begin : self._start]

    def _gather(self, count: int) -> None:
        """Reads until so many bytes lie ready, and as many more as have come already."""
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
            self._end += self._received(self._buffer[self._end :])

    def _received(self, view: memoryview) -> int:
        return self._take(view)

    def _begin(self) -> None:
        """The first byte may have lain here already, when the deadline was set."""
        if not self._begun:
            self._progress(0, time.monotonic())

    def send(self, buffers: Sequence[Buffer]) -> None:
        """All of it, without joining. Raises ConnectionLost, TimedOut, Stopped."""
        queue = deque(memoryview(buffer) for buffer in buffers)
        one = self._connected()
        with self._sending:
            self._push(one, queue)

    def _push(self, one: socket.socket, queue: deque[memoryview]) -> None:
        while queue:
            started = self._arm(one)
            try:
                count = one.sendmsg(queue)
            except BlockingIOError:
                self._waited_in_vain(started)
                continue
            except OSError as error:
                raise self._lost("broke off the connection") from error
            self._progress(count, started)
            while queue and count >= len(queue[0]):
                count -= len(queue.popleft())
            if count:
                queue[0] = queue[0][count:]

    def _take(self, view: memoryview) -> int:
        """As many bytes as are there, one or more; waits for the first."""
        one = self._connected()
        while True:
            started = self._arm(one)
            try:
                one.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
                count = one.recv_into(view)
            except BlockingIOError:
                self._waited_in_vain(started)
                continue
            except OSError as error:
                raise self._lost("broke off the connection") from error
            if not count:
                raise self._lost("closed the connection in the middle of the work")
            self._progress(count, started)
            return count

    def _connected(self) -> socket.socket:
        self._check_aborted()
        if self._socket is None:
            raise self._lost("is not connected any more")
        return self._socket

    # Deadlines ---------------------------------------------------------------------------------

    def expect_within(self, seconds: float, what: str, *, firm: bool = False) -> None:
        """The deadline of what comes next. `what` is such as "answer the search".

        Progress moves it, unless it is firm.
        """
        self._deadline = time.monotonic() + seconds
        self._firm = firm
        self._within_s = seconds
        self._what = what
        self._begun = False

    def allow_total(self, total_s: float) -> None:
        """Bounds the time spent waiting for the peer from now on, in sum."""
        self._left_s = total_s

    def _arm(self, one: socket.socket) -> float:
        """Sees to it that the next wait ends in time, and says when it began."""
        now = time.monotonic()
        left_s = min(self._deadline - now, self._left_s)
        if left_s <= 0:
            raise self._timed_out()
        slice_s = min(left_s, _SLICE_S)
        if not slice_s / 2 <= self._slice_s <= slice_s:
            self._slice_s = slice_s
            seconds, part = divmod(max(int(slice_s * 1e6), 1000), 1_000_000)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                one.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(seconds, part))
        return now

    def _waited_in_vain(self, started: float) -> None:
        """Nothing has moved; whether there is more time is for the next wait to see."""
        self._check_aborted()
        self._left_s -= time.monotonic() - started

    def _progress(self, count: int, started: float) -> None:
        """The first bytes, and then only enough of them, move the deadline."""
        now = time.monotonic()
        self._left_s -= now - started
        self._gathered += count
        patience_s = self.peer.patience.no_progress_s
        far = self._gathered >= MIN_BYTES_PER_S * patience_s
        if not self._firm and (far or not self._begun):
            self._begun = True
            self._gathered = 0
            self._deadline = now + patience_s
            self._within_s = patience_s
        self._deadline += self.pace.keep(count, lambda: self._aborted)

    # Faults ------------------------------------------------------------------------------------

    def fault(self, what: str) -> AditError:
        """The error for a peer that does not keep to the protocol; ours, when we ended it."""
        self.faulty = True
        if self._aborted:
            return self._stopped()
        return ConnectionLost(self.peer.name, f"{what}. {self._hint}")

    def _speaks_tls(self) -> AditError:
        self.over = self.faulty = True
        text = "speaks TLS, while our side is set to plain DICOM. Set both to TLS."
        return Untrusted(self.peer.name, text)

    def _lost(self, what: str) -> AditError:
        """The error for a peer that is gone; nothing more can be said to it."""
        self.over = True
        return self.fault(what)

    def _timed_out(self) -> AditError:
        self.faulty = True
        if self._aborted:
            return self._stopped()
        if self._deadline > time.monotonic():
            text = "took longer in all than its time limit allows."
        else:
            text = f"did not {self._what} within {self._within_s:g} s."
        return TimedOut(self.peer.name, f"{text} {self._hint}")

    def _stopped(self) -> Stopped:
        return Stopped(f"{self.peer.name}: the work was stopped.")

    def _check_aborted(self) -> None:
        if self._aborted:
            raise self._stopped()
