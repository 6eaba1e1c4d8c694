"""Archive: a PACS that lies on purpose, and keeps a log of what it truly did."""

import hashlib
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from adit.demo import command as commands
from adit.demo import header, matching, sending
from adit.demo.association import Association, Ended, Message, Refused
from adit.demo.holdings import Arrival, Held
from adit.demo.negotiation import Proposal
from adit.demo.sending import Sender
from adit.demo.services import Site, answer, choose
from lab.lies import Kind, Liar, Lie, Sent

SUCCESS, PENDING, CANCELLED, WARNING, FULL = 0x0000, 0xFF00, 0xFE00, 0xB000, 0xA700
SOME_FAILED, UNKNOWN_DESTINATION = 0xB000, 0xA801
_LATE_S = 0.2
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
_GONE = (Ended, Refused, OSError, ValueError, struct.error)
_STATUS = {Kind.NO_ROOM: FULL, Kind.COERCE: WARNING}


class Lying(Liar):
    """An archive in this process over some holdings. Use it with `with`."""

    def __init__(
        self,
        site: Site,
        lies: Iterable[Lie] = (),
        *,
        scratch: Path,
        names_originator: bool = True,
    ) -> None:
        super().__init__(site, lies, scratch)
        self._names_originator = names_originator
        self._late: set[int] = set()

    # Conversations -----------------------------------------------------------------------------

    def converse(self, one: socket.socket) -> None:
        with suppress(*_GONE):
            association = Association.accepted(one, self._choose)
            while (message := association.receive()) is not None:
                self._answer(association, message, one)

    def _choose(self, proposal: Proposal) -> dict[int, str | int]:
        if self.tells(Kind.BUSY):
            raise Refused(2, 3, 2)
        chosen = choose(self.site, proposal)
        asks = [one.id for one in proposal.contexts if one.class_uid == _GET]
        if asks and self.tells(Kind.REFUSE):
            return {number: 3 if number in asks else answer for number, answer in chosen.items()}
        return chosen

    def _answer(self, association: Association, message: Message, one: socket.socket) -> None:
        if message.field == commands.FIND:
            self._find(association, message)
        elif message.field in (commands.GET, commands.MOVE):
            self._retrieve(association, message, one)
        elif message.field == commands.STORE:
            self._store(association, message, one)
        else:
            answer(self.site, association, message)

    def _respond(
        self,
        association: Association,
        message: Message,
        status: int,
        more: Mapping[int, int | str] | None = None,
        data: bytes = b"",
    ) -> None:
        command = {
            commands.AFFECTED_CLASS: commands.text(message.command, commands.AFFECTED_CLASS),
            commands.FIELD: message.field | commands.RESPONSE,
            commands.RESPONDED_TO: message.id,
            commands.STATUS: status,
            **(more or {}),
        }
        association.send(message.context_id, command, [data] if data else [])

    def _break(self, association: Association, one: socket.socket, at: int) -> None:
        """Falls silent, aborts or goes on. Raises Ended."""
        if self.tells(Kind.STALL, at):
            self.stay_silent(one)
            raise Ended("silent")
        if self.tells(Kind.ABORT, at):
            association.abort()
            raise Ended("aborted")

    # Searches ----------------------------------------------------------------------------------

    def _find(self, association: Association, message: Message) -> None:
        syntax = association.contexts[message.context_id].syntaxes[0]
        keys = header.texts(message.data or b"", syntax, None)
        found = matching.answers(self.site.holdings, keys, self.site.ae_title)
        for values in self.cut_list(keys.get("QueryRetrieveLevel"), found):
            data = matching.encode(values, syntax)
            self._respond(association, message, PENDING, data=data)
        self._respond(association, message, SUCCESS)

    # Retrieval ---------------------------------------------------------------------------------

    def _retrieve(self, association: Association, message: Message, one: socket.socket) -> None:
        syntax = association.contexts[message.context_id].syntaxes[0]
        keys = header.texts(message.data or b"", syntax, None)
        held = matching.retrieved(self.site.holdings, keys) or []
        if self.tells(Kind.NOTHING):
            self._respond(association, message, SUCCESS, {commands.COMPLETED: len(held)})
            return
        if message.field == commands.GET:
            senders = [Sender(association, association.proposal.taken)]
            self._hand_over(association, message, held, (senders, one))
            return
        address = self.site.peers.get(commands.text(message.command, commands.DESTINATION))
        if address is None:
            self._respond(association, message, UNKNOWN_DESTINATION)
        elif self.tells(Kind.EARLY):
            self._respond(association, message, SUCCESS, {commands.COMPLETED: len(held)})
            self._begin(self._send_late, association, message, held, address)
        else:
            with self._senders(association, message, held, address) as senders:
                self._hand_over(association, message, held, (senders, one))

    @contextmanager
    def _senders(
        self, association: Association, message: Message, held: list[Held], address: tuple[str, int]
    ) -> Iterator[list[Sender]]:
        called = commands.text(message.command, commands.DESTINATION)
        named: dict[int, int | str] = {
            commands.ORIGINATOR: association.proposal.calling,
            commands.ORIGINATOR_MESSAGE_ID: message.id,
        }
        senders: list[Sender] = []
        try:
            for contexts in sending.contexts_for(held):
                proposal = Proposal(called, self.site.ae_title, contexts)
                opened = Association.requested(address, proposal)
                classes = frozenset(one.class_uid for one in contexts)
                senders.append(Sender(opened, classes, named if self._names_originator else None))
            yield senders
        finally:
            for sender in senders:
                with suppress(*_GONE):
                    sender.association.release()

    def _send_late(
        self, association: Association, message: Message, held: list[Held], address: tuple[str, int]
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
        held: list[Held],
        way: tuple[list[Sender], socket.socket],
    ) -> None:
        senders, one = way
        failed = 0
        for at, instance in enumerate(held):
            self._break(association, one, at)
            if self.tells(Kind.ENDLESS, at):
                self._say_pending(association, message, len(held) - at)
            failed += not self._send(senders, instance, at, message.id)
            left = {commands.REMAINING: len(held) - at - 1, commands.COMPLETED: at + 1 - failed}
            self._respond(association, message, PENDING, left)
            if any(sender.cancelled for sender in senders):
                self._respond(association, message, CANCELLED)
                return
        counts = {commands.COMPLETED: len(held) - failed, commands.FAILED: failed}
        if self.tells(Kind.COUNTS):
            counts, failed = {commands.COMPLETED: 999, commands.FAILED: 0}, 0
        self._respond(association, message, SOME_FAILED if failed else SUCCESS, counts)

    def _say_pending(self, association: Association, message: Message, left: int) -> None:
        while not self._ending.wait(0.05):
            self._respond(association, message, PENDING, {commands.REMAINING: left})
        raise Ended("over")

    def _send(self, senders: list[Sender], held: Held, at: int, first_id: int) -> bool:
        """Whether it is counted as sent."""
        taken = [self._send_one(senders, held, kind, first_id + at) for kind in self.ways(at)]
        return all(taken)

    def _send_one(self, senders: list[Sender], held: Held, kind: Kind | None, number: int) -> bool:
        going = self.altered(held, kind)
        content = going.path.read_bytes()[going.offset :]
        digest = hashlib.sha256(content).hexdigest()
        status: int | None = None
        try:
            sender = next((one for one in senders if one.takes(going)), None)
            status = sender.send(going, number % 65535 + 1) if sender else None
        finally:
            late = threading.get_ident() in self._late
            self.log.sent.append(Sent(held.uid, digest, kind, status, late))
        return status == SUCCESS

    # Storage -----------------------------------------------------------------------------------

    def _store(self, association: Association, message: Message, one: socket.socket) -> None:
        self._break(association, one, len(self.log.stored))
        uid = commands.text(message.command, commands.AFFECTED_INSTANCE)
        arrival = Arrival(
            commands.text(message.command, commands.AFFECTED_CLASS),
            uid,
            association.contexts[message.context_id].syntaxes[0],
            bytes(message.data or b""),
        )
        lied = self.keep(arrival)
        status = _STATUS.get(lied, SUCCESS) if lied else SUCCESS
        self._respond(association, message, status, {commands.AFFECTED_INSTANCE: uid})
