"""Read patient, study, series and image attributes of DICOM files as plain text.

Used by the index of the demo PACS.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from struct import unpack

from pydicom.charset import convert_encodings, default_encoding, python_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.values import convert_PN, convert_text

from adit_engine.elements import Buffer, elements
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, IMPLICIT_LE

PATIENT = [
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDs",
    "EthnicGroup",
    "PatientComments",
]
STUDY = [
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "StudyID",
    "StudyDescription",
    "ReferringPhysicianName",
    "NameOfPhysiciansReadingStudy",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "InstitutionName",
]
SERIES = [
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "SeriesDescription",
    "SeriesDate",
    "SeriesTime",
    "BodyPartExamined",
    "ProtocolName",
    "Laterality",
    "PatientPosition",
    "Manufacturer",
    "ManufacturerModelName",
    "StationName",
    "PerformingPhysicianName",
    "OperatorsName",
    "FrameOfReferenceUID",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "PerformedProcedureStepID",
]
IMAGE = [
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "ImageType",
    "ContentDate",
    "ContentTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionNumber",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "SliceLocation",
]

_CHARSET = 0x00080005
_BINARY = {"US": "<H", "UL": "<I", "SS": "<h", "SL": "<i"}
_SKIPPED = frozenset(["SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN", "AT", "FL", "FD", "SV", "UV"])
_TEXT = frozenset(["SH", "LO", "ST", "LT", "UC", "UT"])


def tags_of(keywords: Iterable[str]) -> dict[int, str]:
    """Return keywords by tag, for `texts`."""
    return {int(tag_for_keyword(keyword) or 0): keyword for keyword in keywords}


INDEXED = tags_of([*PATIENT, *STUDY, *SERIES, *IMAGE])


def texts(data: Buffer, syntax: str, wanted: Mapping[int, str] | None = INDEXED) -> dict[str, str]:
    """Return values by keyword, multiple ones joined by a backslash; skips pixel data.

    `wanted` None reads every public element, sequences as empty text. Raises Malformed.
    """
    if syntax == EXPLICIT_BE:
        return _big_endian_texts(data)
    if syntax == DEFLATED_LE:
        data = zlib.decompress(bytes(data), -zlib.MAX_WBITS)
    last = max(wanted) if wanted else 0x7FE00000
    encodings = [default_encoding]
    found: dict[str, str] = {}
    for element in elements(data, syntax != IMPLICIT_LE):
        if element.tag > last:
            break
        if element.tag == _CHARSET:
            encodings = _encodings(bytes(data[element.value : element.end]))
        keyword = wanted.get(element.tag) if wanted else keyword_for_tag(element.tag)
        if keyword:
            vr = element.vr or dictionary_VR(element.tag)
            raw = b"" if element.undefined else bytes(data[element.value : element.end])
            found[keyword] = _text(raw, vr, encodings)
    return found


def _text(raw: bytes, vr: str, encodings: list[str]) -> str:
    if vr in _SKIPPED:
        return ""
    if vr in _BINARY:
        return "\\".join(_numbers(raw, _BINARY[vr]))
    if raw.isascii() and b"\x1b" not in raw:
        return _joined(raw.decode("ascii").split("\\"))
    if encodings == [default_encoding]:
        return _joined(_undeclared(raw).split("\\"))
    if vr == "PN":
        return _joined(_several(convert_PN(raw, encodings)))
    if vr in _TEXT:
        return _joined(_several(convert_text(raw, encodings, vr)))
    return raw.decode("latin-1").strip(" \0")


def _undeclared(raw: bytes) -> str:
    """Decode non-ASCII text without a declared character set: as UTF-8 if valid, else Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _joined(parts: Iterable[object]) -> str:
    return "\\".join(str(part).strip(" \0") for part in parts)


def _several(value: object) -> Iterable[object]:
    return value if isinstance(value, MultiValue | list) else [value]


def _numbers(raw: bytes, form: str) -> Iterator[str]:
    size = 2 if form[1] in "Hh" else 4
    for start in range(0, len(raw) - size + 1, size):
        yield str(unpack(form, raw[start : start + size])[0])


def _encodings(raw: bytes) -> list[str]:
    names = [part.strip() for part in raw.decode("latin-1").strip("\0").split("\\")]
    if any(name not in python_encoding for name in names):
        return ["latin-1"]
    return list(convert_encodings(names))


def _big_endian_texts(data: Buffer) -> dict[str, str]:
    dataset = read_dataset(BytesIO(bytes(data)), False, False, specific_tags=[_CHARSET, *INDEXED])
    return {
        INDEXED[element.tag]: _joined(_several("" if element.value is None else element.value))
        for element in dataset
        if element.tag in INDEXED
    }
