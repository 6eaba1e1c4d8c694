"""Choose one series of a node and its images for tests. Used by the probes and the node tests.

It belongs to a given study, or else to one of the newest.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any

from adit_engine.errors import InvalidInput, NodeBusy, NodeRefused, NotFound, NotSupported
from adit_engine.messages import Message
from adit_engine.nodes.base import FindResults
from adit_engine.values.query import DateRange, Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, SeriesRef, StudyRef, validate_uid

FindCall = Callable[[Query], FindResults]

MAX_ANSWERS = 1000
"""A search ends after this many answers."""
NEWEST_DAYS = 7
ENOUGH_ANSWERS = 50
"""Fewer answers show no limit: no node truncates lists to so few."""

_REFUSAL_ERRORS = (NotSupported, NodeBusy, NodeRefused)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The matching answers to one search. `raw` is how many came, matching or not."""

    records: tuple[Record, ...] = ()
    received_count: int = 0
    is_complete: bool = True
    refusal: Message | None = None


def run_query(find: FindCall, query: Query, limit: int = MAX_ANSWERS) -> ProbeResult:
    """Return at most `most` answers; a refusal is a result too.

    Raises TimedOut, ConnectionLost, …
    """
    try:
        with closing(find(query)) as answers:
            came = list(islice(answers, limit))
    except _REFUSAL_ERRORS as error:
        return ProbeResult(refusal=error.message)
    # Some archives answer once per image.
    once = {frozenset(one.values.items()): one for one in came if query.matches(one)}
    return ProbeResult(tuple(once.values()), len(came), len(came) < limit)


def find_newest_studies(find: FindCall) -> ProbeResult:
    """Return the studies of the last days, or else whatever the node returns."""
    week = run_query(find, Query(QueryLevel.STUDY, {}, DateRange(_days_ago(NEWEST_DAYS), None)))
    if len(week.records) >= ENOUGH_ANSWERS or week.refusal:
        return week
    everything = run_query(find, Query(QueryLevel.STUDY, {}))
    return week if everything.refusal and week.records else everything


def find_sample_series(
    find: FindCall, studies: Sequence[Record], *, by_patient: bool
) -> "SampleSeries | None":
    """Return one study, series and its images for tests; a small one if possible.

    `by_patient`: the node requires the Patient ID with each UID (patient root).
    """
    for study in sorted(filter(has_uid, studies), key=_size_key)[:3]:
        found = SampleSeries.from_study(find, study, by_patient=by_patient)
        if found is not None:
            return found
    return None


@dataclass(frozen=True, slots=True)
class SampleSeries:
    """One series of a study that the node listed, and its images as the node lists them."""

    ref: SeriesRef
    patient_id: str = field(repr=False)
    """That of the study where the node requires it with each UID; else empty."""
    reported_count: int | None
    """Number of images in the series, by the count of the node."""
    images: tuple[str, ...]
    """Their instance UIDs, at most MAX_ANSWERS."""

    @classmethod
    def from_study(
        cls, find: FindCall, study: Record, *, by_patient: bool
    ) -> "SampleSeries | None":
        """Return a series; None for a study whose series are not listed."""
        ref, patient_id = StudyRef(study.study_uid), study.patient_id if by_patient else ""
        found = run_query(find, Query.series_of(ref, patient_id)).records
        series = sorted((one for one in found if one.series_uid), key=_size_key)
        if not series:
            return None
        first = next((one for one in series if (one.instance_count or 0) > 1), series[0])
        place = SeriesRef(ref.study_uid, first.series_uid)
        images = run_query(find, Query.instances_of(place, patient_id)).records
        uids = tuple(one.instance_uid for one in images if one.instance_uid)
        return cls(place, patient_id, first.instance_count, uids)

    @property
    def image(self) -> InstanceRef | None:
        """The first of its images."""
        if not self.images:
            return None
        return InstanceRef(self.ref.study_uid, self.ref.series_uid, self.images[0])


def choose_image(node: Any, study: StudyRef | None) -> "tuple[InstanceRef, str]":
    """Return an image of this study, or of a small one among the newest.

    Also returns the Patient ID where the node requires it, else "". `node` is Searchable. Raises
    NotFound, NodeError.
    """
    by_patient = getattr(node.settings, "query_root", "") == "patient"
    found = (
        find_newest_studies(node.find)
        if study is None
        else run_query(node.find, Query.study(study))
    )
    one = find_sample_series(node.find, found.records, by_patient=by_patient)
    if one is None or one.image is None:
        raise NotFound(
            "retrieval.no-test-image" if study is None else "retrieval.no-test-image-in-study",
            node=node.name,
        )
    return one.image, one.patient_id


def _days_ago(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days)


def has_uid(record: Record) -> bool:
    try:
        return bool(validate_uid(record.study_uid))
    except InvalidInput:
        return False


def _size_key(record: Record) -> tuple[bool, int]:
    """Sort key: records of unknown size come last."""
    count = record.instance_count
    return count is None or count < 1, count or 0
