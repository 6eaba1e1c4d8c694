"""Special: dated exceptions from a weekly calendar, such as a holiday or a migration.

They are a list such as
    {"from": "2026-06-12", "to": "2026-06-14", "as": "closed", "why": "migration"}
`to` may be left out: one day. `as` is closed, or the weekday whose hours these days have. Closed
days are closed from midnight to midnight, for every lane.
Window: the hours in which a node may be used, and how hard; one weekly calendar per node.

A calendar is a list such as
    {"days": ["mon", "tue"], "from": "20:00", "to": "06:00", "limit": 4, "lane": "retrieve"}
`limit` (associations) and `lane` may be left out: the node's own limit, the retrieve lane. A window
whose end is not after its begin ends on the next day. A lane without any window is always open;
with some, it is closed outside them; where a night runs on into the next day's hours, the smaller
limit counts. Dated exceptions stand beside it, see adit.nodes.calendar.allowed_hours."""

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
from django.utils.translation import gettext as _

from adit.nodes.models import Lane, Node
from adit_engine.errors import InvalidInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOSED = "closed"
MAX_SPECIAL_DAYS = 366
MAX_WHY_LENGTH = 80
_SPECIAL_DAYS_KEYS = frozenset({"from", "to", "as", "why"})


@dataclass(frozen=True, slots=True)
class SpecialDays:
    """From the first to the last day: closed, or as on that weekday (Monday is 0)."""

    first: date
    last: date
    weekday: int | None
    why: str = ""

    @classmethod
    def read(cls, row: Any) -> "SpecialDays":
        """Raises WrongInput."""
        if not isinstance(row, Mapping) or not set(row) <= _SPECIAL_DAYS_KEYS:
            raise InvalidInput(_("A special day has from, as, and perhaps to and why."))
        first = _parse_date(row.get("from"))
        last = _parse_date(row["to"]) if row.get("to") else first
        if not 0 <= (last - first).days < MAX_SPECIAL_DAYS:
            raise InvalidInput(_("Special days end on or after the day they begin, within a year."))
        like, why = row.get("as"), row.get("why", "")
        if like != CLOSED and like not in DAYS:
            raise InvalidInput(_("A special day is closed, or as a weekday, such as sun."))
        if not isinstance(why, str) or len(why) > MAX_WHY_LENGTH:
            raise InvalidInput(_("Say in at most %d characters why.") % MAX_WHY_LENGTH)
        return cls(first, last, None if like == CLOSED else DAYS.index(like), why)

    @property
    def row(self) -> dict[str, str]:
        like = CLOSED if self.weekday is None else DAYS[self.weekday]
        return {
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "as": like,
            "why": self.why,
        }


def parse_special_days(rows: Any) -> tuple[SpecialDays, ...]:
    """In order of time. Raises WrongInput, also where two say something of one day."""
    if not isinstance(rows, list):
        raise InvalidInput(_("The special days are a list."))
    found = sorted((SpecialDays.read(row) for row in rows), key=lambda one: one.first)
    for one, other in pairwise(found):
        if other.first <= one.last:
            raise InvalidInput(
                _("Two rows speak of %(day)s. Let one of them end before.") % {"day": other.first}
            )
    return tuple(found)


def find_special_days(specials: Iterable[SpecialDays], day: date) -> SpecialDays | None:
    return next((one for one in specials if one.first <= day <= one.last), None)


def get_day_name(weekday: int) -> str:
    """Monday is 0."""
    return str(WEEKDAYS[weekday])


def _parse_date(text: Any) -> date:
    try:
        return date.fromisoformat(text)
    except (ValueError, TypeError):
        raise InvalidInput(_("Write days like 2026-12-24.")) from None


