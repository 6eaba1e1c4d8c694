"""The table of a user's sessions."""

from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.tables import NO_WRAP, ROW_HEADER, ActionColumn, LocalDateTimeColumn, Table


class SessionTable(Table):
    """Sessions of one user, last used first."""

    label = _lazy("Sessions")
    browser = Column(_lazy("Browser"), attrs=ROW_HEADER)
    address = Column(_lazy("Address"), attrs=NO_WRAP)
    created_at = LocalDateTimeColumn(_lazy("Signed in"))
    last_seen_at = LocalDateTimeColumn(_lazy("Last used"))
    action = ActionColumn(
        verbose_name=_lazy("Action"), template_name="accounts/_session_action.html"
    )
