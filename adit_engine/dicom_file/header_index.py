"""Answer queries about local objects from their headers. Used by folder and memory nodes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class _Group:
    """The entries of one record: the values of the first, and what is counted or listed."""

    first: Values
    series: set[str] = field(default_factory=set)
    instances: set[str] = field(default_factory=set)
    modalities: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)

    def add(self, values: Values) -> None:
        self.series.add(_text(values, "SeriesInstanceUID"))
        self.instances.add(_text(values, "SOPInstanceUID"))
        self.modalities.add(_text(values, "Modality"))
        self.classes.add(_text(values, "SOPClassUID"))

    def make_record(self, level: QueryLevel) -> Record:
        values = {keyword: self.first.get(keyword, "") for keyword in RETURN_KEYS[level]}
        if level is QueryLevel.STUDY:
            values["ModalitiesInStudy"] = tuple(sorted(self.modalities - {""}))
            values["SOPClassesInStudy"] = tuple(sorted(self.classes - {""}))
            values["NumberOfStudyRelatedSeries"] = str(len(self.series - {""}))
            values["NumberOfStudyRelatedInstances"] = str(len(self.instances - {""}))
        if level is QueryLevel.SERIES:
            values["NumberOfSeriesRelatedInstances"] = str(len(self.instances - {""}))
        return Record(level, values)


def find_records(entries: Iterable[IndexEntry], query: Query) -> Iterator[Record]:
    """Yield one record for each matching patient, study, series or instance.

    All entries are read before the first record. Memory grows with the number of groups and UIDs,
    not with the headers. One UID may occur in several places.
    """
    keywords = _LEVEL_KEYS[query.level]
    is_counted = query.level in (QueryLevel.STUDY, QueryLevel.SERIES)
    groups: dict[tuple[str, ...], _Group] = {}
    for entry in entries:
        key = tuple([_text(entry.values, keyword) for keyword in keywords])
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(entry.values)
        if is_counted:
            group.add(entry.values)
    for group in groups.values():
        record = group.make_record(query.level)
        if query.matches(record):
            yield record


def find_instances(
    entries: Iterable[IndexEntry], refs: Iterable[Ref]
) -> dict[InstanceRef, list[IndexEntry]]:
    """Return the entries that match the references, by instance, in order."""
    wanted = {_reference_uids(one) for one in refs}
    studies = {whole[0] for whole in wanted}
    found: dict[InstanceRef, list[IndexEntry]] = {}
    for entry in entries:
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


def _text(values: Values, keyword: str) -> str:
    value = values.get(keyword, "")
    return value if isinstance(value, str) else "\\".join(value)


# Keys include the UIDs of the levels above, since local files may repeat a UID.
_LEVEL_KEYS: Mapping[QueryLevel, tuple[str, ...]] = {
    QueryLevel.PATIENT: ("PatientID",),
    QueryLevel.STUDY: ("StudyInstanceUID",),
    QueryLevel.SERIES: ("StudyInstanceUID", "SeriesInstanceUID"),
    QueryLevel.IMAGE: ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}
