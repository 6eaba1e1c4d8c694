"""Count images and bytes of an opened node and share its agreed rate.

The engine notifies a TransferMeter of each instance; the rate limiter of the node throttles. Used
by the gateway, the receiver process and the worker.
"""

import threading

from django.db.models import F, QuerySet, Sum
from django.utils import timezone

from adit.nodes.limits import learned_limits, response_times
from adit.nodes.models import Lane, Node, Slot
from adit.nodes.usage.daily_usage import LATE_PREFIX, REST_PREFIX
from adit_engine.nodes.base import TrafficObserver
from adit_engine.nodes.dimse.association_limits import AssociationLimits
from adit_engine.rate_limit import RateLimiter
from adit_engine.values.instance import Instance

KB = 1000
ASSOCIATIONS_OF_MOVE = 2
"""Associations of a C-MOVE: the one to the archive, and the one back from the archive."""


class TransferMeter(TrafficObserver):
    """Count the instances of one slot in engine threads; `write` writes them to the database."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.rate_limiter: RateLimiter | None = None
        self._lock = threading.Lock()
        self._images = self._size_bytes = 0
        self._answers_s: list[float] = []
        self.learned: AssociationLimits | None = None

    def retrieval_answered(self, seconds: float) -> None:
        with self._lock:
            self._answers_s.append(seconds)

    def instance_received(self, instance: Instance) -> None:
        self._count(instance)

    def instance_sent(self, instance: Instance) -> None:
        self._count(instance)

    def _count(self, instance: Instance) -> None:
        with self._lock:
            self._images += 1
            self._size_bytes += instance.size_bytes

    def write(self) -> None:
        """Write what was counted since the last call."""
        with self._lock:
            answers_s, self._answers_s = self._answers_s, []
            images, size_bytes = self._images, self._size_bytes
            self._images = self._size_bytes = 0
        if images:
            Slot.objects.filter(pk=self.slot.pk).update(
                images=F("images") + images, size_bytes=F("size_bytes") + size_bytes
            )
        response_times.record_times(self.slot.node, response_times.Measure.RETRIEVAL, answers_s)

    def apply_limits(self) -> None:
        """Apply the current rate of the node, and use one connection while it is slow."""
        node = Node.objects.filter(pk=self.slot.node_id).first()
        if node is None:
            return
        if self.rate_limiter is not None:
            self.rate_limiter.rate_bytes_s = _get_rate_share(node, self.slot)
        if self.learned is not None:
            learned_limits.apply_slowness(node, self.learned)


_meters: dict[int, TransferMeter] = {}
"""The meters of this process, by primary key of the slot."""


def start_metering(
    meter: TransferMeter, rate_limiter: RateLimiter | None, learned: AssociationLimits
) -> None:
    """Write the counts of this meter and adapt rate and limits of its node from now on."""
    meter.rate_limiter, meter.learned = rate_limiter, learned
    meter.apply_limits()
    _meters[meter.slot.pk] = meter


def stop_metering(slot: Slot) -> None:
    meter = _meters.pop(slot.pk, None)
    if meter is not None:
        meter.write()


def update_meters(holder: str) -> None:
    """Write the counts of all nodes that this holder has open, and apply their current limits.

    Called every few seconds.
    """
    for meter in tuple(_meters.values()):
        if meter.slot.holder == holder:
            meter.write()
            meter.apply_limits()


def _get_rate_share(node: Node, slot: Slot) -> float | None:
    """Bytes per second: the share of the slot in the rate of the node, by weight."""
    if node.rate_kb_s is None or slot.lane == Lane.SEARCH:
        return None
    mine = _open_slots(node.pk)
    own = mine.filter(pk=slot.pk).values_list("weight", flat=True).first() or 1
    return node.rate_kb_s * KB * own / _sum_weights(mine)


def get_move_rate(node: Node, moves: int) -> float | None:
    """Return the bytes per second that the node may send for `moves` C-MOVEs together.

    The rest of its rate is for its other associations. Late images of ended C-MOVEs use the same
    share.
    """
    if node.rate_kb_s is None:
        return None
    working = (
        _open_slots(node.pk)
        .exclude(holder__startswith=LATE_PREFIX)
        .exclude(holder__startswith=REST_PREFIX)
    )
    return node.rate_kb_s * KB * min(1.0, ASSOCIATIONS_OF_MOVE * moves / _sum_weights(working))


def _open_slots(node_id: int) -> QuerySet[Slot]:
    now = timezone.now()
    return Slot.objects.filter(node=node_id, expires_at__gt=now).exclude(lane=Lane.SEARCH)


def _sum_weights(slots: QuerySet[Slot]) -> int:
    return slots.aggregate(total=Sum("weight"))["total"] or 1
