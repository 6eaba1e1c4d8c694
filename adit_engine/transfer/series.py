"""Transfer one series from the source to the destination and account for each instance.

Used by `transfer.study`. Reads the source ahead of the destination.
"""

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
from adit_engine.messages import Message
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


class SeriesPrefetch:
    """The images of one series, fetched in a thread of their own.

    After the last image, the same thread also asks the source for its current list: meanwhile the
    destination still stores or answers a confirmation request.
    """

    def __init__(
        self,
        series: SeriesRef,
        source: SourceNode,
        policy: TransferPolicy,
        inventory: SeriesInventory,
    ) -> None:
        self._series = series
        self._source = source
        self._policy = policy
        self._inventory = inventory
        self._early: ReadAhead | None = None
        """The fetch that starts while the source is still being asked for the list."""
        self._reading: ReadAhead | None = None
        """The fetch in progress, or the finished one that is asking for the current list."""

    def begin_prefetch(self) -> None:
        """Start the fetch before the list is known, if the source supports it.

        Starts only if the whole series is wanted and nothing in it is known to be withheld.
        """
        if not isinstance(self._source, SupportsPrefetch):
            return
        traveller = self._policy
        images = self._source.prefetch(
            self._series,
            patient_id=traveller.patient_id,
            count=self._inventory.record.instance_count,
            expected_uids=lambda kind: traveller.explain_refusal(kind) is None,
        )
        self._early = None if images is None else self._read(images)

    def images(self, refs: Sequence[Ref]) -> Iterator[Instance]:
        """Yield the images of these references; lazy.

        The early fetch is used if it fetches exactly what is wanted now, and if it yields anything.
        """
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
        images = self._source.fetch(refs, patient_id=self._policy.patient_id)
        self._reading = self._read(images)
        yield from self._reading

    def settle(self) -> None:
        """Wait for the current list if it is being requested; otherwise end the fetch."""
        if self._reading is not None:
            self._reading.close()

    def close(self) -> None:
        self.settle()
        if self._early is not None:
            self._early.close()

    def _read(self, images: Iterator[Instance]) -> ReadAhead:
        return ReadAhead(
            images,
            unblock=self._source.cancel_fetches,
            limit_bytes=self._policy.prefetch_bytes,
            stop=self._policy.stop,
            on_end=self._inventory.list_ahead,
        )


ROUNDS = 3
"""Number of requests for missing or new instances before they count as missing for good."""

FIRST_CONFIRM_AFTER = 200
"""Minimum number of stored instances per confirmation; later half of those confirmed so far."""

CONFIRM_EVERY_S = 5.0
"""Minimum interval between two confirmations, so that a fast destination is asked seldom."""


