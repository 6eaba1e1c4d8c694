"""C-MOVEs in progress as database rows, and how their images get to the worker. Used by gateway.

On one machine the images come through the common spool, between machines through RabbitMQ.
"""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from structlog.contextvars import bind_contextvars, get_contextvars

from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Lane, MoveInProgress, Node, Slot
from adit.nodes.receiving import commitment_reports, unexpected_senders
from adit.nodes.receiving.broker_receiver import BrokerReceiver
from adit.nodes.receiving.certificates import uses_tls
from adit.nodes.usage.daily_usage import LATE_PREFIX
from adit.nodes.usage.metering import ASSOCIATIONS_OF_MOVE
from adit_engine.messages import Message
from adit_engine.storage_scp.inbox import (
    CONFLICT_WAIT_S,
    SpooledImages,
    can_run_together,
    move_conflict_error,
)
from adit_engine.storage_scp.pending_moves import (
    AllowedSender,
    MoveImages,
    MoveTarget,
    PendingReport,
    UnexpectedArrival,
)
from adit_engine.storage_scp.pending_moves import PendingMove as Expected
from adit_engine.storage_scp.spool import Spool
from adit_engine.values.commitment_report import CommitmentReport
from adit_engine.values.instance import Instance

LATE_IMAGES_S = 30

SENDERS_WRITTEN_WITHIN_S = 3.0
"""The receiver writes what it received within this time."""

_RENEWALS_PER_LEASE = 15
"""How often a live worker renews its row before the row would expire."""

_POLL_S = 0.25


class ReceiverClient:
    """The receiver as seen by a node that the gateway opened. Use it in one thread at a time."""

    def __init__(self, row: Node, slot: Slot | None = None) -> None:
        self.ae_title = settings.CALLING_AE_TITLE
        self.address = _describe_address()
        self._node_id = row.pk
        self._name = row.name
        self._slot = slot
        self._about = get_contextvars()

    @contextmanager
    def expect(
        self, target: MoveTarget, check: Callable[[], None]
    ) -> Iterator["LeaseRenewingArrivals"]:
        """Register a C-MOVE for the block and yield its images.

        Raise NoSlot, NodeBusy, StorageError, ConnectionLost, and what `check` raises.
        """
        # Log entries of this engine thread belong to the same task.
        bind_contextvars(**self._about)
        receive = receive_by_broker if settings.HAND_OVER_URL else receive_by_spool
        try:
            self._count_both_associations()
            row = self._register_when_free(target, check)
            try:
                with receive(row) as awaited:
                    yield LeaseRenewingArrivals(awaited, row)
            except BaseException:
                self._count_late_images(row)
                raise
            finally:
                # The spool folder is already closed, so no image is accepted. If this fails, the
                # row is deleted later.
                with suppress(Error):
                    row.delete()
        finally:
            close_thread_connection()

    def unexpected_since(self, source: str, since: datetime) -> Sequence[UnexpectedArrival]:
        """Return what came unexpectedly and seems to belong to this node.

        Waits up to `SENDERS_WRITTEN_WITHIN_S`, because the receiver may not have written it yet.
        """
        until = time.monotonic() + SENDERS_WRITTEN_WITHIN_S
        try:
            while (
                not (found := unexpected_senders.find_for_node(source, since))
                and time.monotonic() < until
            ):
                time.sleep(_POLL_S)
            return found
        finally:
            close_thread_connection()

    @contextmanager
    def await_report(
        self, report_request: PendingReport, within_s: float
    ) -> Iterator[Callable[[], CommitmentReport | None]]:
        """Wait for a Storage Commitment report through a row that the receiver fills.

        The connection on which the archive sends the report is not counted as a slot.
        """
        try:
            with commitment_reports.expect_report(
                self._node_id, report_request, within_s
            ) as get_report:
                yield get_report
        finally:
            close_thread_connection()

    def _count_late_images(self, row: MoveInProgress) -> None:
        """Count the connection of a canceled C-MOVE for a while, because it may go on sending."""
        now = timezone.now()
        with suppress(Error):
            Slot.objects.create(
                node_id=self._node_id,
                lane=Lane.RETRIEVE,
                holder=f"{LATE_PREFIX}{row.token}",
                taken_at=now,
                expires_at=now + timedelta(seconds=LATE_IMAGES_S),
            )

    def _count_both_associations(self) -> None:
        """Count our association and that of the incoming images.

        The node is marked, so that next time both are counted from the start.
        """
        if self._slot is None:
            return
        Node.objects.filter(pk=self._node_id, uses_c_move=False).update(uses_c_move=True)
        if not slots.widen_slot(self._slot, ASSOCIATIONS_OF_MOVE):
            raise NoSlot(self._name, "node-unavailable.no-second-connection")

    def _register_when_free(self, wanted: MoveTarget, check: Callable[[], None]) -> MoveInProgress:
        until = time.monotonic() + CONFLICT_WAIT_S
        while time.monotonic() < until:
            row = self._try_register_move(wanted)
            if row is not None:
                return row
            check()
            time.sleep(_POLL_S)
        raise move_conflict_error(wanted)

    def _try_register_move(self, wanted: MoveTarget) -> MoveInProgress | None:
        """Return a new row, or None if another C-MOVE conflicts."""
        with transaction.atomic():
            # This lock serializes the decision.
            nodes = {
                node.pk: node for node in Node.objects.select_for_update(no_key=True).order_by("pk")
            }
            names = nodes[self._node_id].sends_move_originator
            for row in live_moves().filter(study_uid=wanted.study_uid):
                if not can_run_together(row_to_move(row).target, wanted, names):
                    return None
            return MoveInProgress.objects.create(
                node=nodes[self._node_id],
                token=secrets.token_hex(16),
                calling_ae_title=wanted.calling,
                allowed_senders=[
                    [one.ae_title, list(one.networks)] for one in wanted.allowed_senders
                ],
                study_uid=wanted.study_uid,
                series_uids=sorted(wanted.series_uids),
                instance_uids=sorted(wanted.instance_uids),
                expires_at=_get_expiry(),
                key=secrets.token_hex(32) if settings.HAND_OVER_URL else None,
            )


