"""The base of all tables on pages, and their columns. Used by the `tables.py` of each app.

Only columns that ask for it can be sorted: sorting by a value that a user may not see reveals it.
A column that is sorted in the database needs a unique field at the end of its `order_by`, so that
no row is missing from the pages or on two of them.
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from functools import cached_property
from typing import Any

from django.contrib.humanize.templatetags.humanize import intcomma
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html, strip_tags
from django.utils.safestring import SafeString
from django_tables2 import Column, RequestConfig, TemplateColumn
from django_tables2 import Table as BaseTable
from django_tables2.columns import BoundColumn
from django_tables2.rows import BoundRow

from adit.dates import format_date, format_datetime
from adit.messages import plain_message
from adit_engine.messages import Message

NONE = "–"
ROWS_PER_PAGE = 50

ROW_HEADER: Mapping[str, Any] = {"td": {"scope": "row"}}
"""Attributes of the column that names the row for screen readers."""
NUMBER: Mapping[str, Any] = {"cell": {"class": "number"}}
NO_WRAP: Mapping[str, Any] = {"td": {"class": "nowrap"}}
"""Attributes of a column with dates, IDs or UIDs, which must not break at a line end."""


class Table(BaseTable):
    """A table that is sorted and paged by the parameters of the request."""

    label: Any = ""
    """Name of the table for screen readers."""
    caption = ""
    css_class = ""

    def __init__(
        self,
        data: Iterable[Any],
        request: HttpRequest,
        *,
        per_page: int | None = ROWS_PER_PAGE,
        **kwargs: Any,
    ) -> None:
        super().__init__(data, orderable=False, default=NONE, **kwargs)
        RequestConfig(request, paginate={"per_page": per_page} if per_page else False).configure(
            self
        )

    @cached_property
    def cells_by_row(self) -> list[tuple[BoundRow, list[tuple[BoundColumn, Any]]]]:
        """The rows of the current page with the cells of the columns that are shown."""
        shown = {column.name for column in self.shown_columns}
        return [
            (row, [(column, cell) for column, cell in cells if column.name in shown])
            for row, cells in self._rendered_rows
        ]

    @cached_property
    def shown_columns(self) -> list[BoundColumn]:
        """The columns without those that are empty in all rows of the current page."""
        rows = self._rendered_rows
        return [
            column
            for number, column in enumerate(self.columns)
            if not rows
            or column.is_ordered
            or any(not _is_empty(cells[number][1]) for _row, cells in rows)
        ]

    @cached_property
    def _rendered_rows(self) -> list[tuple[BoundRow, list[tuple[BoundColumn, Any]]]]:
        return [(row, list(row.items())) for row in self.paginated_rows]

    @property
    def records(self) -> list[Any]:
        """Return what the rows of the current page show, in their order."""
        return [row.record for row in self.paginated_rows]


_VISIBLE_ELEMENTS = ("<a", "<button", "<img", "<input", "<select", "<svg", "<textarea")


def _is_empty(cell: Any) -> bool:
    text = str(cell)
    if "<" in text and not any(element in text for element in _VISIBLE_ELEMENTS):
        text = strip_tags(text)
    return text.strip() in ("", NONE)


class ComputedColumn(Column):
    """A column whose cells come from the table's method `render_<name>`, also without a value."""

    empty_values = ()


class NumberColumn(ComputedColumn):
    """A number, or what the table's method `render_<name>` returns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"attrs": NUMBER, **kwargs})

    def render(self, value: int | None) -> str:
        return NONE if value is None else format_number(value)


class DateColumn(Column):
    """A day, or the day of a point in time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"attrs": NO_WRAP, **kwargs})

    def render(self, value: date | datetime) -> str:
        day = timezone.localdate(value) if isinstance(value, datetime) else value
        return format_date(day)


class LocalDateTimeColumn(Column):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"attrs": NO_WRAP, **kwargs})

    def render(self, value: datetime) -> SafeString:
        local = timezone.localtime(value)
        return format_html(
            '<time datetime="{}">{}</time>', local.isoformat(), format_datetime(local)
        )


class ActionColumn(TemplateColumn):
    """Buttons and links. The header is for screen readers only."""

    @property
    def header(self) -> SafeString:
        return format_html('<span class="visually-hidden">{}</span>', self.verbose_name)


def state_badge(value: Any, word: Any) -> str:
    """Return the badge of a state: icon, word and colour."""
    return render_to_string("components/state.html", {"value": str(value), "word": word})


def show_reason(message: Message) -> SafeString:
    """Return a message in plain words; the DICOM detail is shown on a click."""
    words = plain_message(message)
    details = [] if words == message else [message]
    return render_to_string("components/reason.html", {"plain": words, "details": details})


def format_number(value: int) -> str:
    return str(intcomma(value))


def muted(text: Any) -> SafeString:
    return format_html('<span class="quiet">{}</span>', text)


def nowrap(text: Any) -> SafeString:
    """Return a date, ID or UID within a longer cell, which must not break at a line end."""
    return format_html('<span class="nowrap">{}</span>', text)


def name_and_note(name: Any, note: Any) -> SafeString:
    """Return a text with a quiet remark below it; the remark may be empty."""
    return format_html('{}<br><span class="quiet">{}</span>', name, note) if note else name
