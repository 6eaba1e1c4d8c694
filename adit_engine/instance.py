"""Instance: one DICOM object as it travels: header bytes, and pixel bytes that nobody touched."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from adit_engine.elements import Buffer, elements, header_end
from adit_engine.errors import Malformed
from adit_engine.reference import InstanceRef

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"

_PATIENT_ID = 0x00100020
_STUDY_UID = 0x0020000D
_SERIES_UID = 0x0020000E
_INSTANCE_UID = 0x00080018
_CLASS_UID = 0x00080016
_IDENTITY = frozenset({_PATIENT_ID, _STUDY_UID, _SERIES_UID, _INSTANCE_UID, _CLASS_UID})


@dataclass(frozen=True)
class Instance:
    """One data set without file meta, encoded in its transfer syntax, cut where pixel data begin.

    `header` holds all elements before the pixel data, `rest` the pixel data element and whatever
    follows it, in order. Deflated and big endian data sets stand whole in `header`.
    `sop_class_uid` and `instance_uid` are what the carrier (C-STORE request, file meta) said;
    `in_header` tells what the data set itself says.
    """

    sop_class_uid: str
    instance_uid: str
    transfer_syntax_uid: str
    header: Buffer
    rest: tuple[Buffer, ...] = ()

    @classmethod
    def of(cls, sop_class_uid: str, instance_uid: str, syntax: str, data: Buffer) -> "Instance":
        """Cuts one encoded data set in two, without copying. Raises Malformed."""
        if syntax in (DEFLATED_LE, EXPLICIT_BE):
            return cls(sop_class_uid, instance_uid, syntax, data)
        cut = header_end(data, syntax != IMPLICIT_LE)
        view = memoryview(data)
        return cls(sop_class_uid, instance_uid, syntax, view[:cut], (view[cut:],) if cut < len(data) else ())

    @property
    def explicit(self) -> bool:
        return self.transfer_syntax_uid != IMPLICIT_LE

    @property
    def size_bytes(self) -> int:
        return len(self.header) + sum(len(part) for part in self.rest)

    def parts(self) -> Iterator[Buffer]:
        """The data set's bytes, in order, as they stand in memory."""
        yield self.header
        yield from self.rest

    def sha256(self) -> str:
        """Hex digest of the encoded data set, without preamble and file meta."""
        digest = sha256()
        for part in self.parts():
            digest.update(part)
        return digest.hexdigest()

    @cached_property
    def in_header(self) -> "Identity":
        """What the data set says of itself. Raises Malformed where a UID is missing or illegal."""
        if self.transfer_syntax_uid in (DEFLATED_LE, EXPLICIT_BE):
            raise Malformed("A deflated or big endian data set must be read by pydicom first.")
        found: dict[int, bytes] = {}
        for element in elements(self.header, self.explicit):
            if element.tag > _SERIES_UID:
                break
            if element.tag in _IDENTITY:
                found[element.tag] = bytes(self.header[element.value : element.end])
        return Identity(found)


class Identity:
    """Class, patient and UIDs as they stand in one data set."""

    def __init__(self, found: dict[int, bytes]) -> None:
        self._found = found

    @property
    def patient_id(self) -> bytes:
        """The trimmed bytes: to compare, without guessing at a character set."""
        return self._found.get(_PATIENT_ID, b"").strip(b" \0")

    @property
    def sop_class_uid(self) -> str:
        return self._uid(_CLASS_UID, "SOP Class UID")

    @property
    def ref(self) -> InstanceRef:
        return InstanceRef(
            self._uid(_STUDY_UID, "Study Instance UID"),
            self._uid(_SERIES_UID, "Series Instance UID"),
            self._uid(_INSTANCE_UID, "SOP Instance UID"),
        )

    def _uid(self, tag: int, name: str) -> str:
        value = self._found.get(tag, b"").strip(b" \0")
        if not value or not value.isascii():
            raise Malformed(f"The data set has no {name}.")
        return value.decode("ascii")
