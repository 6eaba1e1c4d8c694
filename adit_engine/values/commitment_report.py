"""Storage Commitment messages: encode the request, decode the report (PS3.4 annex J)."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from struct import pack, unpack_from

from adit_engine.elements import Buffer, Element, elements, items
from adit_engine.errors import InvalidInput, Malformed
from adit_engine.messages import Message
from adit_engine.values.references import validate_uid

STORAGE_COMMITMENT_PUSH_MODEL = "1.2.840.10008.1.20.1"
WELL_KNOWN_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_ACTION_TYPE = 1
"""The only action type that the standard defines."""
EVENT_ALL_STORED, EVENT_FAILURES_EXIST = 1, 2
"""The event types of a report."""

MAX_REFERENCES = 500
"""Maximum number of images in one request."""

MAX_REPORT_BYTES = 1024 * 1024
"""A report on MAX_REFERENCES images takes a tenth of this."""

_TRANSACTION, _REFERENCED, _FAILED = 0x00081195, 0x00081199, 0x00081198
_CLASS, _INSTANCE, _REASON = 0x00081150, 0x00081155, 0x00081197
_REASONS = {
    0x0110: Message("clause.commitment.processing-failure"),
    0x0112: Message("clause.commitment.no-such-image"),
    0x0119: Message("clause.commitment.class-conflict"),
    0x0122: Message("clause.commitment.class-not-supported"),
    0x0131: Message("clause.commitment.duplicate-transaction"),
    0x0213: Message("clause.commitment.no-resources"),
}

SopReference = tuple[str, str]
"""SOP Class UID and SOP Instance UID."""


class ReportReceipt(StrEnum):
    """What happened to an incoming report."""

    TAKEN = "accepted"
    UNKNOWN = "no pending request has its transaction UID"
    STRANGER = "the sender is not the node that received the request"
    NOT_NOW = "it cannot be processed now"


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """The report on the images of one request. `failed` maps instance UIDs to failure reasons."""

    transaction_uid: str
    committed: frozenset[SopReference]
    failed: Mapping[str, int]

    @classmethod
    def decode(cls, data: Buffer, explicit: bool) -> "CommitmentReport":
        """Decode the data set of an N-EVENT-REPORT. Raises Malformed."""
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
            raise Malformed("commitment-report.no-transaction")
        return cls(transaction, frozenset(kept), failed)

    def confirms(self, image: SopReference) -> bool:
        """Whether the image is listed as kept under its SOP class, and not as failed."""
        return image in self.committed and image[1] not in self.failed

    def failure_reason(self, image: SopReference) -> Message:
        """Return the reason why the image is not confirmed as kept."""
        reason = self.failed.get(image[1])
        if reason is None:
            return Message("not-kept.unlisted")
        words = _REASONS.get(reason, Message("clause.commitment.unknown-reason"))
        return Message("not-kept.reported", reason=words, status=f"{reason:04X}")


def generate_transaction_uid() -> str:
    """Return a new transaction UID for one request; a UID is never used twice."""
    import uuid  # slow to import and rarely needed

    return f"2.25.{uuid.uuid4().int}"


def encode_request(transaction_uid: str, images: Iterable[SopReference], explicit: bool) -> bytes:
    """Encode the data set of a commitment request, little endian."""
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
    """Yield each image of a sequence with its failure reason, or 0 if the item has none."""
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
    """Return an empty text for an invalid UID, so that no unchecked value is passed on."""
    try:
        return validate_uid(bytes(data[element.value : element.value_end]).decode("latin-1"))
    except InvalidInput:
        return ""
