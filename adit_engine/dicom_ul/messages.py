"""DIMSE messages over a connection, in both directions, without threads (PS3.8 9.3).

Used by client associations and by our Storage SCP.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Protocol

from adit_engine.dicom_file import temp_files
from adit_engine.dicom_ul.command_set import CommandSet, Operation
from adit_engine.dicom_ul.message_buffer import BufferPool, MessageBuffer
from adit_engine.dicom_ul.pdu import NegotiatedAssociation, PduType, encode_pdu
from adit_engine.dicom_ul.peer import Peer
from adit_engine.dicom_ul.tcp_connection import TcpConnection
from adit_engine.elements import Buffer
from adit_engine.errors import AditError, Malformed, NodeError, Stopped

MAX_RESPONSE_BYTES = 16 * 1024 * 1024

_MAX_COMMAND = 64 * 1024
_MAX_SEND_PDU = 1024 * 1024
_MAX_EMPTY_PDVS = 100
"""Limit of PDVs without content in a row: an endless series of them would never end a message."""
_BATCH_BUFFERS = 512
_BATCH_BYTES = 4 * 1024 * 1024
_PDV_HEAD = Struct(">IBB")
_P_DATA_HEAD = Struct(">BxIIBB")
_COMMAND, _LAST = 1, 2


@dataclass(frozen=True, slots=True)
class DimseMessage:
    """One complete DIMSE message. `data` is empty when it had no data set."""

    context_id: int
    command: CommandSet
    data: Buffer = field(repr=False)


class DataSink(Protocol):
    """Receives the fragments of a data set as they arrive; each is valid during the call only."""

    def add(self, piece: memoryview) -> None: ...


class MessageChannel:
    """Sends and receives DIMSE messages over one connection.

    Used by one thread. Only `abort` may be called from any other thread, or by a signal handler.
    """

    negotiated: NegotiatedAssociation

    def __init__(self, peer: Peer, connection: TcpConnection) -> None:
        self.peer = peer
        self.released = False
        """True once the peer has released the association."""
        self._connection = connection
        self.command_at = 0.0
        """When the command of the last message had arrived (monotonic), before its data set."""
        self._message_id = 0
        self._pool = BufferPool()
        self._said_before: tuple[bytes, CommandSet] = (b"", CommandSet({}))
        self._fragments: deque[tuple[int, int, memoryview]] = deque()
        self._empty = 0

    # Closing -----------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """True once no more messages can be sent."""
        return self._connection.is_closed or self._connection.has_protocol_error

    def abort(self) -> None:
        """End every wait on this connection now; the waiting thread gets Stopped."""
        self._connection.abort()

    def close(self) -> None:
        """Close at once, with an A-ABORT if the association was not over."""
        self._connection.close()

    def limit_total_wait(self, total_s: float) -> None:
        """Limit the total time spent waiting for the peer from now on."""
        self._connection.limit_total_wait(total_s)

    def protocol_error(self, code: str, **values: Any) -> AditError:
        """Return the error for a protocol violation. The connection is not used again."""
        return self._connection.protocol_error(code, **values)

    # Sending -----------------------------------------------------------------------------------

    def next_message_id(self) -> int:
        self._message_id = self._message_id % 0xFFFF + 1
        return self._message_id

    def send(self, context_id: int, command: CommandSet, data: Iterable[Buffer] = ()) -> None:
        """Send one DIMSE message. Raises ConnectionLost, TimedOut, Stopped."""
        self._connection.expect_within(self.peer.timeouts.no_progress_s, "clause.await-accept-data")
        batch: list[Buffer] = []
        size = 0
        for buffer in self._encode(context_id, command, data):
            batch.append(buffer)
            size += len(buffer)
            if len(batch) >= _BATCH_BUFFERS or size >= _BATCH_BYTES:
                self._connection.send(batch)
                batch, size = [], 0
        self._connection.send(batch)

    def _encode(
        self, context_id: int, command: CommandSet, data: Iterable[Buffer]
    ) -> Iterator[Buffer]:
        """Yield the buffers of the PDUs of one message, none larger than the peer accepts."""
        room = min(self.negotiated.max_pdu or _MAX_SEND_PDU, _MAX_SEND_PDU) - 6
        if room < 16:
            raise self.protocol_error("association.pdu-limit")
        room -= room % 2
        for flags, parts in ((_COMMAND, [command.encode()]), (0, list(data))):
            left = sum(len(part) for part in parts)
            for pieces in _split_buffers(parts, room):
                size = sum(len(piece) for piece in pieces)
                left -= size
                last = 0 if left else _LAST
                yield _P_DATA_HEAD.pack(
                    PduType.P_DATA, size + 6, size + 2, context_id, flags | last
                )
                yield from pieces

    # Receiving ---------------------------------------------------------------------------------

    def receive(self, within_s: float, awaited: str) -> DimseMessage:
        """Return the next DIMSE message.

        `within_s` is the time until its first byte, `awaited` the code of a clause for the error.
        Raises ConnectionLost, TimedOut, Stopped, StorageFull.
        """
        context_id, command = self.receive_command(within_s, awaited)
        if not command.has_data:
            return DimseMessage(context_id, command, b"")
        is_image = command.operation == Operation.STORE
        body = MessageBuffer(None, self._pool) if is_image else MessageBuffer(MAX_RESPONSE_BYTES)
        try:
            self.receive_data(context_id, body)
            return DimseMessage(context_id, command, body.get_content())
        except Malformed as error:
            raise self.protocol_error("association.message-too-large") from error
        except OSError as error:
            raise temp_files.disk_full_error(self.peer.name) from error
        finally:
            body.discard()

    def poll(self, within_s: float) -> bool:
        """Return whether data, or the end of the connection, has come in time.

        Raises Stopped.
        """
        return bool(self._fragments) or self._connection.poll(within_s)

    def receive_command(self, within_s: float, awaited: str) -> tuple[int, CommandSet]:
        """Return the presentation context ID and command set of the next message.

        The caller has to read its data set next. Raises ConnectionLost, TimedOut, Stopped.
        """
        self._connection.expect_within(within_s, awaited)
        raw = b""
        flags = 0
        while not flags & _LAST:
            context_id, flags, piece = self._fragment()
            raw += piece
            if not flags & _COMMAND or len(raw) > _MAX_COMMAND:
                raise self.protocol_error("association.command-expected")
        self.command_at = time.monotonic()
        if context_id not in self.negotiated.contexts:
            raise self.protocol_error("association.unknown-context")
        if raw != self._said_before[0]:
            try:
                self._said_before = raw, CommandSet.decode(raw)
            except Malformed as error:
                raise self.protocol_error("association.invalid-command") from error
        return context_id, self._said_before[1]

    def receive_data(self, context_id: int, sink: DataSink) -> None:
        """Read the data set of the message whose command was received last."""
        flags = 0
        while not flags & _LAST:
            number, flags, piece = self._fragment()
            if number != context_id or flags & _COMMAND:
                raise self.protocol_error("association.mixed-messages")
            sink.add(piece)

    def _fragment(self) -> tuple[int, int, memoryview]:
        """Return the next fragment, valid until the next call. One PDU may hold several."""
        while not self._fragments:
            kind, body = self._connection.read_pdu()
            if kind is PduType.RELEASE_RQ:
                with suppress(NodeError, Stopped):
                    self._connection.send([encode_pdu(PduType.RELEASE_RP)])
                self.released = True
                raise self.protocol_error("association.released")
            if kind is not PduType.P_DATA:
                raise self.protocol_error("association.unexpected-pdu")
            self._split(body)
        context_id, flags, piece = self._fragments.popleft()
        self._empty = 0 if len(piece) else self._empty + 1
        if self._empty > _MAX_EMPTY_PDVS:
            raise self.protocol_error("association.empty-data")
        return context_id, flags, piece

    def _split(self, body: memoryview) -> None:
        position = 0
        while position < len(body) or not position:
            if position + 6 > len(body):
                raise self.protocol_error("association.invalid-pdu")
            length, context_id, flags = _PDV_HEAD.unpack_from(body, position)
            end = position + 4 + length
            if length < 2 or end > len(body):
                raise self.protocol_error("association.invalid-pdu")
            self._fragments.append((context_id, flags, body[position + 6 : end]))
            position = end


def _split_buffers(parts: Iterable[Buffer], size: int) -> Iterator[list[memoryview]]:
    """Yield the bytes of all parts in lists of `size` bytes; copies nothing.

    The last list is smaller.
    """
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
