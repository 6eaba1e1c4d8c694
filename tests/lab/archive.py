"""Archive: a PACS that lies on purpose, and keeps a log of what it truly did."""

import hashlib
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from adit.demo import command as commands
from adit.demo import header, matching, sending
from adit.demo.association import Association, Ended, Message, Refused
from adit.demo.holdings import Arrival, Held, Holdings
from adit.demo.negotiation import Proposal
from adit.demo.sending import Sender
from adit.demo.services import Site, answer, choose

SUCCESS, PENDING, CANCELLED, WARNING, FULL = 0x0000, 0xFF00, 0xFE00, 0xB000, 0xA700
SOME_FAILED, UNKNOWN_DESTINATION = 0xB000, 0xA801
_LATE_S = 0.2
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
_GONE = (Ended, Refused, OSError, ValueError, struct.error)


class Kind(StrEnum):
    """How it lies; what happens at the n-th instance is counted within each request."""

    DROP = "drops an instance and counts it as sent"
    TWICE = "sends an instance twice"
    TWIN = "sends an instance again with other content"
    TRUNCATE = "sends an instance without its end"
    FOREIGN = "sends an instance under another patient's id"
    EARLY = "reports success before the images"
    COUNTS = "counts wrongly, in its answers and of its series"
    ENDLESS = "says pending for ever"
    STALL = "falls silent"
    ABORT = "aborts"
    REFUSE = "refuses classes: no C-GET"
    BUSY = "refuses an association for now"
    CAP = "cuts its lists of images short"
    OMIT = "leaves keys out of its answers"
    NOTHING = "reports success and sends nothing"
    FORGET = "takes an image and does not keep it"
    COERCE = "changes the patient's id of what it takes, with a warning"
    NO_ROOM = "has no room for an image"


@dataclass(frozen=True, slots=True)
class Lie:
    """`at`: the instance (or the length of a list); `times`: how often before it tells the truth."""

    kind: Kind
    at: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True)
class Sent:
    """One sub-operation as it truly was; `status` is what the taker answered, None for nothing."""

    instance_uid: str
    sha256: str
    kind: Kind | None
    status: int | None
    late: bool = False
    """Whether it came after success had been reported."""


@dataclass
class Log:
    """The truth: what was sent, what was taken in, and which lies were told."""

    sent: list[Sent] = field(default_factory=list)
    stored: list[Sent] = field(default_factory=list)
    lies: Counter[Kind] = field(default_factory=Counter)


