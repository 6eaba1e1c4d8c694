"""Association: one negotiated DICOM conversation with a node: opened, used, released or aborted.

A blocking socket and the P-DATA loop of PS3.8, without threads. Every wait has a deadline, and a
peer that only trickles does not move it: bytes count as progress from MIN_BYTES_PER_S on.
"""

import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from queue import Empty, SimpleQueue
from struct import Struct
from typing import Any

from adit_engine.elements import Buffer
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    Malformed,
    NodeError,
    Stopped,
    StorageFull,
    TimedOut,
    Unreachable,
)
from adit_engine.nodes import statuses
from adit_engine.nodes.body import Body
from adit_engine.nodes.command import Command, Operation
from adit_engine.nodes.negotiation import Agreement, Context, Proposal

MIN_BYTES_PER_S = 1000
MAX_ANSWER_BYTES = 16 * 1024 * 1024
RELEASE_S = 5.0

# Set again before each wait, since Linux forgets it; other systems have nothing like it.
_QUICKACK = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)
_MAX_CONTROL_PDU = 1024 * 1024
_MAX_COMMAND = 64 * 1024
_MAX_SEND_PDU = 1024 * 1024
_BATCH_BUFFERS = 512
_BATCH_BYTES = 4 * 1024 * 1024
_PDU_HEAD = Struct(">BxI")
_PDV_HEAD = Struct(">IBB")
_PDATA_HEAD = Struct(">BxIIBB")
_COMMAND, _LAST = 1, 2
_OPENING_HINT = "Check that it is a DICOM port, and that the node knows our address and AE title."
_WORKING_HINT = "Retry; if it happens again, ask its administrator to look into its log."


