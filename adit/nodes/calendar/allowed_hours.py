"""The weekly calendar of a node (when it may be used, with how many associations) and special days.

Used by slots, the gateway, and the forms and pages of nodes.

A weekly calendar is a list of windows:
    {"days": ["mon", "tue"], "from": "20:00", "to": "06:00", "limit": 4, "lane": "retrieve"}
`limit` (associations) defaults to the limit of the node, `lane` to retrieve. A window whose end is
not after its begin ends on the next day. A lane without windows is always open; a lane with windows
is closed outside them. If a window that began on the day before overlaps a window of this day, the
smaller limit applies.

Special days are dated exceptions from the calendar, such as a holiday or a migration:
    {"from": "2026-06-12", "to": "2026-06-14", "as": "closed", "why": "migration"}
`to` defaults to the same day. `as` is closed, or the weekday whose hours apply. Closed days are
closed from midnight to midnight, for every lane.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.utils.dates import WEEKDAYS

from adit.nodes.models import Lane, Node
from adit_engine.errors import InvalidInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOSED = "closed"
MAX_SPECIAL_DAYS = 366
MAX_WHY_LENGTH = 80
_SPECIAL_DAYS_KEYS = frozenset({"from", "to", "as", "why"})


@dataclass(frozen=True, slots=True)
class SpecialDays:
    """A range of days, both ends included: closed (None), or as on `weekday` (Monday is 0)."""

    first_day: date
    last_day: date
    weekday: int | None
    reason: str = ""

    @classmethod
    def from_row(cls, row: Any) -> "SpecialDays":
        """Parse one row. Raise InvalidInput."""
        if not isinstance(row, Mapping) or not set(row) <= _SPECIAL_DAYS_KEYS:
            raise InvalidInput("special-days.wrong-keys")
        first = _parse_date(row.get("from"))
        last = _parse_date(row["to"]) if row.get("to") else first
        if not 0 <= (last - first).days < MAX_SPECIAL_DAYS:
            raise InvalidInput("special-days.wrong-range")
        like, why = row.get("as"), row.get("why", "")
        if like != CLOSED and like not in DAYS:
            raise InvalidInput("special-days.wrong-hours")
        if not isinstance(why, str) or len(why) > MAX_WHY_LENGTH:
            raise InvalidInput("special-days.reason-too-long", max_length=MAX_WHY_LENGTH)
        return cls(first, last, None if like == CLOSED else DAYS.index(like), why)

    @property
    def row(self) -> dict[str, str]:
        like = CLOSED if self.weekday is None else DAYS[self.weekday]
        return {
            "from": self.first_day.isoformat(),
            "to": self.last_day.isoformat(),
            "as": like,
            "why": self.reason,
        }


def parse_special_days(rows: Any) -> tuple[SpecialDays, ...]:
    """Parse the rows, sorted by date. Raise InvalidInput, also if two rows share a day."""
    if not isinstance(rows, list):
        raise InvalidInput("special-days.not-a-list")
    found = sorted((SpecialDays.from_row(row) for row in rows), key=lambda one: one.first_day)
    for one, other in pairwise(found):
        if other.first_day <= one.last_day:
            raise InvalidInput("special-days.overlap", day=other.first_day.isoformat())
    return tuple(found)


def find_special_days(specials: Iterable[SpecialDays], day: date) -> SpecialDays | None:
    return next((one for one in specials if one.first_day <= day <= one.last_day), None)


def get_day_name(weekday: int) -> str:
    """Return the translated name of a weekday (Monday is 0)."""
    return str(WEEKDAYS[weekday])


def _parse_date(text: Any) -> date:
    try:
        return date.fromisoformat(text)
    except (ValueError, TypeError):
        raise InvalidInput("special-days.wrong-date") from None


_WINDOW_KEYS = frozenset({"days", "from", "to", "limit", "lane"})
_LOOKAHEAD_DAYS = 9
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class HoursWindow:
    """One window. `days` are those on which it begins (Monday is 0); times are local time."""

    days: frozenset[int]
    begin: time
    end: time
    limit: int | None
    lane: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "HoursWindow":
        """Parse one row. Raise InvalidInput for anything ambiguous."""
        if not isinstance(row, Mapping) or not set(row) <= _WINDOW_KEYS:
            raise InvalidInput("hours.wrong-keys")
        days, limit, lane = row.get("days"), row.get("limit"), row.get("lane", Lane.RETRIEVE)
        if not isinstance(days, Sequence) or not days or not set(days) <= set(DAYS):
            raise InvalidInput("hours.wrong-days", days=DAYS)
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidInput("hours.wrong-limit")
        if lane not in (Lane.RETRIEVE, Lane.SEARCH):
            raise InvalidInput("hours.wrong-lane")
        begin, end = _parse_time(row.get("from")), _parse_time(row.get("to"))
        if begin == end != time():
            raise InvalidInput("hours.empty", time=f"{begin:%H:%M}")
        return cls(frozenset(DAYS.index(day) for day in days), begin, end, limit, lane)

    def span(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Return begin and end (UTC) of the window that begins on this day."""
        last = day if self.end > self.begin else day + _DAY
        return (
            wall_time_to_utc(datetime.combine(day, self.begin), zone),
            wall_time_to_utc(datetime.combine(last, self.end), zone),
        )


