"""Store instances by C-STORE, with one result for each (PS3.4 B.2). Used by the DIMSE node."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.association import ClientAssociation, OpenAssociations
from adit_engine.dicom_ul.command_set import Operation, make_request
from adit_engine.dicom_ul.pdu import MAX_CONTEXTS, PresentationContext
from adit_engine.errors import AditError, ConnectionLost, NodeError, NodeRefused
from adit_engine.messages import Message
from adit_engine.nodes.base import StoreResult
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Instance

DEFAULT_ASSOCIATIONS = 1
"""Associations at once, unless configured otherwise.

With two, the next image is sent while the node files the one before. Nothing waits for the second
to open: a node that serves one association at a time gets everything by the first.
"""

SECOND_ASSOCIATION_FROM = 8
SECOND_ASSOCIATION_FROM_BYTES = 16 * 1024 * 1024
"""Instances, or bytes, sent over one association before opening another is worth it."""

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

    def __enter__(self) -> "_StoreAssociation":
        return self

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
    """C-STORE of one stream over one or two associations.

    A new SOP class or transfer syntax may need new associations.
    """

    def __init__(self, associations: OpenAssociations, lanes: int = DEFAULT_ASSOCIATIONS) -> None:
        self._associations = associations
        self._name = associations.peer.name
        self._most_lanes = lanes
        self._offered: dict[str, list[str]] = {}
        self._stack = ExitStack()
        self._lanes: list[_StoreAssociation] = []
        self._pending: _StoreAssociation | None = None
        """A further association that was requested and is not accepted yet."""
        self._sent = self._sent_bytes = 0
        self._retries = MAX_VAIN_RETRIES

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Yield one result for each instance, in order. Lazy. Raises NodeError, Stopped.

        When the iterable raises, the results that are due come first.
        """
        due: deque[_PendingStore] = deque()
        stream = iter(instances)
        with self._stack:
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
                if len(due) == len(self._lanes) and not self._add_association_if_useful():
                    yield self._await_result(due.popleft())
                due.append(self._begin(self._get_idle(due), instance))
            while due:
                yield self._await_result(due.popleft())

    def _drain_results(self, due: deque[_PendingStore]) -> Iterator[StoreResult]:
        """Yield the pending results after the stream has failed, as long as the node responds."""
        with suppress(AditError):
            while due:
                yield self._await_result(due.popleft())

    def _begin(self, lane: _StoreAssociation, instance: Instance) -> _PendingStore:
        """Send an instance without waiting for the response."""
        self._prepare(lane, instance)
        outgoing = self._adapt_to_node(lane, instance)
        if isinstance(outgoing, Message):
            refusal = StoreResult(instance.in_header.ref, statuses.NO_SUCH_CLASS, error=outgoing)
            return _PendingStore(lane, instance, refusal)
        due = _PendingStore(lane, outgoing, is_re_encoded=outgoing is not instance)
        try:
            self._send(due)
        except ConnectionLost:
            self._resend(due)
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
        ref, status = due.instance.in_header.ref, self._receive_status(due)
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
        try:
            status = self._receive(due)
        except ConnectionLost:
            if due.is_second_try:
                raise
            self._resend(due)
            return self._receive(due)
        if not due.is_second_try and _is_retryable(status) and self._retries > 0:
            if statuses.is_busy(status):
                self._associations.pause(BUSY_PAUSE_S)
            self._resend(due)
            status = self._receive(due)
            if _is_retryable(status):
                self._retries -= 1
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

    def _resend(self, due: _PendingStore) -> None:
        due.is_second_try = True
        self._renew(due.lane)
        self._send(due)

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
        busy = {id(one.lane) for one in due}
        return next(lane for lane in self._lanes if id(lane) not in busy)

    def _add_association_if_useful(self) -> bool:
        """Add an association where it is allowed, worth it and accepted; return whether it was."""
        is_worth_it = (
            self._sent >= SECOND_ASSOCIATION_FROM
            or self._sent_bytes >= SECOND_ASSOCIATION_FROM_BYTES
        )
        if len(self._lanes) >= self._most_lanes or not is_worth_it:
            return False
        lane = self._pending or self._stack.enter_context(_StoreAssociation())
        try:
            if self._pending is None:
                self._pending = lane
                self._request(lane)
            assert lane.association is not None
            if not lane.association.poll(0):
                return False
            lane.association.finish_negotiation()
        except NodeError:
            lane.stack.close()
            self._most_lanes = len(self._lanes)
            return False
        self._lanes.append(lane)
        self._pending = None
        return True

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

    def _forget_oldest(self, kind: str) -> None:
        while sum(len(syntaxes) for syntaxes in self._offered.values()) > MAX_CONTEXTS:
            del self._offered[next(other for other in self._offered if other != kind)]

    def _renew(self, lane: _StoreAssociation) -> None:
        """Replace the association of a lane by a new one.

        A node that serves one at a time would first serve the one that was requested and never
        used.
        """
        if self._pending is not None:
            self._pending.stack.close()
            self._pending = None
            self._most_lanes = len(self._lanes)
        self._finish_request(lane, self._associations.open)

    def _request(self, lane: _StoreAssociation) -> None:
        """Request an association without waiting for the response."""
        self._finish_request(lane, self._associations.open_without_waiting)

    def _finish_request(self, lane: _StoreAssociation, asking: _RequestAssociation) -> None:
        lane.stack.close()
        lane.association = None
        contexts = [
            PresentationContext(k, (syntax,))
            for k, held in self._offered.items()
            for syntax in held
        ]
        lane.association = lane.stack.enter_context(asking(contexts))
        lane.proposed = {kind: tuple(held) for kind, held in self._offered.items()}


def _is_retryable(status: int) -> bool:
    return statuses.is_retryable(status) or statuses.is_busy(status)
