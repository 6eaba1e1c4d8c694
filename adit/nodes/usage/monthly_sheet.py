"""What ADIT asked of a node in one month, and how fast it answered: for its administrator.

It names neither patients nor users, and no reasons that a user has typed. Used by the page and the
files of the sheet.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Self

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.audit.models import AuditEvent
from adit.dates import format_date, format_datetime
from adit.nodes.models import Node, NodeHourlyUsage
from adit.table_files import Cell

_MB = 1_000_000
_FIRST_YEAR, _LAST_YEAR = 2000, 2999

_EVENT_LABELS: dict[str, str | Promise] = {
    "node.paused": _lazy("paused by a person"),
    "node.stopped": _lazy("stopped by a person"),
    "node.reopened": _lazy("opened again by a person"),
    "node.put_in_use": _lazy("opened by a person"),
    "node.taken_out_of_use": _lazy("closed by a person"),
    "node.slow": _lazy("slow: one study at a time over one connection"),
    "node.slow_paused": _lazy("very slow: ADIT paused transfers"),
    "node.slow_ended": _lazy("no longer slow"),
}


@dataclass(frozen=True, slots=True)
class UseTotals:
    """The use of one or several hours."""

    label: str
    searches: int
    transfers: int
    peak_connections: int
    allowed: int
    images: int
    size_bytes: int
    outside_hours: int
    hours_above_limit: int
    echo_mean_s: float | None
    echo_max_s: float | None
    retrieval_mean_s: float | None
    retrieval_max_s: float | None

    @classmethod
    def from_hours(cls, label: str, hours: Sequence[NodeHourlyUsage]) -> Self:
        def mean(total: float, count: int) -> float | None:
            return total / count if count else None

        echoes = sum(hour.echo_count for hour in hours)
        retrievals = sum(hour.retrieval_count for hour in hours)
        return cls(
            label,
            sum(hour.searches for hour in hours),
            sum(hour.transfers for hour in hours),
            max((hour.peak_connections for hour in hours), default=0),
            max((hour.allowed for hour in hours), default=0),
            sum(hour.images for hour in hours),
            sum(hour.size_bytes for hour in hours),
            sum(hour.outside_hours for hour in hours),
            sum(hour.peak_connections > hour.allowed for hour in hours),
            mean(sum(hour.echo_s for hour in hours), echoes),
            max(hour.echo_max_s for hour in hours) if echoes else None,
            mean(sum(hour.retrieval_s for hour in hours), retrievals),
            max(hour.retrieval_max_s for hour in hours) if retrievals else None,
        )

    @property
    def cells(self) -> list[Cell]:
        """The values in the order of `sheet_columns`."""
        times = (self.echo_mean_s, self.echo_max_s, self.retrieval_mean_s, self.retrieval_max_s)
        return [
            self.label,
            self.searches,
            self.transfers,
            self.peak_connections,
            self.allowed,
            self.images,
            round(self.size_bytes / _MB),
            self.outside_hours,
            *("–" if seconds is None else f"{seconds:.2f}" for seconds in times),
        ]


def sheet_columns(first: str) -> list[str]:
    """Return the columns of a table of the sheet; `first` is the title of the first."""
    return [
        first,
        _("Searches"),
        _("Transfers"),
        _("Peak connections"),
        _("Allowed connections"),
        _("Images"),
        _("MB"),
        _("Outside the hours"),
        _("Echo (s), mean"),
        _("Echo (s), longest"),
        _("First image (s), mean"),
        _("First image (s), longest"),
    ]


@dataclass(frozen=True, slots=True)
class MonthlySheet:
    """The use of a node in one month of the local calendar, which may not be over."""

    node: Node
    month: date
    """Its first day."""
    hours: list[NodeHourlyUsage]

    @property
    def title(self) -> str:
        return _("Use of %(node)s by ADIT in %(month)s") % {
            "node": self.node.name,
            "month": f"{self.month:%Y-%m}",
        }

    @property
    def days(self) -> list[UseTotals]:
        """One row for each day with use."""
        return _group(self.hours, lambda at: format_date(at.date()))

    @property
    def hours_of_day(self) -> list[UseTotals]:
        """One row for each hour of the day with use, all days together."""
        return sorted(_group(self.hours, lambda at: f"{at:%H}:00"), key=lambda totals: totals.label)

    @property
    def each_hour(self) -> Iterator[UseTotals]:
        for hour in self.hours:
            yield UseTotals.from_hours(format_datetime(hour.hour), [hour])

    @property
    def facts(self) -> list[tuple[str, Cell]]:
        """Label and value of the sums, and whether the agreed limits were kept."""
        total = UseTotals.from_hours("", self.hours)
        return [
            (_("Searches"), total.searches),
            (_("Transfers"), total.transfers),
            (_("Images"), total.images),
            (_("MB"), round(total.size_bytes / _MB)),
            (_("Peak connections"), total.peak_connections),
            (_("Hours with more connections than allowed"), total.hours_above_limit),
            (_("Transfers that began or ended outside the allowed hours"), total.outside_hours),
        ]

    @property
    def events(self) -> list[tuple[str, str]]:
        """Time and description of pauses and of slow periods."""
        begin, end = _month_limits(self.month)
        found = AuditEvent.objects.filter(
            about=f"node:{self.node.pk}", action__in=_EVENT_LABELS, at__gte=begin, at__lt=end
        ).order_by("pk")
        return [(format_datetime(one.at), str(_EVENT_LABELS[one.action])) for one in found]


def make_monthly_sheet(node: Node, month: date) -> MonthlySheet:
    begin, end = _month_limits(month)
    hours = node.hourly_usage.filter(hour__gte=begin, hour__lt=end)
    return MonthlySheet(node, month, list(hours))


def list_months(node: Node) -> list[date]:
    """Return the first day of each month with use, and of this month, newest first."""
    found = {timezone.localdate().replace(day=1)}
    for hour in node.hourly_usage.values_list("hour", flat=True):
        found.add(timezone.localtime(hour).date().replace(day=1))
    return sorted(found, reverse=True)


def parse_month(text: str) -> date | None:
    """Return the first day of a month such as 2026-11; None if it is none."""
    try:
        month = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError:
        return None
    return month if _FIRST_YEAR <= month.year <= _LAST_YEAR else None


def _month_limits(month: date) -> tuple[datetime, datetime]:
    following = (month + timedelta(days=32)).replace(day=1)
    zone = timezone.get_current_timezone()
    begin, end = (datetime(day.year, day.month, 1, tzinfo=zone) for day in (month, following))
    return begin, end


def _group(hours: Iterable[NodeHourlyUsage], name: Callable[[datetime], str]) -> list[UseTotals]:
    groups: dict[str, list[NodeHourlyUsage]] = {}
    for hour in hours:
        groups.setdefault(name(timezone.localtime(hour.hour)), []).append(hour)
    return [UseTotals.from_hours(label, rows) for label, rows in groups.items()]