@dataclass(frozen=True, slots=True, eq=False)
class NodeCalendar:
    """The weekly windows of one node and its special days, in one zone."""

    windows: tuple[HoursWindow, ...]
    special_days: tuple[SpecialDays, ...]
    zone: ZoneInfo

    @classmethod
    def from_node(cls, node: Node) -> "NodeCalendar":
        """Return the calendar of a node. Raise InvalidInput if the stored value is invalid."""
        return _make_calendar(
            json.dumps(node.windows), json.dumps(node.special_days), settings.TIME_ZONE
        )

    def is_closed(self, day: date) -> bool:
        """Return whether the day is closed, also for a window that began on the day before."""
        found = find_special_days(self.special_days, day)
        return found is not None and found.weekday is None

    def limit(self, lane: str, at: datetime, default_limit: int) -> int:
        """Return how many associations the windows allow: `most` by default, 0 if closed."""
        today = at.astimezone(self.zone).date()
        if self.is_closed(today):
            return 0
        mine = [window for window in self.windows if window.lane == lane]
        if not mine:
            return default_limit
        days = (today - _DAY, today)
        spans = ((w, *w.span(day, self.zone)) for day in days for w in mine if self._is_on(w, day))
        limits = [
            default_limit if w.limit is None else w.limit
            for w, begin, end in spans
            if begin <= at < end
        ]
        return min([default_limit, *limits]) if limits else 0

    def edges(self, lane: str, at: datetime) -> Iterator[datetime]:
        """Yield the times after `at` when a window may open or close, in order.

        Covers more than one week after the last special day.
        """
        today = at.astimezone(self.zone).date()
        last = max([today, *(one.last_day for one in self.special_days)]) + _LOOKAHEAD_DAYS * _DAY
        days = [today + n * _DAY for n in range(-1, (last - today).days)]
        mine = [window for window in self.windows if window.lane == lane]
        edges = {
            edge
            for day in days
            for w in mine
            if self._is_on(w, day)
            for edge in w.span(day, self.zone)
        }
        for one in self.special_days:
            for day in (one.first_day, one.last_day + _DAY):
                edges.add(wall_time_to_utc(datetime.combine(day, time()), self.zone))
        return (edge for edge in sorted(edges) if edge > at)

    def _is_on(self, window: HoursWindow, day: date) -> bool:
        """Whether the window begins on this day, considering special days."""
        found = find_special_days(self.special_days, day)
        if found is None:
            return day.weekday() in window.days
        return found.weekday is not None and found.weekday in window.days


