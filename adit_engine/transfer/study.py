"""Transfer one study: find, select, list, fetch, change, verify, store and confirm.

The job kinds and the command line call `transfer`; there is no other path for images.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_ul.statuses import is_retrieve_failure
from adit_engine.errors import Malformed, NodeBusy, NodeRefused, NotFound, PatientChanged
from adit_engine.messages import Message
from adit_engine.nodes.base import SourceNode, Storable, SupportsSharedAssociation
from adit_engine.pseudonymize.parameters import Change
from adit_engine.transfer.iocm import Rejections
from adit_engine.transfer.policy import PREFETCH_BYTES, TransferPolicy
from adit_engine.transfer.retry import RetryPolicy
from adit_engine.transfer.series import SeriesTransfer
from adit_engine.values.outcome import InstanceEvent, SeriesLedger, SeriesOutcome, SourceListing
from adit_engine.values.query import Query, is_searchable
from adit_engine.values.record import Record
from adit_engine.values.references import SeriesRef, StudyRef
from adit_engine.values.selection import Selection

MAX_ROUNDS = 3
"""How often new series are looked for when a study grows while it is transferred."""

MAX_REFUSED = 3
"""The source is not asked for more series after it failed to send so many in a row."""


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """One study to transfer. `patient_id` is the source's, at the time of the order.

    `renamed` is a newer patient ID that a person has confirmed to be the same patient's.
    """

    study: StudyRef
    patient_id: str = field(repr=False)
    selection: Selection = Selection()
    confirmed_patient_id: str = field(default="", repr=False)

    @property
    def patient_ids(self) -> tuple[str, ...]:
        """The accepted patient IDs; empty: any patient, but only one per study."""
        return tuple(
            one for one in (self.patient_id, self.confirmed_patient_id) if self.patient_id and one
        )


def transfer(
    order: StudyRequest,
    source: SourceNode,
    destination: Storable,
    change: Change,
    earlier_ledgers: Mapping[str, SeriesLedger],
    stop: Stop,
    prefetch_bytes: int = PREFETCH_BYTES,
) -> Iterator[SourceListing | InstanceEvent | SeriesOutcome]:
    """Find, select, list, fetch, check, change, verify, store and confirm one study.

    Lazy and streaming. Yields for each series one SourceListing, the InstanceEvents of its
    instances (STORED is followed by DELIVERED once the destination has proven that it keeps the
    instance) and one SeriesOutcome. `held` maps series UIDs to the ledgers of earlier attempts:
    what they delivered is not fetched again.

    Raises NotFound when the study is gone, RuleViolation when an image of another patient came
    (after the SeriesOutcome of that series), PatientChanged when the whole study now belongs to
    another patient ID (before anything is sent), Stopped between instances, NodeError.
    """
    # By getattr, since some destinations wrap another node.
    set_stop = getattr(destination, "set_stop", None)
    if set_stop is not None:
        set_stop(stop)
    with ExitStack() as stack:
        for node in (source, destination):
            if isinstance(node, SupportsSharedAssociation):
                stack.enter_context(node.share_association())
        yield from _deliver(
            order, source, destination, change, earlier_ledgers, stop, prefetch_bytes
        )


def _deliver(
    order: StudyRequest,
    source: SourceNode,
    destination: Storable,
    change: Change,
    earlier_ledgers: Mapping[str, SeriesLedger],
    stop: Stop,
    prefetch_bytes: int,
) -> Iterator[SourceListing | InstanceEvent | SeriesOutcome]:
    refusals: list[NodeBusy | NodeRefused] = []
    in_a_row = 0
    for item in _series_transfers(order, source, change, earlier_ledgers, stop, prefetch_bytes):
        if isinstance(item, SeriesOutcome):
            yield item
            continue
        try:
            yield from item.deliver(destination)
            in_a_row = 0
        except (NodeBusy, NodeRefused) as error:
            # If the source cannot send one series, the others are transferred all the same.
            refusals.append(error)
            in_a_row += 1
            is_other = error.node != source.name or not is_retrieve_failure(error.status)
            if is_other or in_a_row >= MAX_REFUSED:
                raise
    if refusals:
        raise refusals[0]


def _series_transfers(
    order: StudyRequest,
    source: SourceNode,
    change: Change,
    earlier_ledgers: Mapping[str, SeriesLedger],
    stop: Stop,
    prefetch_bytes: int,
) -> Iterator[SeriesTransfer | SeriesOutcome]:
    """Yield a SeriesTransfer for each selected series, a SeriesOutcome for each other; lazy.

    The source is asked again after the last one, since the study may still be growing.
    """
    patient_id, records = _list_study(order, source, stop)
    rejections = Rejections(source, stop, patient_id)
    policy = TransferPolicy(patient_id, change, stop, rejections, order.patient_ids, prefetch_bytes)
    seen: set[str] = set()
    for round_ in range(MAX_ROUNDS):
        if round_:
            records = _list_series(order, patient_id, source, stop)
        if not records:
            raise _study_not_found(source)
        found = {record.series_uid: record for record in records}
        series = [record for uid, record in found.items() if uid not in seen]
        if not series:
            break
        rejections.read((_make_series_ref(order, record), record) for record in series)
        for record in series:
            stop.check_after_series()
            seen.add(record.series_uid)
            ref = _make_series_ref(order, record)
            why = order.selection.exclusion_reason(record)
            if why is not None:
                listing = SourceListing.from_record(ref, record)
                yield SeriesOutcome(ref, None, skip_reason=why, listing=listing)
            else:
                yield SeriesTransfer(
                    ref, record, source, policy, earlier_ledgers.get(ref.series_uid)
                )
    for uid in order.selection.series_uids:
        if uid not in seen:
            note = Message("series.not-found")
            yield SeriesOutcome(SeriesRef(order.study.study_uid, uid), 0, notes=(note,))


def _list_study(order: StudyRequest, source: SourceNode, stop: Stop) -> tuple[str, list[Record]]:
    """Return the patient ID by which the source lists the study now, and its series.

    The ID is empty if the source has the ordered patient but cannot search by that ID: it has
    leading blanks, or letters that the source's index lacks. The patient is checked in each image.
    Raises NotFound, PatientChanged.
    """
    for patient_id in order.patient_ids or ("",):
        key = patient_id if is_searchable(patient_id) else ""
        if records := _list_series(order, key, source, stop):
            return key, records
    if order.patient_ids:
        found = _find_all(Query.study(order.study), source, stop)
        now = {record.patient_id.strip() for record in found} - {""}
        known = {one.strip() for one in order.patient_ids}
        if len(now) == 1 and now.isdisjoint(known):
            raise PatientChanged(now.pop())
        if now and now <= known and (records := _list_series(order, "", source, stop)):
            return "", records
    raise _study_not_found(source)


def _list_series(
    order: StudyRequest, patient_id: str, source: SourceNode, stop: Stop
) -> list[Record]:
    """Return the study's series as the source lists them now, sorted by number and UID."""
    records = _find_all(Query.series_of(order.study, patient_id), source, stop)
    return sorted(records, key=lambda r: (r.series_number is None, r.series_number, r.series_uid))


def _find_all(query: Query, source: SourceNode, stop: Stop) -> list[Record]:
    def ask() -> list[Record]:
        return [record for record in source.find(query) if query.matches(record)]

    return RetryPolicy().call(ask, stop)


def _study_not_found(source: SourceNode) -> NotFound:
    return NotFound("study.not-found", node=source.name)


def _make_series_ref(order: StudyRequest, record: Record) -> SeriesRef:
    ref = record.ref
    if not isinstance(ref, SeriesRef) or ref.study != order.study:
        raise Malformed("study.foreign-series")
    return ref
