"""Forms for the allowed hours and special days of a node. Used by the node editor."""

from collections.abc import Mapping
from datetime import date, time
from typing import Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from adit.nodes.calendar import public_holidays
from adit.nodes.calendar.allowed_hours import CLOSED, DAYS, MAX_WHY_LENGTH, get_day_name
from adit.nodes.models import Lane, Node

DAY_NAMES = (
    _lazy("Mo"),
    _lazy("Tu"),
    _lazy("We"),
    _lazy("Th"),
    _lazy("Fr"),
    _lazy("Sa"),
    _lazy("Su"),
)
MAX_ROWS = 40

DEFAULT_PACS_HOURS = [
    {"days": list(DAYS[:5]), "from": "20:00", "to": "06:00"},
    {"days": list(DAYS[5:]), "from": "00:00", "to": "00:00"},
]
"""The default for a new PACS: nights and weekends."""


class TimeOfDayInput(forms.TimeInput):
    """A text input, because the time input of some browsers shows AM and PM."""

    def __init__(self) -> None:
        attrs = {"size": 5, "maxlength": 5, "placeholder": "00:00", "autocomplete": "off"}
        super().__init__(format="%H:%M", attrs=attrs)


class TimeOfDayField(forms.TimeField):
    def __init__(self, label: Any) -> None:
        super().__init__(
            label=label,
            required=False,
            input_formats=["%H:%M"],
            widget=TimeOfDayInput(),
            error_messages={"invalid": _lazy("Enter times in the form 20:00.")},
        )

    def to_python(self, value: Any) -> Any:
        return super().to_python("00:00" if value == "24:00" else value)


class IsoDateField(forms.DateField):
    def __init__(self, label: Any) -> None:
        super().__init__(
            label=label,
            required=False,
            input_formats=["%Y-%m-%d"],
            widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "size": 10}),
            error_messages={"invalid": _lazy("Enter dates in the form 2026-12-24.")},
        )


