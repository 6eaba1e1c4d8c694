"""Transfer: the one path by which images travel: found, listed, changed, proven, delivered."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_ul.statuses import is_retrieve_failure
from adit_engine.errors import Malformed, NodeBusy, NodeRefused, NotFound, PatientChanged
from adit_engine.nodes.base import SourceNode, Storable
from adit_engine.pseudonymize.parameters import Change
from adit_engine.transfer.iocm import Rejections
from adit_engine.transfer.policy import TransferPolicy
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
"""A source that could not send from so many series in a row is asked for no other one."""


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """One study to transfer. `patient_id` is the source's, as its record said when ordered.

    `renamed` is the one that a person has confirmed to be the same patient's since then.
    """

    study: StudyRef
    patient_id: str = field(repr=False)
    selection: Selection = Selection()
    renamed: str = field(default="", repr=False)

    @property
    def ids(self) -> tuple[str, ...]:
        """None: whoever's the study is, it is of one patient."""
        return tuple(one for one in (self.patient_id, self.renamed) if self.patient_id and one)


def transfer(
    order: StudyRequest,
    source: SourceNode,
    destination: Storable,
    change: Change,
    held: Mapping[str, SeriesLedger],
    stop: Stop,
) -> Iterator[SourceListing | InstanceEvent | SeriesOutcome]:
    """Finds, selects, lists, fetches, checks, changes, verifies, stores and confirms one study.

    Lazy and streaming; for each series one Listed, the Events of its instances (a STORED is
    followed by a DELIVERED once the destination has proven that it keeps it) and one Outcome.
    `held` maps series UIDs to the ledgers of earlier attempts: what they hold as delivered is not
    fetched again. Raises NotFound when the study is gone, RuleBroken when a foreign patient's image
    came (after the Outcome of that series), PatientChanged when all of it is another patient's by
    now (before anything is sent), Stopped between instances, NodeError.
    """
    heed = getattr(destination, "set_stop", None)  # asked so, since some stand before another node
    if heed is not None:
        heed(stop)
    refusals: list[NodeBusy | NodeRefused] = []
    in_a_row = 0
    for passage in _series_transfers(order, source, change, held, stop):
        if isinstance(passage, SeriesOutcome):
            yield passage
            continue
        try:
            yield from passage.deliver(destination)
            in_a_row = 0
        except (NodeBusy, NodeRefused) as error:
            # What the source cannot send of one series is no reason to leave the others there.
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
    held: Mapping[str, SeriesLedger],
    stop: Stop,
) -> Iterator[SeriesTransfer | SeriesOutcome]:
    """A Passage for each series that comes along, an Outcome for each that does not; lazy.

    The source is asked again after the last one, since a study may still be growing.
    """
    patient_id, records = _list_study(order, source, stop)
    rejections = Rejections(source, stop, patient_id)
    traveller = TransferPolicy(patient_id, change, stop, rejections, order.ids)
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
            stop.check_between()
            seen.add(record.series_uid)
            ref = _make_series_ref(order, record)
            why = order.selection.why_not(record)
            if why:
                yield SeriesOutcome(ref, None, left_out=why)
            else:
                yield SeriesTransfer(ref, record, source, traveller, held.get(ref.series_uid))
    for uid in order.selection.series_uids:
        if uid not in seen:
            note = "this series was picked, but the source does not have it any more"
            yield SeriesOutcome(SeriesRef(order.study.study_uid, uid), 0, notes=(note,))


def _list_study(order: StudyRequest, source: SourceNode, stop: Stop) -> tuple[str, list[Record]]:
    """The id by which the source lists the study now, and its series. Raises NotFound, PatientChanged.

    The id is empty where the source calls the patient as ordered, and cannot search by that: leading
    blanks or letters that it does not have in its index. Whose the images are is seen in each.
    """
    for patient_id in order.ids or ("",):
        key = patient_id if is_searchable(patient_id) else ""
        if records := _list_series(order, key, source, stop):
            return key, records
    if order.ids:
        found = _find_all(Query.study(order.study), source, stop)
        now = {record.patient_id.strip() for record in found} - {""}
        known = {one.strip() for one in order.ids}
        if len(now) == 1 and now.isdisjoint(known):
            raise PatientChanged(now.pop())
        if now and now <= known and (records := _list_series(order, "", source, stop)):
            return "", records
    raise _study_not_found(source)


def _list_series(
    order: StudyRequest, patient_id: str, source: SourceNode, stop: Stop
) -> list[Record]:
    """The study's series as the source lists them now."""
    records = _find_all(Query.series_of(order.study, patient_id), source, stop)
    return sorted(records, key=lambda r: (r.series_number is None, r.series_number, r.series_uid))


def _find_all(query: Query, source: SourceNode, stop: Stop) -> list[Record]:
    def ask() -> list[Record]:
        return [record for record in source.find(query) if query.matches(record)]

    return RetryPolicy().call(ask, stop)


def _study_not_found(source: SourceNode) -> NotFound:
    return NotFound(
        f"{source.name} has no study under this UID and patient any more. It may have been "
        "deleted: search for it again."
    )


def _make_series_ref(order: StudyRequest, record: Record) -> SeriesRef:
    ref = record.ref
    if not isinstance(ref, SeriesRef) or ref.study != order.study:
        raise Malformed("The source listed a series of another study than the one asked for.")
    return ref
