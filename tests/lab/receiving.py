"""Helpers for tests of receiving: a receiver in this process and its callers."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adit_engine.dicom_ul.association import ClientAssociation, OpenAssociations
from adit_engine.dicom_ul.command_set import CommandField, CommandSet, FieldValue, Operation
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.dicom_ul.peer import Peer, Timeouts
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.storage_scp.inbox import LocalMoveReceiver
from adit_engine.storage_scp.pending_moves import AllowedSender, MoveTarget
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings
from adit_engine.storage_scp.spool import Spool
from adit_engine.values.instance import Instance

HERE = ("127.0.0.1",)
TIMES = {"connect_s": 30.0, "association_s": 30.0, "first_byte_s": 30.0, "no_progress_s": 30.0}


@dataclass
class Received:
    """A receiver with its spool and pending moves."""

    receiver: StorageScp
    reception: LocalMoveReceiver
    spool: Spool

    @property
    def port(self) -> int:
        return self.receiver.port

    def sender(self, title: str = "PACS", **settings: Any) -> DimseNode:
        """Return a node that sends to the receiver by C-STORE, as a PACS would."""
        values = {
            "called_ae_title": "ADIT",
            "calling_ae_title": title,
            "host": "127.0.0.1",
            "port": self.port,
            **TIMES,
            **settings,
        }
        return DimseNode("ADIT", DimseSettings(**values))


class Sending:
    """One association of a PACS with the receiver, controlled message by message."""

    def __init__(self, association: ClientAssociation) -> None:
        self._association = association

    def store(
        self, instance: Instance, originator: tuple[str, int] | None = None, **named: str
    ) -> int | None:
        """Send an image and return the status. `originator` is (AE title, message ID)."""
        kind, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
        context_id = self._association.negotiated.context_for(kind, syntax)
        assert context_id is not None
        number = self._association.next_message_id()
        values: dict[CommandField, FieldValue] = {
            CommandField.CLASS_UID: kind,
            CommandField.OPERATION: Operation.STORE,
            CommandField.MESSAGE_ID: number,
            CommandField.PRIORITY: 0,
            CommandField.DATA_SET: 1,
            CommandField.INSTANCE_UID: named.get("uid", instance.instance_uid),
        }
        if originator is not None:
            values[CommandField.ORIGINATOR], values[CommandField.ORIGINATOR_ID] = originator
        self._association.send(context_id, CommandSet(values), instance.parts())
        answer = self._association.receive(30, "answer").command
        assert answer.is_response_to(Operation.STORE, number)
        return answer.status


@contextmanager
def sending(port: int, *instances: Instance, title: str = "PACS") -> Iterator[Sending]:
    """Open an association with the contexts that these instances need."""
    pairs = {(i.sop_class_uid, i.transfer_syntax_uid) for i in instances}
    patience = Timeouts(connect_s=30, association_s=30, no_progress_s=30)
    peer = Peer("ADIT", "127.0.0.1", port, "ADIT", title, 131072, patience)
    contexts = [PresentationContext(kind, (syntax,)) for kind, syntax in sorted(pairs)]
    with OpenAssociations(peer).open(contexts) as association:
        yield Sending(association)


@contextmanager
def receiving(
    folder: Path, *callers: str, reserve_bytes: int = 0, **settings: Any
) -> Iterator[Received]:
    """Run a receiver that accepts the given AE titles from this machine."""
    spool = Spool(folder / "spool", reserve_bytes)
    known = [AllowedSender(title, HERE) for title in callers]
    reception = LocalMoveReceiver(spool, "ADIT", "this machine", known)
    values = StorageScpSettings("ADIT", "127.0.0.1", 0, **settings)
    with StorageScp(values, spool, reception) as receiver:
        yield Received(receiver, reception, spool)


@contextmanager
def again(received: Received) -> Iterator[Received]:
    """Run a second receiver that knows only the spool of the first one."""
    spool = Spool(received.spool.folder, 0)
    values = StorageScpSettings("ADIT", "127.0.0.1", 0)
    with StorageScp(values, spool, received.reception) as receiver:
        yield Received(receiver, received.reception, spool)


def wanted(study_uid: str, *, title: str = "PACS", **more: Any) -> MoveTarget:
    return MoveTarget("PACS1", (AllowedSender(title, HERE),), "ADIT", study_uid, **more)


def never() -> None:
    """Never stop a wait."""


def request(calling: str = "PACS", called: str = "ADIT") -> bytes:
    """Return the bytes of an A-ASSOCIATE-RQ for C-ECHO."""
    context = bytes([1, 0, 0, 0]) + _item(0x30, b"1.2.840.10008.1.1")
    context += _item(0x40, b"1.2.840.10008.1.2")
    body = struct.pack(">H2x16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
    body += _item(0x10, b"1.2.840.10008.3.1.1.1") + _item(0x20, context)
    body += _item(0x50, _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3"))
    return struct.pack(">BxI", 1, len(body)) + body


def answer(one: socket.socket) -> tuple[int, bytes]:
    """Return type and content of the next PDU; type 0 if the connection has ended."""
    try:
        head = one.recv(6, socket.MSG_WAITALL)
        if len(head) < 6:
            return 0, b""
        kind, length = struct.unpack(">BxI", head)
        return kind, one.recv(length, socket.MSG_WAITALL)
    except ConnectionError:
        return 0, b""


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value
