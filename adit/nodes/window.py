"""Window: the hours in which a node may be used, and how hard; one weekly calendar per node.

A calendar is a list such as
    {"days": ["mon", "tue"], "from": "20:00", "to": "06:00", "limit": 4, "lane": "retrieve"}
`limit` (associations) and `lane` may be left out: the node's own limit, the retrieve lane. A window
whose end is not after its begin ends on the next day. A lane without any window is always open;
with some, it is closed outside them; where several overlap, the smallest limit counts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils.translation import gettext as _

from adit.nodes.models import Lane, Node
from adit_engine.errors import WrongInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_KEYS = frozenset({"days", "from", "to", "limit", "lane"})


@dataclass(frozen=True, slots=True)
class Window:
    """`days` are those on which it begins, Monday is 0. Times are those of a clock on the wall."""

    days: frozenset[int]
    begin: time
    end: time
    limit: int | None
    lane: str

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "Window":
        """Raises WrongInput for what cannot be read in one way only."""
        if not isinstance(row, Mapping) or not set(row) <= _KEYS:
            raise WrongInput(_("A window has days, from, to, and perhaps limit and lane."))
        days, limit, lane = row.get("days"), row.get("limit"), row.get("lane", Lane.RETRIEVE)
        if not isinstance(days, Sequence) or not days or not set(days) <= set(DAYS):
            raise WrongInput(_("A window's days are some of %s.") % ", ".join(DAYS))
        if limit is not None and (type(limit) is not int or limit < 0):
            raise WrongInput(_("A window's limit is a whole number of connections, 0 or more."))
        if lane not in (Lane.RETRIEVE, Lane.SEARCH):
            raise WrongInput(_("A window's lane is retrieve or search."))
        numbers = frozenset(DAYS.index(day) for day in days)
        return cls(numbers, _time(row.get("from")), _time(row.get("to")), limit, lane)

    def span(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """From when to when (UTC) it is open if it begins on this day."""
        last = day if self.end > self.begin else day + timedelta(days=1)
        return (
            _instant(datetime.combine(day, self.begin), zone),
            _instant(datetime.combine(last, self.end), zone),
        )


def calendar_of(node: Node) -> tuple[Window, ...]:
    """Raises WrongInput where the row holds something else."""
    return read(node.windows)


def read(rows: Any) -> tuple[Window, ...]:
    """A whole calendar. Raises WrongInput."""
    if not isinstance(rows, list):
        raise WrongInput(_("The allowed hours are a list of windows."))
    return tuple(Window.read(row) for row in rows)


def allowed_now(node: Node, lane: str, at: datetime) -> int:
    """How many associations of this lane may be open at the node; 0 = closed.

    The urgent lane knows no hours, only a small cap.
    """
    if lane == Lane.URGENT:
        return min(settings.URGENT_LIMIT, node.retrieve_limit)
    most = node.search_limit if lane == Lane.SEARCH else node.retrieve_limit
    windows = [window for window in calendar_of(node) if window.lane == lane]
    if not windows:
        return most
    zone = ZoneInfo(settings.TIME_ZONE)
    open_now = [window for window in windows if _is_open(window, at, zone)]
    limits = [most if window.limit is None else window.limit for window in open_now]
    return min([most, *limits]) if limits else 0


def opens_next(node: Node, lane: str, at: datetime) -> datetime | None:
    """When the lane opens after `at` (UTC); None when it is open, or never opens."""
    if allowed_now(node, lane, at):
        return None
    return next((edge for edge in _edges(node, lane, at) if allowed_now(node, lane, edge)), None)


def closes_next(node: Node, lane: str, at: datetime) -> datetime | None:
    """When the lane closes after `at` (UTC); None when it is closed, or never closes."""
    if not allowed_now(node, lane, at):
        return None
    edges = _edges(node, lane, at)
    return next((edge for edge in edges if not allowed_now(node, lane, edge)), None)


def _is_open(window: Window, at: datetime, zone: ZoneInfo) -> bool:
    today = at.astimezone(zone).date()
    spans = (
        window.span(day, zone)
        for day in (today - timedelta(days=1), today)
        if day.weekday() in window.days
    )
    return any(begin <= at < end for begin, end in spans)


def _edges(node: Node, lane: str, at: datetime) -> Iterator[datetime]:
    """When something opens or closes, in the week after `at`, in order."""
    zone = ZoneInfo(settings.TIME_ZONE)
    today = at.astimezone(zone).date()
    days = [today + timedelta(days=n) for n in range(-1, 9)]
    edges = {
        edge
        for window in calendar_of(node)
        if window.lane == lane
        for day in days
        if day.weekday() in window.days
        for edge in window.span(day, zone)
    }
    return (edge for edge in sorted(edges) if edge > at)


def _time(text: Any) -> time:
    try:
        return time() if text == "24:00" else datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007
    except (ValueError, TypeError):
        raise WrongInput(_("A window's times look like 20:00.")) from None


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """What the clock on the wall calls `wall`, in UTC.

    An hour that comes twice means its first coming; one that is left out, the moment of the jump.
    """
    first, other = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= other:
        return first
    before, after = other, first
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == other.astimezone(zone).utcoffset():
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)
