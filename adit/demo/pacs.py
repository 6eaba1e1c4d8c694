"""The demo PACS: C-ECHO, C-FIND, C-GET, C-MOVE and C-STORE over a folder, by pynetdicom.

    python -m adit.demo.pacs --ae-title DEMOPACS --port 11112 --folder PATH

It prints one line, `ready <port> <instances>`, once it accepts associations, and ends on SIGTERM.
"""

import argparse
import errno
import logging
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Self, cast

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pynetdicom import AE, _config, build_context, evt, register_uid
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class
from pynetdicom.transport import ThreadedAssociationServer

from adit.demo import header
from adit.demo.pacs_index import FolderIndex, StoredInstance, Values, encode, find, select
from adit_engine.dicom_file import part10
from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.errors import AditError, Malformed
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE

MAX_ASSOCIATIONS = 50
MAX_PDU = 262144
MAX_CONTEXTS = 128

VERIFICATION = "1.2.840.10008.1.1"
_QUERY_RETRIEVE = frozenset(
    f"1.2.840.10008.5.1.4.1.2.{root}.{service}" for root in (1, 2) for service in (1, 2, 3)
)
_STORAGE = "1.2.840.10008.5.1.4.1.1."

SUCCESS = 0x0000
PENDING = 0xFF00
CANCELLED = 0xFE00
OUT_OF_RESOURCES = 0xA700
IDENTIFIER_DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

# Send files unchanged, without decoding them.
_config.STORE_SEND_CHUNKED_DATASET = True

Response = tuple[int, Dataset | None]


