"""Reception: what a worker awaits from the receiver, as rows.

On one machine the images come through the spool that both use; between machines, through RabbitMQ.
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
from django.utils.translation import gettext as _
from structlog.contextvars import bind_contextvars, get_contextvars

from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Expectation, Lane, Node, Slot
from adit.nodes.receiving import commitment_reports, unexpected_senders
from adit.nodes.receiving.certificates import wants_tls
from adit.nodes.receiving.receiver import Delivery
from adit.nodes.usage.daily_use import LATE
from adit.nodes.usage.metering import BY_MOVE
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

LATE_S = 30

STRAYS_WITHIN_S = 3.0
"""So long after they came, what the receiver got is written at the latest."""

_RENEWED_WITHIN = 15
"""A worker that lives tells so as many times before it would count as dead."""

_LOOK_S = 0.25


class HouseReception:
    """For nodes opened in the house; used by one thread at a time, which may be any."""

    def __init__(self, row: Node, slot: Slot | None = None) -> None:
        self.ae_title = settings.CALLING_AE_TITLE
        elsewhere = "the receiver's machine" if settings.HAND_OVER_URL else "this machine"
        machine = settings.RECEIVER_ADDRESS or elsewhere
        secured = ", by TLS" if wants_tls() else ""
        self.address = f"{machine}, port {settings.RECEIVER_PORT}{secured}"
        self._node_id = row.pk
        self._name = row.name
        self._slot = slot
        self._about = get_contextvars()

    @contextmanager
    def expect(self, wanted: MoveTarget, check: Callable[[], None]) -> Iterator["HouseAwaited"]:
        """Raises NoSlot, NodeBusy, StorageTrouble, ConnectionLost, and what `check` raises."""
        # What the engine's thread logs is about this task, too.
        bind_contextvars(**self._about)
        way = by_broker if settings.HAND_OVER_URL else by_spool
        try:
            self._count_both()
            row = self._register_when_free(wanted, check)
            try:
                with way(row) as awaited:
                    yield HouseAwaited(awaited, row)
            except BaseException:
                self._stay_counted(row)
                raise
            finally:
                # Its folder in the spool is gone: it takes nothing. Else it is swept later.
                with suppress(Error):
                    row.delete()
        finally:
            leave_database()

    def strays(self, source: str, since: datetime) -> Sequence[UnexpectedArrival]:
        """Waits for STRAYS_WITHIN_S at most, for the receiver may not have written them yet."""
        until = time.monotonic() + STRAYS_WITHIN_S
        try:
            while (
                not (found := unexpected_senders.concerning(source, since))
                and time.monotonic() < until
            ):
                time.sleep(_LOOK_S)
            return found
        finally:
            leave_database()

    @contextmanager
    def await_report(
        self, asked: PendingReport, within_s: float
    ) -> Iterator[Callable[[], CommitmentReport | None]]:
        """Over the row that the receiver answers; an archive's connection for it is not counted."""
        try:
            with commitment_reports.awaited(self._node_id, asked, within_s) as come:
                yield come
        finally:
            leave_database()

    def _stay_counted(self, row: Expectation) -> None:
        """A cancelled C-MOVE may go on sending: for a while its connection counts as in use."""
        now = timezone.now()
        with suppress(Error):
            Slot.objects.create(
                node_id=self._node_id,
                lane=Lane.RETRIEVE,
                holder=f"{LATE}{row.token}",
                taken_at=now,
                expires_at=now + timedelta(seconds=LATE_S),
            )

    def _count_both(self) -> None:
        """Ours, and the one by which the images come; next time both are counted from the start."""
        if self._slot is None:
            return
        Node.objects.filter(pk=self._node_id, moves=False).update(moves=True)
        if not slots.widen(self._slot, BY_MOVE):
            raise NoSlot(self._name, _("no second connection is left for a C-MOVE"))

    def _register_when_free(self, wanted: MoveTarget, check: Callable[[], None]) -> Expectation:
        until = time.monotonic() + CONFLICT_WAIT_S
        while time.monotonic() < until:
            row = self._enter(wanted)
            if row is not None:
                return row
            check()
            time.sleep(_LOOK_S)
        raise move_conflict_error(wanted)

    def _enter(self, wanted: MoveTarget) -> Expectation | None:
        """A new row, unless another move stands in the way."""
        with transaction.atomic():
            # The lock that lets only one decide at a time.
            nodes = {
                node.pk: node for node in Node.objects.select_for_update(no_key=True).order_by("pk")
            }
            names = nodes[self._node_id].names_originator
            for row in live_rows().filter(study_uid=wanted.study_uid):
                if not can_run_together(expected(row).wanted, wanted, names):
                    return None
            return Expectation.objects.create(
                node=nodes[self._node_id],
                token=secrets.token_hex(16),
                calling=wanted.calling,
                senders=[[one.ae_title, list(one.networks)] for one in wanted.senders],
                study_uid=wanted.study_uid,
                series_uids=sorted(wanted.series_uids),
                instance_uids=sorted(wanted.instance_uids),
                expires_at=_expiry(),
                key=secrets.token_hex(32) if settings.HAND_OVER_URL else None,
            )


