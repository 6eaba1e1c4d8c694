"""Hourly use of nodes and the times of their answers, for the monthly sheet of a node.

Used by slots, by the measurement of answers, and by the sheet.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from adit.nodes.calendar import allowed_hours
from adit.nodes.models import Lane, Node, NodeHourlyUsage, Slot
from adit_engine.errors import InvalidInput

_HOUR = timedelta(hours=1)


def record_slots(slots: Iterable[Slot]) -> None:
    """Add ended connections: the peak in each hour they were open, the rest in the last one.

    The caller has removed slots that no process works with, and orders them by node.
    """
    for slot in slots:
        end = min(timezone.now(), slot.expires_at)
        is_search = slot.lane == Lane.SEARCH
        last, hour = _begin_of_hour(end), _begin_of_hour(slot.taken_at)
        while not is_search and hour < last:
            _add(slot.node_id, hour, **_peaks(slot))
            hour += _HOUR
        if is_search:
            _add(slot.node_id, last, searches=F("searches") + 1)
            continue
        _add(
            slot.node_id,
            last,
            **_peaks(slot),
            transfers=F("transfers") + 1,
            images=F("images") + slot.images,
            size_bytes=F("size_bytes") + slot.size_bytes,
            outside_hours=F("outside_hours") + _is_outside_hours(slot, end),
        )


def record_answers(node: Node, measure: str, times_s: Sequence[float]) -> None:
    """Add the times of answers. `measure` is echo or retrieval."""
    count, total, longest = (f"{measure}{end}" for end in ("_count", "_s", "_max_s"))
    sums = {
        count: F(count) + len(times_s),
        total: F(total) + sum(times_s),
        longest: Greatest(longest, max(times_s)),
    }
    _add(node.pk, _begin_of_hour(timezone.now()), **sums)


def _peaks(slot: Slot) -> dict[str, Any]:
    return {
        "peak_connections": Greatest("peak_connections", slot.lane_weight),
        "allowed": Greatest("allowed", slot.allowed),
    }


def _is_outside_hours(slot: Slot, end: datetime) -> int:
    """1 if the connection began or ended while the node allowed none. Urgent ones may."""
    if slot.lane == Lane.URGENT:
        return 0
    try:
        limits = [
            allowed_hours.get_limit_at(slot.node, slot.lane, at) for at in (slot.taken_at, end)
        ]
    except InvalidInput:
        return 0
    return int(not all(limits))


def _begin_of_hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _add(node_id: int, hour: datetime, **sums: Any) -> None:
    """Update the row of this hour. It is created on first use."""
    key: dict[str, Any] = {"node_id": node_id, "hour": hour}
    rows = NodeHourlyUsage.objects.filter(**key)
    if not rows.update(**sums):
        NodeHourlyUsage.objects.get_or_create(**key)
        rows.update(**sums)
