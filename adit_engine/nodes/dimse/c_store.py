"""Store instances by C-STORE, with one result for each (PS3.4 B.2). Used by the DIMSE node."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.association import ClientAssociation, OpenAssociations
from adit_engine.dicom_ul.command_set import Operation, make_request
from adit_engine.dicom_ul.pdu import MAX_CONTEXTS, PresentationContext
from adit_engine.errors import AditError, ConnectionLost, NodeError, NodeRefused, TimedOut
from adit_engine.messages import Message
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.dimse.association_limits import LearnedLimit
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Instance

DEFAULT_ASSOCIATIONS = 1
"""Associations at once, unless configured otherwise.

With more, the next image is sent while the node files the one before. Nothing waits for a further
one to open: a node that serves one association at a time gets everything by the first.
"""

SECOND_ASSOCIATION_FROM = 4
SECOND_ASSOCIATION_FROM_BYTES = 16 * 1024 * 1024
"""Instances, or bytes, sent over one association before opening another is worth it.

Another one that is kept from the series before is used after the first instance. Unless they are so
large, instances are sent over one association until its pace is known.
"""

SERVED_WITHIN_S = 2.0
"""An association that was not accepted for so long will not be, while others are open."""

MAX_VAIN_RETRIES = 5
"""After this many retries that did not help, a failure is not retried any more."""

BUSY_PAUSE_S = 1.0
"""Pause before the retry at a node that is out of resources."""

_RequestAssociation = Callable[
    [Sequence[PresentationContext]], AbstractContextManager[ClientAssociation]
]

_BYTES_PER_S = 5_000_000
"""A node may take longer to respond for a large object: one second per this many bytes."""


class _StoreAssociation:
    """One association at a time, and what it has proposed; at most one response is due on it."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.association: ClientAssociation | None = None
        self.proposed: dict[str, tuple[str, ...]] = {}
        self.requested_at = time.monotonic()

    def __enter__(self) -> "_StoreAssociation":
        return self

    def request_release(self) -> None:
        """Have the association released at the end of its use, even where it could be kept."""
        if self.association is not None:
            self.association.request_release()

    def close(self) -> None:
        """End the use of the association; `_prepare` opens another one if it is used again."""
        self.stack.close()
        self.association = None

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)


@dataclass
class _PendingStore:
    """An instance that was sent to the node, or that needs no sending: then `answer` is set."""

    lane: _StoreAssociation
    instance: Instance
    answer: StoreResult | None = None
    is_re_encoded: bool = False
    digest: str = ""
    number: int = 0
    is_second_try: bool = False


