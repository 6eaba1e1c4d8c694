"""Decide what to accept when another application requests an association (PS3.8 9.3).

Used by our Storage SCP.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from struct import error as StructError
from struct import pack, unpack_from

from adit_engine.dicom_file.part10 import IMPLEMENTATION_NAME, IMPLEMENTATION_UID
from adit_engine.dicom_ul.pdu import (
    APPLICATION_CONTEXT,
    NegotiatedAssociation,
    decode_items,
    decode_uid,
    encode_item,
)
from adit_engine.errors import Malformed
from adit_engine.values.commitment_report import STORAGE_COMMITMENT_PUSH_MODEL
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE

VERIFICATION = "1.2.840.10008.1.1"

UNKNOWN_CALLING_TITLE = (1, 1, 3)
UNKNOWN_CALLED_TITLE = (1, 1, 7)
UNSUPPORTED_PROTOCOL_VERSION = (1, 2, 2)
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)
"""Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

_ACCEPTED, _UNKNOWN_CLASS, _UNKNOWN_SYNTAX = 0, 3, 4
_SERVICE_CLASSES = (VERIFICATION, STORAGE_COMMITMENT_PUSH_MODEL)
_DICOM_ROOT = "1.2.840.10008."
_IMAGE_CLASSES = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.(1\.1\.[0-9.]+|34\.(7|10))")
# JPEG, JPEG-LS, JPEG 2000, MPEG, HTJ2K, JPEG XL and RLE. Not accepted: deflated data sets, which
# expand beyond any announced length; JPIP, whose pixels are stored elsewhere; big endian, which
# every sender can convert.
_COMPRESSED = re.compile(r"1\.2\.840\.10008\.1\.2\.(5|4\.(?!94|95)[0-9.]+)")


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context as it was proposed to us."""

    context_id: int
    class_uid: str
    syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IncomingAssociateRequest:
    """An A-ASSOCIATE-RQ that we received.

    `max_pdu` is the limit of the caller; 0 means no limit.
    """

    called: str
    calling: str
    offers: tuple[ProposedContext, ...]
    max_pdu: int
    is_version_1: bool
    _fixed: bytes
    _serving: frozenset[str] = frozenset()
    """SOP classes for which the caller proposes the SCP role (PS3.7 D.3.3.4)."""

    @classmethod
    def decode(cls, body: bytes) -> "IncomingAssociateRequest":
        """Read the body of an A-ASSOCIATE-RQ. Raises Malformed."""
        if len(body) < 68:
            raise Malformed("association-request.invalid")
        offers: dict[int, ProposedContext] = {}
        max_pdu, is_dicom, serving = 0, False, frozenset[str]()
        try:
            for kind, value in decode_items(body[68:]):
                if kind == 0x10:
                    is_dicom = value.strip(b"\0 ") == APPLICATION_CONTEXT
                elif kind == 0x20:
                    offer = _decode_context(value)
                    if offer.context_id % 2 == 0 or offer.context_id in offers:
                        raise Malformed("association-request.invalid")
                    offers[offer.context_id] = offer
                elif kind == 0x50:
                    max_pdu, serving = _decode_max_pdu(value), frozenset(_decode_scp_roles(value))
            called, calling = (body[at : at + 16].decode("ascii").strip(" \0") for at in (4, 20))
        except (IndexError, StructError, UnicodeDecodeError) as error:
            raise Malformed("association-request.invalid") from error
        is_version_1 = is_dicom and bool(unpack_from(">H", body)[0] & 1)
        fixed = body[4:68]
        return cls(called, calling, tuple(offers.values()), max_pdu, is_version_1, fixed, serving)

    def accept(
        self, choose: Callable[[ProposedContext], str | None], max_pdu: int
    ) -> tuple[NegotiatedAssociation, bytes]:
        """Return what is accepted, and the body of the A-ASSOCIATE-AC.

        `choose` returns the transfer syntax for a proposed context; "" when none of them is
        accepted, None when the SOP class is not accepted.
        """
        whole = [encode_item(0x10, APPLICATION_CONTEXT)]
        contexts: dict[int, tuple[str, str]] = {}
        for offer in self.offers:
            syntax = choose(offer)
            result = _UNKNOWN_CLASS if syntax is None else _ACCEPTED if syntax else _UNKNOWN_SYNTAX
            if syntax:
                contexts[offer.context_id] = (offer.class_uid, syntax)
            inside = encode_item(0x40, (syntax or IMPLICIT_LE).encode("ascii"))
            whole.append(encode_item(0x21, pack(">BxBx", offer.context_id, result) + inside))
        user = encode_item(0x51, pack(">I", max_pdu))
        user += encode_item(0x52, IMPLEMENTATION_UID.encode("ascii"))
        # A node that sends a commitment report was asked by us, and is the SCP on an association of
        # its own.
        if STORAGE_COMMITMENT_PUSH_MODEL in self._serving and STORAGE_COMMITMENT_PUSH_MODEL in {
            uid for uid, _ in contexts.values()
        }:
            raw = STORAGE_COMMITMENT_PUSH_MODEL.encode("ascii")
            user += encode_item(0x54, pack(">H", len(raw)) + raw + b"\x00\x01")
        user += encode_item(0x55, IMPLEMENTATION_NAME.encode("ascii"))
        whole.append(encode_item(0x50, user))
        agreement = NegotiatedAssociation(contexts, self.max_pdu)
        return agreement, pack(">H2x", 1) + self._fixed + b"".join(whole)


def choose_syntax(offer: ProposedContext) -> str | None:
    """Return the transfer syntax to accept for a context proposed to our Storage SCP.

    Any storage class, known or not, verification and commitment reports are accepted. Uncompressed
    is preferred: a caller that proposes both in one context can send both, and not every sender
    compresses for us what it stores uncompressed.
    """
    if offer.class_uid not in _SERVICE_CLASSES and not _is_storage(offer.class_uid):
        return None
    for plain in (EXPLICIT_LE, IMPLICIT_LE):
        if plain in offer.syntaxes:
            return plain
    if offer.class_uid in _SERVICE_CLASSES:
        return ""
    return next((syntax for syntax in offer.syntaxes if _COMPRESSED.fullmatch(syntax)), "")


def _is_storage(class_uid: str) -> bool:
    """Return whether it is a storage class, including newer and private ones."""
    return not class_uid.startswith(_DICOM_ROOT) or bool(_IMAGE_CLASSES.fullmatch(class_uid))


def _decode_context(value: bytes) -> ProposedContext:
    class_uid, syntaxes = "", []
    for kind, part in decode_items(value[4:]):
        if kind == 0x30:
            class_uid = decode_uid(part)
        elif kind == 0x40:
            syntaxes.append(decode_uid(part))
    return ProposedContext(value[0], class_uid, tuple(syntaxes))


def _decode_max_pdu(value: bytes) -> int:
    return next(
        (int(unpack_from(">I", part)[0]) for kind, part in decode_items(value) if kind == 0x51), 0
    )


def _decode_scp_roles(value: bytes) -> Iterator[str]:
    for kind, part in decode_items(value):
        if kind == 0x54:
            (length,) = unpack_from(">H", part)
            if part[2 + length :][1]:
                yield decode_uid(part[2 : 2 + length])
