"""Catalog: answers queries about objects that lie here, from their headers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adit_engine.values.query import RETURNED, Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, Level, Ref, SeriesRef

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

KEYWORDS = frozenset(keyword for level in RETURNED.values() for keyword in level)
"""What a header must be read for; the pixel data never."""

Values = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One object: what its header says, and where it lies."""

    values: Values
    place: str

    @classmethod
    def of(cls, header: "Dataset", place: str) -> "Entry":
        return cls(Record.of(Level.IMAGE, header).values, place)

    @property
    def ref(self) -> InstanceRef:
        record = Record(Level.IMAGE, self.values)
        return InstanceRef(record.study_uid, record.series_uid, record.instance_uid)


class Catalog:
    """Entries in the order in which they came. One UID may stand in several places."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries = list(entries)

    def find(self, query: Query) -> Iterator[Record]:
        """One record for each patient, study, series or instance that matches; lazy."""
        key_of = _KEYS[query.level]
        groups: dict[tuple[str, ...], list[Entry]] = {}
        for entry in self.entries:
            groups.setdefault(key_of(entry), []).append(entry)
        for group in groups.values():
            record = _record(query.level, group)
            if query.matches(record):
                yield record

    def below(self, refs: Iterable[Ref]) -> dict[InstanceRef, list[Entry]]:
        """The entries that the references name, by instance, in order."""
        wanted = {_uids(one) for one in refs}
        studies = {whole[0] for whole in wanted}
        found: dict[InstanceRef, list[Entry]] = {}
        for entry in self.entries:
            if Record(Level.IMAGE, entry.values).study_uid not in studies:
                continue
            ref = entry.ref
            whole = _uids(ref)
            if not wanted.isdisjoint((whole, whole[:2], whole[:1])):
                found.setdefault(ref, []).append(entry)
        return found


def _uids(ref: Ref) -> tuple[str, ...]:
    if isinstance(ref, InstanceRef):
        return ref.study_uid, ref.series_uid, ref.instance_uid
    return (ref.study_uid, ref.series_uid) if isinstance(ref, SeriesRef) else (ref.study_uid,)


def _text(entry: Entry, keyword: str) -> str:
    return Record(Level.IMAGE, entry.values).text(keyword)


def _texts(*keywords: str) -> Callable[[Entry], tuple[str, ...]]:
    return lambda entry: tuple(_text(entry, keyword) for keyword in keywords)


# With those of the levels above: what lies here may repeat a UID where none should.
_KEYS: Mapping[Level, Callable[[Entry], tuple[str, ...]]] = {
    Level.PATIENT: _texts("PatientID"),
    Level.STUDY: _texts("StudyInstanceUID"),
    Level.SERIES: _texts("StudyInstanceUID", "SeriesInstanceUID"),
    Level.IMAGE: _texts("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
}


def _record(level: Level, group: list[Entry]) -> Record:
    """The first entry speaks for the group; counts and lists come from all of it."""
    first = group[0].values
    values = {keyword: first.get(keyword, "") for keyword in RETURNED[level]}
    if level is Level.STUDY:
        values["ModalitiesInStudy"] = _distinct(group, "Modality")
        values["SOPClassesInStudy"] = _distinct(group, "SOPClassUID")
        values["NumberOfStudyRelatedSeries"] = str(len(_distinct(group, "SeriesInstanceUID")))
        values["NumberOfStudyRelatedInstances"] = str(len(_distinct(group, "SOPInstanceUID")))
    if level is Level.SERIES:
        values["NumberOfSeriesRelatedInstances"] = str(len(_distinct(group, "SOPInstanceUID")))
    return Record(level, values)


def _distinct(group: list[Entry], keyword: str) -> tuple[str, ...]:
    return tuple(sorted({_text(entry, keyword) for entry in group} - {""}))
