"""List the open connections of a node: purpose, user, rate. Used by the page of a node."""

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone
from django.utils.translation import gettext as _

from adit.nodes.limits import slots
from adit.nodes.models import Lane, Node, Slot
from adit.nodes.usage import daily_usage


@dataclass(frozen=True, slots=True)
class OpenConnection:
    """One holder of connections; `weight` is their number."""

    pk: int
    purpose: str
    job: int | None
    user_name: str
    since: datetime
    weight: int
    images: int
    size_bytes: int
    is_ending: bool
    can_end: bool

    @property
    def bytes_per_s(self) -> int:
        seconds = (timezone.now() - self.since).total_seconds()
        return int(self.size_bytes / seconds) if seconds >= 1 else 0


def list_open_connections(node: Node) -> list[OpenConnection]:
    """Return the connections that are open now, oldest first."""
    rows = slots.slots_in_use(node).select_related("user").order_by("taken_at")
    return [_make_connection(row) for row in rows]


def _make_connection(slot: Slot) -> OpenConnection:
    who = slot.user.get_full_name() or slot.user.get_username() if slot.user else ""
    return OpenConnection(
        slot.pk,
        _describe_holder(slot),
        slot.job,
        who,
        slot.taken_at,
        slot.weight,
        slot.images,
        slot.size_bytes,
        is_ending=slot.ended_by_id is not None,
        can_end=not slot.holder.startswith((daily_usage.LATE_PREFIX, daily_usage.REST_PREFIX)),
    )


def _describe_holder(slot: Slot) -> str:
    names = {
        "task": _("search of a job") if slot.lane == Lane.SEARCH else _("part of a job"),
        "search": _("search"),
        "check": _("test"),
        "echo": _("measurement of its response time"),
        "late": _("late images of a C-MOVE"),
        "rest": _("pause between two studies"),
    }
    return names.get(slot.holder.partition(":")[0], slot.lane)
