"""Slots: how many associations are open at a node, counted in the database for all processes."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet, Sum
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from adit.nodes import window
from adit.nodes.models import Lane, Node, Slot
from adit.nodes.waits import NoSlot, Waits

_TRANSFERS = (Lane.RETRIEVE, Lane.URGENT)
EARLY = timedelta(seconds=10)
"""So long before hours end, or allow less, nothing new begins and what runs is ended."""


def take(node: Node, lane: str, holder: str, expires_s: float) -> Slot:
    """The slot of this holder in this lane; taken now unless it holds one already (`is_new`).

    One that is held is only prolonged. Raises Waits outside the node's hours, NoSlot when all are
    in use.
    """
    with transaction.atomic():
        row = Node.objects.select_for_update().get(pk=node.pk)
        now = timezone.now()
        expires_at = now + timedelta(seconds=expires_s)
        row.slots.filter(expires_at__lte=now).delete()
        held = row.slots.filter(lane=lane, holder=holder).first()
        if held is not None:
            held.expires_at = max(held.expires_at, expires_at)
            held.save(update_fields=["expires_at"])
            return held
        _require_free(row, lane, now)
        slot = Slot.objects.create(
            node=row, lane=lane, holder=holder, taken_at=now, expires_at=expires_at
        )
        slot.is_new = True
        return slot


def renew(holder: str, expires_s: float) -> int:
    """Prolongs all slots of a holder that are still its own; how many that were."""
    now = timezone.now()
    mine = Slot.objects.filter(holder=holder, expires_at__gt=now)
    return mine.update(expires_at=now + timedelta(seconds=expires_s))


def release(holder: str) -> None:
    """Gives back all slots of a holder."""
    Slot.objects.filter(holder=holder).delete()


def give_back(slot: Slot) -> None:
    """Gives back this one slot."""
    Slot.objects.filter(pk=slot.pk).delete()


def in_use(node: Node) -> QuerySet[Slot]:
    """The slots that count now, of all lanes."""
    return node.slots.filter(expires_at__gt=timezone.now())


def free(node: Node, lane: str, at: datetime | None = None) -> int:
    """How many more the lane may take now; sure only while the node's row is locked."""
    at = at or timezone.now()
    room = allowed(node, lane, at) - _count(node, lane, at)
    if lane == Lane.URGENT:
        room = min(room, node.retrieve_limit - _count(node, Lane.RETRIEVE, at))
    return max(0, room)


def allowed(node: Node, lane: str, at: datetime) -> int:
    """How many the lane may hold: of now and of soon, the fewer, since nothing ends at once."""
    return min(window.allowed_now(node, lane, at), window.allowed_now(node, lane, at + EARLY))


def why_closed(node: Node, lane: str, at: datetime) -> Waits | None:
    """Outside its hours, or so close to their end that nothing would get done; else None."""
    shut = next((t for t in (at, at + EARLY) if not window.allowed_now(node, lane, t)), None)
    if shut is None:
        return None
    until = window.opens_next(node, lane, shut)
    return Waits(node.name, closed_sentence(until), until)


def is_beyond(node: Node, slot: Slot, at: datetime) -> bool:
    """Whether it is one of those too many, the newest first, for what is allowed now or soon."""
    lane = Lane.RETRIEVE if slot.lane in _TRANSFERS else slot.lane
    lanes = _TRANSFERS if slot.lane in _TRANSFERS else (lane,)
    older = node.slots.filter(lane__in=lanes, expires_at__gt=at, pk__lte=slot.pk)
    held = older.aggregate(held=Sum("weight"))["held"] or 0
    most = node.retrieve_limit if slot.lane == Lane.URGENT else allowed(node, lane, at)
    return bool(held > most)


def _require_free(node: Node, lane: str, at: datetime) -> None:
    if free(node, lane, at):
        return
    closed = why_closed(node, lane, at)
    if closed is not None:
        raise closed
    used, total = _count(node, lane, at), allowed(node, lane, at)
    if lane == Lane.URGENT and used < total:
        used, total = _count(node, Lane.RETRIEVE, at), node.retrieve_limit
    words = {"used": used, "total": total}
    raise NoSlot(node.name, _("%(used)d of %(total)d connections in use") % words)


def _count(node: Node, lane: str, at: datetime) -> int:
    """Transfers count together, urgent or not; the urgent lane's own cap counts urgent ones."""
    lanes = _TRANSFERS if lane == Lane.RETRIEVE else (lane,)
    held = node.slots.filter(lane__in=lanes, expires_at__gt=at).aggregate(held=Sum("weight"))
    return int(held["held"] or 0)


def closed_sentence(until: datetime | None) -> str:
    """When the hours begin, in words and in the zone of the settings."""
    if until is None:
        return _("its allowed hours leave no time for this")
    local = timezone.localtime(until)
    return _("opens on %(day)s at %(time)s") % {
        "day": date_format(local, "l"),
        "time": date_format(local, "H:i"),
    }