class CStore:
    """C-STORE of one stream over one or more associations.

    A new SOP class or transfer syntax may need new associations. `learned` lowers their number, and
    is told what the node turns out to serve.
    """

    def __init__(
        self,
        associations: OpenAssociations,
        lanes: int = DEFAULT_ASSOCIATIONS,
        learned: LearnedLimit | None = None,
        further_contexts: Sequence[PresentationContext] = (),
    ) -> None:
        """`further_contexts` are proposed too, for the next use of a kept association."""
        self._associations = associations
        self._further_contexts = further_contexts
        self._name = associations.peer.name
        self._learned = learned or LearnedLimit()
        self._most_lanes = self._learned.apply(lanes)
        self._offered: dict[str, list[str]] = {}
        self._stack = ExitStack()
        self._lanes: list[_StoreAssociation] = []
        self._requested: list[_StoreAssociation] = []
        """Further associations that were requested and are not accepted yet."""
        self._spare_tries = 0
        """Losses that do not count as a try: the node may still see requests that were given up."""
        self._due: deque[_PendingStore] = deque()
        self._sent = self._sent_bytes = 0
        self._retries = MAX_VAIN_RETRIES

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Yield one result for each instance, in order. Lazy. Raises NodeError, Stopped.

        When the iterable raises, the results that are due come first.
        """
        try:
            with self._stack:
                yield from self._store(iter(instances))
        finally:
            self._due.clear()
            self._lanes.clear()

    def _store(self, stream: Iterator[Instance]) -> Iterator[StoreResult]:
        due = self._due
        self._add_association()
        while True:
            try:
                instance = next(stream, None)
            except AditError:
                yield from self._drain_results(due)
                raise
            if instance is None:
                break
            self._associations.check_aborted()
            while len(due) >= len(self._lanes) and not self._add_associations_if_useful():
                yield self._await_result(due.popleft())
            due.append(self._begin(self._get_idle(due), instance))
            self._compare_pace()
        while due:
            yield self._await_result(due.popleft())
        self._give_up_requested()
        if not self._associations.kept.is_keeping:
            for lane in self._lanes:
                lane.request_release()

    def make_room(self) -> None:
        """Release an association, for a request of another kind to the node.

        Called between two results. It is opened again when storing goes on.
        """
        self._give_up_requested()
        if not self._lanes:
            return
        last = self._lanes[-1]
        self._close_lane(last)
        last.close()

    def _drain_results(self, due: deque[_PendingStore]) -> Iterator[StoreResult]:
        """Yield the pending results after the stream has failed, as long as the node responds."""
        with suppress(AditError):
            while due:
                yield self._await_result(due.popleft())

    def _begin(self, lane: _StoreAssociation, instance: Instance) -> _PendingStore:
        """Send an instance without waiting for the response."""
        began = time.monotonic()
        due = self._begin_unmeasured(lane, instance)
        self._add_pace(began, 1, instance.size_bytes)
        return due

    def _begin_unmeasured(self, lane: _StoreAssociation, instance: Instance) -> _PendingStore:
        lane = self._prepare_any(lane, instance)
        outgoing = self._adapt_to_node(lane, instance)
        if isinstance(outgoing, Message):
            refusal = StoreResult(instance.in_header.ref, statuses.NO_SUCH_CLASS, error=outgoing)
            return _PendingStore(lane, instance, refusal)
        due = _PendingStore(lane, outgoing, is_re_encoded=outgoing is not instance)
        try:
            self._send(due)
        except (ConnectionLost, TimedOut) as error:
            self._reconnect(due, error)
        self._sent += 1
        self._sent_bytes += outgoing.size_bytes
        due.digest = outgoing.sha256()
        return due

    def _await_result(self, due: _PendingStore) -> StoreResult:
        """Wait for the response; retry once over a new association after some failures.

        A lost connection is retried in the same way.
        """
        if due.answer is not None:
            return due.answer
        began = time.monotonic()
        ref, status = due.instance.in_header.ref, self._receive_status(due)
        self._add_pace(began)
        if status != statuses.SUCCESS and not statuses.is_stored_with_warning(status):
            return StoreResult(ref, status, error=statuses.describe_store_error(status))
        warning = statuses.describe_store_warning(status) if status != statuses.SUCCESS else None
        if due.is_re_encoded:
            syntax = due.instance.transfer_syntax_uid
            warning = statuses.describe_re_encoding(syntax, warning)
        size = due.instance.size_bytes
        kind = due.instance.sop_class_uid
        return StoreResult(ref, status, warning, size_bytes=size, sha256=due.digest, class_uid=kind)

    def _receive_status(self, due: _PendingStore) -> int:
        while True:
            try:
                status = self._receive(due)
                break
            except (ConnectionLost, TimedOut) as error:
                if due.is_second_try:
                    raise
                self._reconnect(due, error)
        if not due.is_second_try and _is_retryable(status) and self._retries > 0:
            count = len(self._lanes)
            if is_busy := statuses.is_busy(status):
                self._limit_lanes(count // 2)
                self._associations.pause(BUSY_PAUSE_S)
            self._resend(due)
            status = self._receive(due)
            if _is_retryable(status):
                self._retries -= 1
            elif is_busy and count > 1:
                self._learned.lower(count // 2, "association-limit.busy")
        return status

    def _adapt_to_node(self, lane: _StoreAssociation, instance: Instance) -> Instance | Message:
        """Return the instance, re-encoded if necessary, or why the node does not accept it."""
        assert lane.association is not None
        kind = instance.sop_class_uid
        syntaxes = lane.association.negotiated.syntaxes(kind)
        syntax = instance.transfer_syntax_uid
        if syntax in syntaxes:
            return instance
        if not syntaxes:
            return Message("refused.sop-class", sop_class=statuses.describe_uid(kind))
        from adit_engine.nodes.reencode import reencode  # slow to load, and rarely needed

        other = reencode(instance, syntaxes)
        if other is None:
            name = statuses.describe_uid(syntax)
            return Message("refused.transfer-syntax", transfer_syntax=name)
        return other

    def _reconnect(self, due: _PendingStore, error: ConnectionLost | TimedOut) -> None:
        """Send again after the association was lost, perhaps because a further one was requested.

        Each request that was given up may cause one such loss, which does not count as a try; nor
        does the loss of an association that was kept. After any other time-out, the first
        association takes over; raises that of the first one.
        """
        association = due.lane.association
        assert association is not None
        if association.is_unproven:
            self._associations.kept.record_lost(error)
            self._spare_tries += 1
        elif isinstance(error, TimedOut):
            if due.lane is self._lanes[0]:
                raise error
            due.is_second_try = True
            association.close()  # a release would wait for it too
            self._move_to_other_lane(due)
            self._send(due)
            return
        if self._requested:
            self._learned.lower(len(self._lanes), "association-limit.lost")
        while True:
            try:
                self._resend(due)
                break
            except ConnectionLost:
                if not self._spare_tries:
                    raise
                self._spare_tries -= 1
        if self._spare_tries:
            self._spare_tries -= 1
            due.is_second_try = False

    def _resend(self, due: _PendingStore) -> None:
        due.is_second_try = True
        due.lane.close()
        self._associations.kept.release()
        try:
            self._renew(due.lane)
        except NodeError:
            if len(self._lanes) == 1:
                raise
            self._move_to_other_lane(due)
        self._send(due)

    def _move_to_other_lane(self, due: _PendingStore) -> None:
        """Give up the association of an instance, and prepare another one for it."""
        due.lane = self._prepare_any(self._replace(due.lane), due.instance)
        self._learned.lower(len(self._lanes), "association-limit.lost")

    def _replace(self, lane: _StoreAssociation) -> _StoreAssociation:
        """Give up an association; return another one, on which no response is due."""
        self._lanes.remove(lane)
        lane.stack.close()
        self._limit_lanes(len(self._lanes))
        self._close_due(self._lanes[0])
        return self._lanes[0]

    def _send(self, due: _PendingStore) -> None:
        association, instance = due.lane.association, due.instance
        assert association is not None
        kind, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
        context_id = association.negotiated.context_for(kind, syntax)
        if context_id is None:
            raise NodeRefused(self._name, "c-store.context-lost")
        due.number = association.next_message_id()
        uid = instance.in_header.ref.instance_uid
        command = make_request(Operation.STORE, due.number, kind, data=True, instance_uid=uid)
        association.send(context_id, command, instance.parts())

    def _receive(self, due: _PendingStore) -> int:
        association = due.lane.association
        assert association is not None
        patience = association.peer.timeouts
        patience_s = patience.no_progress_s + due.instance.size_bytes / _BYTES_PER_S
        answer = association.receive(patience_s, "clause.await-store").command
        status = answer.status
        is_mine = answer.is_response_to(Operation.STORE, due.number)
        # C-STORE has no pending responses, and nothing would say which one is the last.
        if not is_mine or status is None or status in statuses.PENDING:
            raise association.protocol_error(
                "association.wrong-response", request=Message("clause.request-store")
            )
        return status

    # Associations ------------------------------------------------------------------------------

    def _get_idle(self, due: Iterable[_PendingStore]) -> _StoreAssociation:
        busy = {id(one.lane) for one in due if one.answer is None}
        return next(lane for lane in self._lanes if id(lane) not in busy)

    def _add_associations_if_useful(self) -> bool:
        """Add associations where allowed, worth it and accepted; return whether one was added."""
        if len(self._lanes) >= self._most_lanes or not self._is_worth_it():
            return False
        count = len(self._lanes)
        while len(self._lanes) + len(self._requested) < min(self._most_lanes, 1 + self._sent):
            lane = self._stack.enter_context(_StoreAssociation())
            self._requested.append(lane)
            try:
                self._request(lane)
            except NodeError as error:
                self._refuse(lane, error)
                break
        for lane in tuple(self._requested):
            assert lane.association is not None
            if not lane.association.is_usable:
                try:
                    if not lane.association.poll(0):
                        continue
                    lane.association.finish_negotiation()
                    self._require_same_contexts(lane)
                except NodeError as error:
                    self._refuse(lane, error)
                    continue
            self._requested.remove(lane)
            self._lanes.append(lane)
        return len(self._lanes) > count

    def _require_same_contexts(self, lane: _StoreAssociation) -> None:
        """Raise NodeRefused if the node accepts less over this association than over the first."""
        first = self._lanes[0]
        if first.association is None or lane.association is None:
            return
        for kind in lane.proposed.keys() & first.proposed.keys():
            accepted = set(first.association.negotiated.syntaxes(kind))
            missing = accepted - set(lane.association.negotiated.syntaxes(kind))
            if missing & set(lane.proposed[kind]):
                lane.request_release()
                raise NodeRefused(self._name, "c-store.context-lost")

    def _is_worth_it(self) -> bool:
        if self._sent_bytes >= SECOND_ASSOCIATION_FROM_BYTES:
            return True
        worth_it_from = 1 if self._associations.kept.has_idle else SECOND_ASSOCIATION_FROM
        return self._sent >= worth_it_from and not self._learned.single_images_left

    def _refuse(self, lane: _StoreAssociation, error: NodeError) -> None:
        """Give up a further association that the node refused, and request no more."""
        self._requested.remove(lane)
        lane.stack.close()
        self._spare_tries += 1
        self._limit_lanes(len(self._lanes) + len(self._requested))
        is_lost = isinstance(error, ConnectionLost)
        reason = "association-limit.lost" if is_lost else "association-limit.busy"
        self._learned.lower(self._most_lanes, reason)

    def _limit_lanes(self, most: int) -> None:
        """Use at most so many associations from now on."""
        self._most_lanes = max(1, min(most, self._most_lanes))

    def _give_up_requested(self) -> None:
        for lane in self._requested:
            if time.monotonic() - lane.requested_at > SERVED_WITHIN_S:
                self._limit_lanes(len(self._lanes))
                self._learned.lower(len(self._lanes), "association-limit.not-served")
            lane.close()
        self._requested.clear()

    def _close_lane(self, lane: _StoreAssociation) -> None:
        """Release an association once the response that is due on it has come."""
        self._close_due(lane)
        if lane in self._lanes[1:]:
            self._lanes.remove(lane)
            lane.request_release()
            lane.close()

    def _close_due(self, lane: _StoreAssociation) -> None:
        for one in self._due:
            if one.lane is lane and one.answer is None:
                one.answer = self._await_result(one)

    def _compare_pace(self) -> None:
        """Go on with one association if several turn out to be slower."""
        if self._learned.is_slow:
            self._drop_requested()
            self._limit_lanes(1)
        if len(self._lanes) > 1 and self._learned.compare_pace():
            self._limit_lanes(1)
            self._give_up_requested()
        while len(self._lanes) > self._most_lanes:
            self._close_lane(self._lanes[-1])

    def _add_pace(self, began: float, images: int = 0, size_bytes: int = 0) -> None:
        """Add the seconds since `began`, which source and consumer have no part in."""
        seconds = time.monotonic() - began
        self._learned.pace.add(len(self._lanes), seconds, images, size_bytes)

    def _add_association(self) -> None:
        self._lanes.append(self._stack.enter_context(_StoreAssociation()))

    def _prepare(self, lane: _StoreAssociation, instance: Instance) -> None:
        """Ensure an open association that has proposed this SOP class and transfer syntax."""
        kind, syntax = instance.sop_class_uid, instance.transfer_syntax_uid
        offered = self._offered.setdefault(kind, [EXPLICIT_LE, IMPLICIT_LE])
        if syntax not in offered and syntax not in (DEFLATED_LE, EXPLICIT_BE):
            offered.append(syntax)
        usable = lane.association is not None and not lane.association.is_closed
        if not usable or not set(offered) <= set(lane.proposed.get(kind, ())):
            self._forget_oldest(kind)
            self._renew(lane)

    def _prepare_any(self, lane: _StoreAssociation, instance: Instance) -> _StoreAssociation:
        """Do what `_prepare` does, without the associations that the node does not open again."""
        count = len(self._lanes)
        while True:
            try:
                self._prepare(lane, instance)
                break
            except NodeError:
                if len(self._lanes) == 1:
                    raise
                lane = self._replace(lane)
        if len(self._lanes) < count:
            self._learned.lower(len(self._lanes), "association-limit.busy")
        return lane

    def _forget_oldest(self, kind: str) -> None:
        most = MAX_CONTEXTS - len(self._further_contexts)
        while sum(len(syntaxes) for syntaxes in self._offered.values()) > most:
            del self._offered[next(other for other in self._offered if other != kind)]

    def _renew(self, lane: _StoreAssociation) -> None:
        """Replace the association of a lane by a new one.

        A node that serves one at a time would first serve those that were requested and never used.
        """
        self._drop_requested()
        self._finish_request(lane, self._associations.reuse)
        self._require_same_contexts(lane)

    def _drop_requested(self) -> None:
        if self._requested:
            for requested in self._requested:
                requested.stack.close()
            self._spare_tries += len(self._requested)
            self._requested.clear()
            self._limit_lanes(len(self._lanes))

    def _request(self, lane: _StoreAssociation) -> None:
        """Use a kept association, or request one without waiting for the response."""
        self._finish_request(lane, partial(self._associations.reuse, waits=False))

    def _finish_request(self, lane: _StoreAssociation, asking: _RequestAssociation) -> None:
        lane.stack.close()
        lane.association = None
        contexts = [
            PresentationContext(k, (syntax,))
            for k, held in self._offered.items()
            for syntax in held
        ]
        contexts += self._further_contexts
        lane.association = lane.stack.enter_context(asking(contexts))
        lane.proposed = {kind: tuple(held) for kind, held in self._offered.items()}


def _is_retryable(status: int) -> bool:
    return statuses.is_retryable(status) or statuses.is_busy(status)
