"""Picture: a calendar drawn: two weeks of days, each with its hours, special days among them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from adit.nodes.calendar import special_days
from adit.nodes.calendar.windows import Calendar, instant
from adit.nodes.models import Lane, Node

DAYS = 14
LEFT, WIDTH, ROW = 118, 576, 26
"""Where the hours begin, how wide a day is, and how high its row."""
_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Stretch:
    """Hours of one day in which so many connections are allowed."""

    x: float
    width: float
    limit: int
    text: str

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)

    @property
    def has_room(self) -> bool:
        return self.width > 16


@dataclass(frozen=True, slots=True)
class DayRow:
    y: int
    name: str
    why: str
    """Of a special day."""
    is_special: bool
    transfers: list[Stretch]
    searches: list[Stretch]


@dataclass(frozen=True, slots=True)
class Picture:
    zone: str
    rows: list[DayRow]
    hours: list[tuple[int, str]]

    @property
    def height(self) -> int:
        return len(self.rows) * ROW + 24

    @property
    def bottom(self) -> int:
        return len(self.rows) * ROW + 4


def of(node: Node, windows: list, exceptions: list) -> Picture:
    """From this Monday on, of a calendar that need not be saved. Raises WrongInput."""
    calendar = Calendar.of(
        Node(
            kind=node.kind,
            windows=windows,
            exceptions=exceptions,
            retrieve_limit=node.retrieve_limit,
            search_limit=node.search_limit,
        )
    )
    today = timezone.localdate()
    monday = today - timedelta(days=today.weekday())
    days = [monday + timedelta(days=n) for n in range(DAYS)]
    rows = [_row(node, calendar, day, number * ROW) for number, day in enumerate(days)]
    hours = [(round(LEFT + WIDTH * hour / 24), f"{hour:02d}") for hour in range(0, 25, 4)]
    return Picture(str(calendar.zone), rows, hours)


def _row(node: Node, calendar: Calendar, day: date, y: int) -> DayRow:
    found = special_days.on(calendar.specials, day)
    why = ""
    if found is not None:
        like = _("closed") if found.weekday is None else special_days.day_name(found.weekday)
        why = f"{like}: {found.why}" if found.why else like
    return DayRow(
        y,
        date_format(day, "D j M"),
        why,
        found is not None,
        list(_stretches(calendar, Lane.RETRIEVE, day, node.retrieve_limit)),
        list(_stretches(calendar, Lane.SEARCH, day, node.search_limit)),
    )


def _stretches(calendar: Calendar, lane: Lane, day: date, most: int) -> Iterator[Stretch]:
    """By the clock on the wall; those that are next to each other with one limit are one."""
    edges = {time(), *(edge for w in calendar.windows for edge in (w.begin, w.end))}
    walls = [*sorted(datetime.combine(day, edge) for edge in edges)]
    begin, limit = walls[0], _limit(calendar, lane, walls[0], most)
    for wall in walls[1:]:
        here = _limit(calendar, lane, wall, most)
        if here != limit:
            yield from _stretch(begin, wall, limit)
            begin, limit = wall, here
    yield from _stretch(begin, datetime.combine(day + timedelta(days=1), time()), limit)


def _limit(calendar: Calendar, lane: Lane, wall: datetime, most: int) -> int:
    return calendar.limit(lane, instant(wall, calendar.zone), most)


def _stretch(begin: datetime, end: datetime, limit: int) -> Iterator[Stretch]:
    if limit:
        start_s = begin.hour * 3600 + begin.minute * 60
        x = LEFT + WIDTH * start_s / _DAY_S
        width = WIDTH * (end - begin).total_seconds() / _DAY_S
        until = "24:00" if end.date() != begin.date() else f"{end:%H:%M}"
        words = {"begin": f"{begin:%H:%M}", "end": until, "n": limit}
        text = _("%(begin)s–%(end)s: %(n)d at once") % words
        yield Stretch(round(x, 1), round(width, 1), limit, text)
