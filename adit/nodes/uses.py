"""Uses: what was asked of each node, day by day, for whoever agreed on the limits."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from django.db.models import F, QuerySet
from django.db.models.functions import Greatest
from django.utils import timezone

from adit.nodes.models import Node, Slot, Spent, Use

KEPT_DAYS = 90
GONE, LATE, REST = "gone:", "late:", "rest:"
"""Holders of slots that are nobody's work any more: lost by a crash, what may still be on its way
after a C-MOVE, and the pause between two studies."""


def note(slots: Iterable[Slot]) -> None:
    """Adds connections that have ended to the record of their day, in the order of their nodes."""
    today = timezone.localdate()
    for slot in sorted(slots, key=lambda slot: (slot.node_id, slot.pk)):
        if not slot.holder.startswith((LATE, REST)):
            _add(slot, today)


def clean() -> int:
    """Forgets what is older than people look at; how many lines."""
    before = timezone.localdate() - timedelta(days=KEPT_DAYS)
    Spent.objects.filter(day__lt=before).delete()
    return Use.objects.filter(day__lt=before).delete()[0]


def of(node: Node) -> list[Use]:
    """The newest day first."""
    since = timezone.localdate() - timedelta(days=KEPT_DAYS)
    return list(node.uses.filter(day__gte=since))


def _add(slot: Slot, day: date) -> None:
    _add_up(
        Use.objects.filter(node_id=slot.node_id, day=day, lane=slot.lane),
        {"node_id": slot.node_id, "day": day, "lane": slot.lane},
        connections=F("connections") + 1,
        images=F("images") + slot.images,
        size_bytes=F("size_bytes") + slot.size_bytes,
        seconds=F("seconds") + _held_s(slot) * slot.weight,
        most_at_once=Greatest("most_at_once", slot.at_once),
        allowed=Greatest("allowed", slot.allowed),
    )
    if slot.fetches and slot.user_id is not None:
        _add_up(
            Spent.objects.filter(user_id=slot.user_id, day=day),
            {"user_id": slot.user_id, "day": day},
            studies=F("studies") + 1,
            size_bytes=F("size_bytes") + slot.size_bytes,
        )


def _add_up(rows: QuerySet[Any], first: dict[str, Any], **values: Any) -> None:
    """The row is there but for the first time in a day, so it is looked for only then."""
    if not rows.update(**values):
        rows.model._default_manager.get_or_create(**first)
        rows.update(**values)


def _held_s(slot: Slot) -> float:
    """One that a crash left behind counts until it expired."""
    end = min(timezone.now(), slot.expires_at)
    return max(0.0, (end - slot.taken_at).total_seconds())
