"""Queries for the rows of a sheet, and the search that answers them completely.

Splits queries that an archive caps, relaxes those it refuses, and filters the answers by row. Used
by batch queries.
"""

import fnmatch
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from adit_engine.bounded_stream import Stop
from adit_engine.errors import InvalidInput, NodeRefused
from adit_engine.nodes.base import Searchable
from adit_engine.patient_search import name_matching
from adit_engine.values.query import DateRange, Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, StudyRef


@dataclass(frozen=True, slots=True)
class PersonCriteria:
    """The patient to search for: by ID, by name and birth date, or by study."""

    patient_id: str = field(default="", repr=False)
    family: str = field(default="", repr=False)
    given: str = field(default="", repr=False)
    birth_date: date | None = field(default=None, repr=False)
    accession_number: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not (self.patient_id or self.accession_number or (self.family and self.birth_date)):
            raise InvalidInput("patient-search.no-criteria")

    def key(self) -> tuple[str, ...]:
        """Return a key that is equal for all criteria that lead to the same query."""
        if self.accession_number:
            return ("accession", self.accession_number)
        if self.patient_id:
            return ("id", self.patient_id)
        born = self.birth_date.isoformat() if self.birth_date else ""
        return ("name", name_matching.make_wildcard(self.family).lower(), born)


