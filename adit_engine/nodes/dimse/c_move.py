"""Retrieve images by C-MOVE, received by our Storage SCP (PS3.4 C.4.2). Used by `retrieve`."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from adit_engine.dicom_ul import identifier, statuses
from adit_engine.dicom_ul.association import ClientAssociation, DimseMessage, OpenAssociations
from adit_engine.dicom_ul.command_set import (
    CommandField,
    CommandSet,
    Operation,
    make_cancel_request,
    make_request,
)
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    NodeError,
    NodeRefused,
    Stopped,
    TimedOut,
)
from adit_engine.messages import Message
from adit_engine.nodes.dimse.c_get import PER_IMAGE_S, SPARE_S, UNCOMPRESSED, RetrieveRequest
from adit_engine.storage_scp.pending_moves import (
    AllowedSender,
    MoveImages,
    MoveReceiver,
    MoveTarget,
)
from adit_engine.values.instance import EXPLICIT_LE, Instance

STUDY_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
PATIENT_ROOT_MOVE = "1.2.840.10008.5.1.4.1.2.1.2"

CANCEL_WAIT_S = 3.0
"""How long an archive has to respond to a C-CANCEL before its association is aborted."""

_COUNTS = (CommandField.REMAINING, CommandField.COMPLETED, CommandField.FAILED, CommandField.WARNED)
_BYTES_PER_S = 5_000_000
"""The transfer of an image may take one second per this many bytes."""
_MIN_POLL_S, _MAX_POLL_S = 0.002, 0.05

ListedUids = Callable[[], frozenset[str]]
"""The instance UIDs of a request, as far as they are known by now; empty if not known yet."""


class CMove:
    """C-MOVE of requests one after the other.

    Each has a pending move of its own.
    """

    def __init__(
        self,
        associations: OpenAssociations,
        move_class: str,
        further_context: PresentationContext,
        reception: MoveReceiver,
        senders: tuple[AllowedSender, ...],
        drain_s: float,
        notify_answer: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`notify_answer` gets the seconds from each request until its first image, if known.

        `associations` are used by no one else; they may share a kept one. `further_context` is
        proposed for its next use.
        """
        self.peer = associations.peer
        self.notify_answer = notify_answer
        self.name = associations.peer.name
        self.associations = associations
        self.context = PresentationContext(move_class, UNCOMPRESSED)
        self._further_context = further_context
        self.reception = reception
        self.drain_s = drain_s
        self._senders = senders
        self._stopped = False
        self._busy = False
        self._timer: threading.Timer | None = None

    def stop(self) -> None:
        """Have the C-MOVE cancelled; abort when that takes too long. From any thread."""
        already, self._stopped = self._stopped, True
        if already or not self._busy:
            self.associations.abort()
        else:
            self._timer = threading.Timer(CANCEL_WAIT_S + 1, self.associations.abort)
            self._timer.daemon = True
            self._timer.start()

    def contexts(self) -> list[PresentationContext]:
        """Return the contexts to propose; for a kept association also that of what comes next."""
        is_kept = self.associations.kept.is_keeping
        return [self.context, self._further_context] if is_kept else [self.context]

    def check(self) -> None:
        """Raise Stopped after a stop."""
        if self._stopped:
            raise Stopped("node.stopped", node=self.name)

    def images(
        self, request: RetrieveRequest, listed: ListedUids, count: int | None = None
    ) -> Iterator[Instance]:
        """Yield the images. Lazy. `count` is their number if known before `listed` is.

        Ends normally when a final status that is not a failure has come, and then either all listed
        images, or none for `drain_s`. Raises NodeError, Stopped.
        """
        with self.reception.expect(self._make_target(request, listed()), self.check) as awaited:
            self._busy = True
            try:
                yield from _MoveOperation(self, request, awaited, listed, count).images()
            finally:
                self._busy = False
                if self._timer is not None:
                    self._timer.cancel()

    def _make_target(self, request: RetrieveRequest, listed: frozenset[str]) -> MoveTarget:
        series = frozenset({request.series_uid} if request.series_uid else ())
        rate_bytes_s = self.peer.timeouts.rate_limiter.rate_bytes_s
        asked = request.study_uid, series, listed
        return MoveTarget(self.name, self._senders, self.peer.calling, *asked, rate_bytes_s)


