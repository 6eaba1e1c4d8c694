"""Incoming: the images of one series as the source sends them, read ahead of the destination.
Passage: one series on its way from the source to the destination, each instance accounted for."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

from adit_engine.bounded_stream import ReadAhead
from adit_engine.errors import (
    AditError,
    InstanceWithheld,
    NodeError,
    NotSupported,
    PatientChanged,
    RuleViolation,
    Stopped,
    VerificationFailed,
)
from adit_engine.nodes.base import (
    ConfirmationRemark,
    NotConfirmed,
    SourceNode,
    Storable,
    StoreResult,
    SupportsPrefetch,
)
from adit_engine.transfer.inventory import SeriesInventory
from adit_engine.transfer.policy import TransferPolicy
from adit_engine.values.device import ImagingDevice
from adit_engine.values.instance import CHARACTER_SET, Instance
from adit_engine.values.outcome import (
    ElementChanges,
    InstanceEvent,
    InstanceState,
    SeriesLedger,
    SeriesOutcome,
    SourceListing,
)
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, Ref, SeriesRef

PREFETCH_BYTES = 64 * 1024 * 1024
"""How much the source may be ahead of the destination, so that both work at the same time."""


class SeriesPrefetch:
    """One series. What the source holds now is asked for by the thread that fetched, after the last
    image: while the destination still stores, or is asked what it keeps.
    """

    def __init__(
        self,
        series: SeriesRef,
        source: SourceNode,
        traveller: TransferPolicy,
        listing: SeriesInventory,
    ) -> None:
        self._series = series
        self._source = source
        self._traveller = traveller
        self._listing = listing
        self._early: ReadAhead | None = None
        """What comes already while the list is asked for."""
        self._reading: ReadAhead | None = None
        """What comes, or has come and asks for the list of now."""

    def begin_prefetch(self) -> None:
        """Only where the whole series is wanted, and nothing in it is known to have to stay."""
        if not isinstance(self._source, SupportsPrefetch):
            return
        traveller = self._traveller
        images = self._source.fetch_early(
            self._series,
            patient_id=traveller.patient_id,
            count=self._listing.record.instance_count,
            may_come=lambda kind: traveller.why_refused(kind) is None,
        )
        self._early = None if images is None else self._read(images)

    def images(self, refs: Sequence[Ref]) -> Iterator[Instance]:
        """Lazy. What was begun early counts where it is what is wanted now, and brings anything."""
        early, self._early = self._early, None
        if early is not None and refs == [self._series]:
            came, self._reading = False, early
            for instance in early:
                came = True
                yield instance
            if came:
                return
        elif early is not None:
            early.close()
        self.settle()
        images = self._source.fetch(refs, patient_id=self._traveller.patient_id)
        self._reading = self._read(images)
        yield from self._reading

    def settle(self) -> None:
        """Waits for the list of now, where it is being asked for; else ends the fetch."""
        if self._reading is not None:
            self._reading.close()

    def close(self) -> None:
        self.settle()
        if self._early is not None:
            self._early.close()

    def _read(self, images: Iterator[Instance]) -> ReadAhead:
        return ReadAhead(
            images,
            unblock=self._source.break_off,
            limit_bytes=PREFETCH_BYTES,
            stop=self._traveller.stop,
            afterwards=self._listing.list_ahead,
        )


ROUNDS = 3
"""How often what is missing or new is asked for before it counts as missing for good."""

FIRST_CONFIRM_AFTER = 200
"""How many stored instances wait for their proof at least; later half of what is proven."""

CONFIRM_EVERY_S = 5.0
"""So long they wait at least: the destination is asked seldom when it is quick."""


_IS_OFFLINE = (
    "the source says that this image is offline, so that nobody can fetch it: ask its "
    "administrator to bring it back, then retry"
)

_NO_PROOF = (
    "the destination has no means to prove what it keeps (where its answer to each image is enough, "
    "turn the proof off in its settings)"
)

_CONTRADICTORY_UIDS = (
    "The object has one instance UID inside and another on its outside, so that nobody can say "
    "which one it is."
)

_NOT_LISTED = "the destination took this image, and does not list it now"


class SeriesTransfer:
    """One series. `held` is the ledger of earlier attempts; what it delivered is not sent again."""

    def __init__(
        self,
        ref: SeriesRef,
        record: Record,
        source: SourceNode,
        traveller: TransferPolicy,
        held: SeriesLedger | None,
    ) -> None:
        self.ref = ref
        self._traveller = traveller
        self._listing = SeriesInventory(ref, record, source, traveller.stop, traveller.patient_id)
        self._incoming = SeriesPrefetch(ref, source, traveller, self._listing)
        self._manifest = SeriesLedger(ref)
        self._before = held.delivered_entries() if held is not None else {}
        for uid in self._before:
            with suppress(InstanceWithheld):
                traveller.claim(self._ref(uid))
        self._origin: dict[str, InstanceRef] = {}
        self._sent: set[str] = set()
        self._came_again: dict[str, set[str]] = {}
        """The digests of what came under a UID that had been sent already."""
        self._unasked: set[str] = set()
        self._events: deque[InstanceEvent] = deque()
        self._notes: list[str] = []
        self._remarks: list[str] = []
        self._withheld_by_hit = False
        self._devices: dict[str, ImagingDevice] = {}
        self._treatments: dict[str, ElementChanges | None] = {}

    # The trip ----------------------------------------------------------------------------------

    def deliver(
        self, destination: Storable
    ) -> Iterator[SourceListing | InstanceEvent | SeriesOutcome]:
        """Listed, then Events, then the Outcome; see transfer.transfer."""
        if not self._before:
            self._incoming.begin_prefetch()
        try:
            yield from self._delivered(destination)
        finally:
            self._incoming.close()

    def _delivered(
        self, destination: Storable
    ) -> Iterator[SourceListing | InstanceEvent | SeriesOutcome]:
        yield self._list()
        self._take_over_delivered()
        yield from self._end_unrequested()
        try:
            for _ in range(ROUNDS):
                refs = self._missing()
                if not refs:
                    break
                yield from self._send(destination, refs)
                if self._withheld_by_hit:
                    break
                yield from self._compare_with_source()
        except RuleViolation as broken:
            yield from self._end_the_rest(InstanceState.FAILED, "rule-broken", str(broken))
            yield self._outcome()
            raise
        yield from self._end_the_rest(
            InstanceState.FAILED, "not-received", "the source listed this image and did not send it"
        )
        yield self._outcome()

    def _outcome(self) -> SeriesOutcome:
        delivered = self._manifest.delivered_entries()
        self._notes += self._traveller.rejections.remarks(delivered)
        if self._has_duplicates():
            self._notes.append("the source sent two different objects under one UID")
        notes, remarks = (tuple(dict.fromkeys(said)) for said in (self._notes, self._remarks))
        return SeriesOutcome.of(self._manifest, notes, remarks)

    # Listing -----------------------------------------------------------------------------------

    def _list(self) -> SourceListing:
        listed = self._listing.first()
        self._manifest.expected = listed.expected
        if listed.why:
            self._notes.append(listed.why)
        return listed

    def _compare_with_source(self) -> Iterator[InstanceEvent]:
        """Compares with the source's list of now: new images are expected too, lost ones are told."""
        self._incoming.settle()
        if self._manifest.expected is None:
            return
        difference = self._listing.again(self._manifest.expected)
        if difference.new:
            self._notes.append("new images came to this series during the transfer")
            self._manifest.expected |= difference.new
            for uid in sorted(difference.new):
                yield from self._end_unrequested_image(uid)
        for uid in sorted(self._open() & difference.vanished):
            reason = "this image vanished from the source during the transfer"
            yield self._end(self._ref(uid), InstanceState.FAILED, "vanished", reason)

    def _take_over_delivered(self) -> None:
        for uid, entry in self._before.items():
            if self._manifest.expected is None or uid in self._manifest.expected:
                self._manifest.entries[uid] = entry

    # What is still to do -----------------------------------------------------------------------

    def _open(self) -> set[str]:
        """Listed instances without an end, whether or not the list can be trusted."""
        listed = self._manifest.expected
        return {
            uid
            for uid in (self._listing.classes if listed is None else listed)
            if uid not in self._manifest.entries
            or self._manifest.entries[uid].state is InstanceState.STORED
        }

    def _missing(self) -> list[Ref]:
        """What to ask the source for: the whole series, or single instances when some are done."""
        if self._manifest.expected is None:
            told = self._manifest.entries.keys() - self._before.keys() - self._unasked
            return [] if self._origin or told else [self.ref]
        still = self._open()
        if still == self._manifest.expected:
            return [self.ref]
        return [self._ref(uid) for uid in sorted(still)]

    def _end_unrequested(self) -> Iterator[InstanceEvent]:
        """What stays whatever it holds, for its class or because it is rejected: not even fetched."""
        for uid in sorted(self._open()):
            yield from self._end_unrequested_image(uid)

    def _end_unrequested_image(self, uid: str) -> Iterator[InstanceEvent]:
        end = self._traveller.rejections.find_end_state(uid)
        if end is None:
            why = self._traveller.why_refused(self._listing.classes.get(uid, ""))
            end = (InstanceState.WITHHELD, *why) if why else None
        if end is None and uid in self._listing.offline:
            end = (InstanceState.FAILED, "offline", _IS_OFFLINE)
        if end is not None:
            self._unasked.add(uid)
            yield self._end(self._ref(uid), *end)

    # Sending -----------------------------------------------------------------------------------

    def _send(self, destination: Storable, refs: Sequence[Ref]) -> Iterator[InstanceEvent]:
        """One round: what the destination has taken is confirmed even when the round breaks off."""
        waiting: list[StoreResult] = []
        proven, asked_at = 0, time.monotonic()
        try:
            for stored in destination.store(self._instances(refs)):
                yield from self._told()
                yield self._stored(stored)
                if stored.kept:
                    waiting.append(stored)
                enough = len(waiting) >= max(FIRST_CONFIRM_AFTER, proven // 2)
                if enough and time.monotonic() > asked_at + CONFIRM_EVERY_S:
                    proven += len(waiting)
                    yield from self._confirm(destination, waiting)
                    asked_at = time.monotonic()
        except VerificationFailed:
            self._withheld_by_hit = True
        except (NodeError, Stopped, RuleViolation, PatientChanged):
            yield from self._told()
            with suppress(NodeError, Stopped):
                yield from self._confirm(destination, waiting)
            raise
        yield from self._told()
        yield from self._confirm(destination, waiting)
        if self._withheld_by_hit:
            reason = "held back because another image of this series did not pass the last check"
            yield from self._end_the_rest(InstanceState.WITHHELD, "series-held-back", reason)

    def _stored(self, stored: StoreResult) -> InstanceEvent:
        ref = self._origin[stored.ref.instance_uid]
        if not stored.kept:
            return self._end(ref, InstanceState.FAILED, "refused", stored.error)
        event = InstanceEvent(
            ref,
            InstanceState.STORED,
            "warning" if stored.warning else "",
            stored.warning,
            stored.size_bytes,
            stored.sha256,
            treatment=self._treatments.pop(ref.instance_uid, None),
            path=stored.path,
        )
        self._manifest.add(event)
        return event

    def _confirm(
        self, destination: Storable, waiting: list[StoreResult]
    ) -> Iterator[InstanceEvent]:
        """Asks the destination what it keeps, and ends what waited for that proof."""
        if not waiting:
            return
        batch = list(waiting)
        waiting.clear()
        kept, reasons = self._proofs(destination, batch)
        for stored in batch:
            ref = self._origin[stored.ref.instance_uid]
            if stored.ref.instance_uid not in kept:
                reason = reasons.get(stored.ref.instance_uid, _NOT_LISTED)
                yield self._end(ref, InstanceState.FAILED, "not-kept", reason)
                continue
            entry = self._manifest.entries[ref.instance_uid]
            event = InstanceEvent(
                ref,
                InstanceState.DELIVERED,
                entry.code,
                entry.reason,
                entry.size_bytes,
                entry.sha256,
                treatment=entry.treatment,
                path=entry.path,
            )
            self._manifest.add(event)
            yield event

    def _proofs(
        self, destination: Storable, batch: list[StoreResult]
    ) -> tuple[set[str], dict[str, str]]:
        """What is proven to be kept, and why some others are not."""
        kept: set[str] = set()
        reasons: dict[str, str] = {}
        try:
            for proof in destination.confirm(batch):
                if isinstance(proof, ConfirmationRemark):
                    self._remarks.append(proof.text)
                elif isinstance(proof, NotConfirmed):
                    reasons[proof.instance_uid] = proof.reason
                else:
                    kept.add(proof)
        except NotSupported:
            self._notes.append(_NO_PROOF)
            kept = {stored.ref.instance_uid for stored in batch}
        return kept, reasons

    def _told(self) -> Iterator[InstanceEvent]:
        while self._events:
            yield self._events.popleft()

    def _end(self, ref: InstanceRef, state: InstanceState, code: str, reason: str) -> InstanceEvent:
        event = InstanceEvent(ref, state, code, reason, device=self._device(ref, state))
        self._manifest.add(event)
        return event

    def _device(self, ref: InstanceRef, state: InstanceState) -> ImagingDevice | None:
        """Of what is withheld; of what was not fetched, the class alone is known."""
        if state is not InstanceState.WITHHELD:
            return None
        listed = ImagingDevice(self._listing.classes.get(ref.instance_uid, ""))
        return self._devices.pop(ref.instance_uid, listed)

    def _end_the_rest(
        self, state: InstanceState, code: str, reason: str
    ) -> Iterator[InstanceEvent]:
        for uid in sorted(self._open() | self._unanswered()):
            yield self._end(self._ref(uid), state, code, reason)

    def _unanswered(self) -> set[str]:
        """Handed to the destination, and never answered for."""
        return self._sent - self._manifest.entries.keys()

    def _ref(self, uid: str) -> InstanceRef:
        return InstanceRef(self.ref.study_uid, self.ref.series_uid, uid)

    # Fetching, checking, changing ----------------------------------------------------------------

    def _instances(self, refs: Sequence[Ref]) -> Iterator[Instance]:
        """The instances that may leave, changed and verified; lazy.

        Raises Hit and RuleBroken through the destination, so that it takes back what is not
        visible there yet.
        """
        try:
            for instance in self._incoming.images(refs):
                self._traveller.stop.check()
                outgoing = self._prepare_instance(instance)
                if outgoing is not None:
                    yield outgoing
            if self._traveller.changed is not None:
                raise self._traveller.changed
        except BaseException:
            self._incoming.close()
            raise

    def _prepare_instance(self, instance: Instance) -> Instance | None:
        """The instance as it may leave, or None when its end is told already."""
        ref = self._match_reference(instance)
        if ref is None:
            return None
        self._traveller.rejections.learn(instance)
        end = self._traveller.rejections.find_end_state(ref.instance_uid)
        if end is not None:
            self._tell(ref, *end)
            return None
        try:
            if instance.fault:
                raise InstanceWithheld("fault", instance.fault)
            says = instance.in_header
            self._traveller.admit_patient(says.patient_id, says.trimmed(CHARACTER_SET))
            self._traveller.claim(ref)
            outgoing, treatment = self._traveller.prepare_outgoing(instance)
        except VerificationFailed as hit:
            self._devices[ref.instance_uid] = ImagingDevice.of(instance).without_texts()
            self._tell(ref, InstanceState.WITHHELD, hit.code, hit.reason)
            raise
        except RuleViolation as broken:
            self._tell(ref, InstanceState.FAILED, "rule-broken", str(broken))
            raise
        except PatientChanged:
            return None
        except InstanceWithheld as held:
            self._devices[ref.instance_uid] = ImagingDevice.of(instance)
            self._tell(ref, InstanceState.WITHHELD, held.code, held.reason)
            return None
        if ref.instance_uid in self._sent:
            self._came_again.setdefault(ref.instance_uid, set()).add(outgoing.sha256())
            return None
        self._sent.add(ref.instance_uid)
        self._treatments[ref.instance_uid] = treatment
        self._origin[outgoing.instance_uid] = ref
        return outgoing

    def _match_reference(self, instance: Instance) -> InstanceRef | None:
        """The instance's reference when it belongs to this series, is wanted and not ended."""
        try:
            ref = self._ref(instance.instance_uid) if instance.fault else instance.in_header.ref
        except AditError as error:
            self._end_unreadable(instance, error)
            return None
        if ref.series == self.ref and ref.instance_uid != instance.instance_uid:
            self._end_ambiguous(ref, instance)
            return None
        if ref.series != self.ref:
            self._notes.append("the source sent an object of another series; it was not taken")
            return None
        expected = self._manifest.expected
        if expected is not None and ref.instance_uid not in expected:
            self._notes.append("new images came to this series during the transfer")
            self._manifest.expected = expected | {ref.instance_uid}
        entry = self._manifest.entries.get(ref.instance_uid)
        ended = entry is not None and entry.state not in (
            InstanceState.STORED,
            InstanceState.DELIVERED,
        )
        return None if ended or ref.instance_uid in self._before else ref

    def _end_unreadable(self, instance: Instance, error: AditError) -> None:
        with suppress(AditError):
            ref = self._ref(instance.instance_uid)
            if ref.instance_uid in (self._manifest.expected or {ref.instance_uid}):
                self._tell(ref, InstanceState.WITHHELD, "malformed", str(error))

    def _end_ambiguous(self, inside: InstanceRef, instance: Instance) -> None:
        """Its end is told under the UID that was listed."""
        for ref in (self._ref(instance.instance_uid), inside):
            if ref.instance_uid in self._open():
                self._tell(ref, InstanceState.WITHHELD, "two-uids", _CONTRADICTORY_UIDS)
                return

    def _has_duplicates(self) -> bool:
        """The same object again is no news; another one under the same UID is."""
        entries = self._manifest.entries
        return any(
            uid in entries and entries[uid].sha256 and digests != {entries[uid].sha256}
            for uid, digests in self._came_again.items()
        )

    def _tell(self, ref: InstanceRef, state: InstanceState, code: str, reason: str) -> None:
        self._events.append(self._end(ref, state, code, reason))
