"""The table of a user's notifications."""

from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.notifications.models import Notification
from adit.tables import (
    NUMBER,
    ROW_HEADER,
    ActionColumn,
    ComputedColumn,
    LocalDateTimeColumn,
    Table,
    state_badge,
)


class NotificationTable(Table):
    label = _lazy("Notifications")
    message = Column(_lazy("Event"), attrs=ROW_HEADER)
    state = ComputedColumn(_lazy("State"))
    created_at = LocalDateTimeColumn(_lazy("Time"), orderable=True, order_by=("created_at", "pk"))
    actions = ActionColumn(
        verbose_name=_lazy("Actions"),
        template_name="notifications/_read_cell.html",
        attrs=NUMBER,
    )

    def render_message(self, record: Notification) -> str:
        return format_html('<a href="{}">{}</a>', record.link, str(record.message))

    def render_state(self, record: Notification) -> str:
        return state_badge("info", _("new")) if record.read_at is None else _("read")
