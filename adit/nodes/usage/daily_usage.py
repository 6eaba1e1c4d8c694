"""Daily usage of nodes and users, to compare with the agreed limits. Used by slots and pages."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.db.models import F
from django.db.models.functions import Greatest
from django.utils import timezone

from adit.nodes.models import Node, NodeDailyUsage, Slot, UserDailyUsage
from adit.nodes.usage import hourly_usage

SHOWN_DAYS = 90
LOST_PREFIX, LATE_PREFIX, REST_PREFIX = "gone:", "late:", "rest:"
"""Prefixes of holders of slots that no process works with: lost in a crash, images that may still
arrive after a C-MOVE, and the pause between two studies."""
ECHO_PREFIX = "echo:"
"""Prefix of holders that measure how fast a node answers, which does not count as use."""
_NO_USE = (LATE_PREFIX, REST_PREFIX, ECHO_PREFIX)


def record_usage(slots: Iterable[Slot]) -> None:
    """Add ended connections to the usage of today.

    To avoid deadlocks rows are locked in one order: nodes first, then users, each by key.
    """
    today = timezone.localdate()
    ended = [slot for slot in slots if not slot.holder.startswith(_NO_USE)]
    ended.sort(key=lambda slot: (slot.node_id, slot.lane))
    hourly_usage.record_slots(ended)
    for slot in ended:
        _add(
            NodeDailyUsage,
            {"node_id": slot.node_id, "day": today, "lane": slot.lane},
            connections=F("connections") + 1,
            images=F("images") + slot.images,
            size_bytes=F("size_bytes") + slot.size_bytes,
            seconds=F("seconds") + _get_held_s(slot) * slot.weight,
            peak_connections=Greatest("peak_connections", slot.lane_weight),
            allowed=Greatest("allowed", slot.allowed),
        )
    fetched = [
        (slot.user_id, slot.size_bytes)
        for slot in ended
        if slot.counts_for_budget and slot.user_id is not None
    ]
    for user, size_bytes in sorted(fetched):
        _add(
            UserDailyUsage,
            {"user_id": user, "day": today},
            studies=F("studies") + 1,
            size_bytes=F("size_bytes") + size_bytes,
        )


def _add(
    model: type[NodeDailyUsage] | type[UserDailyUsage], key: dict[str, Any], **sums: Any
) -> None:
    """Update the row with this key. It is created on first use each day."""
    rows = model._default_manager.filter(**key)
    if not rows.update(**sums):
        model._default_manager.get_or_create(**key)
        rows.update(**sums)


def get_daily_usage(node: Node) -> list[NodeDailyUsage]:
    """Return the usage of the last `SHOWN_DAYS` days, newest day first."""
    since = timezone.localdate() - timedelta(days=SHOWN_DAYS)
    return list(node.daily_usage.filter(day__gte=since))


def _get_held_s(slot: Slot) -> float:
    """A slot that a crash left behind counts until it expired."""
    end = min(timezone.now(), slot.expires_at)
    return max(0.0, (end - slot.taken_at).total_seconds())
