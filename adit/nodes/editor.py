"""Editor: all forms of one node on one page: the row, the settings of its kind, its hours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import forms
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


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, and the field that it is about; without `field_id` it is about all of them."""

    field_id: str
    label: str
    text: str


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
    def problems(self) -> list[Problem]:
        """What was not accepted, in the order of the page; empty before anything was sent."""
        every = (self.row, self.settings, *self.hours.forms)
        return [problem for form in every for problem in _problems_of(form)]

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


def _problems_of(form: forms.Form | forms.ModelForm) -> Iterator[Problem]:
    for text in form.non_field_errors():
        yield Problem("", "", str(text))
    for field in form:
        label = str(field.label)
        for text in field.errors:
            # Sentences of a settings dataclass begin with the label already.
            yield Problem(field.id_for_label, label, str(text).removeprefix(f"{label}: "))
