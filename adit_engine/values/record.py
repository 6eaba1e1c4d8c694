"""One query response, with typed access to common attributes. Returned by all searches."""

import re
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from adit_engine.errors import InvalidInput, Malformed
from adit_engine.values.references import InstanceRef, QueryLevel, SeriesRef, StudyRef

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_NUMBER = 2**31 - 1
"""The largest value of an integer string (PS3.5 6.2, VR IS)."""

_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def clean_text(text: str) -> str:
    """Return the value without padding; characters that no database stores are replaced.

    These are NUL, and lone surrogates, which JSON can contain.
    """
    text = text.strip(" \0")
    return text if text.isprintable() else _NOT_STORABLE.sub("\ufffd", text)


@dataclass(frozen=True, slots=True)
class Record:
    """One query response. `values` maps DICOM keywords to text; several values are a tuple.

    An attribute that the node omitted reads as empty text, never as None, since archives differ in
    what they omit.
    """

    level: QueryLevel
    values: Mapping[str, str | tuple[str, ...]] = field(repr=False)

    @classmethod
    def from_dataset(cls, level: QueryLevel, dataset: "Dataset") -> "Record":
        """Create a record from a C-FIND identifier or a data set.

        Sequences and binary values are left out.
        """
        values: dict[str, str | tuple[str, ...]] = {}
        for element in dataset:
            if not element.keyword or element.VR in ("SQ", "OB", "OW", "OF", "OD", "UN"):
                continue
            value = element.value
            if isinstance(value, MutableSequence | tuple):
                values[element.keyword] = tuple(clean_text(str(part)) for part in value)
            else:
                values[element.keyword] = "" if value is None else clean_text(str(value))
        return cls(level, values)

    def text(self, keyword: str) -> str:
        """Return the value as text. Several values are joined by a backslash, as in DICOM."""
        value = self.values.get(keyword, "")
        return value if isinstance(value, str) else "\\".join(value)

    def texts(self, keyword: str) -> tuple[str, ...]:
        value = self.values.get(keyword, "")
        if not isinstance(value, str):
            return value
        if "\\" in value:
            return tuple(part for part in value.split("\\") if part)
        return (value,) if value else ()

    def number(self, keyword: str) -> int | None:
        """Return a whole number, or None if it is absent, cannot be parsed or is out of range."""
        try:
            number = int(self.text(keyword).strip())
        except ValueError:
            return None
        return number if abs(number) <= MAX_NUMBER else None

    @property
    def study_uid(self) -> str:
        return self.text("StudyInstanceUID").strip(" \0")

    @property
    def series_uid(self) -> str:
        return self.text("SeriesInstanceUID").strip(" \0")

    @property
    def instance_uid(self) -> str:
        return self.text("SOPInstanceUID").strip(" \0")

    @property
    def ref(self) -> StudyRef | SeriesRef | InstanceRef:
        """The reference at the level of this record. Raises Malformed if a UID is missing."""
        try:
            if self.level is QueryLevel.STUDY:
                return StudyRef(self.study_uid)
            if self.level is QueryLevel.SERIES:
                return SeriesRef(self.study_uid, self.series_uid)
            return InstanceRef(self.study_uid, self.series_uid, self.instance_uid)
        except InvalidInput:
            raise Malformed("query.response-without-uid", level=str(self.level)) from None

    @property
    def patient_id(self) -> str:
        return self.text("PatientID").strip(" ")

    @property
    def patient_name(self) -> str:
        return self.text("PatientName")

    @property
    def patient_birth_date(self) -> date | None:
        return _parse_date(self.text("PatientBirthDate"))

    @property
    def accession_number(self) -> str:
        return self.text("AccessionNumber").strip(" ")

    @property
    def study_date(self) -> date | None:
        return _parse_date(self.text("StudyDate"))

    @property
    def study_time(self) -> str:
        return self.text("StudyTime")

    @property
    def study_description(self) -> str:
        return self.text("StudyDescription")

    @property
    def series_description(self) -> str:
        return self.text("SeriesDescription")

    @property
    def series_number(self) -> int | None:
        return self.number("SeriesNumber")

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of a study (sorted, since archives differ) or of a series."""
        return tuple(sorted(self.texts("ModalitiesInStudy"))) or self.texts("Modality")

    @property
    def sop_class_uid(self) -> str:
        return self.text("SOPClassUID").strip(" \0")

    @property
    def series_count(self) -> int | None:
        return self.number("NumberOfStudyRelatedSeries")

    @property
    def instance_count(self) -> int | None:
        """Number of instances according to the node: a hint, as archives may be wrong."""
        level = "Study" if self.level is QueryLevel.STUDY else "Series"
        return self.number(f"NumberOf{level}RelatedInstances")

    @property
    def availability(self) -> str:
        """ONLINE, NEARLINE, OFFLINE or UNAVAILABLE (PS3.4 C.4.1.1.3); empty if absent."""
        return self.text("InstanceAvailability")

    def to_json(self) -> dict[str, Any]:
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in self.values.items()}
        return {"level": self.level.value, "values": values}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Record":
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in data["values"].items()}
        return cls(QueryLevel(data["level"]), values)


def _parse_date(text: str) -> date | None:
    """Parse a DICOM date (PS3.5 6.2, VR DA); None if it is absent, partial or invalid."""
    try:
        return datetime.strptime(text.strip().replace(".", ""), "%Y%m%d").date()  # noqa: DTZ007
    except ValueError:
        return None
