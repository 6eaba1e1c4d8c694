"""Find out whether a node holds a study, and how much of it, without fetching anything.

Used to check the rows of batch transfers.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from adit_engine.bounded_stream import Stop
from adit_engine.errors import NodeRefused
from adit_engine.nodes.base import Searchable
from adit_engine.values.query import DateRange, Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, SeriesRef, StudyRef


@dataclass(frozen=True, slots=True)
class StudyCriteria:
    """Criteria for a study: UID, accession number, or patient, days and modalities."""

    patient_id: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    study_date: date | None = field(default=None, repr=False)
    days: int = 0
    modalities: tuple[str, ...] = ()

    @property
    def date_range(self) -> DateRange | None:
        if self.study_date is None:
            return None
        around = timedelta(days=self.days)
        return DateRange(self.study_date - around, self.study_date + around)

    def queries(self) -> Iterator[Query]:
        """Yield the queries; the second is needed only if the first finds nothing.

        Some archives require the patient ID too. Modalities are filtered here: archives match
        ModalitiesInStudy by its whole text.
        """
        if self.study_uid:
            study = StudyRef(self.study_uid)
            yield Query.study(study)
            if self.patient_id:
                yield Query.study(study, self.patient_id)
        elif self.accession_number:
            yield Query(QueryLevel.STUDY, {"AccessionNumber": self.accession_number})
        else:
            yield Query(QueryLevel.STUDY, {"PatientID": self.patient_id}, self.date_range)

    def is_of_patient(self, study: Record) -> bool:
        return not self.patient_id or self.patient_id.strip() == study.patient_id

    def matches(self, study: Record) -> bool:
        """Return whether a study matches the criteria beside its key.

        Attributes that the node left empty match. A study UID needs nothing beside it.
        """
        if self.study_uid:
            return True
        day = not (self.date_range and study.study_date) or study.study_date in self.date_range
        word = not (self.modalities and study.modalities)
        return day and (word or not set(self.modalities).isdisjoint(study.modalities))


@dataclass(frozen=True, slots=True)
class FoundStudies:
    """The studies found, oldest first; each once per patient ID it is listed under."""

    studies: tuple[Record, ...] = field(repr=False)
    is_capped: bool = False


@dataclass
class StudyLookup:
    """Looks up studies at one node; repeats no query."""

    node: Searchable
    stop: Stop
    _studies: dict[str, tuple[list[Record], bool]] = field(default_factory=dict)
    _series: dict[tuple[str, str], list[Record]] = field(default_factory=dict)
    _classes: dict[SeriesRef, Counter[str]] = field(default_factory=dict)

    def studies(self, criteria: StudyCriteria) -> FoundStudies:
        """Return all studies that the key finds, of any patient. Raise NodeError, Stopped."""
        found: dict[tuple[str, str], Record] = {}
        is_capped = False
        for query in criteria.queries():
            try:
                records, is_capped = self._find_once(query)
            except NodeRefused:
                if not criteria.study_uid or not criteria.patient_id or "PatientID" in query.keys:
                    raise
                continue
            for record in records:
                if record.study_uid and criteria.matches(record):
                    found.setdefault((record.study_uid, record.patient_id), record)
            if found:
                break
        in_order = sorted(found.values(), key=lambda r: (r.text("StudyDate"), r.study_uid))
        return FoundStudies(tuple(in_order), is_capped)

    def series(self, study: Record) -> list[Record]:
        """Return the series of a study, sorted by number and UID.

        Raises NodeError, Stopped.
        """
        key = (study.study_uid, study.patient_id)
        if key not in self._series:
            records, _capped = self._find(Query.series_of(StudyRef(key[0]), key[1]))
            self._series[key] = sorted(
                (record for record in records if record.series_uid),
                key=lambda r: (r.series_number is None, r.series_number or 0, r.series_uid),
            )
        return self._series[key]

    def classes(self, study: Record, series: Record) -> Counter[str]:
        """Count the images of a series by SOP class; empty if the node does not say."""
        ref = SeriesRef(study.study_uid, series.series_uid)
        if ref not in self._classes:
            self._classes[ref] = self._count_classes(study, series, ref)
        return self._classes[ref]

    def _count_classes(self, study: Record, series: Record, ref: SeriesRef) -> Counter[str]:
        listed = {uid.strip(" \0") for uid in study.texts("SOPClassesInStudy")} - {""}
        if len(listed) == 1 and series.instance_count:
            return Counter({listed.pop(): series.instance_count})
        records, _capped = self._find(Query.instances_of(ref, study.patient_id))
        classes = Counter(record.sop_class_uid for record in records)
        return Counter() if "" in classes else classes

    def _find_once(self, query: Query) -> tuple[list[Record], bool]:
        key = f"{sorted(query.keys.items())} {query.study_date}"
        if key not in self._studies:
            self._studies[key] = self._find(query)
        return self._studies[key]

    def _find(self, query: Query) -> tuple[list[Record], bool]:
        self.stop.check()
        answers = self.node.find(query)
        records: list[Record] = []
        try:
            for record in answers:
                self.stop.check()
                if query.matches(record):
                    records.append(record)
        finally:
            answers.close()
        return records, answers.is_capped