class HoursRowForm(forms.Form):
    """One window: lane, days, begin and end, number of connections."""

    lane = forms.ChoiceField(
        label=_lazy("For"),
        choices=[(Lane.RETRIEVE, _lazy("transfers")), (Lane.SEARCH, _lazy("searches"))],
        required=False,
    )
    days = forms.MultipleChoiceField(
        label=_lazy("Days"),
        choices=list(zip(DAYS, DAY_NAMES, strict=True)),
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
    )
    begin = TimeOfDayField(label=_lazy("From"))
    end = TimeOfDayField(label=_lazy("Until"))
    limit = forms.IntegerField(
        label=_lazy("Connections"), required=False, min_value=0, max_value=64
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if not values.get("days"):
            if values.get("begin") or values.get("end"):
                self.add_error("days", _("Select the days on which these hours begin."))
        elif values.get("begin") is None or values.get("end") is None:
            self.add_error("begin", _("Enter start and end, for example 20:00 and 06:00."))
        return values

    @property
    def row(self) -> dict[str, Any] | None:
        """The row of the calendar; None if the form was left empty."""
        values = self.cleaned_data
        if not values.get("days"):
            return None
        row = {
            "days": values["days"],
            "from": values["begin"].strftime("%H:%M"),
            "to": f"{values['end']:%H:%M}" if values["end"] != time() else "24:00",
        }
        if values["limit"] is not None:
            row["limit"] = values["limit"]
        return {**row, "lane": Lane.SEARCH.value} if values["lane"] == Lane.SEARCH else row


class SpecialDaysRowForm(forms.Form):
    """One range of special days: first and last day, which hours apply, and why."""

    first = IsoDateField(label=_lazy("From"))
    last = IsoDateField(label=_lazy("Until"))
    like = forms.ChoiceField(label=_lazy("Hours"), required=False)
    why = forms.CharField(label=_lazy("Reason"), required=False, max_length=MAX_WHY_LENGTH)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        as_on = [(day, _("as on %s") % get_day_name(n)) for n, day in enumerate(DAYS)]
        self.fields["like"].choices = [(CLOSED, _("closed")), *as_on]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if not self.errors and not values.get("first") and (values["last"] or values["why"]):
            self.add_error("first", _("Enter the first day."))
        return values

    @property
    def row(self) -> dict[str, Any] | None:
        """The row of the special days; None if the form was left empty."""
        values = self.cleaned_data
        if not values.get("first"):
            return None
        last = values["last"] or values["first"]
        return {
            "from": values["first"].isoformat(),
            "to": last.isoformat(),
            "as": values["like"] or CLOSED,
            "why": values["why"],
        }


_HoursRows = forms.formset_factory(HoursRowForm, extra=1, max_num=MAX_ROWS)
_SpecialDaysRows = forms.formset_factory(SpecialDaysRowForm, extra=1, max_num=MAX_ROWS)


class HoursFormSet(_HoursRows):  # type: ignore[misc,valid-type]
    """All rows of the weekly calendar of a node, and an empty one."""

    def __init__(self, data: Any, node: Node) -> None:
        is_new_pacs = node.pk is None and node.capabilities.needs_hours
        initial = [
            _row_to_initial(row) for row in (DEFAULT_PACS_HOURS if is_new_pacs else node.windows)
        ]
        super().__init__(data, initial=initial, prefix="hours")

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [form.row for form in self.forms if form.row is not None]


class SpecialDaysFormSet(_SpecialDaysRows):  # type: ignore[misc,valid-type]
    """All rows of the special days of a node, and an empty one."""

    def __init__(self, data: Any, node: Node) -> None:
        initial = [
            {"first": row["from"], "last": row.get("to"), "like": row["as"], "why": row.get("why")}
            for row in node.special_days
        ]
        super().__init__(data, initial=initial, prefix="special")

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [form.row for form in self.forms if form.row is not None]


class HolidayForm(forms.Form):
    """Country, region and year of the public holidays, and the hours that apply on them."""

    country = forms.ChoiceField(
        label=_lazy("Country"),
        help_text=_lazy("Two letters according to ISO 3166, such as DE, AT or CH."),
    )
    region = forms.CharField(
        label=_lazy("Region"),
        required=False,
        max_length=16,
        help_text=_lazy("For example BW for Baden-Württemberg. Empty: holidays everywhere."),
    )
    year = forms.IntegerField(label=_lazy("Year"), min_value=2020, max_value=2099)
    hours = forms.ChoiceField(label=_lazy("Hours"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        country, hours = self.fields["country"], self.fields["hours"]
        assert isinstance(country, forms.ChoiceField)
        assert isinstance(hours, forms.ChoiceField)
        country.choices = [(code, code) for code in public_holidays.list_countries()]
        country.initial = "DE"
        hours.choices = [
            (public_holidays.LIKE_SUNDAY, _("as on Sundays")),
            (CLOSED, _("closed")),
        ]
        self.fields["year"].initial = timezone.localdate().year

    def clean_region(self) -> str:
        region = self.cleaned_data["region"].strip()
        regions = public_holidays.list_regions(self.cleaned_data.get("country", ""))
        if region and region not in regions:
            known = ", ".join(regions) or _("none")
            raise forms.ValidationError(
                _("There is no such region. Regions of this country: %(known)s") % {"known": known}
            )
        return region

    def list_days(self) -> list[tuple[date, str]]:
        """Return the holidays of valid input."""
        given = self.cleaned_data
        return public_holidays.list_holidays(given["country"], given["region"], given["year"])


def add_row(data: Mapping[str, Any], prefix: str) -> Any:
    """Return the submitted data with one more empty row."""
    changed = data.copy()  # type: ignore[attr-defined]
    changed[f"{prefix}-TOTAL_FORMS"] = str(min(_count_rows(data, prefix) + 1, MAX_ROWS))
    return changed


def remove_row(data: Mapping[str, Any], prefix: str, number: int) -> Any:
    """Return the submitted data without one row; the rows below move up."""
    changed, count = data.copy(), _count_rows(data, prefix)  # type: ignore[attr-defined]
    if not 0 <= number < count:
        return changed
    for name in [name for name in data if _row_index(name, prefix) >= number]:
        del changed[name]
    for name in data:
        place = _row_index(name, prefix)
        if place > number:
            field = name.removeprefix(f"{prefix}-{place}-")
            changed.setlist(f"{prefix}-{place - 1}-{field}", data.getlist(name))  # type: ignore[attr-defined]
    changed[f"{prefix}-TOTAL_FORMS"] = str(count - 1)
    return changed


def _count_rows(data: Mapping[str, Any], prefix: str) -> int:
    text = str(data.get(f"{prefix}-TOTAL_FORMS", ""))
    return min(int(text), MAX_ROWS) if text.isascii() and text.isdigit() else 0


def _row_index(name: str, prefix: str) -> int:
    """The number of the row that the field belongs to; -1 for none."""
    number = name.removeprefix(f"{prefix}-").partition("-")[0]
    return int(number) if name.startswith(f"{prefix}-") and number.isdigit() else -1


def _row_to_initial(row: dict[str, Any]) -> dict[str, Any]:
    end = "00:00" if row["to"] == "24:00" else row["to"]
    lane = row.get("lane", Lane.RETRIEVE)
    return {
        "lane": lane,
        "days": row["days"],
        "begin": row["from"],
        "end": end,
        "limit": row.get("limit"),
    }
