"""Probe how a node answers searches and in which character set, by a few small searches.

Used by the checks of the DIMSE and DICOMweb nodes.
"""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding, SettingProposal
from adit_engine.nodes.diagnostics.sample_series import (
    ENOUGH_ANSWERS,
    MAX_ANSWERS,
    FindCall,
    ProbeResult,
    SampleSeries,
    find_newest_studies,
    find_sample_series,
    has_uid,
    run_query,
)
from adit_engine.values.query import DateRange, Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, StudyRef

ASSUMED_CHARACTER_SET = "ISO_IR 100"
"""The character set in which undeclared texts have to be read, so that no byte is lost."""

_UTF8 = "ISO_IR 192"
_TEXT_KEYWORDS = ("PatientName", "StudyDescription")


def check_character_set(records: Sequence[Record], fallback: str) -> Iterator[NodeFinding]:
    """Propose a character set. `fallback` is the current setting.

    The findings quote no text of the records.
    """
    named = sorted({term for one in records for term in one.texts("SpecificCharacterSet")})
    if named:
        yield NodeFinding(Grade.GOOD, Message("test.character-set-named", names=tuple(named)))
    silent = [one for one in records if not one.texts("SpecificCharacterSet")]
    telling = [
        raw for one in silent for word in _TEXT_KEYWORDS if (raw := _original_bytes(one.text(word)))
    ]
    if not telling:
        if not named:
            yield NodeFinding(Grade.GOOD, Message("test.character-set-plain"))
        return
    found = _UTF8 if all(_is_utf8(raw) for raw in telling) else ASSUMED_CHARACTER_SET
    if fallback == found:
        yield NodeFinding(Grade.GOOD, Message("test.character-set-known", name=found))
        return
    why = Message("proposal.character-set")
    yield NodeFinding(
        Grade.WARNING,
        Message("test.character-set-unknown", name=found),
        Message("step.character-set", name=found),
        (SettingProposal("character_set_fallback", found, why),),
    )


def _original_bytes(text: str) -> bytes:
    """Return the original bytes of a text; empty where all characters are ASCII."""
    return b"" if text.isascii() else text.encode("latin-1", "ignore")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


_COUNTED = {
    "clause.number-of-images": "NumberOfStudyRelatedInstances",
    "clause.modalities": "ModalitiesInStudy",
    "clause.sop-classes": "SOPClassesInStudy",
}
_UNMATCHABLE_TEXT = "ADIT-NO-SUCH-TEXT"
_PLAIN_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_.")


