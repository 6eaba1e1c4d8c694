"""A PACS with configurable faults that logs what it really sent and stored."""

import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from adit.demo import header
from adit.demo.pacs_index import StoredInstance, encode, find, select
from adit_engine.dicom_ul.command_set import RESPONSE_BIT, CommandField, FieldValue, Operation
from adit_engine.errors import Malformed
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE, Instance
from lab import pledges, sending
from lab.association import Association, Bytes, Ended, Message, Refused
from lab.lies import Kind, Liar, Lie, Over, Part, Sent, Site, holdings, presentation_state
from lab.negotiation import Context, Proposal
from lab.sending import Sender

SUCCESS, PENDING, CANCELLED, WARNING, FULL = 0x0000, 0xFF00, 0xFE00, 0xB000, 0xA700
SOME_FAILED, UNKNOWN_DESTINATION = 0xB000, 0xA801
CANNOT_COUNT, CANNOT_SEND = 0xA701, 0xA702

T = TypeVar("T")
_LATE_S = 0.2
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
_GONE = (Ended, Malformed, Over, Refused, OSError, ValueError, struct.error)
_STATUS = {
    Kind.NO_ROOM: FULL,
    Kind.ADMIT: FULL,
    Kind.COERCE: WARNING,
    Kind.DUPLICATE: 0x0111,
}
_QUERY = "1.2.840.10008.5.1.4.1.2."
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_VERIFICATION = "1.2.840.10008.1.1"
_ABORT_PDU = struct.pack(">BxI", 7, 4) + bytes(4)
_HUGE_PDU = struct.pack(">BxI", 4, 0xFFFFFFFF) + bytes(65536)


