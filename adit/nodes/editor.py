"""Editor: all forms of one node on one page: the row, the settings of its kind, its hours."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.nodes import services
from adit.nodes.calendar import chart
from adit.nodes.calendar.chart import Picture
from adit.nodes.calendar.forms import NIGHTS, HoursForm, SpecialsForm, with_row, without_row
from adit.nodes.folder_rules import FolderRefused
from adit.nodes.forms import NodeForm, form_for
from adit.nodes.models import Node
from adit_engine.errors import InvalidInput

HINTS = {
    "name": _("What people read everywhere, such as PACS Radiology."),
    "is_clinical": _("Patient care depends on it; sending to it needs a right of its own."),
    "retrieve_limit": _("How many may be open at once, for all users and jobs together."),
    "search_limit": _("Likewise for searches and tests."),
    "gap_s": _("So long each connection rests after a study. 0: not at all."),
    "rate_kb_s": _("Of all transfers together, such as 12500 for 100 Mbit/s. Empty: no limit."),
    "takes_images": _("Without the tick it is a source only, whatever its groups may."),
}


_PREFIXES = ("hours", "special")


@dataclass(frozen=True, slots=True)
class Problem:
    """One error, and the field that it is about; without `field_id` it is about all of them."""

    field_id: str
    label: str
    text: str


class Editor:
    """What is typed comes back when it is not accepted."""

    wrong_hours = ""
    """Why the hours cannot be drawn, once somebody asked for the picture."""

    def __init__(self, data: Any, node: Node) -> None:
        self.is_changing_rows = data is not None and bool({"add", "remove", "show"} & set(data))
        data = _with_rows_changed(data)
        self.node = node
        if node.pk is None and node.kind == "dimse":
            node.takes_images = False
        self.row = NodeForm(data, instance=node)
        self.row.fields["kind"].disabled = True
        # Opening and hours have forms of their own.
        del self.row.fields["is_open"], self.row.fields["windows"]
        for name, hint in HINTS.items():
            self.row.fields[name].help_text = hint
        self.settings = form_for(node.kind)(data, node=node)
        self.hours = HoursForm(data, node)
        self.specials = SpecialsForm(data, node)

    @property
    def problems(self) -> list[Problem]:
        """What was not accepted, in the order of the page; empty before anything was sent."""
        if self.is_changing_rows:
            return []
        every = (self.row, self.settings, *self.hours.forms, *self.specials.forms)
        return [problem for form in every for problem in _problems_of(form)]

    @property
    def picture(self) -> Picture | None:
        """Of the hours as they are typed; None while they cannot be read."""
        if not self.hours.is_bound:
            proposed = NIGHTS if self.node.pk is None and self.node.kind == "dimse" else None
            windows, exceptions = proposed or self.node.windows, self.node.exceptions
        elif self.hours.is_valid() and self.specials.is_valid():
            windows, exceptions = self.hours.rows, self.specials.rows
        else:
            return None
        try:
            return chart.of(self.node, windows, exceptions)
        except InvalidInput as error:
            self.wrong_hours = str(error)
            return None

    def save(self, user: User) -> Node | None:
        """The saved node, or None when something was not accepted. Raises Refused."""
        forms_ = (self.row, self.settings, self.hours, self.specials)
        if self.is_changing_rows or not all(form.is_valid() for form in forms_):
            return None
        node = self.row.save(commit=False)
        node.settings = self.settings.settings
        node.give_secrets(self.settings.secrets)
        node.windows, node.exceptions = self.hours.rows, self.specials.rows
        try:
            return services.save_node(user, node)
        except FolderRefused as error:
            self.settings.add_error(error.setting, str(error))
            return None
        except InvalidInput as error:
            self.row.add_error(None, str(error))
            return None


def _with_rows_changed(data: Any) -> Any:
    """What was sent by one of the buttons that only add or take away a row."""
    if data is None:
        return None
    prefix, _dash, number = str(data.get("remove", "")).partition("-")
    if prefix in _PREFIXES and number.isdigit():
        return without_row(data, prefix, int(number))
    return with_row(data, data["add"]) if data.get("add") in _PREFIXES else data


def _problems_of(form: forms.Form | forms.ModelForm) -> Iterator[Problem]:
    for text in form.non_field_errors():
        yield Problem("", "", str(text))
    for field in form:
        label = str(field.label)
        for text in field.errors:
            # Sentences of a settings dataclass begin with the label already.
            yield Problem(field.id_for_label, label, str(text).removeprefix(f"{label}: "))