class SeriesTransfer:
    """The transfer of one series.

    `held` is the ledger of earlier attempts; what they delivered is not sent again.
    """

    def __init__(
        self,
        ref: SeriesRef,
        record: Record,
        source: SourceNode,
        policy: TransferPolicy,
        earlier_ledger: SeriesLedger | None,
    ) -> None:
        self.ref = ref
        self._policy = policy
        self._inventory = SeriesInventory(ref, record, source, policy.stop, policy.patient_id)
        self._prefetch = SeriesPrefetch(ref, source, policy, self._inventory)
        self._manifest = SeriesLedger(ref)
        self._before = earlier_ledger.delivered_entries() if earlier_ledger is not None else {}
        for uid in self._before:
            with suppress(InstanceWithheld):
                policy.claim(self._ref(uid))
        self._origin: dict[str, InstanceRef] = {}
        self._sent: set[str] = set()
        self._came_again: dict[str, set[str]] = {}
        """SHA-256 digests of instances received under a UID that had been sent already."""
        self._unrequested: set[str] = set()
        self._events: deque[InstanceEvent] = deque()
        self._notes: list[Message] = []
        self._remarks: list[Message] = []
        self._withheld_by_hit = False
        self._devices: dict[str, ImagingDevice] = {}
        self._changes: dict[str, ElementChanges | None] = {}

    # Transfer ----------------------------------------------------------------------------------

    def deliver(
        self, destination: Storable
    ) -> Iterator[SourceListing | InstanceEvent | SeriesOutcome]:
        """Yield SourceListing, InstanceEvents and SeriesOutcome; see study.transfer."""
        if not self._before:
            self._prefetch.begin_prefetch()
        try:
            yield from self._deliver(destination)
        finally:
            self._prefetch.close()

    def _deliver(
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
            reason = Message("rule-broken", error=broken.message)
            yield from self._end_the_rest(InstanceState.FAILED, reason)
            yield self._outcome()
            raise
        yield from self._end_the_rest(InstanceState.FAILED, Message("not-received"))
        yield self._outcome()

    def _outcome(self) -> SeriesOutcome:
        delivered = self._manifest.delivered_entries()
        self._notes += self._policy.rejections.remarks(delivered)
        if self._has_duplicates():
            self._notes.append(Message("series.two-objects-under-one-uid"))
        notes, remarks = (tuple(dict.fromkeys(said)) for said in (self._notes, self._remarks))
        return SeriesOutcome.from_ledger(self._manifest, notes, remarks)

    # Listing -----------------------------------------------------------------------------------

    def _list(self) -> SourceListing:
        listed = self._inventory.list_first()
        self._manifest.expected = listed.expected
        if listed.reason is not None:
            self._notes.append(listed.reason)
        return listed

    def _compare_with_source(self) -> Iterator[InstanceEvent]:
        """Compare with the source's current list: expect new images, fail vanished ones."""
        self._prefetch.settle()
        if self._manifest.expected is None:
            return
        difference = self._inventory.list_again(self._manifest.expected)
        if difference.new:
            self._notes.append(Message("series.new-images"))
            self._manifest.expected |= difference.new
            for uid in sorted(difference.new):
                yield from self._end_unrequested_image(uid)
        for uid in sorted(self._open() & difference.vanished):
            yield self._end(self._ref(uid), InstanceState.FAILED, Message("vanished"))

    def _take_over_delivered(self) -> None:
        for uid, entry in self._before.items():
            if self._manifest.expected is None or uid in self._manifest.expected:
                self._manifest.entries[uid] = entry

    # What is still to do -----------------------------------------------------------------------

    def _open(self) -> set[str]:
        """Return the listed instances that are not finished, even if the list is not trusted."""
        listed = self._manifest.expected
        return {
            uid
            for uid in (self._inventory.classes if listed is None else listed)
            if uid not in self._manifest.entries
            or self._manifest.entries[uid].state is InstanceState.STORED
        }

    def _missing(self) -> list[Ref]:
        """Return what to request: the whole series, or single instances if some are done."""
        if self._manifest.expected is None:
            ended = self._manifest.entries.keys() - self._before.keys() - self._unrequested
            return [] if self._origin or ended else [self.ref]
        open_uids = self._open()
        if open_uids == self._manifest.expected:
            return [self.ref]
        return [self._ref(uid) for uid in sorted(open_uids)]

    def _end_unrequested(self) -> Iterator[InstanceEvent]:
        """End what is withheld or skipped regardless of its content, without fetching it.

        That is decided by the SOP class, by a rejection note or by its availability.
        """
        for uid in sorted(self._open()):
            yield from self._end_unrequested_image(uid)

    def _end_unrequested_image(self, uid: str) -> Iterator[InstanceEvent]:
        end = self._policy.rejections.find_end_state(uid)
        if end is None:
            why = self._policy.explain_refusal(self._inventory.classes.get(uid, ""))
            end = (InstanceState.WITHHELD, why) if why is not None else None
        if end is None and uid in self._inventory.offline:
            end = (InstanceState.FAILED, Message("offline"))
        if end is not None:
            self._unrequested.add(uid)
            yield self._end(self._ref(uid), *end)

    # Sending -----------------------------------------------------------------------------------

    def _send(self, destination: Storable, refs: Sequence[Ref]) -> Iterator[InstanceEvent]:
        """Run one round; what the destination has taken is confirmed even if the round fails."""
        waiting: list[StoreResult] = []
        proven, asked_at = 0, time.monotonic()
        try:
            for stored in destination.store(self._instances(refs)):
                yield from self._pending_events()
                yield self._handle_stored(stored)
                if stored.is_stored:
                    waiting.append(stored)
                enough = len(waiting) >= max(FIRST_CONFIRM_AFTER, proven // 2)
                if enough and time.monotonic() > asked_at + CONFIRM_EVERY_S:
                    proven += len(waiting)
                    yield from self._confirm(destination, waiting)
                    asked_at = time.monotonic()
        except VerificationFailed:
            self._withheld_by_hit = True
        except (NodeError, Stopped, RuleViolation, PatientChanged):
            yield from self._pending_events()
            with suppress(NodeError, Stopped):
                yield from self._confirm(destination, waiting)
            raise
        yield from self._pending_events()
        yield from self._confirm(destination, waiting)
        if self._withheld_by_hit:
            yield from self._end_the_rest(InstanceState.WITHHELD, Message("series-held-back"))

    def _handle_stored(self, stored: StoreResult) -> InstanceEvent:
        ref = self._origin[stored.ref.instance_uid]
        if stored.error is not None:
            return self._end(ref, InstanceState.FAILED, stored.error)
        event = InstanceEvent(
            ref,
            InstanceState.STORED,
            stored.warning,
            stored.size_bytes,
            stored.sha256,
            device=self._devices.pop(ref.instance_uid, None),
            changes=self._changes.pop(ref.instance_uid, None),
            path=stored.path,
        )
        self._manifest.add(event)
        return event

    def _confirm(
        self, destination: Storable, waiting: list[StoreResult]
    ) -> Iterator[InstanceEvent]:
        """Ask the destination what it keeps, and end the instances that waited for it."""
        if not waiting:
            return
        batch = list(waiting)
        waiting.clear()
        kept, reasons = self._confirmations(destination, batch)
        for stored in batch:
            ref = self._origin[stored.ref.instance_uid]
            if stored.ref.instance_uid not in kept:
                reason = reasons.get(stored.ref.instance_uid, Message("not-kept.not-listed"))
                yield self._end(ref, InstanceState.FAILED, reason)
                continue
            entry = self._manifest.entries[ref.instance_uid]
            event = InstanceEvent(
                ref,
                InstanceState.DELIVERED,
                entry.reason,
                entry.size_bytes,
                entry.sha256,
                device=entry.device,
                changes=entry.changes,
                path=entry.path,
            )
            self._manifest.add(event)
            yield event

    def _confirmations(
        self, destination: Storable, batch: list[StoreResult]
    ) -> tuple[set[str], dict[str, Message]]:
        """Return the UIDs proven to be kept, and the reasons why others are not."""
        kept: set[str] = set()
        reasons: dict[str, Message] = {}
        try:
            for proof in destination.confirm(batch):
                if isinstance(proof, ConfirmationRemark):
                    self._remarks.append(proof.text)
                elif isinstance(proof, NotConfirmed):
                    reasons[proof.instance_uid] = proof.reason
                else:
                    kept.add(proof)
        except NotSupported:
            self._notes.append(Message("destination.no-proof"))
            kept = {stored.ref.instance_uid for stored in batch}
        return kept, reasons

    def _pending_events(self) -> Iterator[InstanceEvent]:
        while self._events:
            yield self._events.popleft()

    def _end(self, ref: InstanceRef, state: InstanceState, reason: Message) -> InstanceEvent:
        event = InstanceEvent(ref, state, reason, device=self._device(ref, state))
        self._manifest.add(event)
        return event

    def _device(self, ref: InstanceRef, state: InstanceState) -> ImagingDevice | None:
        """Return the device of a withheld instance; if not fetched, only its SOP class is known."""
        if state is not InstanceState.WITHHELD:
            return None
        listed = ImagingDevice(self._inventory.classes.get(ref.instance_uid, ""))
        return self._devices.pop(ref.instance_uid, listed)

    def _end_the_rest(self, state: InstanceState, reason: Message) -> Iterator[InstanceEvent]:
        for uid in sorted(self._open() | self._unanswered()):
            yield self._end(self._ref(uid), state, reason)

    def _unanswered(self) -> set[str]:
        """Return the UIDs sent to the destination for which it gave no result."""
        return self._sent - self._manifest.entries.keys()

    def _ref(self, uid: str) -> InstanceRef:
        return InstanceRef(self.ref.study_uid, self.ref.series_uid, uid)

    # Fetching, checking, changing ----------------------------------------------------------------

    def _instances(self, refs: Sequence[Ref]) -> Iterator[Instance]:
        """Yield the instances that may leave, changed and verified; lazy.

        VerificationFailed and RuleViolation are raised through the destination, so that it removes
        what is not visible there yet.
        """
        try:
            for instance in self._prefetch.images(refs):
                self._policy.stop.check()
                outgoing = self._prepare_instance(instance)
                if outgoing is not None:
                    yield outgoing
            if self._policy.changed is not None:
                raise self._policy.changed
        except BaseException:
            self._prefetch.close()
            raise

    def _prepare_instance(self, instance: Instance) -> Instance | None:
        """Return the instance as it may leave, or None if its end is recorded already."""
        ref = self._match_reference(instance)
        if ref is None:
            return None
        self._policy.rejections.add_note(instance)
        end = self._policy.rejections.find_end_state(ref.instance_uid)
        if end is not None:
            self._queue_end(ref, *end)
            return None
        try:
            if instance.defect:
                raise InstanceWithheld("fault", fault=instance.defect)
            says = instance.in_header
            self._policy.admit_patient(says.patient_id, says.trimmed(CHARACTER_SET))
            self._policy.claim(ref)
            outgoing, treatment = self._policy.prepare_outgoing(instance)
        except VerificationFailed as hit:
            self._devices[ref.instance_uid] = ImagingDevice.from_instance(instance).without_texts()
            self._queue_end(ref, InstanceState.WITHHELD, hit.message)
            raise
        except RuleViolation as broken:
            reason = Message("rule-broken", error=broken.message)
            self._queue_end(ref, InstanceState.FAILED, reason)
            raise
        except PatientChanged:
            return None
        except InstanceWithheld as held:
            self._devices[ref.instance_uid] = ImagingDevice.from_instance(instance)
            self._queue_end(ref, InstanceState.WITHHELD, held.message)
            return None
        if ref.instance_uid in self._sent:
            self._came_again.setdefault(ref.instance_uid, set()).add(outgoing.sha256())
            return None
        self._sent.add(ref.instance_uid)
        self._changes[ref.instance_uid] = treatment
        ruled = self._policy.find_ruled_device(instance)
        if ruled is not None:
            self._devices[ref.instance_uid] = ruled
        self._origin[outgoing.instance_uid] = ref
        return outgoing

    def _match_reference(self, instance: Instance) -> InstanceRef | None:
        """Return the reference if the instance is of this series, wanted and not finished."""
        try:
            ref = self._ref(instance.instance_uid) if instance.defect else instance.in_header.ref
        except AditError as error:
            self._end_unreadable(instance, error)
            return None
        if ref.series == self.ref and ref.instance_uid != instance.instance_uid:
            self._end_ambiguous(ref, instance)
            return None
        if ref.series != self.ref:
            self._notes.append(Message("series.foreign-object"))
            return None
        expected = self._manifest.expected
        if expected is not None and ref.instance_uid not in expected:
            self._notes.append(Message("series.new-images"))
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
                reason = Message("malformed.data-set", problem=error.message)
                self._queue_end(ref, InstanceState.WITHHELD, reason)

    def _end_ambiguous(self, inside: InstanceRef, instance: Instance) -> None:
        """Record the end under the UID that was listed."""
        for ref in (self._ref(instance.instance_uid), inside):
            if ref.instance_uid in self._open():
                self._queue_end(ref, InstanceState.WITHHELD, Message("two-uids"))
                return

    def _has_duplicates(self) -> bool:
        """Return whether different objects came under one UID; the same one twice is harmless."""
        entries = self._manifest.entries
        return any(
            uid in entries and entries[uid].sha256 and digests != {entries[uid].sha256}
            for uid, digests in self._came_again.items()
        )

    def _queue_end(self, ref: InstanceRef, state: InstanceState, reason: Message) -> None:
        self._events.append(self._end(ref, state, reason))