class _Pdu(IntEnum):
    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds. `total_s` bounds the waiting of one association in sum."""

    connect_s: float = 5
    association_s: float = 15
    first_byte_s: float = 600
    no_progress_s: float = 60
    total_s: float = 24 * 3600


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


@dataclass(frozen=True, slots=True)
class Message:
    """One whole DIMSE message; `data` is empty when none came with it."""

    context_id: int
    command: Command
    data: Buffer


class Association:
    """Used by one thread; only `abort` may be called from any other, even by a signal handler."""

    agreement: Agreement

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.over = False
        """True once nothing more can be said: released, aborted, or broken off by the peer."""
        self._socket: socket.socket | None = None
        self._resolved: SimpleQueue[Any] = SimpleQueue()
        self._aborted = False
        self._faulty = False
        self._sending = threading.Lock()
        self._left_s = peer.patience.total_s
        self._deadline = 0.0
        self._within_s = 0.0
        self._what = ""
        self._hint = _OPENING_HINT
        self._begun = False
        self._gathered = 0
        self._message_id = 0
        self._buffer = bytearray(peer.max_pdu)
        self._fragments: deque[tuple[int, int, memoryview]] = deque()

    # Opening and ending ------------------------------------------------------------------------

    def open(self, contexts: Sequence[Context]) -> None:
        """Connects and negotiates. Raises Unreachable, TimedOut, AssociationRejected, NodeBusy,
        ConnectionLost, or Stopped after an abort.
        """
        peer = self.peer
        proposal = Proposal(peer.called, peer.calling, tuple(contexts), peer.max_pdu)
        self._connect()
        self._expect_within(peer.patience.association_s, "answer the association request")
        self._send([_pdu(_Pdu.ASSOCIATE_RQ, proposal.encode())])
        kind, body = self._read_pdu()
        if kind is _Pdu.ASSOCIATE_RJ and len(body) == 4:
            self.over = True
            raise statuses.rejection(peer.name, peer.calling, peer.called, *body[1:])
        if kind is not _Pdu.ASSOCIATE_AC:
            raise self.fault("answered the association request with something else")
        try:
            self.agreement = Agreement.decode(bytes(body), proposal)
        except Malformed as error:
            raise self.fault("sent a broken answer to the association request") from error
        self._hint = _WORKING_HINT

    def release(self) -> None:
        """Ends in good order, within RELEASE_S; falls back to closing. Raises nothing."""
        with suppress(NodeError, Stopped):
            if not self.over and not self._faulty:
                self._expect_within(RELEASE_S, "release the association")
                self._send([_pdu(_Pdu.RELEASE_RQ, bytes(4))])
                while self._read_pdu()[0] is not _Pdu.RELEASE_RP:
                    pass
        self.close()

    def abort(self) -> None:
        """Ends every wait of this association now; the thread in it gets Stopped."""
        self._aborted = True
        self._resolved.put(None)
        line = self._socket
        if line is not None:
            self._say_abort(line)
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the socket, with an A-ABORT when the conversation was not over."""
        line, self._socket = self._socket, None
        if line is not None:
            if not self.over and not self._aborted:
                self._say_abort(line)
            line.close()
        self.over = True

    def allow_total(self, total_s: float) -> None:
        """Bounds the time spent waiting for the peer from now on, in sum."""
        self._left_s = total_s

    # Speaking ----------------------------------------------------------------------------------

    def next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def send(self, context_id: int, command: Command, data: Iterable[Buffer] = ()) -> None:
        """One DIMSE message. Raises ConnectionLost, TimedOut, Stopped."""
        self._expect_within(self.peer.patience.no_progress_s, "take what we send")
        batch: list[Buffer] = []
        size = 0
        for buffer in self._encoded(context_id, command, data):
            batch.append(buffer)
            size += len(buffer)
            if len(batch) >= _BATCH_BUFFERS or size >= _BATCH_BYTES:
                self._send(batch)
                batch, size = [], 0
        self._send(batch)

    def receive(self, within_s: float, what: str) -> Message:
        """The next DIMSE message. `within_s` is the time until its first byte, `what` such as
        "answer the search". Raises ConnectionLost, TimedOut, Stopped, StorageFull.
        """
        self._expect_within(within_s, what)
        context_id, command = self._receive_command()
        if not command.has_data:
            return Message(context_id, command, b"")
        limit = None if command.operation == Operation.STORE else MAX_ANSWER_BYTES
        body = Body(limit)
        try:
            while True:
                number, flags, piece = self._fragment()
                if number != context_id or flags & _COMMAND:
                    raise self.fault("mixed two messages")
                body.add(piece)
                if flags & _LAST:
                    return Message(context_id, command, body.whole())
        except Malformed as error:
            raise self.fault("sent an answer that is too large") from error
        except OSError as error:
            text = "the temporary folder has no room for a large image. Make room, then retry."
            raise StorageFull(self.peer.name, text) from error
        finally:
            body.drop()

    def _receive_command(self) -> tuple[int, Command]:
        raw = bytearray()
        while True:
            context_id, flags, piece = self._fragment()
            raw += piece
            if not flags & _COMMAND or len(raw) > _MAX_COMMAND:
                raise self.fault("sent data where a command should stand")
            if flags & _LAST:
                break
        if context_id not in self.agreement.contexts:
            raise self.fault("used a presentation context that was not agreed on")
        try:
            return context_id, Command.decode(raw)
        except Malformed as error:
            raise self.fault("sent a broken command") from error

    def _fragment(self) -> tuple[int, int, memoryview]:
        """The next piece of a message; valid until the next call. One PDU may hold several."""
        while not self._fragments:
            kind, body = self._read_pdu()
            if kind is _Pdu.RELEASE_RQ:
                with suppress(NodeError, Stopped):
                    self._send([_pdu(_Pdu.RELEASE_RP, bytes(4))])
                raise self._lost("released the association in the middle of the work")
            if kind is not _Pdu.P_DATA:
                raise self.fault("sent something that does not belong here")
            self._split(body)
        return self._fragments.popleft()

    def _split(self, body: memoryview) -> None:
        position = 0
        while position < len(body):
            if position + 6 > len(body):
                raise self.fault("sent a broken PDU")
            length, context_id, flags = _PDV_HEAD.unpack_from(body, position)
            end = position + 4 + length
            if length < 2 or end > len(body):
                raise self.fault("sent a broken PDU")
            self._fragments.append((context_id, flags, body[position + 6 : end]))
            position = end

    def _encoded(
        self, context_id: int, command: Command, data: Iterable[Buffer]
    ) -> Iterator[Buffer]:
        """The buffers of one message's PDUs, none larger than the peer takes."""
        room = min(self.agreement.max_pdu or _MAX_SEND_PDU, _MAX_SEND_PDU) - 6
        if room < 16:
            raise self.fault("takes only PDUs that are too small for any message")
        room -= room % 2
        for flags, parts in ((_COMMAND, [command.encode()]), (0, list(data))):
            left = sum(len(part) for part in parts)
            for pieces in _cut(parts, room):
                size = sum(len(piece) for piece in pieces)
                left -= size
                last = 0 if left else _LAST
                yield _PDATA_HEAD.pack(_Pdu.P_DATA, size + 6, size + 2, context_id, flags | last)
                yield from pieces

    # The socket --------------------------------------------------------------------------------

    def _connect(self) -> None:
        peer = self.peer
        until = time.monotonic() + peer.patience.connect_s
        error: OSError | None = None
        for family, address in self._addresses():
            self._check_aborted()
            line = socket.socket(family, socket.SOCK_STREAM)
            self._socket = line
            self._check_aborted()
            line.settimeout(max(until - time.monotonic(), 0.001))
            try:
                line.connect(address)
            except OSError as failed:
                error = failed
                self._socket = None
                line.close()
                continue
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return
        self._check_aborted()
        raise self._unreachable(error)

    def _addresses(self) -> list[tuple[int, Any]]:
        """Asks the resolver in a thread of its own, since nothing else can give it a deadline."""
        peer = self.peer

        def resolve() -> None:
            try:
                found = socket.getaddrinfo(peer.host, peer.port, type=socket.SOCK_STREAM)
                self._resolved.put([(entry[0], entry[4]) for entry in found])
            except (OSError, UnicodeError):
                self._resolved.put([])

        threading.Thread(target=resolve, name="resolve host", daemon=True).start()
        try:
            addresses = self._resolved.get(timeout=peer.patience.connect_s)
        except Empty:
            raise Unreachable(
                peer.name, f"the name service did not answer for {peer.host}. Check the network."
            ) from None
        self._check_aborted()
        if not addresses:
            raise Unreachable(peer.name, f"the host name {peer.host} is unknown. Check the host.")
        return list(addresses)

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

    def _read_pdu(self) -> tuple[_Pdu, memoryview]:
        """The next PDU; its body lies in a buffer that the next call overwrites."""
        head = memoryview(bytearray(6))
        self._read_into(head)
        number, length = _PDU_HEAD.unpack(head)
        most = 2 * self.peer.max_pdu if number == _Pdu.P_DATA else _MAX_CONTROL_PDU
        if number not in list(_Pdu) or length > most:
            raise self.fault("sent something that is not DICOM")
        if length > len(self._buffer):
            self._buffer = bytearray(length)
        body = memoryview(self._buffer)[:length]
        self._read_into(body)
        if number == _Pdu.ABORT:
            raise self._lost("aborted the association")
        return _Pdu(number), body

    def _read_into(self, view: memoryview) -> None:
        while view:
            line = self._line()
            started = self._arm(line)
            try:
                line.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
                count = line.recv_into(view)
            except TimeoutError:
                raise self._timed_out() from None
            except OSError as error:
                raise self._lost("broke off the connection") from error
            if not count:
                raise self._lost("closed the connection in the middle of the work")
            self._progress(count, started)
            view = view[count:]

    def _send(self, buffers: Sequence[Buffer]) -> None:
        queue = deque(memoryview(buffer) for buffer in buffers)
        line = self._line()
        with self._sending:
            while queue:
                started = self._arm(line)
                try:
                    count = line.sendmsg(queue)
                except TimeoutError:
                    raise self._timed_out() from None
                except OSError as error:
                    raise self._lost("broke off the connection") from error
                self._progress(count, started)
                while queue and count >= len(queue[0]):
                    count -= len(queue.popleft())
                if count:
                    queue[0] = queue[0][count:]

    def _line(self) -> socket.socket:
        self._check_aborted()
        if self._socket is None:
            raise self._lost("is not connected any more")
        return self._socket

    # Deadlines and faults ----------------------------------------------------------------------

    def _expect_within(self, seconds: float, what: str) -> None:
        self._deadline = time.monotonic() + seconds
        self._within_s = seconds
        self._what = what
        self._begun = False

    def _arm(self, line: socket.socket) -> float:
        """Sets the time that the next wait may take, and says when it began."""
        now = time.monotonic()
        left_s = min(self._deadline - now, self._left_s)
        if left_s <= 0:
            raise self._timed_out()
        line.settimeout(left_s)
        return now

    def _progress(self, count: int, started: float) -> None:
        """The first bytes, and then only enough of them, move the deadline."""
        now = time.monotonic()
        self._left_s -= now - started
        self._gathered += count
        patience_s = self.peer.patience.no_progress_s
        if not self._begun or self._gathered >= MIN_BYTES_PER_S * patience_s:
            self._begun = True
            self._gathered = 0
            self._deadline = now + patience_s
            self._within_s = patience_s

    def _timed_out(self) -> AditError:
        if self._aborted:
            return self._stopped()
        if self._deadline > time.monotonic():
            text = "took longer in all than its time limit allows."
        else:
            text = f"did not {self._what} within {self._within_s:g} s."
        return TimedOut(self.peer.name, f"{text} {self._hint}")

    def fault(self, what: str) -> AditError:
        """The error for a peer that does not keep to the protocol; ours, when we ended it."""
        self._faulty = True
        if self._aborted:
            return self._stopped()
        return ConnectionLost(self.peer.name, f"{what}. {self._hint}")

    def _lost(self, what: str) -> AditError:
        """The error for a peer that is gone; nothing more can be said to it."""
        self.over = True
        return self.fault(what)

    def _stopped(self) -> Stopped:
        return Stopped(f"{self.peer.name}: the work was stopped.")

    def _check_aborted(self) -> None:
        if self._aborted:
            raise self._stopped()

    def _say_abort(self, line: socket.socket) -> None:
        """A-ABORT, as far as it goes without waiting and without cutting a PDU in two."""
        if self._sending.acquire(blocking=False):
            try:
                with suppress(OSError):
                    line.setblocking(False)
                    line.send(_pdu(_Pdu.ABORT, bytes(4)))
            finally:
                self._sending.release()


