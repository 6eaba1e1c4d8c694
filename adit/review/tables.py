"""Tables of withheld images for which a decision was made."""

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.dates import format_datetime
from adit.review.groups import WithheldGroup
from adit.tables import (
    ROW_HEADER,
    ComputedColumn,
    NumberColumn,
    Table,
    muted,
    name_and_note,
    show_reason,
)
from adit_engine.messages import Message


class RuledGroupTable(Table):
    """Groups that a rule masks or releases, and that were not sent again yet."""

    label = _lazy("Masked or released, not sent yet")
    title = Column(_lazy("Device"), attrs=ROW_HEADER, orderable=True)
    images = NumberColumn(_lazy("Images"), orderable=True)
    decision = ComputedColumn(_lazy("Decision"))
    jobs = ComputedColumn(_lazy("Jobs"))

    def render_title(self, record: WithheldGroup) -> str:
        device = record.device
        return format_html("{} {}", record.title, muted(f"{device.columns} × {device.rows}"))

    def render_decision(self, record: WithheldGroup) -> str:
        return _decided_by(record, f"{record.decision.label}, ")

    def render_jobs(self, record: WithheldGroup) -> str:
        links = (
            (reverse("job", args=[job]), _("Job %(job)d") % {"job": job}) for job in record.jobs
        )
        return format_html_join(", ", '<a href="{}">{}</a>', links)


class LeftGroupTable(Table):
    label = _lazy("Kept withheld")
    title = Column(
        _lazy("Device"),
        attrs=ROW_HEADER,
        orderable=True,
        linkify=lambda record: reverse("withheld_group", args=[record.pk]),
    )
    images = NumberColumn(_lazy("Images"), orderable=True)
    reason = Column(_lazy("Reason"), orderable=True)
    decision = ComputedColumn(_lazy("Decided by"))

    def render_reason(self, value: Message) -> str:
        return show_reason(value)

    def render_decision(self, record: WithheldGroup) -> str:
        return _decided_by(record)


def _decided_by(group: WithheldGroup, prefix: str = "") -> str:
    row = group.rows[0]
    user = row.decided_by
    who = (user.get_full_name() or user.get_username()) if user else ""
    at = format_datetime(row.decided_at) if row.decided_at else ""
    return name_and_note(f"{prefix}{who}, {at}", row.decided_because)
