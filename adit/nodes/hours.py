"""Hours: the form in which a person writes a node's allowed hours, and the calendar it makes."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.nodes.models import Lane, Node
from adit.nodes.special import DAYS

DAY_NAMES = (
    _lazy("Mo"),
    _lazy("Tu"),
    _lazy("We"),
    _lazy("Th"),
    _lazy("Fr"),
    _lazy("Sa"),
    _lazy("Su"),
)
EMPTY_ROWS = 2
MOST_ROWS = 21

NIGHTS = [
    {"days": list(DAYS[:5]), "from": "20:00", "to": "06:00"},
    {"days": list(DAYS[5:]), "from": "00:00", "to": "00:00"},
]
"""What is proposed for a new PACS: at night, and at weekends."""


class ClockInput(forms.TimeInput):
    """Written out: some browsers show a time of their own with AM and PM."""

    def __init__(self) -> None:
        attrs = {"size": 5, "maxlength": 5, "placeholder": "00:00", "autocomplete": "off"}
        super().__init__(format="%H:%M", attrs=attrs)


class ClockField(forms.TimeField):
    def __init__(self, label: Any) -> None:
        super().__init__(
            label=label,
            required=False,
            input_formats=["%H:%M"],
            widget=ClockInput(),
            error_messages={"invalid": _lazy("Write times like 20:00.")},
        )


class HourForm(forms.Form):
    """One row: on which days, from when until when, with how many connections."""

    days = forms.MultipleChoiceField(
        label=_lazy("Days"),
        choices=list(zip(DAYS, DAY_NAMES, strict=True)),
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
    )
    begin = ClockField(label=_lazy("From"))
    end = ClockField(label=_lazy("Until"))
    limit = forms.IntegerField(
        label=_lazy("Connections"), required=False, min_value=0, max_value=64
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if not values.get("days"):
            if values.get("begin") or values.get("end"):
                self.add_error("days", _("Tick the days on which these hours begin."))
        elif values.get("begin") is None or values.get("end") is None:
            self.add_error("begin", _("Say from when until when, such as 20:00 and 06:00."))
        return values

    @property
    def row(self) -> dict[str, Any] | None:
        """The row of the calendar; None for a row that was left empty."""
        values = self.cleaned_data
        if not values.get("days"):
            return None
        row = {
            "days": values["days"],
            "from": values["begin"].strftime("%H:%M"),
            "to": values["end"].strftime("%H:%M"),
        }
        return row if values["limit"] is None else {**row, "limit": values["limit"]}


_FormSet = forms.formset_factory(HourForm, extra=EMPTY_ROWS, max_num=MOST_ROWS)


class HoursForm(_FormSet):  # type: ignore[misc,valid-type]
    """All rows of a node's transfer hours. Those for searches are kept as they are."""

    def __init__(self, data: Any, node: Node) -> None:
        is_new_pacs = node.pk is None and node.kind == "dimse"
        self.held = NIGHTS if is_new_pacs else node.windows
        initial = [_initial(row) for row in self.held if not _is_search(row)]
        super().__init__(data, initial=initial, prefix="hours")

    @property
    def windows(self) -> list[dict[str, Any]]:
        """The calendar for the row's `windows`."""
        rows = [form.row for form in self.forms]
        kept = [row for row in self.held if _is_search(row)]
        return [row for row in rows if row is not None] + kept


def _is_search(row: dict[str, Any]) -> bool:
    return row.get("lane") == Lane.SEARCH


def _initial(row: dict[str, Any]) -> dict[str, Any]:
    end = "00:00" if row["to"] == "24:00" else row["to"]
    return {"days": row["days"], "begin": row["from"], "end": end, "limit": row.get("limit")}
