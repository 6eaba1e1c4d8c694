"""Meter: counts what travels to and from an opened node, and divides the rate agreed on."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import Any

from django.db.models import F, QuerySet, Sum
from django.utils import timezone

from adit.nodes.models import Lane, Node, Slot
from adit.nodes.usage.daily_usage import LATE_PREFIX, REST_PREFIX
from adit_engine.nodes.base import StoreResult
from adit_engine.rate_limit import RateLimiter
from adit_engine.values.instance import Instance

KB = 1000
ASSOCIATIONS_OF_MOVE = 2
"""Associations of a C-MOVE: ours, and the archive's."""


class TransferMeter:
    """Of one slot; counted in the threads of the engine, written by whoever looks."""

    def __init__(self, slot: Slot, pace: RateLimiter | None) -> None:
        self.slot = slot
        self.pace = pace
        self._lock = threading.Lock()
        self._images = self._size_bytes = 0

    def counted(self, instances: Iterable[Instance]) -> Iterator[Instance]:
        for instance in instances:
            with self._lock:
                self._images += 1
                self._size_bytes += instance.size_bytes
            yield instance

    def look(self) -> None:
        """Writes what was counted since the last look, and keeps to the rate of now."""
        with self._lock:
            images, size_bytes = self._images, self._size_bytes
            self._images = self._size_bytes = 0
        if images:
            Slot.objects.filter(pk=self.slot.pk).update(
                images=F("images") + images, size_bytes=F("size_bytes") + size_bytes
            )
        if self.pace is not None:
            self.pace.rate_bytes_s = _get_rate_share(self.slot)


_meters: dict[int, TransferMeter] = {}
"""By the slot's key, those of this process."""


def start_metering(node: Any, slot: Slot) -> Any:
    """The same node, whose images are counted on their way from now on.

    Not another one before it: since Python 3.12 what stands before a node is no longer seen to be
    all that the node is (Eager, Conversing, Triable).
    """
    meter = TransferMeter(slot, getattr(node, "pace", None))
    meter.look()
    _meters[slot.pk] = meter
    for name, counting in _COUNTERS.items():
        if hasattr(node, name):
            setattr(node, name, counting(meter, getattr(node, name)))
    return node


def _count_fetch(
    meter: TransferMeter, fetch: Callable[..., Iterator[Instance]]
) -> Callable[..., Any]:
    def counted(*args: Any, **values: Any) -> Iterator[Instance]:
        with closing(fetch(*args, **values)) as fetched:  # type: ignore[type-var]
            yield from meter.counted(fetched)

    return counted


def _count_fetch_early(meter: TransferMeter, fetch: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **values: Any) -> Iterator[Instance] | None:
        early = fetch(*args, **values)
        return None if early is None else _count_fetch(meter, lambda: early)()

    return counted


def _count_store(
    meter: TransferMeter, store: Callable[..., Iterator[StoreResult]]
) -> Callable[..., Any]:
    def counted(instances: Iterable[Instance], *args: Any, **values: Any) -> Iterator[StoreResult]:
        return store(meter.counted(instances), *args, **values)

    return counted


_COUNTERS = {"fetch": _count_fetch, "fetch_early": _count_fetch_early, "store": _count_store}


def stop_metering(slot: Slot) -> None:
    meter = _meters.pop(slot.pk, None)
    if meter is not None:
        meter.look()


def update_meters(holder: str) -> None:
    """Of all nodes that this holder has open; called every few seconds while it works."""
    for meter in tuple(_meters.values()):
        if meter.slot.holder == holder:
            meter.look()


def _get_rate_share(slot: Slot) -> float | None:
    """Bytes a second: the node's rate, by the weight of this one among all that are open."""
    rate = Node.objects.filter(pk=slot.node_id).values_list("rate_kb_s", flat=True).first()
    if rate is None or slot.lane == Lane.SEARCH:
        return None
    mine = _open_slots(slot.node_id)
    own = mine.filter(pk=slot.pk).values_list("weight", flat=True).first() or 1
    return rate * KB * own / _sum_weights(mine)


def get_move_rate(node: Node, moves: int) -> float | None:
    """Bytes a second for all that so many C-MOVEs make a node send; the rest is its other lines'.

    What is late of moves that ended comes out of the same share.
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
