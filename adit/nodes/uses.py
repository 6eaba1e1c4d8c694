"""Uses: what was asked of each node, day by day, for whoever agreed on the limits."""

from collections.abc import Iterable
from datetime import timedelta

from django.utils import timezone

from adit.nodes import statements
from adit.nodes.models import Node, Slot, Spent, Use
from adit.statement import ask

KEPT_DAYS = 90
GONE, LATE, REST = "gone:", "late:", "rest:"
"""Holders of slots that are nobody's work any more: lost by a crash, what may still be on its way
after a C-MOVE, and the pause between two studies."""


def note(slots: Iterable[Slot]) -> None:
    """Adds connections that have ended to the record of their day, in the order of their nodes."""
    today = timezone.localdate()
    ended = [slot for slot in slots if not slot.holder.startswith((LATE, REST))]
    used = [
        statements.add_use(slot, today, _held_s(slot) * slot.weight)
        for slot in sorted(ended, key=lambda slot: (slot.node_id, slot.pk))
    ]
    spent = [
        statements.SPENT.of(slot.user_id, today, slot.size_bytes)
        for slot in sorted(ended, key=lambda slot: (slot.user_id or 0, slot.pk))
        if slot.fetches and slot.user_id is not None
    ]
    ask(*used, *spent)


def clean() -> int:
    """Forgets what is older than people look at; how many lines."""
    before = timezone.localdate() - timedelta(days=KEPT_DAYS)
    Spent.objects.filter(day__lt=before).delete()
    return Use.objects.filter(day__lt=before).delete()[0]


def of(node: Node) -> list[Use]:
    """The newest day first."""
    since = timezone.localdate() - timedelta(days=KEPT_DAYS)
    return list(node.uses.filter(day__gte=since))


def _held_s(slot: Slot) -> float:
    """One that a crash left behind counts until it expired."""
    end = min(timezone.now(), slot.expires_at)
    return max(0.0, (end - slot.taken_at).total_seconds())
