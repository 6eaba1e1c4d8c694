"""One encoded DICOM object, split into header bytes and pixel bytes. Used by all nodes."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from struct import unpack_from

from adit_engine.elements import UNDEFINED, Buffer, elements, header_end_and_values
from adit_engine.errors import Malformed
from adit_engine.messages import Message
from adit_engine.values.references import InstanceRef

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"

MAX_INFLATED_BYTES = 256 * 1024 * 1024
"""Limit for inflating: a few bytes may expand to very much."""

_PATIENT_ID = 0x00100020
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E
_INSTANCE_UID = 0x00080018
_CLASS_UID = 0x00080016
_IDENTITY = frozenset({_PATIENT_ID, _STUDY_UID, _SERIES_UID, _INSTANCE_UID, _CLASS_UID})
CHARACTER_SET = 0x00080005
NAMING_TAGS = {
    _INSTANCE_UID: "SOPInstanceUID",
    0x00080020: "StudyDate",
    0x00080030: "StudyTime",
    0x00080060: "Modality",
    0x0008103E: "SeriesDescription",
    _PATIENT_ID: "PatientID",
    0x00120020: "ClinicalTrialProtocolID",
    0x00120050: "ClinicalTrialTimePointID",
    _STUDY_UID: "StudyInstanceUID",
    _SERIES_UID: "SeriesInstanceUID",
    0x00200011: "SeriesNumber",
}
"""The attributes that folder and file names are built from."""

_NO_DATA_SET = (0x0000, 0x0002)
"""Groups of command sets and of file meta information."""

_HEADER_TAGS = _IDENTITY.union(NAMING_TAGS, {CHARACTER_SET})
_LAST_HEADER_TAG = max(_HEADER_TAGS)
"""All are read in one scan, since each scan costs as much as writing the file."""


@dataclass(frozen=True)
class Instance:
    """One data set without file meta, encoded in its transfer syntax, split before the pixel data.

    `header` holds all elements before the pixel data, `rest` the pixel data element and whatever
    follows it, in order. For deflated and big endian data sets `header` holds everything.
    `sop_class_uid` and `instance_uid` are those given by the carrier (C-STORE request, file meta);
    `in_header` holds those of the data set itself.
    """

    sop_class_uid: str
    instance_uid: str
    transfer_syntax_uid: str
    header: Buffer
    rest: tuple[Buffer, ...] = ()
    defect: Message | None = None
    """The reason if the carrier already knows that the instance must be withheld."""

    @classmethod
    def from_data_set(
        cls, sop_class_uid: str, instance_uid: str, syntax: str, data: Buffer
    ) -> "Instance":
        """Split a data set before the pixel data, without copying. Raises Malformed."""
        if syntax in (DEFLATED_LE, EXPLICIT_BE):
            return cls(sop_class_uid, instance_uid, syntax, data)
        view = _skip_file_meta(memoryview(data), syntax != IMPLICIT_LE)
        cut, found = header_end_and_values(view, syntax != IMPLICIT_LE, _HEADER_TAGS)
        rest = (view[cut:],) if cut < len(view) else ()
        instance = cls(sop_class_uid, instance_uid, syntax, view[:cut], rest)
        instance.__dict__["in_header"] = HeaderIdentity(found)  # where cached_property looks
        return instance

    @property
    def explicit(self) -> bool:
        return self.transfer_syntax_uid != IMPLICIT_LE

    @property
    def size_bytes(self) -> int:
        return len(self.header) + sum(len(part) for part in self.rest)

    def parts(self) -> Iterator[Buffer]:
        """Yield the bytes of the data set in order, without copying."""
        yield self.header
        yield from self.rest

    def sha256(self) -> str:
        """Return the hex digest of the encoded data set, without preamble and file meta."""
        digest = sha256()
        for part in self.parts():
            digest.update(part)
        return digest.hexdigest()

    @cached_property
    def in_header(self) -> "HeaderIdentity":
        """The identity in the data set. Raises Malformed if a UID is missing or invalid."""
        if self.transfer_syntax_uid == EXPLICIT_BE:
            return HeaderIdentity(_read_big_endian_identity(self.header))
        header = self.header
        if self.transfer_syntax_uid == DEFLATED_LE:
            header = inflate_start(header)
        _, found = header_end_and_values(header, self.explicit, _HEADER_TAGS, _LAST_HEADER_TAG)
        return HeaderIdentity(found)


class HeaderIdentity:
    """SOP class, patient ID and UIDs of one data set."""

    def __init__(self, found: dict[int, bytes]) -> None:
        self._found = found

    def trimmed(self, tag: int) -> bytes:
        """Return the value of one of NAMING_TAGS or of the character set; empty if absent."""
        return self._found.get(tag, b"").strip(b" \0")

    @property
    def patient_id(self) -> bytes:
        """The trimmed bytes, so that IDs are compared without decoding them."""
        return self.trimmed(_PATIENT_ID)

    @property
    def sop_class_uid(self) -> str:
        return self._uid(_CLASS_UID, "SOP Class UID")

    @cached_property
    def ref(self) -> InstanceRef:
        return InstanceRef(
            self._uid(_STUDY_UID, "Study Instance UID"),
            self._uid(_SERIES_UID, "Series Instance UID"),
            self._uid(_INSTANCE_UID, "SOP Instance UID"),
        )

    def _uid(self, tag: int, name: str) -> str:
        value = self.trimmed(tag)
        if not value or not value.isascii():
            raise Malformed("data-set.uid-missing", name=name)
        return value.decode("ascii")


def _skip_file_meta(view: memoryview, explicit: bool) -> memoryview:
    """Skip groups 0 and 2 at the start of a data set.

    Some archives leave the file meta (group 2) in the data sets that they send, where it is not
    allowed (PS3.5 7.1). Written behind our own file meta, it would override the transfer syntax.
    """
    if len(view) < 2 or unpack_from("<H", view)[0] not in _NO_DATA_SET:
        return view
    for element in elements(view, explicit):
        if element.tag >> 16 not in _NO_DATA_SET:
            return view[element.start :]
    return view[:0]


def inflate_start(data: Buffer) -> bytes:
    """Inflate the first megabyte of a deflated data set (PS3.5 A.5).

    It holds the identity of the object. Raises Malformed.
    """
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, 1024 * 1024)
    except zlib.error:
        raise Malformed("data-set.not-inflatable") from None


def inflate_data_set(data: Buffer) -> bytes:
    """Inflate a whole deflated data set.

    Raises Malformed if it is truncated or exceeds MAX_INFLATED_BYTES.
    """
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        whole = inflate.decompress(data, MAX_INFLATED_BYTES)
    except zlib.error:
        raise Malformed("data-set.not-inflatable") from None
    if inflate.unconsumed_tail or not inflate.eof:
        raise Malformed("data-set.inflated-too-large", limit_mb=MAX_INFLATED_BYTES >> 20)
    return whole


def _read_big_endian_identity(data: Buffer) -> dict[int, bytes]:
    """Scan the top level of an explicit big endian data set up to the Series Instance UID."""
    found: dict[int, bytes] = {}
    position = 0
    while position + 12 <= len(data):
        group, number = unpack_from(">HH", data, position)
        tag = (group << 16) | number
        if tag > _SERIES_UID:
            break
        vr = bytes(data[position + 4 : position + 6])
        long = vr in (b"OB", b"OD", b"OF", b"OL", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT")
        value = position + (12 if long else 8)
        (length,) = unpack_from(">I" if long else ">H", data, position + (8 if long else 6))
        if length == UNDEFINED:
            raise Malformed("data-set.sequence-before-uids")
        if tag in _HEADER_TAGS:
            found[tag] = bytes(data[value : value + length])
        position = value + length
    return found
