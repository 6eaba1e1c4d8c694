"""Retrieve images by C-GET, received over the same association (PS3.4 C.4.3).

Used by `retrieve`. Also holds the SOP classes to propose for an archive that does not return them,
and the requests that C-GET and C-MOVE share.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as but

from adit_engine.dicom_ul import identifier, statuses
from adit_engine.dicom_ul.association import ClientAssociation, DimseMessage, OpenAssociations
from adit_engine.dicom_ul.command_set import CommandField, Operation, make_request, make_response
from adit_engine.dicom_ul.pdu import MAX_CONTEXTS, PresentationContext
from adit_engine.errors import InvalidInput, Malformed, NodeBusy, NodeRefused, TimedOut
from adit_engine.messages import Message
from adit_engine.nodes.dimse.c_find import CFind
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE, Instance
from adit_engine.values.references import (
    InstanceRef,
    QueryLevel,
    Ref,
    SeriesRef,
    StudyRef,
    validate_uid,
)

_IMAGES = "1.2.840.10008.5.1.4.1.1."

COMMON_CLASSES = frozenset(
    _IMAGES + end
    for end in ("2", "2.1", "4", "4.1", "1", "1.1", "128", "6.1", "7", "12.1", "88.67")
)
"""Proposed first, in all usual transfer syntaxes."""

OTHER_CLASSES = tuple(
    _IMAGES + end
    for end in (
        *("88.11", "88.22", "88.33", "88.34", "88.59", "88.40", "88.50", "88.65", "88.68"),
        *("11.1", "11.2", "11.8", "66.4", "66", "66.1", "66.5", "66.7", "30", "67"),
        *("481.1", "481.2", "481.3", "481.5", "481.8", "104.1", "104.2", "104.3"),
        *("1.2", "1.2.1", "1.3", "13.1.3", "13.1.1", "12.2", "12.1.1", "3.1", "6.2", "20"),
        *("7.2", "7.4", "4.2", "4.3", "4.4", "2.2", "128.1", "130"),
        *("77.1.1", "77.1.2", "77.1.4", "77.1.5.1", "77.1.5.4", "9.1.1"),
    )
)
"""Proposed uncompressed if the first set missed something: SR, KOS, SEG, plans, rarer images."""


STUDY_ROOT_GET = "1.2.840.10008.5.1.4.1.2.2.3"
PATIENT_ROOT_GET = "1.2.840.10008.5.1.4.1.2.1.3"

UNCOMPRESSED = (EXPLICIT_LE, IMPLICIT_LE)
COMPRESSED = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.81",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
)
"""JPEG baseline, extended, lossless; JPEG-LS; JPEG 2000; RLE."""
RARE_SYNTAXES = (
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    "1.2.840.10008.1.2.4.203",
    "1.2.840.10008.1.2.4.100",
    "1.2.840.10008.1.2.4.101",
    "1.2.840.10008.1.2.4.102",
    "1.2.840.10008.1.2.4.103",
    "1.2.840.10008.1.2.4.104",
    "1.2.840.10008.1.2.4.105",
    "1.2.840.10008.1.2.4.106",
    "1.2.840.10008.1.2.4.107",
    "1.2.840.10008.1.2.4.108",
    "1.2.840.10008.1.2.4.110",
    "1.2.840.10008.1.2.4.111",
    "1.2.840.10008.1.2.4.112",
    "1.2.840.10008.1.2.2",
)
"""HTJ2K; MPEG2, MPEG-4 and HEVC; JPEG XL; big endian, which not every archive converts."""

CLASSES_PER_ASSOCIATION = (MAX_CONTEXTS - 1) // (len(UNCOMPRESSED) + len(COMPRESSED))
"""This many SOP classes fit into one association in all their usual syntaxes.

