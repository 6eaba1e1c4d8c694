"""Index of a folder of DICOM files, and the queries that the demo PACS answers from it.

Contains no networking. The archive of the test lab uses it as well.
"""

import fnmatch
import mmap
import os
import re
import struct
import threading
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from pydicom.datadict import dictionary_VR, tag_for_keyword

from adit.demo import header
from adit_engine.dicom_file import part10
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed
from adit_engine.values.instance import IMPLICIT_LE

UNIQUE_KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
"""The unique key attribute of each query level (PS3.4 C.6.1.1)."""

_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
_PART = ".part"
_MULTI_VALUED = frozenset({"ModalitiesInStudy", "SOPClassesInStudy", "Modality", "SOPClassUID"})
_FIXED_KEYS = frozenset(
    {"SpecificCharacterSet", "QueryRetrieveLevel", "InstanceAvailability", "RetrieveAETitle"}
)
_BINARY = {"US": "<H", "UL": "<I", "SS": "<h", "SL": "<i"}
_LONG_VRS = frozenset(["SQ", "UT", "UC", "UR", "OB", "OW", "UN"])

Values = dict[str, str]
"""Values by keyword; several values are separated by a backslash."""


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """One file: offset of its data set, transfer syntax and image level values."""

    path: Path
    offset: int
    syntax: str
    values: Mapping[str, str] = field(repr=False)

    @property
    def class_uid(self) -> str:
        return self.values.get("SOPClassUID", "")

    @property
    def uid(self) -> str:
        return self.values["SOPInstanceUID"]


@dataclass(slots=True)
class StoredSeries:
    values: Mapping[str, str] = field(repr=False)
    instances: dict[str, StoredInstance] = field(default_factory=dict)


@dataclass(slots=True)
class StoredStudy:
    """One study.

    Patient and study values are those of the first instance that was read.
    """

    values: Mapping[str, str] = field(repr=False)
    series: dict[str, StoredSeries] = field(default_factory=dict)

    @property
    def instance_count(self) -> int:
        return sum(len(one.instances) for one in self.series.values())

    def instances(self) -> Iterator[StoredInstance]:
        for one in self.series.values():
            yield from one.instances.values()


class FolderIndex:
    """Studies, series and instances of a folder. Read `studies` under `lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self.studies: dict[str, StoredStudy] = {}
        self._parents: dict[str, tuple[str, str]] = {}
        self._syntaxes: dict[str, Counter[str]] = {}

    def __len__(self) -> int:
        return len(self._parents)

    def load(self) -> None:
        """Read the headers of all files. Remove what an interrupted write left behind."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for base, folders, names in os.walk(self.folder):
            folders.sort()
            for name in sorted(names):
                path = Path(base, name)
                if name.endswith(_PART):
                    path.unlink(missing_ok=True)
                elif (read := _read(path)) is not None:
                    self._add(path, *read)

    def store(self, content: bytes) -> None:
        """Write one Part 10 file; replaces an instance of the same UID.

        Raises Malformed for an object without usable UIDs, OSError if it cannot be written.
        """
        offset, syntax, announced, values = _parse(memoryview(content))
        uids = [values.get(f"{level}InstanceUID", "") for level in ("Study", "Series", "SOP")]
        if uids[2] != announced:
            raise Malformed("demo.uid-mismatch")
        if not all(_UID.fullmatch(uid) for uid in uids):
            raise Malformed("demo.uids-invalid")
        path = self.folder.joinpath(*uids[:2], f"{uids[2]}.dcm")
        with self.lock:
            if not _has_content(path, content):
                write_file(path, [content])
            self._remove(uids[2], keep=path)
            self._add(path, offset, syntax, values)

    def syntaxes(self, class_uid: str) -> list[str]:
        """Return the transfer syntaxes in which instances of a SOP class are stored."""
        return [syntax for syntax, count in self._syntaxes.get(class_uid, {}).items() if count]

    def _add(self, path: Path, offset: int, syntax: str, values: Values) -> None:
        study_uid, series_uid = values["StudyInstanceUID"], values["SeriesInstanceUID"]
        study = self.studies.get(study_uid)
        if study is None:
            study = StoredStudy(_only(values, [*header.PATIENT, *header.STUDY]))
            self.studies[study_uid] = study
        series = study.series.get(series_uid)
        if series is None:
            series = study.series[series_uid] = StoredSeries(_only(values, header.SERIES))
        stored = StoredInstance(path, offset, syntax, _only(values, header.IMAGE))
        series.instances[stored.uid] = stored
        self._parents[stored.uid] = (study_uid, series_uid)
        self._syntaxes.setdefault(stored.class_uid, Counter())[syntax] += 1

    def _remove(self, instance_uid: str, keep: Path) -> None:
        """Remove an instance from the index, and its file unless it is `keep`."""
        if instance_uid not in self._parents:
            return
        study_uid, series_uid = self._parents.pop(instance_uid)
        study = self.studies[study_uid]
        series = study.series[series_uid]
        stored = series.instances.pop(instance_uid)
        self._syntaxes[stored.class_uid][stored.syntax] -= 1
        if not series.instances:
            del study.series[series_uid]
        if not study.series:
            del self.studies[study_uid]
        if stored.path != keep:
            stored.path.unlink(missing_ok=True)