class _MoveOperation:
    """One C-MOVE: its request, its responses, and the images that arrive during and after it."""

    def __init__(
        self,
        moving: CMove,
        request: RetrieveRequest,
        awaited: MoveImages,
        listed: ListedUids,
        count: int | None,
    ) -> None:
        self._mover = moving
        self._request = request
        self._awaited = awaited
        self._listed = listed
        self._received: set[str] = set()
        self._counts: tuple[int | None, ...] = ()
        patience = moving.peer.timeouts
        self._no_progress_s = patience.no_progress_s
        self._rate_limiter = patience.rate_limiter
        self._left_s = patience.total_s
        expected = len(listed()) or count
        if expected:
            self._left_s = min(self._left_s, SPARE_S + PER_IMAGE_S * expected)
        self._deadline = self._within_s = 0.0
        self._look_s = _MIN_POLL_S
        self._sent_at: float | None = None

    def images(self) -> Iterator[Instance]:
        yield from self._mover.associations.request(
            self._mover.contexts(), self._receive_until_response
        )
        yield from self._receive_late_images()

    def _receive_until_response(self, association: ClientAssociation) -> Iterator[Instance]:
        number = self._send_request(association)
        try:
            while True:
                yield from self._take_images()
                if not self._wait_for_response(association):
                    continue
                message = self._receive_response(association)
                if message.command.is_response_to(Operation.MOVE, number):
                    status = message.command.status
                    if status is None or status not in statuses.PENDING:
                        break
                    self._record_counts(message.command)
        except (GeneratorExit, Stopped):
            self._cancel(association, number, CANCEL_WAIT_S)
            raise
        except NodeError as error:
            # Images in the spool have arrived and count, whatever happens to the rest.
            if isinstance(error, TimedOut):
                self._cancel(association, number, 0)
            yield from self._take_images()
            if self._received:
                association.is_unproven = False
            raise
        yield from self._take_images()
        if self._listed() - self._received or status != statuses.SUCCESS:
            self._awaited.check_space()
        self._finish(status)

    def _receive_response(self, association: ClientAssociation) -> DimseMessage:
        try:
            return association.receive(self._no_progress_s, "clause.await-retrieval")
        except ConnectionLost as error:
            # Orthanc 1.12 and others give no other sign that they do not know our AE title.
            if self._received or self._counts:
                raise
            title, address = self._mover.reception.ae_title, self._mover.reception.address
            raise ConnectionLost(
                self._mover.name, "c-move.association-ended", ae_title=title, address=address
            ) from error

    def _send_request(self, association: ClientAssociation) -> int:
        moving, agreement = self._mover, association.negotiated
        context_id = agreement.context_of(moving.context.class_uid)
        if context_id is None:
            raise statuses.not_offered_error(moving.name, "C-MOVE")
        number = self._awaited.message_id
        command = make_request(
            Operation.MOVE,
            number,
            moving.context.class_uid,
            data=True,
            destination=moving.reception.ae_title,
        )
        explicit = agreement.contexts[context_id][1] == EXPLICIT_LE
        association.send(
            context_id,
            command,
            [identifier.encode_identifier(self._request.identifier(), explicit)],
        )
        self._sent_at = time.monotonic()
        self._within_s = self._mover.peer.timeouts.first_byte_s
        self._deadline = self._sent_at + self._within_s
        return number

    def _take_images(self) -> Iterator[Instance]:
        """Yield what has arrived by now."""
        for instance in self._awaited.take_images():
            self._received.add(instance.instance_uid)
            if self._sent_at is not None:
                self._notify_answer(time.monotonic() - self._sent_at, instance.size_bytes)
                self._sent_at = None
            self._left_s += self._rate_limiter.transfer_time_s(instance.size_bytes)
            yield instance
            self._extend_deadline()

    def _notify_answer(self, seconds: float, size_bytes: int) -> None:
        """Report the time until an image was complete, without what its transfer may have taken."""
        own_rate_s = self._rate_limiter.transfer_time_s(size_bytes)
        waited_s = seconds - max(own_rate_s, size_bytes / _BYTES_PER_S)
        if waited_s > 0:
            self._mover.notify_answer(waited_s)

    def _wait_for_response(self, association: ClientAssociation) -> bool:
        """Return whether a response is available within a moment. Raises TimedOut, Stopped."""
        self._mover.check()
        self._look_s = min(2 * self._look_s, _MAX_POLL_S)
        started = time.monotonic()
        heard = association.poll(self._look_s)
        now = time.monotonic()
        self._left_s -= now - started
        if self._left_s <= 0 and not self._is_throttled_by_us():
            hint = Message("clause.hint-retry")
            raise TimedOut(self._mover.name, "connection.total-time-exceeded", hint=hint)
        if not heard and now > self._deadline:
            if not self._awaited.is_coming():
                raise self._timeout_error()
            self._deadline = now + 1
        return heard

    def _is_throttled_by_us(self) -> bool:
        """Whether our own side keeps to the rate of the source, which does not count against it."""
        return self._rate_limiter.rate_bytes_s is not None and self._awaited.is_throttled()

    def _extend_deadline(self) -> None:
        self._look_s = _MIN_POLL_S
        self._within_s = self._no_progress_s
        self._deadline = time.monotonic() + self._no_progress_s

    def _record_counts(self, command: CommandSet) -> None:
        """Record the counts of a response. Unchanged counts are no progress."""
        counts = tuple(command.number(field) for field in _COUNTS)
        if self._counts and counts != self._counts:
            self._extend_deadline()
        self._counts = counts

    def _finish(self, status: int | None) -> None:
        """Raise NodeBusy or NodeRefused for a failure.

        The counts of the response are not trusted.
        """
        name, reception = self._mover.name, self._mover.reception
        if status is None:
            raise NodeRefused(name, "retrieval.no-status")
        if status == statuses.SUCCESS or status >> 12 == 0xB:
            return
        # Some were not sent, or it gave up at the first of them; our own count says which arrived.
        if not statuses.is_retrieve_failure(status) or not self._received:
            raise statuses.move_status_error(name, status, reception.ae_title, reception.address)

    def _receive_late_images(self) -> Iterator[Instance]:
        """Yield late images.

        Some archives respond with success before the images are received, or even sent.
        """
        quiet_at = time.monotonic() + self._mover.drain_s
        while not (listed := self._listed()) or listed - self._received:
            for instance in self._take_images():
                yield instance
                quiet_at = time.monotonic() + self._mover.drain_s
            self._mover.check()
            if time.monotonic() > quiet_at and not self._awaited.is_coming():
                return
            time.sleep(min(self._look_s, _MAX_POLL_S))
            self._look_s = min(2 * self._look_s, _MAX_POLL_S)

    def _cancel(self, association: ClientAssociation, number: int, timeout_s: float) -> None:
        """Send a C-CANCEL and wait up to `patience_s`; the association is aborted afterwards."""
        context_id = association.negotiated.context_of(self._mover.context.class_uid)
        until = time.monotonic() + timeout_s
        with suppress(AditError):
            association.send(context_id or 1, make_cancel_request(number))
            while (left_s := until - time.monotonic()) > 0 and association.poll(left_s):
                command = association.receive(left_s, "clause.await-cancel").command
                is_mine = command.is_response_to(Operation.MOVE, number)
                if is_mine and command.status not in statuses.PENDING:
                    association.release()
                    return

    def _timeout_error(self) -> TimedOut:
        awaited = "clause.await-next-image" if self._received else "clause.await-first-image"
        return TimedOut(
            self._mover.name,
            "connection.timed-out",
            awaited=Message(awaited),
            seconds=f"{self._within_s:g}",
            hint=Message("clause.hint-retry"),
        )
