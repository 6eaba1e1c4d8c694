"""Queries: level, matching keys and return keys, and matching of responses (PS3.4 C.2.2.2)."""

import fnmatch
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from adit_engine.errors import InvalidInput
from adit_engine.values.attributes import find_by_keyword
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, SeriesRef, StudyRef

RETURN_KEYS: Mapping[QueryLevel, tuple[str, ...]] = {
    QueryLevel.PATIENT: (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "IssuerOfPatientID",
    ),
    QueryLevel.STUDY: (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "IssuerOfPatientID",
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
        "AccessionNumber",
        "ModalitiesInStudy",
        "SOPClassesInStudy",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
        "InstanceAvailability",
    ),
    QueryLevel.SERIES: (
        "PatientID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SeriesNumber",
        "SeriesDescription",
        "Modality",
        "BodyPartExamined",
        "SeriesDate",
        "SeriesTime",
        "Manufacturer",
        "ManufacturerModelName",
        "NumberOfSeriesRelatedInstances",
    ),
    QueryLevel.IMAGE: (
        "PatientID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "SOPClassUID",
        "InstanceNumber",
        "InstanceAvailability",
    ),
}
"""The attributes requested in addition to the matching keys (PS3.4 C.6.1.1, C.6.2.1).

At image level only attributes that archives index: for Rows, Columns, ImageType and NumberOfFrames
Orthanc 1.12.7 opens each file, which makes listing a series several times as slow (seen 2026).
"""

_CONTROL_KEYS = frozenset({"QueryRetrieveLevel", "SpecificCharacterSet"})
_FIRST_TAG = 0x00080000
"""Below are command sets, file headers and directories."""
_EXACT_KEYS = frozenset({"PatientID", "AccessionNumber", "StudyID", "PatientBirthDate"})
_UNMATCHED_KEYS = frozenset({"ModalitiesInStudy", "Modality"})
_TIME_VRS = frozenset({"DA", "DT", "TM"})
_TIME_DIGITS = 20


@dataclass(frozen=True, slots=True)
class DateRange:
    """Two dates, both inclusive. Either may be open, but not both."""

    first: date | None
    last: date | None

    def __post_init__(self) -> None:
        if self.first is None and self.last is None:
            raise InvalidInput("date-range.empty")
        if self.first is not None and self.last is not None and self.first > self.last:
            raise InvalidInput("date-range.reversed")

    def __str__(self) -> str:
        """Format for DICOM (PS3.4 C.2.2.2.5): 20260101-20260131, 20260101- or -20260131."""
        first = self.first.strftime("%Y%m%d") if self.first else ""
        last = self.last.strftime("%Y%m%d") if self.last else ""
        return first if first == last else f"{first}-{last}"

    def __contains__(self, day: date | None) -> bool:
        if day is None:
            return False
        return (self.first is None or self.first <= day) and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class Query:
    """Keys to match at one level. `keys` maps DICOM keywords to text, which may contain * and ?.

    A list of UIDs or modalities is a tuple. `study_date` is separate because it is a range.
    """

    level: QueryLevel
    keys: Mapping[str, str | tuple[str, ...]] = field(repr=False)
    study_date: DateRange | None = field(default=None, repr=False)
    only: tuple[str, ...] | None = None
    """Attributes to return in addition to the keys; None: all of the level (RETURN_KEYS)."""
    wildcards: bool = False
    """Whether * and ? in patient IDs, accession numbers and study IDs are not taken literally."""

    def __post_init__(self) -> None:
        for keyword, value in self.keys.items():
            known = find_by_keyword(keyword)
            if known is None:
                raise InvalidInput("query.unknown-attribute", keyword=keyword)
            if not keyword or keyword in _CONTROL_KEYS or known[0] < _FIRST_TAG:
                raise InvalidInput("query.not-a-search-key", keyword=keyword)
            parts = (value,) if isinstance(value, str) else value
            if not all(map(is_searchable, parts)):
                raise InvalidInput("query.invalid-value", keyword=keyword)

    @classmethod
    def series_of(cls, study: StudyRef, patient_id: str = "") -> "Query":
        """Create a query for all series of a study.

        `patient_id` is for archives that support only the patient root information model.
        """
        return cls(
            QueryLevel.SERIES, {"StudyInstanceUID": study.study_uid, **_patient_key(patient_id)}
        )

    @classmethod
    def study(cls, study: StudyRef, patient_id: str = "") -> "Query":
        return cls(
            QueryLevel.STUDY, {"StudyInstanceUID": study.study_uid, **_patient_key(patient_id)}
        )

    @classmethod
    def instances_of(cls, series: SeriesRef, patient_id: str = "") -> "Query":
        return cls(
            QueryLevel.IMAGE,
            {
                "StudyInstanceUID": series.study_uid,
                "SeriesInstanceUID": series.series_uid,
                **_patient_key(patient_id),
            },
        )

    @classmethod
    def uids_of(cls, series: SeriesRef, patient_id: str = "") -> "Query":
        """Create a query like `instances_of` for UIDs only, which archives answer faster."""
        whole = cls.instances_of(series, patient_id)
        return cls(whole.level, whole.keys, only=("SOPInstanceUID",))

    @property
    def returned(self) -> tuple[str, ...]:
        """The attributes requested in addition to the keys."""
        return RETURN_KEYS[self.level] if self.only is None else self.only

    def to_identifier(self) -> dict[str, str | tuple[str, ...]]:
        """Return the C-FIND identifier (PS3.4 C.4.1.1.3) by keyword, with the return keys.

        A query cannot match several modalities at once. They are sent as universal matching, and
        `matches` filters the responses.
        """
        identifier: dict[str, str | tuple[str, ...]] = {"QueryRetrieveLevel": self.level.value}
        identifier |= dict.fromkeys(self.returned, "")
        for keyword, value in self.keys.items():
            if isinstance(value, str) or keyword.endswith("UID"):
                identifier[keyword] = value
            else:
                identifier[keyword] = value[0] if len(value) == 1 else ""
        if self.study_date is not None:
            identifier["StudyDate"] = str(self.study_date)
        return identifier

    def matches(self, record: Record) -> bool:
        """Whether a response matches all keys. Needed since archives ignore unknown keys.

        An attribute that is empty in the response counts as a match. Names and descriptions are
        compared without regard to case and to the encoding of accents, as many archives do.
        """
        if (
            self.study_date is not None
            and record.text("StudyDate")
            and record.study_date not in self.study_date
        ):
            return False
        return all(
            _value_matches(keyword, wanted, record, self.wildcards)
            for keyword, wanted in self.keys.items()
        )