class Lying(Liar):
    """A PACS in this process that serves the files of a site. Use it with `with`."""

    def __init__(
        self,
        site: Site,
        lies: Iterable[Lie] = (),
        *,
        scratch: Path,
        sends_move_originator: bool = True,
    ) -> None:
        super().__init__(site, lies, scratch)
        self._names_originator = sends_move_originator
        self._late: set[int] = set()

    # Associations ------------------------------------------------------------------------------

    def converse(self, one: socket.socket) -> None:
        with suppress(*_GONE):
            association = Association.accepted(one, self._choose)
            while (message := association.receive()) is not None:
                self._answer(association, message)

    def _choose(self, proposal: Proposal) -> dict[int, str | int]:
        on = _about(proposal)
        if self.tells(Kind.BUSY, on=on):
            raise Refused(2, 3, 2)
        if self.tells(Kind.REJECT, on=on):
            raise Refused(1, 1, 3)
        if proposal.called != self.site.ae_title:
            raise Refused(1, 1, 7)
        chosen = {one.id: _syntax_for(self.site, proposal, one) for one in proposal.contexts}
        chosen |= self._pledging(proposal)
        asks = [one.id for one in proposal.contexts if one.class_uid == _GET]
        if asks and self.tells(Kind.REFUSE, on=Part.GET):
            return {number: 3 if number in asks else answer for number, answer in chosen.items()}
        if self.tells(Kind.NO_CLASS, on=on):
            refused = {one.id for one in proposal.contexts if _is_about(one.class_uid, on)}
            return {number: 3 if number in refused else chosen[number] for number in chosen}
        if self.tells(Kind.IMPLICIT_ONLY, on=on):
            syntaxes = {one.id: one.syntaxes for one in proposal.contexts}
            return {n: IMPLICIT_LE if IMPLICIT_LE in syntaxes[n] else 4 for n in chosen}
        return chosen

    def _pledging(self, proposal: Proposal) -> dict[int, str | int]:
        """Accept Storage Commitment, which is not a storage class."""
        offers = [one for one in proposal.contexts if one.class_uid == pledges.COMMITMENT]
        if not offers or self.tells(Kind.NO_CLASS, on=Part.COMMIT):
            return {}
        return {one.id: one.syntaxes[0] for one in offers}

    def _answer(self, association: Association, message: Message) -> None:
        if message.operation == Operation.FIND:
            self._find(association, message)
        elif message.operation in (Operation.GET, Operation.MOVE):
            self._retrieve(association, message)
        elif message.operation == Operation.STORE:
            self._store(association, message)
        elif message.operation == Operation.ACTION:
            pledges.pledge(self, association, message)
        elif message.operation == Operation.ECHO:
            self._respond(association, message, SUCCESS)

    def _respond(
        self,
        association: Association,
        message: Message,
        status: int | None,
        more: Mapping[CommandField, FieldValue] | None = None,
        data: bytes = b"",
    ) -> None:
        command: dict[CommandField, FieldValue] = {
            CommandField.CLASS_UID: message.command.text(CommandField.CLASS_UID),
            CommandField.OPERATION: message.operation | RESPONSE_BIT,
            CommandField.ANSWERS_TO: message.id,
            **({} if status is None else {CommandField.STATUS: status}),
            **(more or {}),
        }
        association.send(message.context_id, command, [data] if data else [])

    def say(self, association: Association, on: Part, speak: Callable[[], T | None]) -> T | None:
        """Send the only message of an exchange; see `_say`."""
        return self._say(association, on, 0, speak)

    def _say(
        self, association: Association, on: Part, at: int, speak: Callable[[], T | None]
    ) -> T | None:
        """Send a message, or the part of it that a fault lets through. Raises Over."""
        how = self.breaks(at, on)
        if how is None:
            return speak()
        one, honest = association._sock, association.send
        heard = _Recorder()

        def record(
            context_id: int, command: Mapping[CommandField, FieldValue], data: Sequence[Bytes] = ()
        ) -> None:
            association._sock = heard  # type: ignore[assignment]
            try:
                honest(context_id, command, data)
            finally:
                association._sock = one
            raise Over(how)

        association.send = record  # type: ignore[method-assign]
        with suppress(Over):
            speak()
        self.break_off(one, how, bytes(heard.data), huge=_HUGE_PDU, abort=_ABORT_PDU)
        return None

    # Searches ----------------------------------------------------------------------------------

    def _find(self, association: Association, message: Message) -> None:
        syntax = association.contexts[message.context_id].syntaxes[0]
        keys = header.texts(message.data or b"", syntax, None)
        if self.tells(Kind.EXHAUSTED, on=Part.FIND):
            self._respond(association, message, FULL)
            return
        found = find(self.site.index, keys, self.site.ae_title)
        for at, values in enumerate(self.cut_list(keys.get("QueryRetrieveLevel"), found)):
            pending = partial(
                self._respond, association, message, PENDING, data=encode(values, syntax)
            )
            if self.tells(Kind.ENDLESS, at, Part.FIND):
                while not self._ending.wait(0.02):
                    pending()
            self._say(association, Part.FIND, at, pending)
        self._finish(association, message, Part.FIND, SUCCESS)

    def _finish(
        self,
        association: Association,
        message: Message,
        on: Part,
        status: int,
        counts: Mapping[CommandField, FieldValue] | None = None,
    ) -> None:
        lacks_status = self.tells(Kind.NO_STATUS, on=on) is not None
        self._respond(association, message, None if lacks_status else status, counts)

    # Retrieval ---------------------------------------------------------------------------------

    def _retrieve(self, association: Association, message: Message) -> None:
        syntax = association.contexts[message.context_id].syntaxes[0]
        keys = header.texts(message.data or b"", syntax, None)
        held = select(self.site.index, keys) or []
        on = Part.GET if message.operation == Operation.GET else Part.MOVE
        if self.tells(Kind.NOTHING, on=on):
            self._respond(association, message, SUCCESS, {CommandField.COMPLETED: len(held)})
            return
        if self.tells(Kind.EXHAUSTED, on=on):
            self._respond(association, message, CANNOT_COUNT)
            return
        if held and self.tells(Kind.PRESENTS, on=on):
            held = [*held, presentation_state(held[0], self._scratch)]
        self.wait_for_tape(on)
        if on is Part.GET:
            senders = [Sender(association, association.proposal.taken)]
            self._hand_over(association, message, held, senders)
            return
        address = self.site.peers.get(message.command.text(CommandField.DESTINATION))
        if address is None:
            self._respond(association, message, UNKNOWN_DESTINATION)
        elif self.tells(Kind.EARLY, on=on):
            self._respond(association, message, SUCCESS, {CommandField.COMPLETED: len(held)})
            self.begin(self._send_late, association, message, held, address)
        else:
            try:
                with self._senders(association, message, held, address) as senders:
                    self._hand_over(association, message, held, senders)
            except Refused:
                self._respond(association, message, CANNOT_SEND)

    @contextmanager
    def _senders(
        self,
        association: Association,
        message: Message,
        held: list[StoredInstance],
        address: tuple[str, int],
    ) -> Iterator[list[Sender]]:
        called = message.command.text(CommandField.DESTINATION)
        title = "STRANGER" if self.tells(Kind.OTHER_TITLE, on=Part.MOVE) else self.site.ae_title
        named: dict[CommandField, FieldValue] = {
            CommandField.ORIGINATOR: association.proposal.calling,
            CommandField.ORIGINATOR_ID: message.id,
        }
        senders: list[Sender] = []
        try:
            for contexts in sending.contexts_for(held):
                opened = Association.requested(address, Proposal(called, title, contexts))
                self._open.add(opened._sock)
                classes = frozenset(one.class_uid for one in contexts)
                senders.append(Sender(opened, classes, named if self._names_originator else None))
            yield senders
        finally:
            for sender in senders:
                self._open.discard(sender.association._sock)
                with suppress(*_GONE):
                    sender.association.release()

    def _send_late(
        self,
        association: Association,
        message: Message,
        held: list[StoredInstance],
        address: tuple[str, int],
    ) -> None:
        if self._ending.wait(_LATE_S):
            return
        self._late.add(threading.get_ident())
        with suppress(*_GONE), self._senders(association, message, held, address) as senders:
            for at, one in enumerate(held):
                self._send(senders, one, at, message.id)

    def _hand_over(
        self,
        association: Association,
        message: Message,
        held: list[StoredInstance],
        senders: list[Sender],
    ) -> None:
        failed, on = 0, Part.GET if message.operation == Operation.GET else Part.MOVE
        for at, instance in enumerate(held):
            if self.tells(Kind.ENDLESS, at, on):
                self._say_pending(association, message, len(held) - at)
            failed += not self._send(senders, instance, at, message.id)
            left = {
                CommandField.REMAINING: len(held) - at - 1,
                CommandField.COMPLETED: at + 1 - failed,
            }
            pending = partial(self._respond, association, message, PENDING, left)
            if on is Part.MOVE:
                self._say(association, on, at, pending)
            else:
                pending()
            if any(sender.cancelled for sender in senders):
                self._respond(association, message, CANCELLED)
                return
        counts = {CommandField.COMPLETED: len(held) - failed, CommandField.FAILED: failed}
        if self.tells(Kind.COUNTS, on=on):
            counts, failed = {CommandField.COMPLETED: 999, CommandField.FAILED: 0}, 0
        if any(self._told[lie] for lie in self._lies if lie.kind is Kind.ADMIT):
            failed = 0
        self._finish(association, message, on, SOME_FAILED if failed else SUCCESS, counts)

    def _say_pending(self, association: Association, message: Message, left: int) -> None:
        while not self._ending.wait(0.05):
            self._respond(association, message, PENDING, {CommandField.REMAINING: left})
        raise Ended("over")

    def _send(self, senders: list[Sender], held: StoredInstance, at: int, first_id: int) -> bool:
        """Return whether it counts as sent. A C-MOVE survives the loss of its C-STORE association."""
        on = Part.GET if senders and senders[0].association.proposal.taken else Part.MOVE
        if self.tells(Kind.ADMIT, at, on):
            return False
        taken = [self._send_one(senders, held, kind, first_id, at) for kind in self.ways(at, on)]
        return all(taken)

    def _send_one(
        self, senders: list[Sender], held: StoredInstance, kind: Kind | None, first_id: int, at: int
    ) -> bool:
        going = self.altered(held, kind)
        content = going.path.read_bytes()[going.offset :]
        digest = hashlib.sha256(content).hexdigest()
        sender = next((one for one in senders if one.takes(going)), None)
        status: int | None = None
        try:
            if sender is not None:
                on = Part.GET if sender.association.proposal.taken else Part.SUB
                number = (first_id + at) % 65535 + 1
                status = self._say(sender.association, on, at, partial(sender.send, going, number))
        except _GONE:
            if sender is not None and sender.association.proposal.taken:
                raise
        finally:
            late = threading.get_ident() in self._late
            self.log.sent.append(Sent(held.uid, digest, kind, status, late))
        return status == SUCCESS

    # Storage -----------------------------------------------------------------------------------

    def _store(self, association: Association, message: Message) -> None:
        at = len(self.log.stored)
        if self.tells(Kind.ENDLESS, at, Part.STORE):
            self._say_pending(association, message, 1)
        uid = message.command.text(CommandField.INSTANCE_UID)
        arrived = Instance(
            message.command.text(CommandField.CLASS_UID),
            uid,
            association.contexts[message.context_id].syntaxes[0],
            bytes(message.data or b""),
        )
        lied = self.keep(arrived)
        status = _STATUS.get(lied, SUCCESS) if lied else SUCCESS
        if self.tells(Kind.NO_STATUS, at, Part.STORE):
            self._respond(association, message, None, {CommandField.INSTANCE_UID: uid})
            return
        kept = partial(
            self._respond, association, message, status, {CommandField.INSTANCE_UID: uid}
        )
        self._say(association, Part.STORE, at, kept)


