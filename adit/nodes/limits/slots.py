"""Slots: count the open associations of each node in the database, across all processes.

Used by the gateway, C-MOVE retrievals, the queue and the worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import CharField, QuerySet, Sum, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone

from adit.dates import format_datetime
from adit.nodes.calendar import allowed_hours
from adit.nodes.limits import response_times
from adit.nodes.limits.unavailable import NodeUnavailable, NoSlot
from adit.nodes.models import Lane, Node, Slot
from adit.nodes.usage import daily_usage

_TRANSFERS = (Lane.RETRIEVE, Lane.URGENT)
CLOSE_EARLY = timedelta(seconds=10)
"""How long before the allowed hours end, or allow less, no new work starts and work is ended."""


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """For whom a node is used, and with how many associations at once: `least` to `most`."""

    user: int | None = None
    job: int | None = None
    min_associations: int = 1
    max_associations: int = 1
    counts_for_budget: bool = False
    purposes: int = 1


def acquire_slot(
    node: Node, lane: str, holder: str, expires_s: float, hold: SlotRequest = SlotRequest()
) -> Slot:
    """Return the slot of this holder in this lane, a new one (`is_new`) unless it holds one.

    An existing slot is only renewed. Raise NodeUnavailable outside the allowed hours of the node,
    NoSlot if too few associations are left.
    """
    with transaction.atomic():
        locked = Node.objects.select_for_update(no_key=True).get(pk=node.pk)
        return reserve(locked, lane, holder, expires_s, hold)


def reserve(node: Node, lane: str, holder: str, expires_s: float, hold: SlotRequest) -> Slot:
    """Do what `acquire_slot` does, for a node whose row the caller has locked."""
    now = timezone.now()
    until = now + timedelta(seconds=expires_s)
    held = list(node.slots.all())
    own = [slot for slot in held if slot.holder == holder]
    if any(slot.expires_at <= now for slot in own):
        _rename_expired(node, holder, now)
    active = [slot for slot in held if slot.expires_at > now]
    for slot in own:
        if slot in active and slot.lane == lane:
            slot.expires_at = max(slot.expires_at, until)
            slot.save(update_fields=["expires_at"])
            return slot
    return _create(node, lane, holder, hold, active, now, until)


def _create(
    node: Node,
    lane: str,
    holder: str,
    hold: SlotRequest,
    active: Sequence[Slot],
    now: datetime,
    until: datetime,
) -> Slot:
    if (
        lane == Lane.RETRIEVE
        and _sum_weights(active, lane)
        and response_times.get_slow_period(node)
    ):
        raise NoSlot(node.name, "node-unavailable.slow-one-by-one")
    room = _count_free(node, lane, now, active)
    if room < hold.min_associations:
        raise get_closed_reason(node, lane, now) or _no_slot_left(
            node, lane, now, hold.min_associations
        )
    slot = Slot(
        node=node,
        lane=lane,
        holder=holder,
        taken_at=now,
        expires_at=until,
        user_id=hold.user,
        job=hold.job,
        counts_for_budget=hold.counts_for_budget,
        purposes=hold.purposes,
    )
    _set_weight(slot, min(hold.max_associations, room), now, _sum_weights(active, lane))
    slot.save()
    slot.is_new = True
    return slot


def widen_slot(slot: Slot, weight: int) -> bool:
    """Count the slot as `weight` associations from now on; return False if too few are left.

    Slots of tests are always widened: a manager of the node runs them, one at a time.
    """
    with transaction.atomic():
        row, now = Node.objects.select_for_update(no_key=True).get(pk=slot.node_id), timezone.now()
        held = row.slots.filter(pk=slot.pk).first()
        if held is None or held.weight >= weight:
            return held is not None
        if held.lane != Lane.SEARCH and count_free(row, held.lane, now) < weight - held.weight:
            return False
        _set_weight(held, weight, now, _count_associations(row, held.lane, now) - held.weight)
        held.save()
        return True


def renew_slots(holder: str, expires_s: float) -> int:
    """Renew all slots of a holder that have not expired and return their number."""
    now = timezone.now()
    mine = Slot.objects.filter(holder=holder, expires_at__gt=now)
    return mine.update(expires_at=now + timedelta(seconds=expires_s))


def release_slots(holder: str) -> None:
    """Release all slots of a holder and record their use."""
    _release(Slot.objects.filter(holder=holder))


def release_slot(slot: Slot) -> None:
    """Release one slot and record its use."""
    _release(Slot.objects.filter(pk=slot.pk))


def release_expired() -> None:
    """Release slots that crashed processes left behind, and end pauses that are over."""
    _release(Slot.objects.filter(expires_at__lte=timezone.now()))


def _release(slots: QuerySet[Slot]) -> None:
    """If the node has a gap between studies, a slot for the gap replaces the released one."""
    with transaction.atomic(savepoint=False):
        locked = slots.select_related("node").select_for_update(of=("self",)).order_by("pk")
        ended, now = list(locked), timezone.now()
        Slot.objects.filter(pk__in=[slot.pk for slot in ended]).delete()
        for slot in ended:
            if slot.node.pause_between_studies_s and _needs_rest(slot, now):
                _create_rest(slot, now + timedelta(seconds=slot.node.pause_between_studies_s))
        daily_usage.record_usage(ended)


def change_holder(holder: str, to: str) -> None:
    """Rename the holder of slots; the associations continue."""
    Slot.objects.filter(holder=holder).update(holder=to)


def holds_slot(node: Node, holder: str) -> bool:
    return slots_in_use(node).filter(holder=holder).exists()


def slots_in_use(node: Node) -> QuerySet[Slot]:
    """Return the slots of all lanes that have not expired."""
    return node.slots.filter(expires_at__gt=timezone.now())


def count_free(node: Node, lane: str, at: datetime | None = None) -> int:
    """Return how many more associations the lane may open now.

    The number is reliable only while the row of the node is locked.
    """
    at = at or timezone.now()
    return _count_free(node, lane, at, _active(node, at))


def _active(node: Node, at: datetime) -> list[Slot]:
    return list(node.slots.filter(expires_at__gt=at))


def _count_free(node: Node, lane: str, at: datetime, active: Sequence[Slot]) -> int:
    most = get_lane_limit(node, lane, at)
    if lane != Lane.URGENT:
        return max(0, most - _sum_weights(active, lane))
    # The cap of the lane counts urgent slots; the limit of the node counts all associations.
    if sum(slot.lane == Lane.URGENT for slot in active) >= most:
        return 0
    return max(0, node.retrieve_limit - _sum_weights(active, Lane.RETRIEVE))


def get_lane_limit(node: Node, lane: str, at: datetime) -> int:
    """Return how many associations the lane may hold.

    The lower of the limits now and `CLOSE_EARLY` later, because work does not end immediately.
    """
    return min(
        allowed_hours.get_limit_at(node, lane, at),
        allowed_hours.get_limit_at(node, lane, at + CLOSE_EARLY),
    )


def get_closed_reason(node: Node, lane: str, at: datetime) -> NodeUnavailable | None:
    """Return why the lane is closed, or None if it is open.

    It counts as closed already `CLOSE_EARLY` before the allowed hours end.
    """
    shut = next(
        (t for t in (at, at + CLOSE_EARLY) if not allowed_hours.get_limit_at(node, lane, t)), None
    )
    if shut is None:
        return None
    until = allowed_hours.next_opening(node, lane, shut)
    if until is None:
        return NodeUnavailable(node.name, "node-unavailable.never-open")
    return NodeUnavailable(
        node.name, "node-unavailable.outside-hours", until, time=format_datetime(until)
    )


def exceeds_limit(node: Node, slot: Slot, at: datetime) -> bool:
    """Return whether the slot exceeds the limit of now or soon; newer slots have to go first."""
    lane = Lane.RETRIEVE if slot.lane in _TRANSFERS else slot.lane
    lanes = _TRANSFERS if slot.lane in _TRANSFERS else (lane,)
    older = node.slots.filter(lane__in=lanes, expires_at__gt=at, pk__lte=slot.pk)
    held = older.aggregate(held=Sum("weight"))["held"] or 0
    most = node.retrieve_limit if slot.lane == Lane.URGENT else get_lane_limit(node, lane, at)
    return bool(held > most)


def _no_slot_left(node: Node, lane: str, at: datetime, least: int) -> NoSlot:
    used, total = _count_associations(node, lane, at), get_lane_limit(node, lane, at)
    if lane == Lane.URGENT:
        urgent = node.slots.filter(lane=lane, expires_at__gt=at).count()
        if urgent >= total:
            used = urgent
        else:
            used, total = _count_associations(node, Lane.RETRIEVE, at), node.retrieve_limit
    if total < least:
        return NoSlot(node.name, "node-unavailable.limit-too-low", least=least, total=total)
    rests = node.slots.filter(holder__startswith=daily_usage.REST_PREFIX, expires_at__gt=at)
    soonest = rests.order_by("expires_at").first()
    if soonest is not None:
        return NoSlot(
            node.name, "node-unavailable.gap", soonest.expires_at, gap=node.pause_between_studies_s
        )
    return NoSlot(node.name, "node-unavailable.in-use", used=used, total=total)


def _count_associations(node: Node, lane: str, at: datetime) -> int:
    return _sum_weights(_active(node, at), lane)


def _sum_weights(active: Sequence[Slot], lane: str) -> int:
    """Count associations. Urgent and other transfers count together."""
    lanes = _TRANSFERS if lane in _TRANSFERS else (lane,)
    return sum(slot.weight for slot in active if slot.lane in lanes)


def _set_weight(slot: Slot, weight: int, at: datetime, others: int) -> None:
    """Set the weight, the resulting peak use of the lane, and its limit at this time."""
    slot.weight = weight
    slot.lane_weight = max(slot.lane_weight if slot.pk else 0, others + weight)
    is_urgent = slot.lane == Lane.URGENT
    slot.allowed = (
        slot.node.retrieve_limit if is_urgent else get_lane_limit(slot.node, slot.lane, at)
    )


def _rename_expired(node: Node, holder: str, at: datetime) -> None:
    """Rename expired slots of the holder so that they no longer count.

    `release_expired` records their use. This function must not, because of the lock order: the
    code that ends a task records its use before it locks the job of the task.
    """
    expired = node.slots.filter(holder=holder, expires_at__lte=at)
    expired.update(holder=Concat(Value(daily_usage.LOST_PREFIX), Cast("pk", CharField())))


def _create_rest(slot: Slot, until: datetime) -> None:
    values = {field.attname: getattr(slot, field.attname) for field in Slot._meta.concrete_fields}
    values |= {
        "id": None,
        "holder": f"{daily_usage.REST_PREFIX}{slot.pk}",
        "expires_at": until,
        "job": None,
    }
    Slot.objects.create(**values)


def _needs_rest(slot: Slot, at: datetime) -> bool:
    is_over = (
        slot.holder.startswith((daily_usage.LATE_PREFIX, daily_usage.REST_PREFIX))
        or slot.expires_at <= at
    )
    return slot.lane in _TRANSFERS and not is_over
