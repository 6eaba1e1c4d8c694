"""Catalog: answers queries about objects that lie here, from their headers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adit_engine.values.query import RETURN_KEYS, Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, Ref, SeriesRef

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

INDEXED_KEYWORDS = frozenset(keyword for level in RETURN_KEYS.values() for keyword in level)
"""What a header must be read for; the pixel data never."""

Values = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One object: what its header says, and where it lies."""

    values: Values
    place: str

    @classmethod
    def of(cls, header: "Dataset", place: str) -> "IndexEntry":
        return cls(Record.of(QueryLevel.IMAGE, header).values, place)

    @property
    def ref(self) -> InstanceRef:
        record = Record(QueryLevel.IMAGE, self.values)
        return InstanceRef(record.study_uid, record.series_uid, record.instance_uid)


class HeaderIndex:
    """Entries in the order in which they came. One UID may stand in several places."""

    def __init__(self, entries: Iterable[IndexEntry] = ()) -> None:
        self.entries = list(entries)

    def find(self, query: Query) -> Iterator[Record]:
        """One record for each patient, study, series or instance that matches; lazy."""
        key_of = _LEVEL_KEYS[query.level]
        groups: dict[tuple[str, ...], list[IndexEntry]] = {}
        for entry in self.entries:
            groups.setdefault(key_of(entry), []).append(entry)
        for group in groups.values():
            record = _make_record(query.level, group)
            if query.matches(record):
                yield record

    def find_instances(self, refs: Iterable[Ref]) -> dict[InstanceRef, list[IndexEntry]]:
        """The entries that the references name, by instance, in order."""
        wanted = {_reference_uids(one) for one in refs}
        studies = {whole[0] for whole in wanted}
        found: dict[InstanceRef, list[IndexEntry]] = {}
        for entry in self.entries:
            if Record(QueryLevel.IMAGE, entry.values).study_uid not in studies:
                continue
            ref = entry.ref
            whole = _reference_uids(ref)
            if not wanted.isdisjoint((whole, whole[:2], whole[:1])):
                found.setdefault(ref, []).append(entry)
        return found


def _reference_uids(ref: Ref) -> tuple[str, ...]:
    if isinstance(ref, InstanceRef):
        return ref.study_uid, ref.series_uid, ref.instance_uid
    return (ref.study_uid, ref.series_uid) if isinstance(ref, SeriesRef) else (ref.study_uid,)


def _first_text(entry: IndexEntry, keyword: str) -> str:
    return Record(QueryLevel.IMAGE, entry.values).text(keyword)


def _make_key(*keywords: str) -> Callable[[IndexEntry], tuple[str, ...]]:
    return lambda entry: tuple(_first_text(entry, keyword) for keyword in keywords)


# With those of the levels above: what lies here may repeat a UID where none should.
_LEVEL_KEYS: Mapping[QueryLevel, Callable[[IndexEntry], tuple[str, ...]]] = {
    QueryLevel.PATIENT: _make_key("PatientID"),
    QueryLevel.STUDY: _make_key("StudyInstanceUID"),
    QueryLevel.SERIES: _make_key("StudyInstanceUID", "SeriesInstanceUID"),
    QueryLevel.IMAGE: _make_key("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


def _make_record(level: QueryLevel, group: list[IndexEntry]) -> Record:
    """The first entry speaks for the group; counts and lists come from all of it."""
    first = group[0].values
    values = {keyword: first.get(keyword, "") for keyword in RETURN_KEYS[level]}
    if level is QueryLevel.STUDY:
        values["ModalitiesInStudy"] = _distinct_values(group, "Modality")
        values["SOPClassesInStudy"] = _distinct_values(group, "SOPClassUID")
        values["NumberOfStudyRelatedSeries"] = str(
            len(_distinct_values(group, "SeriesInstanceUID"))
        )
        values["NumberOfStudyRelatedInstances"] = str(
            len(_distinct_values(group, "SOPInstanceUID"))
        )
    if level is QueryLevel.SERIES:
        values["NumberOfSeriesRelatedInstances"] = str(
            len(_distinct_values(group, "SOPInstanceUID"))
        )
    return Record(level, values)


def _distinct_values(group: list[IndexEntry], keyword: str) -> tuple[str, ...]:
    return tuple(sorted({_first_text(entry, keyword) for entry in group} - {""}))
