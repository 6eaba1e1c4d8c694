"""Services: how the demo archive answers each kind of request (PS3.4 Annexes A, B and C)."""

import errno
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from adit.demo import command as commands
from adit.demo import header, matching, sending
from adit.demo.association import Association, Ended, Message, Refused
from adit.demo.holdings import Arrival, Held, Holdings
from adit.demo.negotiation import Proposal
from adit.demo.sending import Sender
from adit_engine.errors import Malformed
from adit_engine.instance import EXPLICIT_LE, IMPLICIT_LE

VERIFICATION = "1.2.840.10008.1.1"
_QUERY_CLASSES = frozenset(
    f"1.2.840.10008.5.1.4.1.2.{root}.{service}" for root in (1, 2) for service in (1, 2, 3)
)
_STORAGE = "1.2.840.10008.5.1.4.1.1."

SUCCESS = 0x0000
PENDING = 0xFF00
CANCELLED = 0xFE00
OUT_OF_RESOURCES = 0xA700
ALL_FAILED = 0xA702
UNKNOWN_DESTINATION = 0xA801
WRONG_IDENTIFIER = 0xA900
SOME_FAILED = 0xB000
NOT_UNDERSTOOD = 0xC000
NO_SUCH_OPERATION = 0x0211


@dataclass(frozen=True)
class Site:
    """What every conversation shares: our name, our holdings, and where C-MOVE may send."""

    ae_title: str
    holdings: Holdings
    peers: Mapping[str, tuple[str, int]] = field(default_factory=dict)


def choose(site: Site, proposal: Proposal) -> dict[int, str | int]:
    """The syntax we take for each proposed context, or why none. Raises Refused."""
    if proposal.called != site.ae_title:
        raise Refused(1, 1, 7)
    return {
        one.id: _chosen(site, proposal, one.class_uid, one.syntaxes) for one in proposal.contexts
    }


def _chosen(site: Site, proposal: Proposal, class_uid: str, syntaxes: tuple[str, ...]) -> str | int:
    held = [syntax for syntax, count in site.holdings.syntaxes(class_uid).items() if count]
    if class_uid == VERIFICATION or class_uid in _QUERY_CLASSES:
        usable = [one for one in (EXPLICIT_LE, IMPLICIT_LE) if one in syntaxes]
        return usable[0] if usable else 4
    if not class_uid.startswith(_STORAGE) and not held:
        return 3
    if class_uid in proposal.taken and len(held) == 1 and held[0] in syntaxes:
        return held[0]
    if class_uid in proposal.taken or syntaxes[0] == IMPLICIT_LE:
        syntaxes = tuple(sorted(syntaxes, key=lambda one: (one != EXPLICIT_LE, one != IMPLICIT_LE)))
    return syntaxes[0]


def answer(site: Site, association: Association, message: Message) -> None:
    """Answers one request to the end. Raises Ended, OSError."""
    handlers = {
        commands.ECHO: _echo,
        commands.FIND: _find,
        commands.GET: _get,
        commands.MOVE: _move,
        commands.STORE: _store,
    }
    if message.field == commands.CANCEL or message.field & commands.RESPONSE:
        return
    handler = handlers.get(message.field)
    if handler is None:
        _respond(association, message, NO_SUCH_OPERATION)
    else:
        handler(site, association, message)


def _echo(site: Site, association: Association, message: Message) -> None:
    _respond(association, message, SUCCESS)


def _store(site: Site, association: Association, message: Message) -> None:
    arrival = Arrival(
        commands.text(message.command, commands.AFFECTED_CLASS),
        commands.text(message.command, commands.AFFECTED_INSTANCE),
        _syntax(association, message),
        message.data or b"",
        association.proposal.calling,
    )
    try:
        site.holdings.store(arrival)
    except (Malformed, ValueError, struct.error):
        status = NOT_UNDERSTOOD
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        status = OUT_OF_RESOURCES if full else NOT_UNDERSTOOD
    else:
        status = SUCCESS
    _respond(association, message, status, {commands.AFFECTED_INSTANCE: arrival.instance_uid})


def _find(site: Site, association: Association, message: Message) -> None:
    keys = _identifier(association, message)
    try:
        found = matching.answers(site.holdings, keys or {}, site.ae_title)
    except KeyError:
        _respond(association, message, WRONG_IDENTIFIER)
        return
    syntax = _syntax(association, message)
    for values in found:
        if association.cancel_came():
            _respond(association, message, CANCELLED)
            return
        _respond(association, message, PENDING, data=matching.encode(values, syntax))
    _respond(association, message, SUCCESS)