class _Recorder:
    """Records what would have been sent over a socket."""

    def __init__(self) -> None:
        self.data = bytearray()

    def settimeout(self, seconds: float) -> None:
        pass

    def sendmsg(self, parts: Sequence[Bytes]) -> int:
        self.data += b"".join(bytes(part) for part in parts)
        return sum(len(part) for part in parts)


def plain_archive(
    ae_title: str, folder: Path, peers: Mapping[str, tuple[str, int]] | None = None
) -> Lying:
    """Return a PACS without faults that serves a folder. Use it with `with`."""
    return Lying(Site(ae_title, holdings(folder), peers or {}), scratch=folder)


def _syntax_for(site: Site, proposal: Proposal, context: Context) -> str | int:
    """Return the accepted transfer syntax, or the reason for rejection (PS3.8 9.3.3.2)."""
    syntaxes = context.syntaxes
    if context.class_uid == _VERIFICATION or context.class_uid.startswith(_QUERY):
        return next((one for one in (EXPLICIT_LE, IMPLICIT_LE) if one in syntaxes), 4)
    held = site.index.syntaxes(context.class_uid)
    if not context.class_uid.startswith(_STORAGE) and not held:
        return 3
    is_taken = context.class_uid in proposal.taken
    if is_taken and len(held) == 1 and held[0] in syntaxes:
        return held[0]
    if is_taken or syntaxes[0] == IMPLICIT_LE:
        return next((one for one in (EXPLICIT_LE, IMPLICIT_LE) if one in syntaxes), syntaxes[0])
    return syntaxes[0]


def _about(proposal: Proposal) -> Part:
    """Return the purpose of an association from its proposed contexts."""
    if [one.class_uid for one in proposal.contexts] == [pledges.COMMITMENT]:
        return Part.COMMIT
    ends = {one.class_uid[-1] for one in proposal.contexts if one.class_uid.startswith(_QUERY)}
    for end, part in (("3", Part.GET), ("2", Part.MOVE)):
        if end in ends:
            return part
    # An association for storing may propose searches too, for the proof.
    is_search = all(one.class_uid.startswith((_QUERY, _VERIFICATION)) for one in proposal.contexts)
    return Part.FIND if is_search else Part.STORE


def _is_about(class_uid: str, on: Part) -> bool:
    """Return whether the fault NO_CLASS refuses this class in associations of this kind."""
    is_storage = not class_uid.startswith(_QUERY) and class_uid != _VERIFICATION
    return is_storage if on in (Part.GET, Part.STORE) else not is_storage