class Associations:
    """The associations that a node has open; ends them all at once, from any thread."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._open: set[Association] = set()
        self._aborted = False

    @contextmanager
    def open(self, contexts: Sequence[Context]) -> Iterator[Association]:
        """An association, released at a normal end and aborted at any other."""
        association = Association(self.peer)
        self._open.add(association)
        try:
            self.check_aborted()
            association.open(contexts)
            yield association
            association.release()
        finally:
            association.close()
            self._open.discard(association)

    def abort(self) -> None:
        self._aborted = True
        for association in tuple(self._open):
            association.abort()

    def check_aborted(self) -> None:
        """Raises Stopped after an abort."""
        if self._aborted:
            raise Stopped(f"{self.peer.name}: the work was stopped.")


def _pdu(kind: _Pdu, body: bytes) -> bytes:
    return _PDU_HEAD.pack(kind, len(body)) + body


def _cut(parts: Iterable[Buffer], size: int) -> Iterator[list[memoryview]]:
    """The bytes of all parts in lots of `size`, the last one smaller; copies nothing."""
    lot: list[memoryview] = []
    room = size
    for part in parts:
        view = memoryview(part)
        while view:
            lot.append(view[:room])
            room -= len(lot[-1])
            view = view[len(lot[-1]) :]
            if not room:
                yield lot
                lot, room = [], size
    if lot:
        yield lot
