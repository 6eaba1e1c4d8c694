"""Geometry of the calendar chart: two weeks with hours and special days. Drawn by a template."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from adit.nodes.calendar import allowed_hours
from adit.nodes.calendar.allowed_hours import NodeCalendar, wall_time_to_utc
from adit.nodes.models import Lane, Node

CHART_DAYS = 14
LEFT, WIDTH, ROW = 118, 576, 26
"""The x position of hour 0, the width of a day, and the height of its row."""
_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class ChartInterval:
    """Hours of one day with the same limit of connections."""

    x: float
    width: float
    limit: int
    text: str

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)

    @property
    def has_space(self) -> bool:
        return self.width > 16


@dataclass(frozen=True, slots=True)
class ChartDay:
    y: int
    name: str
    reason: str
    """The reason of a special day."""
    is_special: bool
    transfers: list[ChartInterval]
    searches: list[ChartInterval]


@dataclass(frozen=True, slots=True)
class CalendarChart:
    zone: str
    rows: list[ChartDay]
    hours: list[tuple[int, str]]

    @property
    def height(self) -> int:
        return len(self.rows) * ROW + 24

    @property
    def bottom(self) -> int:
        return len(self.rows) * ROW + 4


def make_calendar_chart(node: Node, windows: list, exceptions: list) -> CalendarChart:
    """Return the chart, from this Monday on, of a calendar that may be unsaved.

    Raise InvalidInput.
    """
    calendar = NodeCalendar.from_node(
        Node(
            kind=node.kind,
            windows=windows,
            special_days=exceptions,
            retrieve_limit=node.retrieve_limit,
            search_limit=node.search_limit,
        )
    )
    today = timezone.localdate()
    monday = today - timedelta(days=today.weekday())
    days = [monday + timedelta(days=n) for n in range(CHART_DAYS)]
    rows = [_make_day(node, calendar, day, number * ROW) for number, day in enumerate(days)]
    hours = [(round(LEFT + WIDTH * hour / 24), f"{hour:02d}") for hour in range(0, 25, 4)]
    return CalendarChart(str(calendar.zone), rows, hours)


def _make_day(node: Node, calendar: NodeCalendar, day: date, y: int) -> ChartDay:
    found = allowed_hours.find_special_days(calendar.special_days, day)
    why = ""
    if found is not None:
        like = _("closed") if found.weekday is None else allowed_hours.get_day_name(found.weekday)
        why = f"{like}: {found.reason}" if found.reason else like
    return ChartDay(
        y,
        date_format(day, "D j M"),
        why,
        found is not None,
        list(_make_intervals(calendar, Lane.RETRIEVE, day, node.retrieve_limit)),
        list(_make_intervals(calendar, Lane.SEARCH, day, node.search_limit)),
    )


def _make_intervals(
    calendar: NodeCalendar, lane: Lane, day: date, default_limit: int
) -> Iterator[ChartInterval]:
    """In local time. Adjacent intervals with the same limit are joined."""
    edges = {time(), *(edge for w in calendar.windows for edge in (w.begin, w.end))}
    walls = [*sorted(datetime.combine(day, edge) for edge in edges)]
    begin, limit = walls[0], _limit_at(calendar, lane, walls[0], default_limit)
    for wall in walls[1:]:
        here = _limit_at(calendar, lane, wall, default_limit)
        if here != limit:
            yield from _make_interval(begin, wall, limit)
            begin, limit = wall, here
    yield from _make_interval(begin, datetime.combine(day + timedelta(days=1), time()), limit)


def _limit_at(calendar: NodeCalendar, lane: Lane, wall: datetime, default_limit: int) -> int:
    return calendar.limit(lane, wall_time_to_utc(wall, calendar.zone), default_limit)


def _make_interval(begin: datetime, end: datetime, limit: int) -> Iterator[ChartInterval]:
    if limit:
        start_s = begin.hour * 3600 + begin.minute * 60
        x = LEFT + WIDTH * start_s / _DAY_S
        width = WIDTH * (end - begin).total_seconds() / _DAY_S
        until = "24:00" if end.date() != begin.date() else f"{end:%H:%M}"
        words = {"begin": f"{begin:%H:%M}", "end": until, "n": limit}
        text = _("%(begin)s–%(end)s: at most %(n)d connections") % words
        yield ChartInterval(round(x, 1), round(width, 1), limit, text)