@contextmanager
def by_spool(row: Expectation) -> Iterator[MoveImages]:
    """The images lie on this machine as soon as they have come."""
    spool = house_spool()
    try:
        spool.open(row.token)
        yield SpooledImages(spool, expected(row))
    finally:
        spool.close(row.token)


@contextmanager
def by_broker(row: Expectation) -> Iterator[MoveImages]:
    """The images are sent here from the receiver's machine."""
    folder = settings.SPOOL_DIR / "_parcels"
    url, secret = settings.HAND_OVER_URL, bytes.fromhex(str(row.key))
    delivery = Delivery(url, expected(row), secret, folder)
    try:
        delivery.open()
        yield delivery
    finally:
        delivery.close()


class HouseAwaited:
    """Keeps its row alive for as long as somebody asks for images."""

    def __init__(self, awaited: MoveImages, row: Expectation) -> None:
        self.message_id = awaited.message_id
        self._awaited = awaited
        self._row_id = row.pk
        self._renew_at = _next_renewal()

    def arrived(self) -> Iterator[Instance]:
        if time.monotonic() > self._renew_at:
            self._renew_at = _next_renewal()
            Expectation.objects.filter(pk=self._row_id).update(expires_at=_expiry())
        yield from self._awaited.arrived()

    def is_coming(self) -> bool:
        return self._awaited.is_coming()

    def is_throttled(self) -> bool:
        return self._awaited.is_throttled()

    def check_room(self) -> None:
        self._awaited.check_room()


def house_reception(row: Node, slot: Slot | None = None) -> HouseReception | None:
    """None where no receiver runs. `slot` counts for what comes in, too."""
    return HouseReception(row, slot) if settings.RECEIVER_PORT else None


def house_spool() -> Spool:
    return Spool(settings.SPOOL_DIR, settings.SPOOL_RESERVE_MB * 1024 * 1024)


def live_rows() -> QuerySet[Expectation]:
    return Expectation.objects.select_related("node").filter(expires_at__gt=timezone.now())


def expected(row: Expectation) -> Expected:
    """As the engine has it."""
    wanted = MoveTarget(
        row.node.name,
        tuple(AllowedSender(title, tuple(networks)) for title, networks in row.senders),
        row.calling,
        row.study_uid,
        frozenset(row.series_uids),
        frozenset(row.instance_uids),
    )
    return Expected(row.token, row.message_id, wanted)


def leave_database() -> None:
    """A thread that the engine made has a connection of its own, which nobody else would close."""
    if threading.current_thread() is not threading.main_thread() and not connection.in_atomic_block:
        connection.close()


def _expiry() -> datetime:
    return timezone.now() + timedelta(seconds=settings.RECEPTION_LIVES_S)


def _next_renewal() -> float:
    return time.monotonic() + settings.RECEPTION_LIVES_S / _RENEWED_WITHIN