class QueryProbe:
    """Searches by `ask`, which returns every answer. `result_cap` is the current setting.

    Findings contain no patient, no UID and no description.
    """

    def __init__(self, find: FindCall, result_cap: int | None, *, by_patient: bool = False) -> None:
        self._find = find
        self._result_cap = result_cap
        self._by_patient = by_patient
        self.studies: tuple[Record, ...] = ()
        """The newest studies, once they have been requested."""

    def findings(self) -> Iterator[NodeFinding]:
        """Yield the findings. Lazy; about ten searches.

        Raises NodeError where the node does not answer at all.
        """
        found = find_newest_studies(self._find)
        if found.refusal is not None:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.newest-refused", error=found.refusal),
                Message("step.allow-search-by-date"),
            )
            return
        if not found.records:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.no-studies"),
                Message("step.no-studies"),
            )
            return
        self.studies = found.records
        yield from self._cap_findings(found)
        yield self._return_keys_finding(found.records)
        sample = find_sample_series(self._find, found.records, by_patient=self._by_patient)
        if sample is None:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.no-series"),
                Message("step.allow-series-level"),
            )
            return
        yield from self._image_findings(sample)
        yield from self._description_findings(found.records)
        yield self._relational_finding(sample)

    # Result cap --------------------------------------------------------------------------------

    def _cap_findings(self, found: ProbeResult) -> Iterator[NodeFinding]:
        """Search for two halves: if they hold more than the whole, the whole was truncated."""
        count = len(found.records)
        if not found.is_complete:
            yield NodeFinding(Grade.GOOD, Message("test.many-studies", count=count))
            return
        days = sorted(day for one in found.records if (day := one.study_date) is not None)
        middle = days[len(days) // 2] if days else None
        if count < ENOUGH_ANSWERS or middle is None or middle == days[0]:
            yield NodeFinding(Grade.GOOD, Message("test.few-studies", count=count))
            return
        whole = self._count(days[0], None)
        halves = self._count(days[0], middle - timedelta(1)), self._count(middle, None)
        # Studies that arrive meanwhile make the whole grow too.
        if sum(halves) <= whole or self._count(days[0], None) != whole:
            yield NodeFinding(Grade.GOOD, Message("test.not-truncated", count=count))
            return
        yield self._cap_finding(whole)

    def _count(self, first: date | None, last: date | None) -> int:
        return len(
            run_query(self._find, Query(QueryLevel.STUDY, {}, DateRange(first, last))).records
        )

    def _cap_finding(self, cap: int) -> NodeFinding:
        if self._result_cap == cap:
            return NodeFinding(Grade.GOOD, Message("test.truncated-known", count=cap))
        return NodeFinding(
            Grade.WARNING,
            Message("test.truncated", count=cap),
            Message("step.result-cap", count=cap),
            (SettingProposal("result_cap", cap, Message("proposal.result-cap")),),
        )

    # Returned attributes -----------------------------------------------------------------------

    def _return_keys_finding(self, studies: Sequence[Record]) -> NodeFinding:
        lacks = [one for one, key in _COUNTED.items() if not any(s.text(key) for s in studies)]
        returned = tuple(Message(one) for one in _COUNTED if one not in lacks)
        if not lacks:
            return NodeFinding(Grade.GOOD, Message("test.attributes", attributes=returned))
        if lacks == ["clause.sop-classes"]:
            what = Message("test.attributes-without-classes", attributes=returned)
            return NodeFinding(Grade.GOOD, what)
        missing = tuple(Message(one) for one in lacks)
        return NodeFinding(
            Grade.WARNING,
            Message("test.attributes-missing", attributes=missing),
            Message("step.attributes-missing"),
        )

    def _image_findings(self, sample: SampleSeries) -> Iterator[NodeFinding]:
        if not sample.images:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.no-image-level"),
                Message("step.allow-image-level"),
            )
            return
        count = len(sample.images)
        if sample.reported_count not in (None, count) and count < MAX_ANSWERS:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.image-count-differs", reported=sample.reported_count, listed=count),
                Message("step.image-count-differs"),
            )
        else:
            yield NodeFinding(Grade.GOOD, Message("test.image-level"))
        if count > 1:
            yield self._uid_list_finding(sample)

    def _uid_list_finding(self, sample: SampleSeries) -> NodeFinding:
        uids = sample.images[:2]
        keys = Query.instances_of(sample.ref, sample.patient_id).keys
        answer = run_query(
            self._find, Query(QueryLevel.IMAGE, {**keys, "SOPInstanceUID": uids}), 10
        )
        if {one.instance_uid for one in answer.records} >= set(
            uids
        ) and answer.received_count <= len(uids):
            return NodeFinding(Grade.GOOD, Message("test.uid-lists"))
        return NodeFinding(Grade.GOOD, Message("test.no-uid-lists"))

    def _description_findings(self, studies: Sequence[Record]) -> Iterator[NodeFinding]:
        """Probe with the known description of one study.

        Is matching case-sensitive, and does the node match descriptions at all?
        """
        sample = next(
            (one for one in studies if has_uid(one) and _has_plain_description(one)), None
        )
        if sample is None:
            return
        text = sample.study_description
        if self._matches(sample, _UNMATCHABLE_TEXT):
            code = "test.descriptions-ignored"
        elif not self._matches(sample, text):
            code = "test.descriptions-not-found"
        elif self._matches(sample, text.swapcase()):
            code = "test.descriptions-any-case"
        else:
            code = "test.descriptions-exact-case"
        yield NodeFinding(Grade.GOOD, Message(code))

    def _matches(self, study: Record, description: str) -> bool:
        patient_id = study.patient_id if self._by_patient else ""
        keys = Query.study(StudyRef(study.study_uid), patient_id).keys
        query = Query(QueryLevel.STUDY, {**keys, "StudyDescription": description})
        return run_query(self._find, query, 10).received_count > 0

    def _relational_finding(self, sample: SampleSeries) -> NodeFinding:
        query = Query(QueryLevel.SERIES, {"SeriesInstanceUID": sample.ref.series_uid})
        answer = run_query(self._find, query, 10)
        if any(one.series_uid == sample.ref.series_uid for one in answer.records):
            return NodeFinding(Grade.GOOD, Message("test.series-across-studies"))
        return NodeFinding(Grade.GOOD, Message("test.series-within-study"))


def _has_plain_description(record: Record) -> bool:
    text = record.study_description
    return text != text.swapcase() and set(text) <= _PLAIN_CHARACTERS