class DemoPacs:
    """A PACS in this process, with one thread per association; a context manager."""

    def __init__(
        self,
        ae_title: str,
        folder: Path,
        peers: Mapping[str, tuple[str, int]] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.ae_title = ae_title
        self.index = FolderIndex(folder)
        self._address = (host, port)
        self._peers = dict(peers or {})
        """Host and port of each C-MOVE destination by its AE title."""
        self._server: ThreadedAssociationServer | None = None
        self._ae = AE(ae_title)
        self._ae.require_called_aet = True
        self._ae.maximum_associations = MAX_ASSOCIATIONS
        self._ae.maximum_pdu_size = MAX_PDU
        self._ae.acse_timeout = self._ae.connection_timeout = 15
        self._ae.dimse_timeout = 60
        self._ae.network_timeout = 300

    @property
    def port(self) -> int:
        """The port it listens on; chosen by the system if it was given as 0."""
        if self._server is None or self._server.socket is None:
            raise RuntimeError("The PACS has not been started.")
        return int(self._server.socket.getsockname()[1])

    def start(self) -> None:
        """Read the folder and listen. Raise OSError if the port is taken."""
        self.index.load()
        self._server = self._ae.start_server(
            self._address,
            block=False,
            contexts=[build_context(VERIFICATION)],
            evt_handlers=[
                (evt.EVT_CONN_OPEN, _tune_connection),
                (evt.EVT_REQUESTED, self._negotiate),
                (evt.EVT_ESTABLISHED, _send_files_as_they_are),
                (evt.EVT_C_ECHO, lambda event: SUCCESS),
                (evt.EVT_C_FIND, self._find),
                (evt.EVT_C_GET, self._get),
                (evt.EVT_C_MOVE, self._move),
                (evt.EVT_C_STORE, self._store),
            ],
        )

    def stop(self) -> None:
        """Stop listening and abort the open associations."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
        # AE.shutdown() also aborts rejected associations that are not yet closed, which its state
        # machine does not allow.
        for association in self._ae.active_associations:
            if association.is_established:
                association.abort()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _negotiate(self, event: evt.Event) -> None:
        """Accept each supported SOP class in any transfer syntax that was proposed for it."""
        requestor: Any = event.assoc.requestor
        received = {uid for uid, role in requestor.role_selection.items() if role.scp_role}
        proposed: dict[str, list[str]] = {}
        for context in requestor.requested_contexts:
            proposed.setdefault(context.abstract_syntax, []).extend(context.transfer_syntax)
        event.assoc.acceptor.supported_contexts = [
            _supported_context(uid, self._ordered(uid, syntaxes, uid in received))
            for uid, syntaxes in proposed.items()
            if self._supports(uid)
        ]

    def _supports(self, uid: str) -> bool:
        is_small = uid == VERIFICATION or uid in _QUERY_RETRIEVE
        return is_small or uid.startswith(_STORAGE) or bool(self.index.syntaxes(uid))

    def _ordered(self, uid: str, proposed: list[str], is_received: bool) -> list[str]:
        """Return the transfer syntaxes by preference: as stored, uncompressed, as proposed."""
        if uid == VERIFICATION or uid in _QUERY_RETRIEVE:
            return [EXPLICIT_LE, IMPLICIT_LE]
        ordered = list(dict.fromkeys(proposed))
        if is_received or ordered[0] == IMPLICIT_LE:
            ordered.sort(key=lambda one: (one != EXPLICIT_LE, one != IMPLICIT_LE))
        stored = self.index.syntaxes(uid)
        if is_received and len(stored) == 1:
            ordered.sort(key=lambda one: one != stored[0])
        return ordered

    def _find(self, event: evt.Event) -> Iterator[Response]:
        try:
            matches = find(self.index, _keys(event) or {}, self.ae_title)
        except KeyError:
            yield IDENTIFIER_DOES_NOT_MATCH, None
            return
        for values in matches:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, _dataset(values)

    def _get(self, event: evt.Event) -> Iterator[int | Response]:
        yield from self._retrieve(event, select(self.index, _keys(event) or {}))

    def _move(self, event: evt.Event) -> Iterator[Any]:
        title = event.move_destination
        selected = select(self.index, _keys(event) or {})
        if title not in self._peers:
            yield None, None
            return
        originator = {
            "originator_aet": event.assoc.requestor.ae_title,
            "originator_id": event.request.MessageID,
        }
        options = {
            "contexts": _contexts_for(selected or []),
            "evt_handlers": [
                (evt.EVT_CONN_OPEN, _tune_connection),
                (evt.EVT_ESTABLISHED, _send_files_as_they_are, [originator]),
                (evt.EVT_ESTABLISHED, reserve_responses),
            ],
        }
        yield (*self._peers[title], options)
        yield from self._retrieve(event, selected)

    def _retrieve(
        self, event: evt.Event, selected: list[StoredInstance] | None
    ) -> Iterator[int | Response]:
        if selected is None:
            yield 1
            yield IDENTIFIER_DOES_NOT_MATCH, None
            return
        yield len(selected)
        for stored in selected:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, _FileToSend(stored)

    def _store(self, event: evt.Event) -> int:
        try:
            self.index.store(event.encoded_dataset())
        except Malformed:
            return CANNOT_UNDERSTAND
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            return OUT_OF_RESOURCES if is_full else CANNOT_UNDERSTAND
        return SUCCESS


# Sending ------------------------------------------------------------------------------------------


class _FileToSend(Dataset):
    """What a handler yields to pynetdicom for a file that `_send` reads; never encoded."""

    def __init__(self, stored: StoredInstance) -> None:
        super().__init__()
        self.SOPInstanceUID = stored.uid
        self.__dict__["stored"] = stored


def _send_files_as_they_are(event: evt.Event, originator: Mapping[str, Any] | None = None) -> None:
    """Replace how this association sends.

    pynetdicom would decode and encode each data set, and names itself as the originator of a C-MOVE
    instead of the caller (PS3.7 9.1.1.1.5).
    """
    association: Any = event.assoc
    association.send_c_store = partial(_send, association, originator or {})


def reserve_responses(event: evt.Event) -> None:
    """Let only the thread that sent a request take its response; for associations as requestor.

    The reactor of pynetdicom 3.0 can look for messages once more after a sender has paused it. It
    would then take the response, and the sender would wait until the DIMSE timeout.
    """
    dimse: Any = event.assoc.dimse
    take = dimse.get_msg
    dimse.get_msg = lambda block=False: take(block=True) if block else (None, None)


def _send(
    association: Association,
    originator: Mapping[str, Any],
    file: _FileToSend,
    msg_id: int = 1,
    **_: object,
) -> Dataset:
    """Send one file in its own transfer syntax, or uncompressed if the peer accepts nothing else."""
    stored: StoredInstance = file.__dict__["stored"]
    accepted = {
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.abstract_syntax == stored.class_uid and context.as_scu
    }
    sent: Path | Dataset = stored.path
    if stored.syntax not in accepted:
        sent = _decompressed(stored.path)
    return Association.send_c_store(association, sent, msg_id, **originator)


def _decompressed(path: Path) -> Dataset:
    dataset = dcmread(
        BytesIO(b"".join(part10.file_parts(to_little_endian(part10.read_file(path)))))
    )
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress(generate_instance_uid=False)
    return dataset


def _contexts_for(selected: Sequence[StoredInstance]) -> list[PresentationContext]:
    """Return one context per SOP class and stored transfer syntax, and uncompressed ones."""
    pairs = {(one.class_uid, one.syntax) for one in selected}
    plain = {(uid, syntax) for uid, _ in pairs for syntax in (EXPLICIT_LE, IMPLICIT_LE)}
    wanted = [*sorted(pairs), *sorted(plain - pairs)] or [(VERIFICATION, IMPLICIT_LE)]
    return [build_context(uid, syntax) for uid, syntax in wanted[:MAX_CONTEXTS]]


# Details ------------------------------------------------------------------------------------------


def _supported_context(uid: str, syntaxes: list[str]) -> PresentationContext:
    """Return a context for both roles; classes unknown to pynetdicom are storage classes."""
    if uid_to_service_class(uid) is ServiceClass:
        register_uid(uid, f"Storage_{uid.replace('.', '_')}", StorageServiceClass)
    context = build_context(uid, syntaxes)
    context.scu_role = context.scp_role = True
    return context


def _tune_connection(event: evt.Event) -> None:
    """Send without Nagle's algorithm; replace how pynetdicom reads and closes the socket."""
    connection: Any = event.assoc.dul.socket
    connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.recv = partial(_receive, connection.socket)
    connection._shutdown_socket = partial(_close, connection.socket)


def _close(connection: socket.socket) -> None:
    """Close the connection. pynetdicom 3.0 leaves it open if the peer has already gone."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _receive(connection: socket.socket, size: int) -> bytearray:
    """Receive so many bytes, or fewer if the peer has closed the connection.

    Acknowledges at once: a peer that sends with Nagle's algorithm, such as dcmtk, waits 40 ms for
    it with each response. Linux forgets the option, so it is set again.
    """
    data = bytearray()
    while len(data) < size:
        if hasattr(socket, "TCP_QUICKACK"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        piece = connection.recv(min(size - len(data), MAX_PDU))
        if not piece:
            break
        data += piece
    return data


def _keys(event: evt.Event) -> Values | None:
    """Return the keys of an identifier; None if it cannot be read."""
    identifier = cast(Any, event.request).Identifier
    try:
        return header.texts(identifier.getvalue(), event.context.transfer_syntax, None)
    except (AditError, ValueError, struct.error):
        return None


def _dataset(values: Mapping[str, str]) -> Dataset:
    return read_dataset(BytesIO(encode(values, EXPLICIT_LE)), False, True)


def _peer(text: str) -> tuple[str, tuple[str, int]]:
    ae_title, _, address = text.partition("=")
    host, _, port = address.rpartition(":")
    if not (ae_title and host and port.isdigit()):
        raise argparse.ArgumentTypeError("write a peer as AE=host:port")
    return ae_title, (host, int(port))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="adit.demo.pacs", description=__doc__)
    parser.add_argument("--ae-title", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 chooses a free one")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--peer", type=_peer, action="append", default=[], help="AE=host:port")
    parser.add_argument(
        "--follow-parent", action="store_true", help="end with the process that started it"
    )
    given = parser.parse_args(arguments)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    parent = os.getppid() if given.follow_parent else None
    pacs = DemoPacs(
        given.ae_title, given.folder, dict(given.peer), host=given.host, port=given.port
    )
    try:
        pacs.start()
    except OSError as error:
        print(
            f"{given.ae_title} cannot start: {error.strerror}, port {given.port}", file=sys.stderr
        )
        return 1
    print(f"ready {pacs.port} {len(pacs.index)}", flush=True)
    while not ending.wait(0.5) and parent in (None, os.getppid()):
        pass
    pacs.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
