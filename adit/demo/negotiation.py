"""Negotiation: what two sides agree on before the first DICOM message (PS3.8 9.3)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from struct import pack, unpack_from

IMPLEMENTATION_UID = "2.25.217049870301549265470216382117290163254"
IMPLEMENTATION_NAME = "ADIT_DEMO"
MAX_PDU = 262144

_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


@dataclass(frozen=True, slots=True)
class Context:
    """One presentation context: proposed with several syntaxes, accepted with one."""

    id: int
    class_uid: str
    syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What an A-ASSOCIATE-RQ asks for. `roles` holds two bytes a class: may send, may receive."""

    called: str
    calling: str
    contexts: tuple[Context, ...]
    roles: Mapping[str, bytes] = field(default_factory=dict)
    max_pdu: int = MAX_PDU

    @property
    def taken(self) -> frozenset[str]:
        """The classes that the requestor wants to receive over this association."""
        return frozenset(uid for uid, role in self.roles.items() if role[1])


@dataclass(frozen=True, slots=True)
class Agreement:
    """What an A-ASSOCIATE-AC answers: the syntax of each accepted context, by context id."""

    syntaxes: Mapping[int, str]
    max_pdu: int = field(default=MAX_PDU)


def encode_proposal(proposal: Proposal) -> bytes:
    items = [_item(0x10, _APPLICATION_CONTEXT.encode())]
    for context in proposal.contexts:
        inside = _item(0x30, context.class_uid.encode())
        inside += b"".join(_item(0x40, syntax.encode()) for syntax in context.syntaxes)
        items.append(_item(0x20, pack(">B3x", context.id) + inside))
    items.append(_user_information({}))
    return _fixed(proposal.called, proposal.calling) + b"".join(items)


def decode_proposal(body: bytes) -> Proposal:
    """Raises ValueError or struct.error for bytes that are no A-ASSOCIATE-RQ."""
    contexts: list[Context] = []
    roles: dict[str, bytes] = {}
    max_pdu = 0
    for kind, value in _items(body[68:]):
        if kind == 0x20:
            inside = list(_items(value[4:]))
            syntaxes = tuple(_uid(part) for sub, part in inside if sub == 0x40)
            class_uid = next(_uid(part) for sub, part in inside if sub == 0x30)
            contexts.append(Context(value[0], class_uid, syntaxes))
        elif kind == 0x50:
            max_pdu = _max_pdu(value)
            roles.update(_roles(value))
    return Proposal(_title(body[4:20]), _title(body[20:36]), tuple(contexts), roles, max_pdu)


def encode_agreement(
    proposal: Proposal, answers: Mapping[int, str | int], roles: Mapping[str, bytes]
) -> bytes:
    """`answers` maps each context id to its syntax, or to the reason why not (PS3.8 9.3.3.2).

    `roles` are granted as they were asked for.
    """
    items = [_item(0x10, _APPLICATION_CONTEXT.encode())]
    for context_id, answer in answers.items():
        refused = isinstance(answer, int)
        syntax = "1.2.840.10008.1.2" if refused else str(answer)
        head = pack(">BxBx", context_id, answer if refused else 0)
        items.append(_item(0x21, head + _item(0x40, syntax.encode())))
    items.append(_user_information(roles))
    return _fixed(proposal.called, proposal.calling) + b"".join(items)


def decode_agreement(body: bytes) -> Agreement:
    """Raises ValueError or struct.error for bytes that are no A-ASSOCIATE-AC."""
    syntaxes: dict[int, str] = {}
    max_pdu = 0
    for kind, value in _items(body[68:]):
        if kind == 0x21 and value[2] == 0:
            syntaxes[value[0]] = next(_uid(part) for sub, part in _items(value[4:]) if sub == 0x40)
        elif kind == 0x50:
            max_pdu = _max_pdu(value)
    return Agreement(syntaxes, max_pdu)


def _fixed(called: str, calling: str) -> bytes:
    return pack(">H2x16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())


def _user_information(roles: Mapping[str, bytes]) -> bytes:
    items = _item(0x51, pack(">I", MAX_PDU)) + _item(0x52, IMPLEMENTATION_UID.encode())
    for uid, role in roles.items():
        items += _item(0x54, pack(">H", len(uid)) + uid.encode() + role)
    return _item(0x50, items + _item(0x55, IMPLEMENTATION_NAME.encode()))


def _item(kind: int, value: bytes) -> bytes:
    return pack(">BxH", kind, len(value)) + value


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, length = unpack_from(">BxH", data, position)
        position += 4
        if position + length > len(data):
            raise ValueError("An item of the association request is longer than the request.")
        yield kind, data[position : position + length]
        position += length


def _max_pdu(value: bytes) -> int:
    return next(
        (int(unpack_from(">I", part)[0]) for kind, part in _items(value) if kind == 0x51), 0
    )


def _roles(value: bytes) -> Iterator[tuple[str, bytes]]:
    for kind, part in _items(value):
        if kind == 0x54:
            (length,) = unpack_from(">H", part)
            yield _uid(part[2 : 2 + length]), part[2 + length : 4 + length]


def _uid(raw: bytes) -> str:
    return raw.decode("ascii").strip(" \0")


def _title(raw: bytes) -> str:
    return raw.decode("latin-1").strip(" \0")
