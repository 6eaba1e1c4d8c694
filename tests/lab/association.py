"""A blocking association of the test PACS, one thread each.

Its messages can be recorded and interrupted at any byte, which no library permits.
"""

import socket
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from adit_engine.dicom_ul.command_set import (
    NO_DATA,
    WITH_DATA,
    CommandField,
    CommandSet,
    FieldValue,
)
from lab.negotiation import (
    MAX_PDU,
    Context,
    Proposal,
    decode_acceptance,
    decode_proposal,
    encode_acceptance,
    encode_proposal,
)

REQUEST_S = 60.0
IDLE_S = 300.0
STALL_S = 60.0

_RQ, _AC, _RJ, _DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(1, 8)
_PIECES_AT_ONCE = 512
_NO_LIMIT = 1 << 20

Bytes = bytes | bytearray | memoryview


class Ended(Exception):
    """The association ended without a release."""


class Refused(Exception):
    """An association request to be rejected: result, source, reason (PS3.8 9.3.4)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        super().__init__("association refused")
        self.answer = bytes([0, result, source, reason])


@dataclass(frozen=True, slots=True)
class Message:
    """One DIMSE message. `data` is None without a data set."""

    context_id: int
    command: CommandSet
    data: bytearray | None

    @property
    def operation(self) -> int:
        return self.command.operation or 0

    @property
    def id(self) -> int:
        return self.command.message_id


class Association:
    """Messages in both directions over one socket, after negotiation."""

    def __init__(
        self, sock: socket.socket, proposal: Proposal, syntaxes: Mapping[int, str], max_pdu: int
    ) -> None:
        self._sock = sock
        self._pieces = self._data_values()
        self._room = (max_pdu or _NO_LIMIT) - 6
        self.proposal = proposal
        self.contexts = {
            context.id: Context(context.id, context.class_uid, (syntaxes[context.id],))
            for context in proposal.contexts
            if context.id in syntaxes
        }

    @classmethod
    def accepted(
        cls, sock: socket.socket, choose: Callable[[Proposal], Mapping[int, str | int]]
    ) -> Self:
        """Wait for a request and respond to it; `choose` may raise Refused. Raises Ended."""
        tune(sock)
        sock.settimeout(REQUEST_S)
        kind, body = _read_pdu(sock)
        if kind != _RQ:
            raise Ended("no association request")
        proposal = decode_proposal(_pdu(kind, body))
        try:
            answers = choose(proposal)
        except Refused as refused:
            _write_pdu(sock, _RJ, refused.answer)
            raise
        sock.sendall(encode_acceptance(proposal, answers))
        syntaxes = {key: answer for key, answer in answers.items() if isinstance(answer, str)}
        return cls(sock, proposal, syntaxes, proposal.max_pdu)

    @classmethod
    def requested(cls, address: tuple[str, int], proposal: Proposal) -> Self:
        """Connect and request. Raises OSError, Ended, or Refused if the peer rejects us."""
        sock = socket.create_connection(address, timeout=REQUEST_S)
        try:
            tune(sock)
            sock.sendall(encode_proposal(proposal))
            kind, body = _read_pdu(sock)
            if kind == _RJ:
                raise Refused(*body[1:4])
            if kind != _AC:
                raise Ended("no answer to the association request")
            acceptance = decode_acceptance(_pdu(kind, body))
        except BaseException:
            sock.close()
            raise
        return cls(sock, proposal, acceptance.syntaxes, acceptance.max_pdu)

    def receive(self) -> Message | None:
        """Return the next message, or None after a release. Raises Ended, OSError."""
        self._sock.settimeout(IDLE_S)
        first = next(self._pieces, None)
        if first is None:
            return None
        command = CommandSet.decode(self._joined(first, is_command=True))
        data = self._joined(self._piece(), is_command=False) if command.has_data else None
        return Message(first[0], command, data)

    def send(
        self,
        context_id: int,
        command: Mapping[CommandField, FieldValue],
        data: Sequence[Bytes] = (),
    ) -> None:
        """Send one message without copying its data set. Raises OSError."""
        whole = CommandSet({**command, CommandField.DATA_SET: WITH_DATA if data else NO_DATA})
        parts = list(self._pdus(context_id, 1, [whole.encode()]))
        if data:
            parts += self._pdus(context_id, 0, data)
        self._sock.settimeout(STALL_S)
        for start in range(0, len(parts), _PIECES_AT_ONCE):
            _send_all(self._sock, parts[start : start + _PIECES_AT_ONCE])

    def release(self) -> None:
        self._sock.settimeout(REQUEST_S)
        try:
            _write_pdu(self._sock, _RELEASE_RQ, bytes(4))
            _read_pdu(self._sock)
        finally:
            self._sock.close()

    def abort(self) -> None:
        try:
            _write_pdu(self._sock, _ABORT, bytes(4))
        except OSError:
            pass
        finally:
            self._sock.close()

    def _piece(self) -> tuple[int, int, memoryview]:
        piece = next(self._pieces, None)
        if piece is None:
            raise Ended("released in the middle of a message")
        return piece

    def _joined(self, piece: tuple[int, int, memoryview], *, is_command: bool) -> bytearray:
        joined = bytearray()
        while True:
            _, flags, fragment = piece
            if bool(flags & 1) is not is_command:
                raise Ended("command and data set are mixed up")
            joined += fragment
            if flags & 2:
                return joined
            piece = self._piece()

    def _data_values(self) -> Iterator[tuple[int, int, memoryview]]:
        while True:
            kind, body = _read_pdu(self._sock)
            if kind == _RELEASE_RQ:
                _write_pdu(self._sock, _RELEASE_RP, bytes(4))
                return
            if kind != _DATA:
                raise Ended("aborted by the peer")
            view = memoryview(body)
            position = 0
            while position < len(view):
                length, context_id, flags = struct.unpack_from(">IBB", view, position)
                yield context_id, flags, view[position + 6 : position + 4 + length]
                position += 4 + length

    def _pdus(self, context_id: int, flag: int, data: Sequence[Bytes]) -> Iterator[Bytes]:
        total = sum(len(part) for part in data)
        done = 0
        for part in data:
            view = memoryview(part)
            for start in range(0, len(view), self._room):
                piece = view[start : start + self._room]
                done += len(piece)
                flags = flag | (2 if done == total else 0)
                size = len(piece)
                yield struct.pack(">BxIIBB", _DATA, size + 6, size + 2, context_id, flags)
                yield piece


def tune(sock: socket.socket) -> None:
    """Send small messages at once: Nagle's algorithm costs 40 ms per instance."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _read_pdu(sock: socket.socket) -> tuple[int, bytes]:
    head = _read(sock, 6)
    kind, length = struct.unpack(">BxI", head)
    if length > MAX_PDU + 6:
        raise Ended("a PDU longer than agreed")
    if length and sock.gettimeout() == IDLE_S:
        sock.settimeout(STALL_S)
        body = _read(sock, length)
        sock.settimeout(IDLE_S)
        return kind, body
    return kind, _read(sock, length)


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        if hasattr(socket, "TCP_QUICKACK"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        count = sock.recv_into(view[done:])
        if count == 0:
            raise Ended("the connection was closed")
        done += count
    return bytes(data)


def _write_pdu(sock: socket.socket, kind: int, body: bytes) -> None:
    sock.sendall(_pdu(kind, body))


def _pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxI", kind, len(body)) + body


def _send_all(sock: socket.socket, parts: list[Bytes]) -> None:
    wanted = sum(len(part) for part in parts)
    sent = sock.sendmsg(parts)
    if sent == wanted:
        return
    for part in parts:
        if sent >= len(part):
            sent -= len(part)
            continue
        sock.sendall(memoryview(part)[sent:])
        sent = 0