_WINDOW_KEYS = frozenset({"days", "from", "to", "limit", "lane"})
_LOOKAHEAD_DAYS = 9
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class HoursWindow:
    """`days` are those on which it begins, Monday is 0. Times are those of a clock on the wall."""

    days: frozenset[int]
    begin: time
    end: time
    limit: int | None
    lane: str

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> "HoursWindow":
        """Raises WrongInput for what cannot be read in one way only."""
        if not isinstance(row, Mapping) or not set(row) <= _WINDOW_KEYS:
            raise InvalidInput(_("A window has days, from, to, and perhaps limit and lane."))
        days, limit, lane = row.get("days"), row.get("limit"), row.get("lane", Lane.RETRIEVE)
        if not isinstance(days, Sequence) or not days or not set(days) <= set(DAYS):
            raise InvalidInput(_("A window's days are some of %s.") % ", ".join(DAYS))
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidInput(_("A window's limit is a whole number of connections, 0 or more."))
        if lane not in (Lane.RETRIEVE, Lane.SEARCH):
            raise InvalidInput(_("A window's lane is retrieve or search."))
        begin, end = _parse_time(row.get("from")), _parse_time(row.get("to"))
        if begin == end != time():
            raise InvalidInput(
                _("Hours from %(time)s until %(time)s have no length; 00:00 until 00:00 is a day.")
                % {"time": f"{begin:%H:%M}"}
            )
        return cls(frozenset(DAYS.index(day) for day in days), begin, end, limit, lane)

    def span(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """From when to when (UTC) it is open if it begins on this day."""
        last = day if self.end > self.begin else day + _DAY
        return (
            wall_time_to_utc(datetime.combine(day, self.begin), zone),
            wall_time_to_utc(datetime.combine(last, self.end), zone),
        )


@dataclass(frozen=True, slots=True, eq=False)
class NodeCalendar:
    """The weekly windows of one node and its special days, in one zone."""

    windows: tuple[HoursWindow, ...]
    specials: tuple[SpecialDays, ...]
    zone: ZoneInfo

    @classmethod
    def of(cls, node: Node) -> "NodeCalendar":
        """Raises WrongInput where the row holds something else."""
        return _make_calendar(
            json.dumps(node.windows), json.dumps(node.exceptions), settings.TIME_ZONE
        )

    def is_closed(self, day: date) -> bool:
        """A special day on which nobody comes in, not even a night that began before it."""
        found = find_special_days(self.specials, day)
        return found is not None and found.weekday is None

    def limit(self, lane: str, at: datetime, most: int) -> int:
        """How many associations the hours allow; `most` where they name no number; 0 = closed."""
        today = at.astimezone(self.zone).date()
        if self.is_closed(today):
            return 0
        mine = [window for window in self.windows if window.lane == lane]
        if not mine:
            return most
        days = (today - _DAY, today)
        spans = ((w, *w.span(day, self.zone)) for day in days for w in mine if self._is_on(w, day))
        limits = [
            most if w.limit is None else w.limit for w, begin, end in spans if begin <= at < end
        ]
        return min([most, *limits]) if limits else 0

    def edges(self, lane: str, at: datetime) -> Iterator[datetime]:
        """When something may open or close after `at`, in order: a week, beyond all special days."""
        today = at.astimezone(self.zone).date()
        last = max([today, *(one.last for one in self.specials)]) + _LOOKAHEAD_DAYS * _DAY
        days = [today + n * _DAY for n in range(-1, (last - today).days)]
        mine = [window for window in self.windows if window.lane == lane]
        edges = {
            edge
            for day in days
            for w in mine
            if self._is_on(w, day)
            for edge in w.span(day, self.zone)
        }
        for one in self.specials:
            for day in (one.first, one.last + _DAY):
                edges.add(wall_time_to_utc(datetime.combine(day, time()), self.zone))
        return (edge for edge in sorted(edges) if edge > at)

    def _is_on(self, window: HoursWindow, day: date) -> bool:
        """Whether it begins on this day, special days considered."""
        found = find_special_days(self.specials, day)
        if found is None:
            return day.weekday() in window.days
        return found.weekday is not None and found.weekday in window.days


@lru_cache(maxsize=256)
def _make_calendar(windows: str, exceptions: str, zone_name: str) -> NodeCalendar:
    """Made once for all nodes and times that have the same."""
    read_windows, read_special = (
        parse_windows(json.loads(windows)),
        parse_special_days(json.loads(exceptions)),
    )
    return NodeCalendar(read_windows, read_special, ZoneInfo(zone_name))


@lru_cache(maxsize=4096)
def _cached_limit(calendar: NodeCalendar, lane: str, minute: datetime, most: int) -> int:
    """Hours begin and end with a minute, so one answer serves all of it."""
    return calendar.limit(lane, minute, most)


def get_time_zone() -> ZoneInfo:
    """Of all clocks on the wall here."""
    return ZoneInfo(settings.TIME_ZONE)


def get_windows(node: Node) -> tuple[HoursWindow, ...]:
    """Raises WrongInput where the row holds something else."""
    return parse_windows(node.windows)


def parse_windows(rows: Any) -> tuple[HoursWindow, ...]:
    """A whole week. Raises WrongInput, also where two windows contradict each other."""
    if not isinstance(rows, list):
        raise InvalidInput(_("The allowed hours are a list of windows."))
    windows = tuple(HoursWindow.read(row) for row in rows)
    for one, other in combinations(windows, 2):
        _require_no_overlap(one, other)
    return windows


def get_limit_at(node: Node, lane: str, at: datetime) -> int:
    """How many associations of this lane may be open at the node; 0 = closed.

    The urgent lane knows no hours, only a small cap and the days on which a node is closed.
    """
    calendar = NodeCalendar.of(node)
    if lane == Lane.URGENT:
        is_closed = calendar.is_closed(at.astimezone(calendar.zone).date())
        return 0 if is_closed else min(settings.URGENT_LIMIT, node.retrieve_limit)
    most = node.search_limit if lane == Lane.SEARCH else node.retrieve_limit
    minute = at.astimezone(UTC).replace(second=0, microsecond=0)
    return _cached_limit(calendar, lane, minute, most)


def next_opening(node: Node, lane: str, at: datetime) -> datetime | None:
    """When the lane opens after `at` (UTC); None when it is open, or never opens."""
    if get_limit_at(node, lane, at):
        return None
    edges = NodeCalendar.of(node).edges(lane, at)
    return next((edge for edge in edges if get_limit_at(node, lane, edge)), None)


def next_closing(node: Node, lane: str, at: datetime) -> datetime | None:
    """When the lane closes after `at` (UTC); None when it is closed, or never closes."""
    if not get_limit_at(node, lane, at):
        return None
    edges = NodeCalendar.of(node).edges(lane, at)
    return next((edge for edge in edges if not get_limit_at(node, lane, edge)), None)


def _require_no_overlap(one: HoursWindow, other: HoursWindow) -> None:
    """Of hours that begin on one day; a night that runs on into the next day's is no contradiction."""
    days = one.days & other.days
    if one.lane != other.lane or not days:
        return
    first, second = sorted((one, other), key=lambda window: window.begin)
    if first.end > first.begin and first.end <= second.begin:
        return
    raise InvalidInput(
        _(
            "%(day)s: %(one)s and %(other)s overlap. Join them, or let one end where the other begins."
        )
        % {
            "day": get_day_name(min(days)),
            "one": _format_hours(first),
            "other": _format_hours(second),
        }
    )


def _format_hours(window: HoursWindow) -> str:
    return f"{window.begin:%H:%M}–{window.end:%H:%M}"


def _parse_time(text: Any) -> time:
    try:
        return time() if text == "24:00" else datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007
    except (ValueError, TypeError):
        raise InvalidInput(_("A window's times look like 20:00.")) from None


def wall_time_to_utc(wall: datetime, zone: ZoneInfo) -> datetime:
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