@dataclass(frozen=True, slots=True)
class PatientQuery:
    """One row: patient, dates and criteria.

    `modalities` match if any of them matches. Descriptions may contain * and ?.
    """

    person: PersonCriteria
    first_day: date | None = None
    last_day: date | None = None
    modalities: tuple[str, ...] = ()
    study_description: str = ""
    series_description: str = ""
    series_number: int | None = None

    @property
    def asks_for_series(self) -> bool:
        return bool(self.series_description) or self.series_number is not None

    @property
    def days(self) -> DateRange | None:
        """The range of study dates. Raises InvalidInput if it ends before it begins."""
        return DateRange(self.first_day, self.last_day) if self.first_day or self.last_day else None

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for all rows that one answer of an archive serves."""
        return (*self.person.key(), str(self.days or ""))

    def queries(self) -> Iterator[Query]:
        """Yield the queries; the second is needed only if the first finds no such name.

        The queries contain few keys and the answers are filtered here: archives match descriptions
        case-sensitively, ModalitiesInStudy by its whole text, and names by letters that they do not
        have.
        """
        person = self.person
        if person.accession_number or person.patient_id:
            name = "AccessionNumber" if person.accession_number else "PatientID"
            yield Query(
                QueryLevel.STUDY, {name: person.accession_number or person.patient_id}, self.days
            )
            return
        assert person.birth_date is not None, "checked when it was made"
        keys = {"PatientBirthDate": person.birth_date.strftime("%Y%m%d")}
        family = name_matching.make_wildcard(person.family)
        if family:
            yield Query(QueryLevel.STUDY, {**keys, "PatientName": family}, self.days)
        yield Query(QueryLevel.STUDY, keys, self.days)

    def is_of_person(self, study: Record) -> bool:
        """Return whether a study is of this patient.

        Attributes that the archive left empty match, except the name.
        """
        person = self.person
        return (
            _does_not_contradict(person.patient_id, study.patient_id)
            and _does_not_contradict(person.accession_number, study.accession_number)
            and (not study.text("PatientBirthDate") or self._is_born(study))
            and (
                not person.family or name_matching.is_same_name(person.family, person.given, study)
            )
        )

    def matches_study(self, study: Record) -> bool:
        """Return whether a study of the patient matches; its modalities must be known."""
        return (
            (self.days is None or study.study_date is None or study.study_date in self.days)
            and _matches_wildcard(self.study_description, study.study_description)
            and (not self.modalities or not set(self.modalities).isdisjoint(study.modalities))
        )

    def matches_series(self, series: Record) -> bool:
        number = self.series_number
        return (
            (number is None or series.series_number == number)
            and _matches_wildcard(self.series_description, series.series_description)
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
                "birth_date": _format_date(person.birth_date),
                "accession_number": person.accession_number,
            },
            "first_day": _format_date(self.first_day),
            "last_day": _format_date(self.last_day),
            "modalities": list(self.modalities),
            "study_description": self.study_description,
            "series_description": self.series_description,
            "series_number": self.series_number,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PatientQuery":
        person = {**data["person"], "birth_date": _parse_date(data["person"]["birth_date"])}
        days = {name: _parse_date(data[name]) for name in ("first_day", "last_day")}
        return cls(
            **{
                **data,
                **days,
                "person": PersonCriteria(**person),
                "modalities": tuple(data["modalities"]),
            }
        )


def _format_date(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _parse_date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _does_not_contradict(queried: str, stored: str) -> bool:
    return not queried or not stored or queried.strip() == stored


def _matches_wildcard(queried: str, stored: str) -> bool:
    """Match with * and ?, ignoring case; an empty text matches only patterns of *."""
    if not queried.strip("*"):
        return True
    pattern = _fold(queried).replace("[", "[[]")
    return fnmatch.fnmatchcase(_fold(stored), pattern)


def _fold(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


MAX_QUERIES = 64
"""Maximum number of queries for the parts of a date range; after that the answer is capped."""
OUT_OF_RESOURCES = 0xA700
"""PS3.4 C.4.1.1.4: some archives end with this status instead of giving more answers."""
_EARLIEST_DATE = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class PatientQueryResult:
    """The answer to one PatientQuery, newest studies first.

    `other_person`: the ID exists, but belongs to another person. `is_loose`: the node refused a
    key, so the answers were filtered here instead.
    """

    records: tuple[Record, ...] = field(repr=False)
    is_capped: bool = False
    is_relaxed: bool = False
    other_person: bool = False

    @property
    def patients(self) -> int:
        """Number of different patient IDs in the answer."""
        return len({record.patient_id for record in self.records})


@dataclass(frozen=True, slots=True)
class _PartialResult:
    """The answer of a node to one query, or to the parts of one query."""

    records: tuple[Record, ...] = field(default=(), repr=False)
    is_capped: bool = False
    is_relaxed: bool = False
    refusal: NodeRefused | None = None
    """Set if the node gave nothing because there was too much to give."""

    def __add__(self, other: "_PartialResult") -> "_PartialResult":
        return _PartialResult(
            self.records + other.records,
            self.is_capped or other.is_capped,
            self.is_relaxed or other.is_relaxed,
        )


@dataclass
class PatientSearch:
    """Searches one node. Rows with the same key share one answer."""

    node: Searchable
    stop: Stop
    _series: dict[str, _PartialResult] = field(default_factory=dict)

    def search(self, queries: Sequence[PatientQuery]) -> Iterator[PatientQueryResult]:
        """Yield one result per query, in order; all must have the same key.

        Raises NodeError, Stopped.
        """
        result = self._studies(queries)
        for question in queries:
            yield self._make_result(question, result)

    def _studies(self, queries: Sequence[PatientQuery]) -> _PartialResult:
        """Return each study once, newest first."""
        result = _PartialResult()
        for query in queries[0].queries():
            result += self._find_all(query)
            if any(q.is_of_person(study) for study in result.records for q in queries):
                break
        return replace(result, records=_newest_first(result.records))

    def _make_result(self, query: PatientQuery, answer: _PartialResult) -> PatientQueryResult:
        own_studies = [study for study in answer.records if query.is_of_person(study)]
        person = query.person
        is_numbered = bool(person.patient_id or person.accession_number)
        if query.modalities:
            own_studies = [self._with_modalities(study) for study in own_studies]
        found = [study for study in own_studies if query.matches_study(study)]
        if not query.asks_for_series:
            other = is_numbered and not own_studies and bool(answer.records)
            return PatientQueryResult(tuple(found), answer.is_capped, answer.is_relaxed, other)
        for study in found:
            answer += replace(self._series_of(study), records=())
        series = (one for study in found for one in self._series_of(study).records)
        fitting = tuple(one for one in series if query.matches_series(one))
        other = is_numbered and not own_studies and bool(answer.records)
        return PatientQueryResult(fitting, answer.is_capped, answer.is_relaxed, other)

    def _find_all(self, query: Query) -> _PartialResult:
        """Return all matches; if the node caps its answers, query halves of the date range.

        If the node gives nothing because the query asks for too much, that is an error only if
        smaller queries do not help.
        """
        result = self._find(query)
        waiting = [(query, result)] if result.is_capped else []
        result = replace(result, is_capped=False)
        query_count = 1
        while waiting:
            part, part_result = waiting.pop()
            halves = () if part_result.is_relaxed else _split_date_range(part)
            if not halves or query_count >= MAX_QUERIES:
                if part_result.refusal is not None:
                    raise part_result.refusal
                result = replace(result, is_capped=True)
                continue
            for half in halves:
                more = self._find(half)
                query_count += 1
                result += replace(more, is_capped=False)
                waiting += [(half, more)] if more.is_capped else []
        return result

    def _find(self, query: Query) -> _PartialResult:
        """Return the records that also match the query by our own comparison."""
        self.stop.check()
        records: list[Record] = []
        answers = self.node.find(query)
        try:
            for record in answers:
                self.stop.check()
                if query.matches(record):
                    records.append(record)
        except NodeRefused as error:
            if error.status == OUT_OF_RESOURCES:
                return _PartialResult(tuple(records), True, refusal=None if records else error)
            looser = _relax_query(query)
            if looser is None:
                raise
            return replace(self._find(looser), is_relaxed=True)
        finally:
            answers.close()
        return _PartialResult(tuple(records), answers.is_capped)

    def _with_modalities(self, study: Record) -> Record:
        """Query the series if the node does not give the modalities of a study."""
        if study.modalities:
            return study
        modalities = {one.text("Modality") for one in self._series_of(study).records} - {""}
        return Record(study.level, {**study.values, "ModalitiesInStudy": tuple(sorted(modalities))})

    def _series_of(self, study: Record) -> _PartialResult:
        """Return the series of a study with the study's values; queried once."""
        if study.study_uid not in self._series:
            query = Query.series_of(StudyRef(study.study_uid), study.patient_id)
            result = self._find(query)
            by_number = sorted(result.records, key=lambda r: (r.series_number or 0, r.series_uid))
            merged = tuple(
                replace(one, values={**study.values, **_known_values(one)})
                for one in by_number
                if one.series_uid
            )
            self._series[study.study_uid] = replace(result, records=merged)
        return self._series[study.study_uid]