def write_file(path: Path, parts: Iterable[Buffer]) -> None:
    """Write a file that is either complete or missing. Raise OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(_PART)
    try:
        with part.open("wb") as file:
            file.writelines(parts)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _read(path: Path) -> tuple[int, str, Values] | None:
    """Return data set offset, transfer syntax and values; None if not a DICOM instance."""
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            offset, syntax, _, values = _parse(view)
    except (Malformed, OSError, ValueError):
        return None
    if not all(values.get(f"{level}InstanceUID") for level in ("Study", "Series", "SOP")):
        return None
    return offset, syntax, values


def _parse(content: memoryview) -> tuple[int, str, str, Values]:
    """As `_read`, with the instance UID of the file meta. Raises Malformed."""
    try:
        meta, offset = part10.parse_file_meta(content)
        syntax = meta[part10.META_SYNTAX]
        with content[offset:] as data:
            values = header.texts(data, syntax)
    except (KeyError, ValueError, struct.error, zlib.error) as error:
        raise Malformed("demo.unreadable") from error
    return offset, syntax, meta.get(part10.META_INSTANCE, ""), values


def _has_content(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _only(values: Mapping[str, str], keywords: Iterable[str]) -> Values:
    return {keyword: values[keyword] for keyword in keywords if keyword in values}


# Queries ------------------------------------------------------------------------------------------


def find(index: FolderIndex, keys: Mapping[str, str], ae_title: str) -> list[Values]:
    """Return all matches of a C-FIND identifier, each with the requested keys.

    Raises KeyError for an unknown query level.
    """
    level = keys.get("QueryRetrieveLevel", "")
    candidates = _LEVELS[level]
    tests = [
        (keyword, _matcher(keyword, wanted))
        for keyword, wanted in keys.items()
        if wanted and keyword not in _FIXED_KEYS
    ]
    requested = {*keys, UNIQUE_KEYS[level]} - _FIXED_KEYS
    fixed = {
        "SpecificCharacterSet": "ISO_IR 192",
        "QueryRetrieveLevel": level,
        "InstanceAvailability": "ONLINE",
        "RetrieveAETitle": ae_title,
    }
    with index.lock:
        return [
            {**fixed, **{keyword: values.get(keyword, "") for keyword in requested}}
            for values in candidates(index, keys)
            # A key that is not supported matches everything (PS3.4 C.2.2.1.3).
            if all(keyword not in values or matches(values[keyword]) for keyword, matches in tests)
        ]


def select(index: FolderIndex, keys: Mapping[str, str]) -> list[StoredInstance] | None:
    """Return the instances of a C-GET or C-MOVE identifier; None without unique keys."""
    if not keys.get(UNIQUE_KEYS.get(keys.get("QueryRetrieveLevel", ""), "")):
        return None
    with index.lock:
        return [
            stored
            for study in _studies(index, keys)
            if _is_named(study.values, keys, "PatientID")
            for series in study.series.values()
            if _is_named(series.values, keys, "SeriesInstanceUID")
            for stored in series.instances.values()
            if _is_named(stored.values, keys, "SOPInstanceUID")
        ]


def encode(values: Mapping[str, str], syntax: str) -> bytes:
    """Encode an identifier in UTF-8, explicit or implicit little endian."""
    tagged = sorted((*_tag_and_vr(keyword), text) for keyword, text in values.items())
    return b"".join(_element(*one, explicit=syntax != IMPLICIT_LE) for one in tagged if one[0])


def _is_named(values: Mapping[str, str], keys: Mapping[str, str], unique: str) -> bool:
    wanted = keys.get(unique)
    return not wanted or values.get(unique, "") in wanted.split("\\")


def _studies(index: FolderIndex, keys: Mapping[str, str]) -> list[StoredStudy]:
    uids = keys.get("StudyInstanceUID", "")
    if not uids or set(uids) & set("*?"):
        return list(index.studies.values())
    return [index.studies[uid] for uid in uids.split("\\") if uid in index.studies]


def _patient_values(index: FolderIndex, keys: Mapping[str, str]) -> Iterator[Values]:
    by_patient: dict[tuple[str, str], list[StoredStudy]] = {}
    for study in index.studies.values():
        key = (study.values.get("PatientID", ""), study.values.get("IssuerOfPatientID", ""))
        by_patient.setdefault(key, []).append(study)
    for studies in by_patient.values():
        latest = max(studies, key=lambda study: study.values.get("StudyDate", ""))
        yield {
            **_only(latest.values, header.PATIENT),
            "NumberOfPatientRelatedStudies": str(len(studies)),
            "NumberOfPatientRelatedSeries": str(sum(len(study.series) for study in studies)),
            "NumberOfPatientRelatedInstances": str(sum(study.instance_count for study in studies)),
        }


def _study_values(index: FolderIndex, keys: Mapping[str, str]) -> Iterator[Values]:
    for study in _studies(index, keys):
        yield _values_of_study(study)


def _values_of_study(study: StoredStudy) -> Values:
    modalities = {one.values.get("Modality", "") for one in study.series.values()} - {""}
    return {
        **study.values,
        "ModalitiesInStudy": "\\".join(sorted(modalities)),
        "SOPClassesInStudy": "\\".join(sorted({one.class_uid for one in study.instances()})),
        "NumberOfStudyRelatedSeries": str(len(study.series)),
        "NumberOfStudyRelatedInstances": str(study.instance_count),
    }


def _series_values(index: FolderIndex, keys: Mapping[str, str]) -> Iterator[Values]:
    for values, _ in _series(index, keys):
        yield values


def _series(index: FolderIndex, keys: Mapping[str, str]) -> Iterator[tuple[Values, StoredSeries]]:
    for study in _studies(index, keys):
        above = _values_of_study(study)
        for series in study.series.values():
            count = str(len(series.instances))
            yield {**above, **series.values, "NumberOfSeriesRelatedInstances": count}, series


def _image_values(index: FolderIndex, keys: Mapping[str, str]) -> Iterator[Values]:
    for above, series in _series(index, keys):
        if _is_named(series.values, keys, "SeriesInstanceUID"):
            for stored in series.instances.values():
                yield {**above, **stored.values, "AvailableTransferSyntaxUID": stored.syntax}


_LEVELS: Mapping[str, Callable[[FolderIndex, Mapping[str, str]], Iterator[Values]]] = {
    "PATIENT": _patient_values,
    "STUDY": _study_values,
    "SERIES": _series_values,
    "IMAGE": _image_values,
}


# Matching of one value (PS3.4 C.2.2.2) ------------------------------------------------------------


def _matcher(keyword: str, wanted: str) -> Callable[[str], bool]:
    vr = _tag_and_vr(keyword)[1]
    if vr in ("DA", "TM"):
        return _range_matcher(wanted)
    if vr == "PN":
        name = _pattern(_fold(wanted))
        return lambda text: any(name.fullmatch(_fold(one)) for one in (text, *text.split("=")))
    is_list = keyword in _MULTI_VALUED or vr == "UI"
    patterns = [_pattern(one) for one in (wanted.split("\\") if is_list else [wanted])]
    return lambda text: any(
        pattern.fullmatch(one) for one in text.split("\\") for pattern in patterns
    )


def _fold(name: str) -> str:
    """Return a name without case and trailing delimiters (PS3.5 6.2.1.1)."""
    return unicodedata.normalize("NFC", name).casefold().rstrip("^= ")


@lru_cache(maxsize=1024)
def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(wanted.strip().replace("[", "[[]")))


def _range_matcher(wanted: str) -> Callable[[str], bool]:
    """PS3.4 C.2.2.2.5, and the dots and colons of ACR-NEMA dates and times."""
    first, dash, last = (_digits(part) for part in wanted.partition("-"))
    if not dash:
        return lambda text: _digits(text).startswith(first)
    return lambda text: (
        bool(text) and first <= _digits(text) and (not last or _digits(text)[: len(last)] <= last)
    )


def _digits(moment: str) -> str:
    return re.sub(r"[ .:]", "", moment)


# Encoding -----------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _tag_and_vr(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    return (tag, dictionary_VR(tag)[:2]) if tag is not None else (0, "")


def _element(tag: int, vr: str, text: str, *, explicit: bool) -> bytes:
    raw = _raw(vr, text)
    if not explicit:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(raw)) + raw
    if vr in _LONG_VRS:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(raw)) + raw
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(raw)) + raw


def _raw(vr: str, text: str) -> bytes:
    if not text or vr in ("SQ", "OB", "OW", "UN"):
        return b""
    if vr in _BINARY:
        return b"".join(struct.pack(_BINARY[vr], int(part)) for part in text.split("\\"))
    raw = text.encode()
    return raw + (b"\0" if vr == "UI" else b" ") * (len(raw) % 2)