class Lying:
    """An archive in this process over some holdings. Use it with `with`."""

    def __init__(
        self,
        site: Site,
        lies: Iterable[Lie] = (),
        *,
        scratch: Path,
        names_originator: bool = True,
    ) -> None:
        self.site = site
        self.log = Log()
        self._lies = tuple(lies)
        self._told: Counter[Lie] = Counter()
        self._scratch = scratch
        self._names_originator = names_originator
        self._late: set[int] = set()
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> "Lying":
        self._begin(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for one in (self._listener, *tuple(self._open)):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()

    # Lies --------------------------------------------------------------------------------------

    def _tells(self, kind: Kind, at: int | None = None) -> Lie | None:
        """The lie that is told now, which is noted; None when the truth is told."""
        with self._lock:
            for lie in self._lies:
                fits = lie.kind is kind and (at is None or lie.at == at)
                if fits and self._told[lie] < lie.times:
                    self._told[lie] += 1
                    self.log.lies[kind] += 1
                    return lie
        return None

    # Conversations -----------------------------------------------------------------------------

    def _begin(self, action: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=action, args=arguments, name="lying archive", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while not self._ending.is_set():
                one, _ = self._listener.accept()
                self._open.add(one)
                self._begin(self._converse, one)

    def _converse(self, one: socket.socket) -> None:
        with suppress(*_GONE):
            try:
                association = Association.accepted(one, self._choose)
                while (message := association.receive()) is not None:
                    self._answer(association, message, one)
            finally:
                self._open.discard(one)
                one.close()

    def _choose(self, proposal: Proposal) -> dict[int, str | int]:
        if self._tells(Kind.BUSY):
            raise Refused(2, 3, 2)
        chosen = choose(self.site, proposal)
        asks = [one.id for one in proposal.contexts if one.class_uid == _GET]
        if asks and self._tells(Kind.REFUSE):
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
        if self._tells(Kind.STALL, at):
            while not self._ending.wait(0.02):
                if select.select([one], [], [], 0)[0] and not one.recv(65536):
                    break
            raise Ended("silent")
        if self._tells(Kind.ABORT, at):
            association.abort()
            raise Ended("aborted")

    # Searches ----------------------------------------------------------------------------------

    def _find(self, association: Association, message: Message) -> None:
        syntax = association.contexts[message.context_id].syntaxes[0]
        keys = header.texts(message.data or b"", syntax, None)
        found = matching.answers(self.site.holdings, keys, self.site.ae_title)
        level = keys.get("QueryRetrieveLevel")
        if level == "IMAGE" and (lie := self._tells(Kind.CAP)):
            found = found[: lie.at]
        for values in found:
            if level == "SERIES" and self._tells(Kind.COUNTS):
                values["NumberOfSeriesRelatedInstances"] = "999"
            if level == "SERIES" and self._tells(Kind.OMIT):
                for keyword in ("NumberOfSeriesRelatedInstances", "SeriesNumber", "PatientID"):
                    values.pop(keyword, None)
            data = matching.encode(values, syntax)
            self._respond(association, message, PENDING, data=data)
        self._respond(association, message, SUCCESS)

    # Retrieval ---------------------------------------------------------------------------------

    def _retrieve(self, association: Association, message: Message, one: socket.socket) -> None:
        syntax = association.contexts[message.context_id].syntaxes[0]
        held = matching.retrieved(
            self.site.holdings, header.texts(message.data or b"", syntax, None)
        )
        if self._tells(Kind.NOTHING):
            self._respond(association, message, SUCCESS, {commands.COMPLETED: len(held or ())})
            return
        if message.field == commands.GET:
            senders = [Sender(association, association.proposal.taken)]
            self._hand_over(association, message, held or [], (senders, one))
            return
        address = self.site.peers.get(commands.text(message.command, commands.DESTINATION))
        if address is None:
            self._respond(association, message, UNKNOWN_DESTINATION)
        elif self._tells(Kind.EARLY):
            self._respond(association, message, SUCCESS, {commands.COMPLETED: len(held or ())})
            self._begin(self._send_late, association, message, held or [], address)
        else:
            senders = self._senders(association, message, held or [], address)
            try:
                self._hand_over(association, message, held or [], (senders, one))
            finally:
                for sender in senders:
                    with suppress(*_GONE):
                        sender.association.release()

    def _senders(
        self, association: Association, message: Message, held: list[Held], address: tuple[str, int]
    ) -> list[Sender]:
        called = commands.text(message.command, commands.DESTINATION)
        named: dict[int, int | str] = {
            commands.ORIGINATOR: association.proposal.calling,
            commands.ORIGINATOR_MESSAGE_ID: message.id,
        }
        senders = []
        for contexts in sending.contexts_for(held):
            opened = Association.requested(address, Proposal(called, self.site.ae_title, contexts))
            classes = frozenset(one.class_uid for one in contexts)
            senders.append(Sender(opened, classes, named if self._names_originator else None))
        return senders

    def _send_late(
        self, association: Association, message: Message, held: list[Held], address: tuple[str, int]
    ) -> None:
        if self._ending.wait(_LATE_S):
            return
        self._late.add(threading.get_ident())
        with suppress(*_GONE):
            senders = self._senders(association, message, held, address)
            try:
                for at, one in enumerate(held):
                    self._send(senders, one, at, message.id)
            finally:
                for sender in senders:
                    with suppress(*_GONE):
                        sender.association.release()

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
            if self._tells(Kind.ENDLESS, at):
                self._say_pending(association, message, len(held) - at)
            failed += not self._send(senders, instance, at, message.id)
            left = {commands.REMAINING: len(held) - at - 1, commands.COMPLETED: at + 1 - failed}
            self._respond(association, message, PENDING, left)
            if any(sender.cancelled for sender in senders):
                self._respond(association, message, CANCELLED)
                return
        counts = {commands.COMPLETED: len(held) - failed, commands.FAILED: failed}
        if self._tells(Kind.COUNTS):
            counts, failed = {commands.COMPLETED: 999, commands.FAILED: 0}, 0
        self._respond(association, message, SOME_FAILED if failed else SUCCESS, counts)

    def _say_pending(self, association: Association, message: Message, left: int) -> None:
        while not self._ending.wait(0.05):
            self._respond(association, message, PENDING, {commands.REMAINING: left})
        raise Ended("over")

    def _send(self, senders: list[Sender], held: Held, at: int, first_id: int) -> bool:
        """Whether it is counted as sent."""
        if self._tells(Kind.DROP, at):
            return True
        ways: list[Kind | None] = [None]
        for kind in (Kind.TRUNCATE, Kind.FOREIGN):
            if self._tells(kind, at):
                ways = [kind]
        if self._tells(Kind.TWICE, at):
            ways *= 2
        if self._tells(Kind.TWIN, at):
            ways.append(Kind.TWIN)
        taken = [self._send_one(senders, held, kind, first_id + at) for kind in ways]
        return all(taken)

    def _send_one(self, senders: list[Sender], held: Held, kind: Kind | None, number: int) -> bool:
        going = self._altered(held, kind)
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

    def _altered(self, held: Held, kind: Kind | None) -> Held:
        if kind is None:
            return held
        content = held.path.read_bytes()
        if kind is Kind.TRUNCATE:
            content = content[:-100]
        elif kind is Kind.TWIN:
            content = content[:-2] + bytes([content[-2] ^ 1, content[-1]])
        elif kind is Kind.FOREIGN:
            content = foreign(content)
        path = self._scratch / f"{kind.name}-{threading.get_ident()}-{held.uid}"
        path.write_bytes(content)
        return replace(held, path=path)

    # Storage -----------------------------------------------------------------------------------

    def _store(self, association: Association, message: Message, one: socket.socket) -> None:
        at = len(self.log.stored)
        self._break(association, one, at)
        data = bytes(message.data or b"")
        uid = commands.text(message.command, commands.AFFECTED_INSTANCE)
        kind, status = None, SUCCESS
        if self._tells(Kind.NO_ROOM, at):
            kind, status = Kind.NO_ROOM, FULL
        elif self._tells(Kind.FORGET, at):
            kind = Kind.FORGET
        elif self._tells(Kind.COERCE, at):
            kind, status, data = Kind.COERCE, WARNING, foreign(data)
        if kind not in (Kind.NO_ROOM, Kind.FORGET):
            self.site.holdings.store(
                Arrival(
                    commands.text(message.command, commands.AFFECTED_CLASS),
                    uid,
                    association.contexts[message.context_id].syntaxes[0],
                    data,
                )
            )
        self.log.stored.append(Sent(uid, hashlib.sha256(data).hexdigest(), kind, status))
        self._respond(association, message, status, {commands.AFFECTED_INSTANCE: uid})


def foreign(content: bytes) -> bytes:
    """The same object with another patient's id of the same length."""
    tag = content.find(b"\x10\x00\x20\x00LO")
    size = struct.unpack_from("<H", content, tag + 6)[0]
    other = b"FOREIGN".ljust(size, b"9")[:size]
    return content[: tag + 8] + other + content[tag + 8 + size :]


def holdings(folder: Path) -> Holdings:
    """What lies in a folder, read once; archives may share it as long as nobody stores."""
    made = Holdings(folder)
    made.load()
    return made
