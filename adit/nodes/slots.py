"""Slots: how many associations are open at a node, counted in the database for all processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import CharField, QuerySet, Sum, Value
from django.db.models.functions import Cast, Concat
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from adit.nodes import statements, uses, window
from adit.nodes.models import Lane, Node, Slot
from adit.nodes.statements import Held
from adit.nodes.waits import NoSlot, Waits
from adit.statement import Asked, ask

_TRANSFERS = (Lane.RETRIEVE, Lane.URGENT)
EARLY = timedelta(seconds=10)
"""So long before hours end, or allow less, nothing new begins and what runs is ended."""


@dataclass(frozen=True, slots=True)
class Hold:
    """For whom a node is used, and by how many associations at once: `least` to `most`."""

    user: int | None = None
    job: int | None = None
    least: int = 1
    most: int = 1
    fetches: bool = False


def take(node: Node, lane: str, holder: str, expires_s: float, hold: Hold = Hold()) -> Slot:
    """The slot of this holder in this lane; taken now unless it holds one already (`is_new`).

    One that is held is only prolonged. Raises Waits outside the node's hours, NoSlot when too few
    are left.
    """
    with transaction.atomic():
        row = Node.objects.select_for_update(no_key=True).get(pk=node.pk)
        counted = count_at([row])
        ask(counted)
        (slot,) = plan([(row, hold)], lane, holder, expires_s, counted)
        if slot.is_new:
            slot.save()
        return slot


def count_at(rows: Sequence[Node] | Sequence[int]) -> Asked:
    """To be asked of one locked node or two before `plan`."""
    pks = [row.pk if isinstance(row, Node) else row for row in rows]
    return statements.count_at(pks, timezone.now())


def plan(
    wanted: Sequence[tuple[Node, Hold]], lane: str, holder: str, expires_s: float, counted: Asked
) -> list[Slot]:
    """One at each of these locked nodes; those that are new are to be saved. Raises as `take`."""
    now = timezone.now()
    until = now + timedelta(seconds=expires_s)
    held = statements.held(counted)
    slots = []
    for row, hold in wanted:
        here = [one for one in held if one.node == row.pk]
        mine = [one for one in here if one.holder == holder]
        if any(not one.is_live for one in mine):
            _set_aside(row, holder, now)
        again = next((one.pk for one in mine if one.is_live and one.lane == lane), None)
        if again is not None:
            slots.append(_prolonged(again, until))
        else:
            live = [one for one in here if one.is_live]
            slots.append(_new(Slot(node=row, lane=lane, holder=holder), hold, live, now, until))
    return slots


def save(slots: Sequence[Slot]) -> list[Asked]:
    """What saves those that are new."""
    return statements.take([slot for slot in slots if slot.is_new])


def _prolonged(pk: int, until: datetime) -> Slot:
    slot = Slot.objects.get(pk=pk)
    slot.expires_at = max(slot.expires_at, until)
    slot.save(update_fields=["expires_at"])
    return slot


def _new(slot: Slot, hold: Hold, live: Sequence[Held], now: datetime, until: datetime) -> Slot:
    room = _room(slot.node, slot.lane, now, live)
    if room < hold.least:
        raise why_closed(slot.node, slot.lane, now) or _none_left(
            slot.node, slot.lane, now, hold.least
        )
    slot.taken_at, slot.expires_at, slot.is_new = now, until, True
    slot.user_id, slot.job, slot.fetches = hold.user, hold.job, hold.fetches
    _weigh(slot, min(hold.most, room), now, _held(live, slot.lane))
    return slot


def widen(slot: Slot, weight: int) -> bool:
    """Counts it as so many associations from now on; False where too few are left.

    Tests are widened in any case: whoever manages the node asks for them, one at a time.
    """
    with transaction.atomic():
        row, now = Node.objects.select_for_update(no_key=True).get(pk=slot.node_id), timezone.now()
        held = row.slots.filter(pk=slot.pk).first()
        if held is None or held.weight >= weight:
            return held is not None
        if held.lane != Lane.SEARCH and free(row, held.lane, now) < weight - held.weight:
            return False
        _weigh(held, weight, now, _count(row, held.lane, now) - held.weight)
        held.save()
        return True


def renew(holder: str, expires_s: float) -> int:
    """Prolongs all slots of a holder that are still its own; how many that were."""
    now = timezone.now()
    mine = Slot.objects.filter(holder=holder, expires_at__gt=now)
    return mine.update(expires_at=now + timedelta(seconds=expires_s))


def release(holder: str) -> None:
    """Gives back all slots of a holder."""
    with transaction.atomic(savepoint=False):
        gone = give_up(holder)
        ask(gone)
        end(gone)


def give_up(holder: str) -> Asked:
    """What gives back all slots of a holder; to be followed by `end`."""
    return statements.GIVE_BACK_ALL.of(holder)


def hand_on(holder: str, to: str) -> None:
    """The same association goes on under another name."""
    Slot.objects.filter(holder=holder).update(holder=to)


def give_back(slot: Slot) -> None:
    """Gives back this one slot."""
    with transaction.atomic():
        gone = statements.GIVE_BACK_ONE.of(slot.pk)
        ask(gone)
        end(gone)


def end_expired() -> None:
    """What a crash left behind, and pauses that are over."""
    with transaction.atomic():
        gone = statements.GIVE_BACK_EXPIRED.of(timezone.now())
        ask(gone)
        end(gone)


def holds(node: Node, holder: str) -> bool:
    return in_use(node).filter(holder=holder).exists()


def in_use(node: Node) -> QuerySet[Slot]:
    """The slots that count now, of all lanes."""
    return node.slots.filter(expires_at__gt=timezone.now())


def free(node: Node, lane: str, at: datetime | None = None) -> int:
    """How many more the lane may take now; sure only while the node's row is locked."""
    at = at or timezone.now()
    return _room(node, lane, at, _live(node, at))


