"""Search a finished file for what must not be in it.

Reads with pydicom alone and is independent of how the file was made. Used by `deid_corpus`.
"""

import re
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import NamedTuple

from deid_file import Case, Planted
from pydicom import dcmread
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary

NAMES = """
    PatientName OtherPatientNames PatientBirthName PatientMotherBirthName ReferringPhysicianName
    PerformingPhysicianName OperatorsName PhysiciansOfRecord NameOfPhysiciansReadingStudy
    RequestingPhysician ResponsiblePerson VerifyingObserverName ReviewerName ContentCreatorName
    ConsultingPhysicianName
""".split()  # noqa: SIM905
IDS = """
    PatientID AccessionNumber OtherPatientIDs AdmissionID RequestedProcedureID
    ScheduledProcedureStepID PerformedProcedureStepID PatientAddress PatientTelephoneNumbers
    DeviceSerialNumber MedicalRecordLocator StudyID
""".split()  # noqa: SIM905
PLACES = """
    InstitutionName InstitutionAddress InstitutionalDepartmentName StationName StudyDescription
    SeriesDescription PatientComments ImageComments AdditionalPatientHistory ProtocolName
    RequestedProcedureDescription PerformedProcedureStepDescription StudyComments
""".split()  # noqa: SIM905
TEXT_VRS = frozenset("AE AS CS LO LT PN SH ST UC UR UT DA DT TM IS DS UI".split())  # noqa: SIM905
NOTHING = frozenset(
    """anonymous anonymized anonymous1 unknown none null test name patient compressed phantom
    person removed default doctor""".split()  # noqa: SIM905
)
TERMS = frozenset({"pancreas", "perfusion"})
"""Defined terms of image type and body part that two sample files also have as patient names."""


CLEAN_DESCRIPTORS = "113105"


class Residue(NamedTuple):
    """What was found where. `value` is printed: the corpus contains no real person."""

    case: str
    value: str
    where: str


def audit_made(
    case: Case, data: bytes, options: frozenset[str] = frozenset()
) -> tuple[int, list[Residue]]:
    """Return the number of values searched for, and those found.

    `options` are the profile's.
    """
    found = [Residue(case.name, "", fault) for fault in form_faults(data, options)]
    ds = _read(data)
    low = data.lower()
    for planted in case.planted:
        if planted.tag:
            if any(value == planted.value for value in _values_of(ds, planted)):
                found.append(Residue(case.name, repr(planted.value), f"{planted.tag:08x}"))
        elif planted.value.lower() in low:
            found.append(Residue(case.name, repr(planted.value), "the bytes"))
    return len(case.planted), found


def audit_real(
    name: str, source: bytes, data: bytes, options: frozenset[str] = frozenset()
) -> tuple[int, list[Residue]]:
    """Search the result of a real file for the identity in its source.

    Returns the same as `audit_made`.
    """
    found = [Residue(name, "", fault) for fault in form_faults(data, options)]
    before, after = _read(source), _read(data)
    texts = list(_texts(after))
    equipment = " ".join(
        str(before.get(word, "")) for word in ("Manufacturer", "ManufacturerModelName")
    ).lower()
    words = _identity(before, NAMES, r"[\s^=,.\\]+") | _identity(before, IDS, r"\\")
    words = {word for word in words if word not in equipment and word not in NOTHING | TERMS}
    for word in words:
        pattern = re.compile(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])")
        found += [Residue(name, word, where) for where, text in texts if pattern.search(text)]
    kept = PLACES if CLEAN_DESCRIPTORS not in options else PLACES[:4]
    places = _identity(before, kept, r"\\") - NOTHING - TERMS
    places = {place for place in places if place not in equipment}
    found += [Residue(name, text, where) for where, text in texts if text in places]
    uids = _uids(before)
    found += [Residue(name, uid, "a UID") for uid in uids & _uids(after)]
    found += [Residue(name, uid, "the bytes") for uid in uids if _stands_in(uid, data)]
    dates, moved = _dates(before), _dates(after)
    for keyword in dates.keys() & moved.keys():
        if dates[keyword] & moved[keyword]:
            found.append(Residue(name, keyword, "a date that did not move"))
    return len(words) + len(places) + len(uids) + sum(map(len, dates.values())), found


