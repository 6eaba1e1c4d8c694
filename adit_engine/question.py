"""Question: what one row of a sheet asks for; which archive question that is, and what answers it."""

import fnmatch
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from adit_engine import spelling
from adit_engine.errors import WrongInput
from adit_engine.query import DateRange, Query
from adit_engine.record import Record
from adit_engine.reference import Level


@dataclass(frozen=True, slots=True)
class Person:
    """Whom an archive is asked for: by number, by name and birth date, or by one examination."""

    patient_id: str = field(default="", repr=False)
    family: str = field(default="", repr=False)
    given: str = field(default="", repr=False)
    birth_date: date | None = field(default=None, repr=False)
    accession_number: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not (self.patient_id or self.accession_number or (self.family and self.birth_date)):
            raise WrongInput(
                "A row needs a patient ID, or a name and a birth date, or an accession number."
            )

    def key(self) -> tuple[str, ...]:
        """The same for all that ask an archive the same."""
        if self.accession_number:
            return ("accession", self.accession_number)
        if self.patient_id:
            return ("id", self.patient_id)
        born = self.birth_date.isoformat() if self.birth_date else ""
        return ("name", spelling.pattern(self.family).lower(), born)


@dataclass(frozen=True, slots=True)
class Question:
    """One row: whom, when and what. `modalities`: any of them. Descriptions may hold * and ?."""

    person: Person
    first: date | None = None
    last: date | None = None
    modalities: tuple[str, ...] = ()
    study_description: str = ""
    series_description: str = ""
    series_number: int | None = None

    @property
    def asks_for_series(self) -> bool:
        return bool(self.series_description) or self.series_number is not None

    @property
    def days(self) -> DateRange | None:
        """Raises WrongInput when it ends before it begins."""
        return DateRange(self.first, self.last) if self.first or self.last else None

    @property
    def key(self) -> tuple[str, ...]:
        """The same for all rows that one answer of an archive serves."""
        return (*self.person.key(), str(self.days or ""))

    def queries(self) -> Iterator[Query]:
        """What to ask, the second only if the first finds nobody of that name.

        Little is asked and the rest sorted by us: archives match descriptions with regard to case,
        ModalitiesInStudy by its whole text, and names by letters that they do not have.
        """
        person = self.person
        if person.accession_number or person.patient_id:
            name = "AccessionNumber" if person.accession_number else "PatientID"
            yield Query(
                Level.STUDY, {name: person.accession_number or person.patient_id}, self.days
            )
            return
        assert person.birth_date is not None, "checked when it was made"
        keys = {"PatientBirthDate": person.birth_date.strftime("%Y%m%d")}
        family = spelling.pattern(person.family)
        if family:
            yield Query(Level.STUDY, {**keys, "PatientName": family}, self.days)
        yield Query(Level.STUDY, keys, self.days)

    def is_of_person(self, study: Record) -> bool:
        """What the archive left empty does not speak against it, but for the name."""
        person = self.person
        return (
            _agrees(person.patient_id, study.patient_id)
            and _agrees(person.accession_number, study.accession_number)
            and (not study.text("PatientBirthDate") or self._is_born(study))
            and (not person.family or spelling.is_same(person.family, person.given, study))
        )

    def fits(self, study: Record) -> bool:
        """Whether a study of the person is asked for; its modalities have to be known."""
        return (
            (self.days is None or study.study_date is None or study.study_date in self.days)
            and _is_like(self.study_description, study.study_description)
            and (not self.modalities or not set(self.modalities).isdisjoint(study.modalities))
        )

    def fits_series(self, series: Record) -> bool:
        number = self.series_number
        return (
            (number is None or series.series_number == number)
            and _is_like(self.series_description, series.series_description)
            and (not self.modalities or series.text("Modality") in self.modalities)
        )

    def _is_born(self, study: Record) -> bool:
        asked = self.person.birth_date
        return asked is None or study.patient_birth_date == asked

    def to_json(self) -> dict[str, Any]:
        person = self.person
        return {
            "person": {
                "patient_id": person.patient_id,
                "family": person.family,
                "given": person.given,
                "birth_date": _text(person.birth_date),
                "accession_number": person.accession_number,
            },
            "first": _text(self.first),
            "last": _text(self.last),
            "modalities": list(self.modalities),
            "study_description": self.study_description,
            "series_description": self.series_description,
            "series_number": self.series_number,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Question":
        person = {**data["person"], "birth_date": _day(data["person"]["birth_date"])}
        days = {name: _day(data[name]) for name in ("first", "last")}
        return cls(
            **{
                **data,
                **days,
                "person": Person(**person),
                "modalities": tuple(data["modalities"]),
            }
        )


def _text(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _agrees(asked: str, held: str) -> bool:
    return not asked or not held or asked.strip() == held


def _is_like(asked: str, held: str) -> bool:
    """Wildcards * and ?, without regard to case; a text that is not there is like * alone."""
    if not asked.strip("*"):
        return True
    pattern = _folded(asked).replace("[", "[[]")
    return fnmatch.fnmatchcase(_folded(held), pattern)


def _folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
