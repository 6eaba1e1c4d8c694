"""PDUs and the negotiation of an association (PS3.8 9.3, PS3.7 D.3).

Used by the other modules of this package and by the DIMSE node.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct, pack, unpack_from
from struct import error as StructError

from adit_engine.dicom_file.part10 import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from adit_engine.errors import Malformed

PDU_HEADER = Struct(">BxI")
"""PDU type and length."""


class PduType(IntEnum):
    """The PDU types of PS3.8 9.3.1."""

    ASSOCIATE_RQ = 1
    ASSOCIATE_AC = 2
    ASSOCIATE_RJ = 3
    P_DATA = 4
    RELEASE_RQ = 5
    RELEASE_RP = 6
    ABORT = 7


PDU_TYPES = {int(kind): kind for kind in PduType}


def encode_pdu(kind: PduType, body: bytes = bytes(4)) -> bytes:
    return PDU_HEADER.pack(kind, len(body)) + body


MAX_CONTEXTS = 128
"""Presentation context IDs are the odd numbers from 1 to 255."""

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_DEFAULT_SYNTAX = "1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """One presentation context: a SOP class and the transfer syntaxes proposed for it.

    `received` proposes the reversed roles: the peer sends this class to us (C-GET). `extended` is
    the extended negotiation information for this class, as bytes (PS3.7 D.3.3.5).
    """

    class_uid: str
    syntaxes: tuple[str, ...]
    scp_role: bool = False
    extended: bytes = b""


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """The content of an A-ASSOCIATE-RQ that we send."""

    called: str
    calling: str
    contexts: tuple[PresentationContext, ...]
    max_pdu: int

    def encode(self) -> bytes:
        """Return the body of an A-ASSOCIATE-RQ."""
        whole = [encode_item(0x10, APPLICATION_CONTEXT)]
        for context_id, context in number_contexts(self.contexts):
            inside = encode_item(0x30, context.class_uid.encode("ascii"))
            inside += b"".join(
                encode_item(0x40, syntax.encode("ascii")) for syntax in context.syntaxes
            )
            whole.append(encode_item(0x20, pack(">B3x", context_id) + inside))
        titles = (title.encode("ascii").ljust(16) for title in (self.called, self.calling))
        head = pack(">H2x16s16s32x", 1, *titles)
        return head + b"".join(whole) + self._user_information()

    def _user_information(self) -> bytes:
        inside = [
            encode_item(0x51, pack(">I", self.max_pdu)),
            encode_item(0x52, IMPLEMENTATION_UID.encode("ascii")),
        ]
        # PS3.7 D.3.3.4: items are ordered by their type, so roles come before the version name.
        for name in dict.fromkeys(c.class_uid for c in self.contexts if c.scp_role):
            raw = name.encode("ascii")
            inside.append(encode_item(0x54, pack(">H", len(raw)) + raw + b"\x00\x01"))
        inside.append(encode_item(0x55, IMPLEMENTATION_NAME.encode("ascii")))
        for context in self.contexts:
            if context.extended:
                raw = context.class_uid.encode("ascii")
                inside.append(encode_item(0x56, pack(">H", len(raw)) + raw + context.extended))
        return encode_item(0x50, b"".join(inside))


@dataclass(frozen=True, slots=True)
class NegotiatedAssociation:
    """What the peer accepted: SOP class and transfer syntax by context ID.

    `max_pdu` is the limit of the peer in bytes; 0 means no limit.
    """

    contexts: Mapping[int, tuple[str, str]]
    max_pdu: int
    implementation: str = ""
    """Implementation version name of the peer, or its implementation UID if it gave no name."""
    extended: Mapping[str, bytes] = field(default_factory=dict)
    """By SOP class, the extended negotiation information that the peer accepted."""

    @classmethod
    def decode(cls, body: bytes, proposal: AssociateRequest) -> "NegotiatedAssociation":
        """Read an A-ASSOCIATE-AC. Raises Malformed.

        Contexts whose proposed role was not granted are dropped.
        """
        proposed = dict(number_contexts(proposal.contexts))
        contexts: dict[int, tuple[str, str]] = {}
        user = _UserInformation()
        if len(body) < 68:
            raise Malformed("association-response.invalid")
        try:
            for kind, value in decode_items(body[68:]):
                if kind == 0x21 and value[0] in proposed:
                    offer = proposed[value[0]]
                    if value[2] == 0:
                        contexts[value[0]] = (
                            offer.class_uid,
                            _decode_accepted_syntax(value, offer),
                        )
                elif kind == 0x50:
                    user = _UserInformation.decode(value)
        except (IndexError, StructError, UnicodeDecodeError) as error:
            raise Malformed("association-response.invalid") from error
        refused = [
            context_id
            for context_id, (class_uid, _) in contexts.items()
            if proposed[context_id].scp_role and class_uid not in user.granted
        ]
        for context_id in refused:
            del contexts[context_id]
        return cls(contexts, user.max_pdu, user.implementation, user.extended)

    def context_for(self, class_uid: str, syntax: str) -> int | None:
        pair = (class_uid, syntax)
        return next((number for number, held in self.contexts.items() if held == pair), None)

    def context_of(self, class_uid: str) -> int | None:
        return next((n for n, (held, _) in self.contexts.items() if held == class_uid), None)

    def syntaxes(self, class_uid: str) -> tuple[str, ...]:
        return tuple(syntax for held, syntax in self.contexts.values() if held == class_uid)


def number_contexts(
    contexts: Sequence[PresentationContext],
) -> Iterator[tuple[int, PresentationContext]]:
    """Yield each context with its ID: 1, 3, 5, …"""
    if len(contexts) > MAX_CONTEXTS:
        raise ValueError("An association holds at most 128 presentation contexts.")
    return ((2 * position + 1, context) for position, context in enumerate(contexts))


def _decode_accepted_syntax(value: bytes, offer: PresentationContext) -> str:
    syntax = next(
        (decode_uid(part) for kind, part in decode_items(value[4:]) if kind == 0x40),
        _DEFAULT_SYNTAX,
    )
    if syntax not in offer.syntaxes:
        raise Malformed("association-response.invalid")
    return syntax


@dataclass
class _UserInformation:
    """The user information of the peer (PS3.7 D.3.3)."""

    max_pdu: int = 0
    granted: set[str] = field(default_factory=set)
    """SOP classes that it is ready to send to us."""
    implementation: str = ""
    extended: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def decode(cls, value: bytes) -> "_UserInformation":
        found = cls()
        for kind, part in decode_items(value):
            if kind == 0x51:
                (found.max_pdu,) = unpack_from(">I", part)
            elif kind == 0x52:
                found.implementation = found.implementation or _decode_text(part)
            elif kind == 0x55:
                found.implementation = _decode_text(part) or found.implementation
            elif kind in (0x54, 0x56):
                (length,) = unpack_from(">H", part)
                class_uid, rest = decode_uid(part[2 : 2 + length]), part[2 + length :]
                if kind == 0x56:
                    found.extended[class_uid] = rest
                elif rest[1]:
                    found.granted.add(class_uid)
        return found


def _decode_text(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0")[:64]


def encode_item(kind: int, value: bytes) -> bytes:
    return pack(">BxH", kind, len(value)) + value


def decode_items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, length = unpack_from(">BxH", data, position)
        position += 4
        if position + length > len(data):
            raise Malformed("association-item.too-long")
        yield kind, data[position : position + length]
        position += length


def decode_uid(raw: bytes) -> str:
    return raw.decode("ascii").strip(" \0")