With fewer classes, the rare syntaxes fit too.
"""

UIDS_PER_REQUEST = 256
_FAILED_UIDS = 0x00080058
_COUNTS = (CommandField.REMAINING, CommandField.COMPLETED, CommandField.FAILED, CommandField.WARNED)
SPARE_S, PER_IMAGE_S = 900.0, 10.0
"""Limits in seconds of the total time of one association: a base, and a share per image."""

GIVE_UP_AFTER_S = 30.0
"""How long to keep requesting single images that an archive reports as not sendable."""


@dataclass(frozen=True, slots=True)
class RetrieveRequest:
    """One C-GET or C-MOVE: for a study, a series, or some instances of one series."""

    study_uid: str
    series_uid: str = ""
    instance_uids: tuple[str, ...] = ()
    patient_id: str = field(default="", repr=False)

    @property
    def level(self) -> QueryLevel:
        if self.instance_uids:
            return QueryLevel.IMAGE
        return QueryLevel.SERIES if self.series_uid else QueryLevel.STUDY

    def split_by_image(self, received_uids: Collection[str] = ()) -> "list[RetrieveRequest]":
        """Return one request per image that is not in `came`, if it names several images.

        Not every archive accepts a list of UIDs, and some give up at the first image that they
        cannot send.
        """
        uids = self.instance_uids if len(self.instance_uids) > 1 else ()
        return [but(self, instance_uids=(uid,)) for uid in uids if uid not in received_uids]

    def identifier(self) -> Mapping[str, str | tuple[str, ...]]:
        """Return the unique keys by DICOM keyword (PS3.4 C.4.3.1.3)."""
        keys = {
            "QueryRetrieveLevel": self.level.value,
            "PatientID": self.patient_id,
            "StudyInstanceUID": self.study_uid,
            "SeriesInstanceUID": self.series_uid,
            "SOPInstanceUID": self.instance_uids,
        }
        return {keyword: value for keyword, value in keys.items() if value}


@dataclass(frozen=True, slots=True)
class RetrieveBatch:
    """Requests that one association can serve, and the SOP classes that will come."""

    requests: tuple[RetrieveRequest, ...]
    classes: tuple[str, ...]


@dataclass
class _RetrieveCounts:
    """What one C-GET returned: by our own count, and the failures that the node reported."""

    received: set[str] = field(default_factory=set)
    failed: int = 0
    failed_uids: tuple[str, ...] = ()

    @property
    def is_nothing(self) -> bool:
        """Whether nothing arrived and nothing was attempted."""
        return not (self.received or self.failed or self.failed_uids)


def make_requests(refs: Sequence[Ref], patient_id: str) -> list[RetrieveRequest]:
    """Return one request per reference, in order of first mention.

    Instances of one series share a request.
    """
    instances: dict[SeriesRef, list[str]] = {}
    wishes: dict[Ref, RetrieveRequest] = {}
    for ref in refs:
        if isinstance(ref, InstanceRef):
            instances.setdefault(ref.series, []).append(ref.instance_uid)
        elif isinstance(ref, SeriesRef):
            wishes[ref] = RetrieveRequest(ref.study_uid, ref.series_uid, patient_id=patient_id)
        elif isinstance(ref, StudyRef):
            wishes[ref] = RetrieveRequest(ref.study_uid, patient_id=patient_id)
    single = [
        RetrieveRequest(ref.study_uid, ref.series_uid, lot, patient_id)
        for ref, uids in instances.items()
        for lot in split_uids(list(dict.fromkeys(uids)))
    ]
    return [*wishes.values(), *single]


def batch_requests(
    requests: Iterable[tuple[RetrieveRequest, frozenset[str]]],
) -> list[RetrieveBatch]:
    """Group requests into associations, in order.

    As few as the limit on presentation contexts allows.
    """
    loads: list[RetrieveBatch] = []
    for wish, classes in requests:
        last = loads[-1] if loads else RetrieveBatch((), ())
        together = tuple(dict.fromkeys((*last.classes, *sorted(classes))))
        if loads and len(together) <= CLASSES_PER_ASSOCIATION:
            loads[-1] = RetrieveBatch((*last.requests, wish), together)
        else:
            loads.append(RetrieveBatch((wish,), tuple(sorted(classes))))
    return loads


class FailureTimer:
    """Measures how long single-image requests have returned nothing."""

    def __init__(self) -> None:
        self._last_success_at = time.monotonic()

    def record(self, refusal: NodeBusy | NodeRefused | None, has_received: bool) -> None:
        """Record one request.

        Raises `refusal` once nothing has arrived for GIVE_UP_AFTER_S.
        """
        now = time.monotonic()
        if has_received:
            self._last_success_at = now
        elif refusal is not None and now - self._last_success_at > GIVE_UP_AFTER_S:
            raise refusal


class CGet:
    """C-GET of batches one after the other."""

    def __init__(
        self,
        associations: OpenAssociations,
        get_class: str,
        search: CFind,
        notify_answer: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`notify_answer` gets the seconds from each request until its first image begins.

        `search` knows what else the study holds: that is proposed too, for the next retrieval.
        """
        self._associations = associations
        self._notify_answer = notify_answer
        self._get_class = get_class
        self._search = search
        self._name = associations.peer.name
        self.has_tried = False
        """Whether the node has reported images that it could not send."""

    def images(
        self,
        load: RetrieveBatch,
        expected: int | None,
        more: Iterator[RetrieveRequest] | None = None,
    ) -> Iterator[Instance]:
        """Yield the images of a batch. Lazy. Raises NodeError.

        `expected` is how many images are known to come; it scales the time limit. `more` are
        further requests, each taken when the one before has ended. What fails is requested once
        more, uncompressed, over a new association.
        """
        got, again = False, list[RetrieveRequest]()
        further = iter(()) if more is None else more
        wishes, in_vain = deque(load.requests), FailureTimer()
        refusal: NodeBusy | NodeRefused | None = None

        def ask(association: ClientAssociation) -> Iterator[Instance]:
            nonlocal got, refusal
            self._check_offer(association, load.classes)
            self._limit_time(association, expected)
            while wishes or _take_next(further, wishes):
                wish, tally = wishes[0], _RetrieveCounts()
                refusal = yield from self._try_request(association, wish, tally, in_vain)
                wishes.popleft()
                got |= bool(tally.received)
                if (refusal or tally.is_nothing) and (
                    singles := wish.split_by_image(tally.received)
                ):
                    wishes.extendleft(reversed(singles))
                else:
                    again.extend(_missing_requests(wish, tally))

        yield from self._associations.request(self._shared_contexts(load), ask)
        if not again:
            return
        with self._associations.open(self._contexts(load.classes, compressed=False)) as association:
            self._check_offer(association, load.classes)
            # For a part that fails twice our count decides: it does not end what has arrived.
            for wish in again:
                tally = _RetrieveCounts()
                refusal = (
                    yield from self._try_request(association, wish, tally, in_vain)
                ) or refusal
                got |= bool(tally.received)
            if refusal is not None and not got:
                raise refusal

    def _try_request(
        self,
        association: ClientAssociation,
        request: RetrieveRequest,
        retrieved: _RetrieveCounts,
        in_vain: "FailureTimer",
    ) -> Generator[Instance, None, NodeBusy | NodeRefused | None]:
        """Run one C-GET. Return a refusal that another request may cure; raise all others."""
        try:
            yield from self._get(association, request, retrieved)
        except (NodeBusy, NodeRefused) as refusal:
            is_list = len(request.instance_uids) > 1 and not retrieved.received
            if not (is_list or statuses.is_retrieve_failure(refusal.status)):
                raise
            self.has_tried |= retrieved.failed > 0
            in_vain.record(refusal, bool(retrieved.received))
            return refusal
        in_vain.record(None, bool(retrieved.received))
        return None

    def _shared_contexts(self, load: RetrieveBatch) -> list[PresentationContext]:
        """Return contexts that, if the association is kept, also serve what comes next.

        That is a search, or the next series of the study.
        """
        classes = load.classes
        if not self._associations.kept.is_keeping:
            return self._contexts(classes, compressed=True)
        if frozenset(classes) != COMMON_CLASSES:
            seen = (self._search.seen_classes(one.study_uid) for one in load.requests)
            wider = tuple(sorted({*classes, *frozenset().union(*seen)}))
            classes = wider if len(wider) <= CLASSES_PER_ASSOCIATION else classes
        contexts = self._contexts(classes, compressed=True)
        return [*contexts[: MAX_CONTEXTS - 1], self._search.context()]

    def _contexts(self, classes: Sequence[str], *, compressed: bool) -> list[PresentationContext]:
        """Return one context per class and syntax: in a shared one the node would pick only one."""
        syntaxes: tuple[str, ...] = UNCOMPRESSED
        if not compressed and frozenset(classes) == COMMON_CLASSES:
            # The classes were a guess that was not sufficient.
            classes = (*classes, *OTHER_CLASSES)
        if compressed and len(classes) <= CLASSES_PER_ASSOCIATION:
            syntaxes = (*UNCOMPRESSED, *COMPRESSED, *RARE_SYNTAXES)
        storage = [
            PresentationContext(class_uid, (syntax,), scp_role=True)
            for syntax in syntaxes
            for class_uid in classes
        ]
        return [PresentationContext(self._get_class, UNCOMPRESSED), *storage[: MAX_CONTEXTS - 1]]

    def _check_offer(self, association: ClientAssociation, classes: Sequence[str]) -> None:
        agreement = association.negotiated
        if agreement.context_of(self._get_class) is None:
            raise statuses.not_offered_error(self._name, "C-GET")
        if not any(agreement.syntaxes(class_uid) for class_uid in classes):
            raise statuses.not_offered_error(self._name, Message("clause.images-by-c-get"))

    def _limit_time(self, association: ClientAssociation, expected: int | None) -> None:
        if expected is not None:
            limit_s = association.peer.timeouts.total_s
            association.limit_total_wait(min(limit_s, SPARE_S + PER_IMAGE_S * expected))

    def _get(
        self, association: ClientAssociation, request: RetrieveRequest, retrieved: _RetrieveCounts
    ) -> Iterator[Instance]:
        """Run one C-GET. Ends normally only after a final status that is not a failure."""
        agreement = association.negotiated
        context_id = agreement.context_of(self._get_class)
        assert context_id is not None
        explicit = agreement.contexts[context_id][1] == EXPLICIT_LE
        number = association.next_message_id()
        command = make_request(Operation.GET, number, self._get_class, data=True)
        association.send(
            context_id, command, [identifier.encode_identifier(request.identifier(), explicit)]
        )
        sent_at: float | None = time.monotonic()
        patience = association.peer.timeouts
        within_s = patience.first_byte_s
        progress_until = time.monotonic() + within_s
        counts: tuple[int | None, ...] = ()
        while True:
            message = association.receive(within_s, "clause.await-retrieval")
            within_s = patience.no_progress_s
            if message.command.operation == Operation.STORE:
                if sent_at is not None:
                    self._notify_answer(association.command_at - sent_at)
                    sent_at = None
                instance = self._take(association, message)
                if instance is not None:
                    retrieved.received.add(instance.instance_uid)
                    yield instance
                progress_until = time.monotonic() + within_s
            elif message.command.is_response_to(Operation.GET, number):
                status = message.command.status
                if status is None or status not in statuses.PENDING:
                    self._finish(message, status, explicit, retrieved)
                    return
                before, counts = counts, tuple(message.command.number(one) for one in _COUNTS)
                if before and counts != before:
                    progress_until = time.monotonic() + within_s
                self._check_progress(progress_until)

    def _check_progress(self, until: float) -> None:
        """Raise TimedOut: pending responses with unchanged counts are no progress."""
        if time.monotonic() > until:
            raise TimedOut(self._name, "c-get.no-progress")

    def _take(self, association: ClientAssociation, message: DimseMessage) -> Instance | None:
        """Respond to one C-STORE request and return its instance; None when it was refused."""
        class_uid, syntax = association.negotiated.contexts[message.context_id]
        command = message.command
        try:
            uid = validate_uid(command.text(CommandField.INSTANCE_UID))
        except InvalidInput:
            uid = ""
        if not uid or command.text(CommandField.CLASS_UID) != class_uid:
            association.send(message.context_id, make_response(command, statuses.NO_SUCH_CLASS))
            return None
        # Respond first, since the node sends nothing more before it has our response.
        association.send(message.context_id, make_response(command, statuses.SUCCESS))
        try:
            return Instance.from_data_set(class_uid, uid, syntax, message.data)
        except Malformed as error:
            return Instance(class_uid, uid, syntax, b"", defect=error.message)

    def _finish(
        self, message: DimseMessage, status: int | None, explicit: bool, retrieved: _RetrieveCounts
    ) -> None:
        """Read the final response. Raises NodeBusy or NodeRefused for a failure."""
        retrieved.failed = message.command.number(CommandField.FAILED) or 0
        if message.data:
            try:
                retrieved.failed_uids = identifier.decode_uids(message.data, explicit, _FAILED_UIDS)
            except Malformed:
                retrieved.failed_uids = ()
        if status is None:
            raise NodeRefused(self._name, "retrieval.no-status")
        if status != statuses.SUCCESS and status >> 12 != 0xB:
            failure = statuses.status_error(self._name, "clause.request-retrieval", status)
            # A702: some sub-operations failed; our own count says which images arrived.
            if not (isinstance(failure, NodeBusy) and retrieved.received):
                raise failure


def _take_next(more: Iterator[RetrieveRequest], requests: deque[RetrieveRequest]) -> bool:
    """Append the next request, if there is one; return whether there was."""
    request = next(more, None)
    if request is not None:
        requests.append(request)
    return request is not None


def _missing_requests(
    request: RetrieveRequest, retrieved: _RetrieveCounts
) -> list[RetrieveRequest]:
    """Return what to request once more: failed images, or everything when nothing arrived."""
    if not retrieved.received:
        return [request]
    if request.level is QueryLevel.STUDY or not (retrieved.failed or retrieved.failed_uids):
        return []
    failed = [uid for uid in retrieved.failed_uids if uid not in retrieved.received]
    if not failed and request.level is QueryLevel.IMAGE:
        failed = [uid for uid in request.instance_uids if uid not in retrieved.received]
    return [but(request, instance_uids=lot) for lot in split_uids(failed)]


def split_uids(uids: Sequence[str]) -> list[tuple[str, ...]]:
    """Split UIDs into lists of at most UIDS_PER_REQUEST."""
    steps = range(0, len(uids), UIDS_PER_REQUEST)
    return [tuple(uids[start : start + UIDS_PER_REQUEST]) for start in steps]