@lru_cache(maxsize=256)
def _make_calendar(windows: str, exceptions: str, zone_name: str) -> NodeCalendar:
    """Cached, because many nodes and calls share the same values."""
    read_windows, read_special = (
        parse_windows(json.loads(windows)),
        parse_special_days(json.loads(exceptions)),
    )
    return NodeCalendar(read_windows, read_special, ZoneInfo(zone_name))


@lru_cache(maxsize=4096)
def _cached_limit(calendar: NodeCalendar, lane: str, minute: datetime, default_limit: int) -> int:
    """Cached per minute, because windows begin and end on full minutes."""
    return calendar.limit(lane, minute, default_limit)


def get_time_zone() -> ZoneInfo:
    """Return the time zone of this installation."""
    return ZoneInfo(settings.TIME_ZONE)


def get_windows(node: Node) -> tuple[HoursWindow, ...]:
    """Return the windows of a node. Raise InvalidInput if the stored value is invalid."""
    return parse_windows(node.windows)


def parse_windows(rows: Any) -> tuple[HoursWindow, ...]:
    """Parse a weekly calendar. Raise InvalidInput, also if two windows contradict each other."""
    if not isinstance(rows, list):
        raise InvalidInput("hours.not-a-list")
    windows = tuple(HoursWindow.from_row(row) for row in rows)
    for one, other in combinations(windows, 2):
        _require_no_overlap(one, other)
    return windows


def get_limit_at(node: Node, lane: str, at: datetime) -> int:
    """Return how many associations of this lane may be open at the node; 0 if closed.

    The urgent lane ignores the windows. It has a small cap and respects closed days.
    """
    calendar = NodeCalendar.from_node(node)
    if lane == Lane.URGENT:
        is_closed = calendar.is_closed(at.astimezone(calendar.zone).date())
        return 0 if is_closed else min(settings.URGENT_LIMIT, node.retrieve_limit)
    most = node.search_limit if lane == Lane.SEARCH else node.retrieve_limit
    minute = at.astimezone(UTC).replace(second=0, microsecond=0)
    return _cached_limit(calendar, lane, minute, most)


def next_opening(node: Node, lane: str, at: datetime) -> datetime | None:
    """Return when the lane opens after `at` (UTC); None if it is open or never opens."""
    if get_limit_at(node, lane, at):
        return None
    edges = NodeCalendar.from_node(node).edges(lane, at)
    return next((edge for edge in edges if get_limit_at(node, lane, edge)), None)


def next_closing(node: Node, lane: str, at: datetime) -> datetime | None:
    """Return when the lane closes after `at` (UTC); None if it is closed or never closes."""
    if not get_limit_at(node, lane, at):
        return None
    edges = NodeCalendar.from_node(node).edges(lane, at)
    return next((edge for edge in edges if not get_limit_at(node, lane, edge)), None)


def _require_no_overlap(one: HoursWindow, other: HoursWindow) -> None:
    """Compare windows that begin on the same day.

    A window of the night that overlaps one of the next day is allowed.
    """
    days = one.days & other.days
    if one.lane != other.lane or not days:
        return
    first, second = sorted((one, other), key=lambda window: window.begin)
    if first.end > first.begin and first.end <= second.begin:
        return
    raise InvalidInput(
        "hours.overlap",
        day=get_day_name(min(days)),
        first=_format_hours(first),
        second=_format_hours(second),
    )


def _format_hours(window: HoursWindow) -> str:
    return f"{window.begin:%H:%M}–{window.end:%H:%M}"


def _parse_time(text: Any) -> time:
    try:
        return time() if text == "24:00" else datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007
    except (ValueError, TypeError):
        raise InvalidInput("hours.wrong-time") from None


def wall_time_to_utc(wall: datetime, zone: ZoneInfo) -> datetime:
    """Convert local time without a zone to UTC, at changes of daylight saving time as well.

    A time that occurs twice means the first one; a time that is skipped means the moment of the
    change.
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
