"""Bar charts of ninety days of use against the limits: geometry only. Drawn by a template."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from adit.nodes.models import Lane, Node, NodeDailyUsage
from adit.nodes.usage import daily_usage

WIDTH, HEIGHT = 720, 96
_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class UsageBar:
    """One day. `mark` is the y coordinate of the limit line; None if there was no limit."""

    x: float
    y: float
    height: float
    width: float
    mark: float | None
    is_over_limit: bool
    text: str


@dataclass(frozen=True, slots=True)
class UsageChart:
    title: str
    top: str
    """The value at the top of the chart."""
    bars: list[UsageBar]
    first: date
    last: date

    @property
    def summary(self) -> str:
        words = {"title": self.title, "top": self.top}
        return _("%(title)s per day in the last 90 days, maximum %(top)s") % words


@dataclass(frozen=True, slots=True)
class _DayTotals:
    at: date
    at_once: int = 0
    allowed: int = 0
    connections: int = 0
    images: int = 0
    size_bytes: int = 0


def make_usage_charts(node: Node) -> list[UsageChart]:
    """Return the charts of the transfers of a node; empty if nothing was transferred."""
    rows = [use for use in daily_usage.get_daily_usage(node) if use.lane != Lane.SEARCH]
    if not rows:
        return []
    days = _sum_by_day(rows)
    return [
        _make_chart(_("Peak connections"), days, lambda day: day.at_once, lambda day: day.allowed),
        _make_chart(_("Studies"), days, lambda day: day.connections),
        _make_chart(_("Images"), days, lambda day: day.images),
        _make_chart(_("GB"), days, lambda day: day.size_bytes / _GB),
    ]


def _sum_by_day(rows: Sequence[NodeDailyUsage]) -> list[_DayTotals]:
    today = timezone.localdate()
    every = [today - timedelta(days=n) for n in range(daily_usage.SHOWN_DAYS - 1, -1, -1)]
    return [_sum_rows(at, [row for row in rows if row.day == at]) for at in every]


def _sum_rows(at: date, rows: Sequence[NodeDailyUsage]) -> _DayTotals:
    return _DayTotals(
        at,
        max((row.peak_connections for row in rows), default=0),
        max((row.allowed for row in rows), default=0),
        sum(row.connections for row in rows),
        sum(row.images for row in rows),
        sum(row.size_bytes for row in rows),
    )


def _make_chart(
    title: str,
    days: Sequence[_DayTotals],
    value: Callable[[_DayTotals], float],
    limit: Callable[[_DayTotals], float] | None = None,
) -> UsageChart:
    top = max(max(value(day), limit(day) if limit else 0) for day in days) or 1
    step = WIDTH / len(days)
    bars = []
    for number, day in enumerate(days):
        much, most = value(day), limit(day) if limit else 0
        height = round(HEIGHT * much / top, 2)
        bars.append(
            UsageBar(
                round(number * step, 2),
                HEIGHT - height,
                height,
                round(step * 0.8, 2),
                round(HEIGHT - HEIGHT * most / top, 2) if most else None,
                bool(most and much > most),
                _describe_bar(day.at, much, most),
            )
        )
    return UsageChart(title, _format_number(top), bars, days[0].at, days[-1].at)


def _describe_bar(day: date, much: float, most: float) -> str:
    words = {
        "day": date_format(day, "j M"),
        "n": _format_number(much),
        "most": _format_number(most),
    }
    if most:
        return _("%(day)s: %(n)s of %(most)s") % words
    return _("%(day)s: %(n)s") % words


def _format_number(value: float) -> str:
    return f"{value:.1f}" if isinstance(value, float) and value % 1 else f"{value:.0f}"