@contextmanager
def receive_by_spool(row: MoveInProgress) -> Iterator[MoveImages]:
    """Receive images from the spool on this machine."""
    spool = open_spool()
    try:
        spool.open(row.token)
        yield SpooledImages(spool, row_to_move(row))
    finally:
        spool.close(row.token)


@contextmanager
def receive_by_broker(row: MoveInProgress) -> Iterator[MoveImages]:
    """Receive images that the machine of the receiver sends through the broker."""
    folder = settings.SPOOL_DIR / "_parcels"
    url, secret = settings.HAND_OVER_URL, bytes.fromhex(str(row.key))
    delivery = BrokerReceiver(url, row_to_move(row), secret, folder)
    try:
        delivery.open()
        yield delivery
    finally:
        delivery.close()


class LeaseRenewingArrivals:
    """Renews its row for as long as images are requested."""

    def __init__(self, awaited: MoveImages, row: MoveInProgress) -> None:
        self.message_id = awaited.message_id
        self._awaited = awaited
        self._row_id = row.pk
        self._renew_at = _get_next_renewal()

    def take_images(self) -> Iterator[Instance]:
        if time.monotonic() > self._renew_at:
            self._renew_at = _get_next_renewal()
            MoveInProgress.objects.filter(pk=self._row_id).update(expires_at=_get_expiry())
        yield from self._awaited.take_images()

    def is_coming(self) -> bool:
        return self._awaited.is_coming()

    def is_throttled(self) -> bool:
        return self._awaited.is_throttled()

    def check_space(self) -> None:
        self._awaited.check_space()


def make_receiver_client(row: Node, slot: Slot | None = None) -> ReceiverClient | None:
    """Return a client, or None without a receiver. `slot` also counts incoming associations."""
    return ReceiverClient(row, slot) if settings.RECEIVER_PORT else None


def open_spool() -> Spool:
    return Spool(settings.SPOOL_DIR, settings.SPOOL_RESERVE_MB * 1024 * 1024)


def live_moves() -> QuerySet[MoveInProgress]:
    return MoveInProgress.objects.select_related("node").filter(expires_at__gt=timezone.now())


def row_to_move(row: MoveInProgress) -> Expected:
    """Return the row as the engine type."""
    wanted = MoveTarget(
        row.node.name,
        tuple(AllowedSender(title, tuple(networks)) for title, networks in row.allowed_senders),
        row.calling_ae_title,
        row.study_uid,
        frozenset(row.series_uids),
        frozenset(row.instance_uids),
    )
    return Expected(row.token, row.message_id, wanted)


def close_thread_connection() -> None:
    """Close the database connection of an engine thread; nothing else would close it."""
    if threading.current_thread() is not threading.main_thread() and not connection.in_atomic_block:
        connection.close()


def _describe_address() -> Message:
    unknown = "clause.receiver-server" if settings.HAND_OVER_URL else "clause.this-server"
    host = settings.RECEIVER_ADDRESS or Message(unknown)
    code = "clause.receiver-address-tls" if uses_tls() else "clause.receiver-address"
    return Message(code, host=host, port=settings.RECEIVER_PORT)


def _get_expiry() -> datetime:
    return timezone.now() + timedelta(seconds=settings.RECEPTION_LIVES_S)


def _get_next_renewal() -> float:
    return time.monotonic() + settings.RECEPTION_LIVES_S / _RENEWALS_PER_LEASE