def _get(site: Site, association: Association, message: Message) -> None:
    held = matching.retrieved(site.holdings, _identifier(association, message) or {})
    if held is None:
        _respond(association, message, WRONG_IDENTIFIER)
        return
    _hand_over(association, message, held, [Sender(association, association.proposal.taken)])


def _move(site: Site, association: Association, message: Message) -> None:
    held = matching.retrieved(site.holdings, _identifier(association, message) or {})
    address = site.peers.get(commands.text(message.command, commands.DESTINATION))
    if address is None:
        _respond(association, message, UNKNOWN_DESTINATION)
        return
    if held is None:
        _respond(association, message, WRONG_IDENTIFIER)
        return
    called = commands.text(message.command, commands.DESTINATION)
    originator: dict[int, int | str] = {
        commands.ORIGINATOR: association.proposal.calling,
        commands.ORIGINATOR_MESSAGE_ID: message.id,
    }
    senders: list[Sender] = []
    try:
        for contexts in sending.contexts_for(held):
            proposal = Proposal(called, site.ae_title, contexts)
            opened = Association.requested(address, proposal)
            senders.append(Sender(opened, frozenset(one.class_uid for one in contexts), originator))
        _hand_over(association, message, held, senders)
    except (Ended, Refused, OSError, ValueError, struct.error):
        for sender in senders:
            sender.association.abort()
        counts = {commands.FAILED: len(held), commands.COMPLETED: 0, commands.WARNED: 0}
        _respond(association, message, ALL_FAILED, counts)
    else:
        for sender in senders:
            sender.association.release()


@dataclass
class _Tally:
    """How the sub-operations of one retrieval went."""

    remaining: int
    completed: int = 0
    warned: int = 0
    failed: list[str] = field(default_factory=list)

    def note(self, status: int | None, instance_uid: str) -> None:
        self.remaining -= 1
        if status == SUCCESS:
            self.completed += 1
        elif status is not None and status & 0xF000 == 0xB000:
            self.warned += 1
        else:
            self.failed.append(instance_uid)

    @property
    def status(self) -> int:
        if self.failed and not self.completed and not self.warned:
            return ALL_FAILED
        return SOME_FAILED if self.failed or self.warned else SUCCESS

    def counts(self, *, last: bool) -> dict[int, int | str]:
        counts: dict[int, int | str] = {
            commands.COMPLETED: self.completed,
            commands.FAILED: len(self.failed),
            commands.WARNED: self.warned,
        }
        return counts if last else {**counts, commands.REMAINING: self.remaining}


def _hand_over(
    association: Association, message: Message, held: list[Held], senders: list[Sender]
) -> None:
    tally = _Tally(len(held))
    status = None
    for one, next_id in zip(held, _message_ids(message.id), strict=False):
        sender = next((sender for sender in senders if sender.takes(one)), None)
        tally.note(sender.send(one, next_id) if sender else None, one.uid)
        if any(one.cancelled for one in senders) or _foreign_cancel(association, senders):
            status = CANCELLED
            break
        _respond(association, message, PENDING, tally.counts(last=False))
    status = tally.status if status is None else status
    failed = {"FailedSOPInstanceUIDList": "\\".join(tally.failed)}
    data = matching.encode(failed, _syntax(association, message)) if tally.failed else b""
    counts = tally.counts(last=status != CANCELLED)
    _respond(association, message, status, counts, data)


def _foreign_cancel(association: Association, senders: list[Sender]) -> bool:
    """In a C-GET the sender itself sees the cancel among the answers to what it sends."""
    return all(one.association is not association for one in senders) and association.cancel_came()


def _message_ids(first: int) -> Iterator[int]:
    while True:
        first = first % 65535 + 1
        yield first


def _identifier(association: Association, message: Message) -> dict[str, str] | None:
    try:
        return header.texts(message.data or b"", _syntax(association, message), None)
    except (Malformed, ValueError, struct.error):
        return None


def _syntax(association: Association, message: Message) -> str:
    context = association.contexts.get(message.context_id)
    if context is None:
        raise Ended("a message in a context that was not agreed")
    return context.syntaxes[0]


def _respond(
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