def _newest_first(studies: Iterable[Record]) -> tuple[Record, ...]:
    once = {study.study_uid: study for study in studies if study.study_uid}
    by_uid = sorted(once.values(), key=lambda study: study.study_uid)
    return tuple(sorted(by_uid, key=lambda s: s.text("StudyDate") + s.study_time, reverse=True))


def _known_values(record: Record) -> dict[str, str | tuple[str, ...]]:
    return {keyword: value for keyword, value in record.values.items() if value}


def _split_date_range(query: Query) -> tuple[Query, ...]:
    """Split a query into two date ranges; empty if only one day is left.

    The first half keeps an open start and the second an open end, so that dates outside of the
    reasonable range are included. A study without a date is found by neither.
    """
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    days = query.study_date
    first = days.first if days and days.first else _EARLIEST_DATE
    last = days.last if days and days.last else max(tomorrow, first)
    if first >= last:
        return ()
    middle = first + (last - first) // 2
    earlier = DateRange(days.first if days else None, middle)
    later = DateRange(middle + timedelta(days=1), days.last if days else None)
    return replace(query, study_date=earlier), replace(query, study_date=later)


def _relax_query(query: Query) -> Query | None:
    """Drop a key that an archive may refuse: first the name, then the dates.

    Returns None if all remaining keys are needed.
    """
    if "PatientName" in query.keys and len(query.keys) > 1:
        keys = {name: value for name, value in query.keys.items() if name != "PatientName"}
        return replace(query, keys=keys)
    return replace(query, study_date=None) if query.study_date is not None else None
