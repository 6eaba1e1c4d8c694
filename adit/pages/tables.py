"""The table of events on the page of the audit trail."""

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column, TemplateColumn

from adit.dates import format_date
from adit.tables import NO_WRAP, ComputedColumn, NumberColumn, Table


class EventTable(Table):
    """Events, newest first. They are read in the order in which they happened."""

    label = _lazy("Events")
    number = NumberColumn(_lazy("No."), accessor="event__pk")
    at = ComputedColumn(_lazy("Time"), accessor="event__at", attrs=NO_WRAP)
    sentence = Column(_lazy("What happened"), attrs={"td": {"class": "trail-sentence"}})
    details = TemplateColumn(
        verbose_name=_lazy("Details"),
        template_name="pages/_event_cell.html",
        attrs={"td": {"class": "trail-details"}},
    )

    def render_number(self, value: int) -> str:
        return str(value)

    def render_at(self, value: datetime) -> str:
        local = timezone.localtime(value)
        return format_html(
            '<time datetime="{}">{} {}</time>',
            local.isoformat(),
            format_date(local.date()),
            f"{local:%H:%M:%S}",
        )
