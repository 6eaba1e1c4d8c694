"""Editor: all forms of one node on one page: the row, the settings of its kind, its hours."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.nodes import rows
from adit.nodes.forms import NodeForm, form_for
from adit.nodes.hours import HoursForm
from adit.nodes.models import Node
from adit_engine.errors import WrongInput

HINTS = {
    "name": _("What people read everywhere, such as PACS Radiology."),
    "is_clinical": _("Patient care depends on it; sending to it needs a right of its own."),
    "retrieve_limit": _("How many may be open at once, for all users and jobs together."),
    "search_limit": _("Likewise for searches and tests."),
}


class Editor:
    """What is typed comes back when it is not accepted."""

    def __init__(self, data: Any, node: Node) -> None:
        self.node = node
        self.row = NodeForm(data, instance=node)
        self.row.fields["kind"].disabled = True
        # Opening and hours have forms of their own.
        del self.row.fields["is_open"], self.row.fields["windows"]
        for name, hint in HINTS.items():
            self.row.fields[name].help_text = hint
        self.settings = form_for(node.kind)(data, node=node)
        self.hours = HoursForm(data, node)

    @property
    def errors(self) -> bool:
        return bool(self.row.errors or self.settings.errors or self.hours.total_error_count())

    def save(self, user: User) -> Node | None:
        """The saved node, or None when something was not accepted. Raises Refused."""
        if not all(form.is_valid() for form in (self.row, self.settings, self.hours)):
            return None
        node = self.row.save(commit=False)
        node.settings, node.secrets = self.settings.settings, self.settings.secrets
        node.windows = self.hours.windows
        try:
            return rows.save_node(user, node)
        except WrongInput as error:
            self.row.add_error(None, str(error))
            return None