def _live(node: Node, at: datetime) -> list[Held]:
    counted = statements.count_at([node.pk], at)
    ask(counted)
    return [one for one in statements.held(counted) if one.is_live]


def _room(node: Node, lane: str, at: datetime, live: Sequence[Held]) -> int:
    most = allowed(node, lane, at)
    if lane != Lane.URGENT:
        return max(0, most - _held(live, lane))
    # Its own cap counts what is urgent; the limit of the node counts all associations.
    if sum(slot.lane == Lane.URGENT for slot in live) >= most:
        return 0
    return max(0, node.retrieve_limit - _held(live, Lane.RETRIEVE))


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


def _none_left(node: Node, lane: str, at: datetime, least: int) -> NoSlot:
    used, total = _count(node, lane, at), allowed(node, lane, at)
    if lane == Lane.URGENT:
        urgent = node.slots.filter(lane=lane, expires_at__gt=at).count()
        if urgent >= total:
            used = urgent
        else:
            used, total = _count(node, Lane.RETRIEVE, at), node.retrieve_limit
    words = {"used": used, "total": total, "least": least, "gap": node.gap_s}
    if total < least:
        text = _("C-MOVE needs %(least)d connections at once, and its limit is %(total)d")
        return NoSlot(node.name, text % words)
    rests = node.slots.filter(holder__startswith=uses.REST, expires_at__gt=at)
    soonest = rests.order_by("expires_at").first()
    if soonest is not None:
        return NoSlot(
            node.name, _("rests %(gap)d s between two studies") % words, soonest.expires_at
        )
    return NoSlot(node.name, _("%(used)d of %(total)d connections in use") % words)


def _count(node: Node, lane: str, at: datetime) -> int:
    return _held(_live(node, at), lane)


def _held(live: Sequence[Held], lane: str) -> int:
    """Associations, of transfers urgent or not."""
    lanes = _TRANSFERS if lane in _TRANSFERS else (lane,)
    return sum(slot.weight for slot in live if slot.lane in lanes)


def _weigh(slot: Slot, weight: int, at: datetime, others: int) -> None:
    """With what this weight makes of the lane's use beside all others."""
    slot.weight = weight
    slot.at_once = max(slot.at_once if slot.pk else 0, others + weight)
    is_urgent = slot.lane == Lane.URGENT
    slot.allowed = slot.node.retrieve_limit if is_urgent else allowed(slot.node, slot.lane, at)


def _set_aside(node: Node, holder: str, at: datetime) -> None:
    """What expired under the same name counts no more; `end_expired` records it.

    Not here, since whoever ends a task records its use before it locks the task's job.
    """
    expired = node.slots.filter(holder=holder, expires_at__lte=at)
    expired.update(holder=Concat(Value(uses.GONE), Cast("pk", CharField())))


def end(gone: Asked) -> None:
    """Into the record of use; where a pause between studies was agreed, a slot stays for it."""
    now, ended = timezone.now(), statements.given_back(gone)
    for slot, gap_s in ended:
        if gap_s and _rests(slot, now):
            _rest(slot, now + timedelta(seconds=gap_s))
    uses.note([slot for slot, _gap_s in ended])


def _rest(slot: Slot, until: datetime) -> None:
    values = {field.attname: getattr(slot, field.attname) for field in Slot._meta.concrete_fields}
    values |= {"id": None, "holder": f"{uses.REST}{slot.pk}", "expires_at": until, "job": None}
    Slot.objects.create(**values)


def _rests(slot: Slot, at: datetime) -> bool:
    is_over = slot.holder.startswith((uses.LATE, uses.REST)) or slot.expires_at <= at
    return slot.lane in _TRANSFERS and not is_over


def closed_sentence(until: datetime | None) -> str:
    """When the hours begin, in words and in the zone of the settings."""
    if until is None:
        return _("its allowed hours leave no time for this")
    local = timezone.localtime(until)
    return _("opens on %(day)s at %(time)s") % {
        "day": date_format(local, "l"),
        "time": date_format(local, "H:i"),
    }