def form_faults(data: bytes, options: frozenset[str]) -> Iterator[str]:
    """Yield what no file may contain, whatever its source contained."""
    safe_private = "113111" in options
    if data[:128].strip(b"\0"):
        yield "preamble"
    ds = _read(data)
    meta = ds.file_meta
    if {int(e.tag) & 0xFFFF for e in meta} - {0, 1, 2, 3, 0x10, 0x12, 0x13}:
        yield "file meta"
    if (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) != (
        ds.SOPClassUID,
        ds.SOPInstanceUID,
    ):
        yield "file meta of another object"
    for where, one in _walk(ds):
        group = one.tag.group
        if group & 1 and not safe_private:
            yield f"private element {where}"
        if group in (0, 2, 4, 0xFFFA, 0xFFFC) or group & 0xFF00 in (0x5000, 0x6000):
            yield f"group {where}"
        if one.tag.element == 0:
            yield f"group length {where}"
    if max(ds.keys()) > 0x7FE00010:
        yield "an element behind the pixels"
    if ds.get("PatientName") != ds.get("PatientID") or ds.get("PatientIdentityRemoved") != "YES":
        yield "stamp"
    if "PixelData" in ds and ds.file_meta.TransferSyntaxUID.is_little_endian:
        yield from _pixel_faults(ds)


def _pixel_faults(ds: Dataset) -> Iterator[str]:
    if ds.file_meta.TransferSyntaxUID.is_compressed:
        return
    bits = ds.Rows * ds.Columns * ds.SamplesPerPixel * int(ds.get("NumberOfFrames") or 1)
    size = (bits * ds.BitsAllocated + 7) // 8
    if len(ds.PixelData) != size + size % 2:
        yield "length of the pixel data"
    if ds.BitsAllocated == 16 and ds.BitsStored < 16 and ds.HighBit == ds.BitsStored - 1:
        spare = 0xFFFF >> ds.BitsStored << ds.BitsStored
        seen = set(memoryview(ds.PixelData).cast("H"))
        if any(v & spare and not (ds.PixelRepresentation and v & spare == spare) for v in seen):
            yield "spare bits"


def _read(data: bytes) -> Dataset:
    return dcmread(BytesIO(data), force=True)


def _walk(ds: Dataset, path: str = "") -> Iterator[tuple[str, DataElement]]:
    for one in ds:
        where = f"{path}{one.tag}"
        yield where, one
        if one.VR == "SQ":
            for number, item in enumerate(one.value):
                yield from _walk(item, f"{where}[{number}]")


def _texts(ds: Dataset) -> Iterator[tuple[str, str]]:
    """Yield path and lower-case value of all that can be read as text."""
    for where, one in _walk(ds):
        if one.VR in TEXT_VRS and one.value not in (None, ""):
            many = one.value if one.VM > 1 else [one.value]
            for value in many:
                yield where, str(value).strip().lower()


def _values_of(ds: Dataset, planted: Planted) -> Iterator[bytes]:
    """Yield the raw values of one tag at every depth."""
    raw = ds.get_item(planted.tag)
    if isinstance(raw, RawDataElement):
        yield (raw.value or b"").strip(b" \0")
    elif raw is not None:
        yield str(raw.value).encode()
    for one in ds:
        if one.VR == "SQ":
            for item in one.value:
                yield from _values_of(item, planted)


def _identity(ds: Dataset, keywords: Iterable[str], between: str) -> set[str]:
    wanted, found = frozenset(keywords), set()
    for _, one in _walk(ds):
        if one.keyword in wanted and one.VR != "SQ" and one.value not in (None, ""):
            many = one.value if one.VM > 1 else [one.value]
            found |= {
                part.strip().lower() for value in many for part in re.split(between, str(value))
            }
    return {word for word in found if len(word) >= 4 and not re.fullmatch(r"[0.\s]*", word)}


def _uids(ds: Dataset) -> set[str]:
    found: set[str] = set()
    for _, one in _walk(ds):
        if one.VR == "UI" and one.value:
            many = one.value if one.VM > 1 else [one.value]
            found |= {str(uid) for uid in many if len(str(uid)) > 8}
    return found - UID_dictionary.keys()


def _stands_in(uid: str, data: bytes) -> bool:
    return bool(re.search(rb"(?<![0-9.])" + re.escape(uid.encode()) + rb"(?![0-9.])", data))


def _dates(ds: Dataset) -> dict[str, set[str]]:
    """Return dates by path, so that a date shifted onto another one by chance is no finding."""
    found: dict[str, set[str]] = {}
    for where, one in _walk(ds):
        if one.VR in ("DA", "DT") and one.value and not one.tag.is_private:
            many = one.value if one.VM > 1 else [one.value]
            found.setdefault(where, set()).update(str(value)[:8] for value in many if str(value))
    return found
