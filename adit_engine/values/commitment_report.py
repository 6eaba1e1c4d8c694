"""Commitment: an archive is asked whether it keeps what it took, and reports (PS3.4 annex J)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from struct import pack, unpack_from

from adit_engine.elements import Buffer, Element, elements, items
from adit_engine.errors import InvalidInput, Malformed
from adit_engine.values.references import validate_uid

STORAGE_COMMITMENT_PUSH_MODEL = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_ACTION_TYPE = 1
"""The one action type that there is."""
EVENT_ALL_STORED, EVENT_FAILURES_EXIST = 1, 2
"""The event types of a report."""

MAX_REFERENCES = 500
"""So many images are asked for at once."""

MAX_REPORT_BYTES = 1024 * 1024
"""A report on so many images takes a tenth of it."""

_TRANSACTION, _REFERENCED, _FAILED = 0x00081195, 0x00081199, 0x00081198
_CLASS, _INSTANCE, _REASON = 0x00081150, 0x00081155, 0x00081197
_REASONS = {
    0x0110: "it failed while working on it",
    0x0112: "it has no such image",
    0x0119: "it holds another kind of object under this UID",
    0x0122: "it does not commit itself to this kind of object",
    0x0131: "it takes our question for an earlier one",
    0x0213: "it is out of resources",
}

SopReference = tuple[str, str]
"""Class and instance UID."""


class ReportReceipt(StrEnum):
    """What becomes of a report that came in."""

    TAKEN = "taken"
    UNKNOWN = "nobody waits for it, or not any more"
    STRANGER = "it did not come from whom we asked"
    NOT_NOW = "it cannot be handed on now"


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What an archive says of the images of one question. `failed` are reasons by instance UID."""

    transaction_uid: str
    kept: frozenset[SopReference]
    failed: Mapping[str, int]

    @classmethod
    def decode(cls, data: Buffer, explicit: bool) -> "CommitmentReport":
        """Raises Malformed."""
        transaction = ""
        kept: set[SopReference] = set()
        failed: dict[str, int] = {}
        for element in elements(data, explicit):
            if element.tag == _TRANSACTION:
                transaction = _decode_uid(data, element)
            elif element.tag == _REFERENCED:
                kept |= {image for image, _ in _read_references(data, explicit, element)}
            elif element.tag == _FAILED:
                found = _read_references(data, explicit, element)
                failed |= {instance: reason for (_, instance), reason in found}
        if not transaction:
            raise Malformed("The report does not say what it answers.")
        return cls(transaction, frozenset(kept), failed)

    def proves(self, image: SopReference) -> bool:
        """Only what is named as kept, under its own class, and nowhere as failed."""
        return image in self.kept and image[1] not in self.failed

    def why_not(self, image: SopReference) -> str:
        """Why it is not proven to be kept, as a sentence."""
        reason = self.failed.get(image[1])
        if reason is None:
            return "the destination took this image, and its report does not name it as kept"
        words = _REASONS.get(reason, "for a reason that we do not know")
        return f"the destination took this image and reports that it does not keep it: {words} ({reason:04X})"


def generate_transaction_uid() -> str:
    """A UID for one question; never used twice."""
    import uuid  # takes long to load, and is seldom needed

    return f"2.25.{uuid.uuid4().int}"


def encode_request(transaction_uid: str, images: Iterable[SopReference], explicit: bool) -> bytes:
    """The data set that asks; little endian."""
    whole = b""
    for class_uid, instance_uid in images:
        inside = _element(_CLASS, class_uid, explicit) + _element(_INSTANCE, instance_uid, explicit)
        whole += pack("<HHI", 0xFFFE, 0xE000, len(inside)) + inside
    head = pack("<HH", _REFERENCED >> 16, _REFERENCED & 0xFFFF)
    head += pack("<2sHI", b"SQ", 0, len(whole)) if explicit else pack("<I", len(whole))
    return _element(_TRANSACTION, transaction_uid, explicit) + head + whole


def _element(tag: int, uid: str, explicit: bool) -> bytes:
    raw = uid.encode("ascii")
    raw += b"\0" * (len(raw) % 2)
    head = pack("<HH", tag >> 16, tag & 0xFFFF)
    return head + (pack("<2sH", b"UI", len(raw)) if explicit else pack("<I", len(raw))) + raw


def _read_references(
    data: Buffer, explicit: bool, sequence: Element
) -> Iterator[tuple[SopReference, int]]:
    """Each image of a sequence, with the reason that stands beside it, or 0."""
    for item in items(data, explicit, sequence):
        class_uid, instance_uid, reason = "", "", 0
        for element in elements(data, explicit, item.value, item.value_end, 1):
            if element.tag == _CLASS:
                class_uid = _decode_uid(data, element)
            elif element.tag == _INSTANCE:
                instance_uid = _decode_uid(data, element)
            elif element.tag == _REASON and element.end - element.value == 2:
                (reason,) = unpack_from("<H", data, element.value)
        if instance_uid:
            yield (class_uid, instance_uid), reason


def _decode_uid(data: Buffer, element: Element) -> str:
    """Empty for what can be no UID, so that nothing else goes on from here."""
    try:
        return validate_uid(bytes(data[element.value : element.value_end]).decode("latin-1"))
    except InvalidInput:
        return ""