def is_searchable(value: str) -> bool:
    """Whether the value can be a matching key.

    A backslash separates values, and control characters are not allowed.
    """
    return "\\" not in value and all(ord(c) >= 32 for c in value)


def _patient_key(patient_id: str) -> dict[str, str]:
    return {"PatientID": patient_id} if patient_id else {}


def _value_matches(
    keyword: str, wanted: str | tuple[str, ...], record: Record, wildcards: bool
) -> bool:
    if record.values.get(keyword) == wanted:
        return True
    held = record.texts(keyword)
    if not held:
        return True
    patterns = (wanted,) if isinstance(wanted, str) else wanted
    known = find_by_keyword(keyword)
    if known is not None and known[1] in _TIME_VRS and not any(map(_has_wildcard, patterns)):
        return any(_is_within_range(part, pattern) for part in held for pattern in patterns)
    if keyword in _EXACT_KEYS:
        same = _matches_wildcard if wildcards else str.__eq__
        return any(same(part.strip(), pattern.strip()) for part in held for pattern in patterns)
    if keyword.endswith("UID") or keyword in _UNMATCHED_KEYS:
        return not set(patterns).isdisjoint(held)
    folded = [_fold(part) for part in held]
    return any(_matches_wildcard(part, _fold(pattern)) for part in folded for pattern in patterns)


def _is_within_range(time: str, times: str) -> bool:
    """Match a date or time, or a range of them (PS3.4 C.2.2.2.5): 20260101-20260131, 10-1130.

    A part such as 10 stands for the whole hour. Offsets from UTC are not regarded.
    """
    begin, dash, end = times.partition("-")
    first, last = _find_digits(begin), _find_digits(end if dash else begin)
    time = _find_digits(time).ljust(_TIME_DIGITS, "0")
    return first.ljust(_TIME_DIGITS, "0") <= time and time[: len(last)] <= last


def _find_digits(time: str) -> str:
    """Return a date or time without punctuation and offset."""
    return re.split("[+-]", time)[0].strip().replace(".", "").replace(":", "")


def _has_wildcard(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _fold(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\^ ,]+", " ", text.rstrip("^= ")).strip()


def _matches_wildcard(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))
