"""The table of the block list."""

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.blocklist.models import BlockedPatient
from adit.dates import format_datetime
from adit.tables import NUMBER, ROW_HEADER, ActionColumn, ComputedColumn, Table, state_badge


class BlockListTable(Table):
    label = _lazy("Block list")
    patient = Column(_lazy("Patient ID"), accessor="patient_id", orderable=False, attrs=ROW_HEADER)
    domain = ComputedColumn(_lazy("Issued by"))
    project = ComputedColumn(_lazy("Research project"))
    state = ComputedColumn(_lazy("State"))
    reason = ComputedColumn(_lazy("Reason"))
    added = ComputedColumn(_lazy("Added"), orderable=True, order_by=("created_at", "pk"))
    actions = ActionColumn(
        verbose_name=_lazy("Actions"), template_name="blocklist/_block_cell.html", attrs=NUMBER
    )

    def render_domain(self, record: BlockedPatient) -> str:
        return record.domain or _("every domain")

    def render_project(self, record: BlockedPatient) -> str:
        return str(record.project) if record.project is not None else _("all")

    def render_state(self, record: BlockedPatient) -> str:
        if record.ended_at is None:
            return state_badge("failure", _("blocked"))
        return state_badge("closed", _("ended"))

    def render_reason(self, record: BlockedPatient) -> str:
        if record.ended_at is None:
            return str(record.reason)
        return _("%(reason)s Ended %(date)s by %(user)s: %(end)s") % {
            "reason": f"{record.reason}.".replace("..", "."),
            "date": format_datetime(timezone.localtime(record.ended_at)),
            "user": record.ended_by,
            "end": record.end_reason,
        }

    def render_added(self, record: BlockedPatient) -> str:
        day = format_datetime(timezone.localtime(record.created_at))
        return _("%(date)s by %(user)s") % {"date": day, "user": record.created_by}
