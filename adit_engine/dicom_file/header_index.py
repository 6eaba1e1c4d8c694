"""Answer queries about local objects from their headers. Used by folder and memory nodes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adit_engine.values.query import RETURN_KEYS, Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, Ref, SeriesRef

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

INDEXED_KEYWORDS = frozenset(keyword for level in RETURN_KEYS.values() for keyword in level)
"""The attributes to read from each header; pixel data are never read."""

Values = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One object: its header values and its location."""

    values: Values
    path: str

    @classmethod
    def from_header(cls, header: "Dataset", path: str) -> "IndexEntry":
        return cls(Record.from_dataset(QueryLevel.IMAGE, header).values, path)

    @property
    def ref(self) -> InstanceRef:
        record = Record(QueryLevel.IMAGE, self.values)
        return InstanceRef(record.study_uid, record.series_uid, record.instance_uid)


class HeaderIndex:
    """Entries in the order of insertion. One UID may occur in several places."""

    def __init__(self, entries: Iterable[IndexEntry] = ()) -> None:
        self.entries = list(entries)

    def find(self, query: Query) -> Iterator[Record]:
        """Yield one record for each matching patient, study, series or instance; lazy."""
        key_of = _LEVEL_KEYS[query.level]
        groups: dict[tuple[str, ...], list[IndexEntry]] = {}
        for entry in self.entries:
            groups.setdefault(key_of(entry), []).append(entry)
        for group in groups.values():
            record = _make_record(query.level, group)
            if query.matches(record):
                yield record

    def find_instances(self, refs: Iterable[Ref]) -> dict[InstanceRef, list[IndexEntry]]:
        """Return the entries that match the references, by instance, in order."""
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


# Keys include the UIDs of the levels above, since local files may repeat a UID.
_LEVEL_KEYS: Mapping[QueryLevel, Callable[[IndexEntry], tuple[str, ...]]] = {
    QueryLevel.PATIENT: _make_key("PatientID"),
    QueryLevel.STUDY: _make_key("StudyInstanceUID"),
    QueryLevel.SERIES: _make_key("StudyInstanceUID", "SeriesInstanceUID"),
    QueryLevel.IMAGE: _make_key("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


def _make_record(level: QueryLevel, group: list[IndexEntry]) -> Record:
    """Take values from the first entry, counts and lists from all entries of the group."""
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
