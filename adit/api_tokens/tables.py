"""Tables of API tokens: one's own, and those of all users."""

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import describe_scopes
from adit.dates import format_datetime
from adit.tables import (
    NO_WRAP,
    NUMBER,
    ROW_HEADER,
    ActionColumn,
    ComputedColumn,
    LocalDateTimeColumn,
    Table,
    state_badge,
)


class TokenTable(Table):
    label = _lazy("API tokens")
    name = Column(_lazy("Name"), attrs=ROW_HEADER, orderable=True, order_by=("name", "pk"))
    state = ComputedColumn(_lazy("State"))
    scopes = ComputedColumn(_lazy("Allowed uses"))
    nodes = ComputedColumn(_lazy("PACS and folders"))
    expires_at = ComputedColumn(
        _lazy("Valid until"), orderable=True, order_by=("expires_at", "pk"), attrs=NO_WRAP
    )
    last_used_at = LocalDateTimeColumn(
        _lazy("Last used"), orderable=True, order_by=("last_used_at", "pk")
    )
    actions = ActionColumn(
        verbose_name=_lazy("Actions"), template_name="api_tokens/_token_cell.html", attrs=NUMBER
    )

    def render_state(self, record: ApiToken) -> str:
        if record.revoked_at is not None:
            return state_badge("closed", _("revoked"))
        if record.has_expired:
            return state_badge("closed", _("expired"))
        return state_badge("open", _("valid"))

    def render_scopes(self, record: ApiToken) -> str:
        return ", ".join(describe_scopes(record))

    def render_nodes(self, record: ApiToken) -> str:
        if record.all_nodes:
            return _("all of the user")
        return ", ".join(node.name for node in record.nodes.all()) or _("none any more")

    def render_expires_at(self, record: ApiToken) -> str:
        if record.expires_at is None:
            return _("without limit")
        return format_datetime(timezone.localtime(record.expires_at))


class AllTokensTable(TokenTable):
    user = Column(
        _lazy("User"),
        accessor="user__username",
        orderable=True,
        order_by=("user__username", "pk"),
    )

    class Meta:
        sequence = ("name", "user", "...")
