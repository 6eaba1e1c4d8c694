"""Tables of withheld images for which a decision was made."""

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.accounts.models import User
from adit.dates import format_datetime
from adit.jobs.models import DeviceDecision, ReviewDecision, RuledImages
from adit.review.groups import WithheldGroup, describe_kind
from adit.tables import (
    ROW_HEADER,
    ComputedColumn,
    LocalDateTimeColumn,
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


class DecisionTable(Table):
    label = _lazy("Decisions")
    decided_at = LocalDateTimeColumn(_lazy("Time"))
    device = ComputedColumn(
        _lazy("Device"),
        attrs=ROW_HEADER,
        linkify=lambda record: reverse("withheld_decision", args=[record.pk]),
    )
    project = Column(_lazy("Research project"))
    decision = ComputedColumn(_lazy("Decision"))
    images = NumberColumn(_lazy("Images"))
    decided_by = ComputedColumn(_lazy("Decided by"))
    state = ComputedColumn(_lazy("State"))

    def render_device(self, record: DeviceDecision) -> str:
        size = f"{record.columns} × {record.rows}" if record.rows else ""
        return format_html("{} {}", _device_name(record), muted(size))

    def render_decision(self, record: DeviceDecision) -> str:
        if record.decision == ReviewDecision.OPEN:
            return _("reopened")
        return record.get_decision_display()

    def render_decided_by(self, record: DeviceDecision) -> str:
        return name_and_note(_full_name(record.decided_by), record.reason)

    def render_state(self, record: DeviceDecision) -> str:
        if record.revoked_at is None:
            return "" if record.profile is None else str(record.profile)
        note = f"{_full_name(record.revoked_by)}, {format_datetime(record.revoked_at)}"
        return name_and_note(_("revoked"), note)


class RuledImagesTable(Table):
    label = _lazy("Delivered while the rule was in force")
    job = ComputedColumn(
        _lazy("Job"),
        attrs=ROW_HEADER,
        linkify=lambda record: reverse("job_task", args=[record.task.job_id, record.task.position]),
    )
    owner = ComputedColumn(_lazy("Owner"))
    destination = ComputedColumn(_lazy("Destination"))
    images = NumberColumn(_lazy("Images"))

    def render_job(self, record: RuledImages) -> str:
        values = {"job": record.task.job_id, "study": record.task.position}
        return _("Job %(job)d, study %(study)d") % values

    def render_owner(self, record: RuledImages) -> str:
        return _full_name(record.task.job.owner)

    def render_destination(self, record: RuledImages) -> str:
        destination = record.task.job.destination
        return destination.name if destination is not None else ""


def _device_name(decision: DeviceDecision) -> str:
    named = f"{decision.manufacturer} {decision.model}".strip()
    return named or describe_kind(decision.sop_class)


def _full_name(user: User | None) -> str:
    return (user.get_full_name() or user.get_username()) if user else ""


def _decided_by(group: WithheldGroup, prefix: str = "") -> str:
    row = group.rows[0]
    who = _full_name(row.decided_by)
    at = format_datetime(row.decided_at) if row.decided_at else ""
    return name_and_note(f"{prefix}{who}, {at}", row.decided_because)
