"""The table of all recalls."""

from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.dates import format_date
from adit.recall.models import Recall, RecallState
from adit.tables import ROW_HEADER, ComputedColumn, LocalDateTimeColumn, Table, state_badge

TONES = {
    RecallState.WAITING: "pending",
    RecallState.DELETED: "success",
    RecallState.INCOMPLETE: "failure",
    RecallState.TO_DELETE: "warning",
    RecallState.PRESENT: "warning",
    RecallState.GONE: "success",
}
"""Tone of the state of a recalled delivery."""


def describe_subject(recall: Recall) -> str:
    """Name the patient or the job whose images are recalled."""
    if recall.entry is not None:
        return _("patient %(patient)s") % {"patient": recall.entry.patient_id}
    if recall.job_id is not None:
        return _("job %(job)d") % {"job": recall.job_id}
    return _("a deleted job")


def state_of(recall: Recall) -> tuple[str, str]:
    """Return the tone and the label of the state of a recall."""
    if recall.ended_at is not None:
        return "success", _("complete")
    if recall.is_overdue(timezone.localdate()):
        return "failure", _("overdue")
    return "in_progress", _("in progress")


class RecallTable(Table):
    label = _lazy("Recalls")
    number = ComputedColumn(_lazy("Recall"), attrs=ROW_HEADER)
    subject = ComputedColumn(_lazy("Images of"))
    state = ComputedColumn(_lazy("State"))
    confirmed = ComputedColumn(_lazy("Confirmed by recipients"))
    created_at = LocalDateTimeColumn(_lazy("Ordered"), orderable=True)

    def render_number(self, record: Recall) -> str:
        address = reverse("recall", args=[record.pk])
        return format_html('<a href="{}">{}</a>', address, record.pk)

    def render_subject(self, record: Recall) -> str:
        return describe_subject(record)

    def render_state(self, record: Recall) -> str:
        return state_badge(*state_of(record))

    def render_confirmed(self, record: Recall) -> str:
        rows = list(record.confirmations.all())
        done = sum(1 for row in rows if row.confirmed_at is not None)
        return _("%(done)d of %(all)d, until %(day)s") % {
            "done": done,
            "all": len(rows),
            "day": format_date(record.confirm_by),
        }
