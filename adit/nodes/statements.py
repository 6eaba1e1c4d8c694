"""Statements: what each claim and each end reads and writes of nodes, their slots and their use."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from adit.accounts.models import User
from adit.nodes.models import Breaker, Node, Slot, Spent, Use
from adit.statement import Asked, Columns, Statement

_PLACE = Columns(
    Node,
    *("id", "name", "kind", "settings", "is_open", "windows", "exceptions", "retrieve_limit"),
    *("search_limit", "gap_s", "moves", "paused_at", "stopped_at", "paused_by", "pause_reason"),
    alias="n",
)
_BREAKER = Columns(
    Breaker, "id", "node", "failures", "since", "rests_until", "tried_until", alias="b"
)
_SLOT = Columns(Slot, *(field.name for field in Slot._meta.concrete_fields))

_PLACES = """
    SELECT {place}, {rest} FROM {node} n LEFT JOIN {breaker} b ON b.{breaker.node} = n.{node.id}
    WHERE n.{node.id} IN (%s, %s) ORDER BY n.{node.id}"""
LOOK = Statement(_PLACES, place=_PLACE, rest=_BREAKER, node=Node, breaker=Breaker)
LOCK = Statement(_PLACES + " {lock:OF n}", place=_PLACE, rest=_BREAKER, node=Node, breaker=Breaker)

HELD = Statement(
    """SELECT {slot.node}, {slot.id}, {slot.lane}, {slot.weight}, {slot.holder},
    {slot.expires_at} > %s FROM {slot} WHERE {slot.node} IN (%s, %s)""",
    slot=Slot,
)
_TAKE = """
    INSERT INTO {slot} ({slot.node}, {slot.lane}, {slot.holder}, {slot.taken_at},
        {slot.expires_at}, {slot.weight}, {slot.user}, {slot.job}, {slot.images},
        {slot.size_bytes}, {slot.fetches}, {slot.at_once}, {slot.allowed})
    VALUES {values} RETURNING {slot.id}"""
_NEW_SLOT = "(%s, %s, %s, %s, %s, %s, %s, %s, 0, 0, %s, %s, %s)"
TAKE = Statement(_TAKE, slot=Slot, values=_NEW_SLOT)
TAKE_BOTH = Statement(_TAKE, slot=Slot, values=f"{_NEW_SLOT}, {_NEW_SLOT}")

_GIVE_BACK = """
    DELETE FROM {slot} WHERE {which}
    RETURNING (SELECT n.{node.gap_s} FROM {node} n WHERE n.{node.id} = {slot}.{slot.node}), {columns}"""
GIVE_BACK_ALL = Statement(
    _GIVE_BACK, slot=Slot, node=Node, columns=_SLOT, which="{slot.holder} = %s"
)
GIVE_BACK_ONE = Statement(_GIVE_BACK, slot=Slot, node=Node, columns=_SLOT, which="{slot.id} = %s")
GIVE_BACK_EXPIRED = Statement(
    _GIVE_BACK, slot=Slot, node=Node, columns=_SLOT, which="{slot.expires_at} <= %s"
)
USED = Statement(
    """INSERT INTO {use} AS u ({use.node}, {use.day}, {use.lane}, {use.connections}, {use.images},
        {use.size_bytes}, {use.seconds}, {use.most_at_once}, {use.allowed})
    VALUES (%s, %s, %s, 1, %s, %s, %s, %s, %s)
    ON CONFLICT ({use.node}, {use.day}, {use.lane}) DO UPDATE SET
        {use.connections} = u.{use.connections} + 1,
        {use.images} = u.{use.images} + excluded.{use.images},
        {use.size_bytes} = u.{use.size_bytes} + excluded.{use.size_bytes},
        {use.seconds} = u.{use.seconds} + excluded.{use.seconds},
        {use.most_at_once} = CASE WHEN u.{use.most_at_once} < excluded.{use.most_at_once}
            THEN excluded.{use.most_at_once} ELSE u.{use.most_at_once} END,
        {use.allowed} = CASE WHEN u.{use.allowed} < excluded.{use.allowed}
            THEN excluded.{use.allowed} ELSE u.{use.allowed} END""",
    use=Use,
)
SPENT = Statement(
    """INSERT INTO {spent} AS s ({spent.user}, {spent.day}, {spent.studies}, {spent.size_bytes})
    VALUES (%s, %s, 1, %s) ON CONFLICT ({spent.user}, {spent.day}) DO UPDATE SET
        {spent.studies} = s.{spent.studies} + 1,
        {spent.size_bytes} = s.{spent.size_bytes} + excluded.{spent.size_bytes}""",
    spent=Spent,
)
LIMITED = """
    EXISTS (SELECT 1 FROM {member} m JOIN {budget} b ON b.{budget.group} = m.{member.group}
            WHERE m.{member.user} = j.{job.owner})"""
"""Whether a job's owner is in a group with a budget; a piece of a statement."""
MEMBER = User.groups.through


class Held(NamedTuple):
    """A slot as it is counted."""

    node: int
    pk: int
    lane: str
    weight: int
    holder: str
    is_live: bool


def look_at(pks: Sequence[int], *, locked: bool = False) -> Asked:
    """One node or two."""
    return (LOCK if locked else LOOK).of(pks[0], pks[-1])


def places(looked: Asked) -> list[Node]:
    """Each with its breaker, in the order of their keys."""
    return [_place(row) for row in looked.rows]


def count_at(pks: Sequence[int], at: datetime) -> Asked:
    """The slots of one node or two."""
    return HELD.of(at, pks[0], pks[-1])


def held(counted: Asked) -> list[Held]:
    return [Held(*row) for row in counted.rows]


def take(slots: Sequence[Slot]) -> list[Asked]:
    """Saves one new slot or two, or none."""
    if not slots:
        return []
    values = [value for slot in slots for value in _values(slot)]
    return [(TAKE_BOTH if len(slots) == 2 else TAKE).of(*values)]


def _values(slot: Slot) -> tuple[object, ...]:
    place = (slot.node_id, str(slot.lane), slot.holder, slot.taken_at, slot.expires_at)
    return (*place, slot.weight, slot.user_id, slot.job, slot.fetches, slot.at_once, slot.allowed)


def given_back(gone: Asked) -> list[tuple[Slot, int]]:
    """Each with the seconds of rest that its node wants between two studies."""
    return [(_SLOT.read(slot), gap_s) for gap_s, *slot in gone.rows]


def add_use(slot: Slot, day: date, seconds: float) -> Asked:
    key = (slot.node_id, day, slot.lane)
    return USED.of(*key, slot.images, slot.size_bytes, seconds, slot.at_once, slot.allowed)


def _place(row: Sequence[object]) -> Node:
    node, breaker = _PLACE.read(row[: len(_PLACE)]), row[len(_PLACE) :]
    one = _BREAKER.read(breaker) if breaker[0] is not None else None
    Node._meta.get_field("breaker").set_cached_value(node, one)
    return node
