"""Forms of a review: rectangles in the pixels of an image, and the reason for a decision."""

import re
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.projects.validators import MAX_REASON_LENGTH
from adit.review.decisions import MAX_RECTANGLES
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize.pixel_rules import Rectangle

FIELDS = ("left", "top", "width", "height")
_NUMBERS = {"inputmode": "numeric", "autocomplete": "off", "class": "form-control number-field"}
_MASK = re.compile(r"\d{1,5}(,\d{1,5}){3}(;\d{1,5}(,\d{1,5}){3})*")


def _number_field(label: Any, least: int) -> forms.IntegerField:
    widget = forms.NumberInput(attrs=_NUMBERS)
    return forms.IntegerField(
        label=label, min_value=least, max_value=65535, required=False, widget=widget
    )


class RectangleForm(forms.Form):
    """One rectangle. An empty form is ignored."""

    left = _number_field(_("left"), 0)
    top = _number_field(_("top"), 0)
    width = _number_field(_("width"), 1)
    height = _number_field(_("height"), 1)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        given = [cleaned.get(name) is not None for name in FIELDS]
        if any(given) and not all(given) and not self.errors:
            raise forms.ValidationError(_("Enter all four numbers of the rectangle."))
        return cleaned


RectangleFormSet = forms.formset_factory(
    RectangleForm, extra=3, max_num=MAX_RECTANGLES, absolute_max=MAX_RECTANGLES
)


def get_rectangles(formset: Any) -> tuple[Rectangle, ...]:
    """Return the rectangles of a valid formset; empty forms are ignored."""
    rows = (form.cleaned_data for form in formset.forms)
    whole = (row for row in rows if all(row.get(name) is not None for name in FIELDS))
    return tuple((row["left"], row["top"], row["width"], row["height"]) for row in whole)


def rectangles_to_initial(rectangles: tuple[Rectangle, ...]) -> list[dict[str, int]]:
    return [dict(zip(FIELDS, rectangle, strict=True)) for rectangle in rectangles]


def format_mask(rectangles: tuple[Rectangle, ...]) -> str:
    """Return the rectangles as in the URL of an image: 0,0,960,72;0,700,960,20."""
    return ";".join(",".join(map(str, rectangle)) for rectangle in rectangles)


def parse_mask(text: str) -> tuple[Rectangle, ...]:
    """Return the rectangles of an image URL; raise InvalidInput if they are invalid."""
    if not text:
        return ()
    if not _MASK.fullmatch(text) or text.count(";") >= MAX_RECTANGLES:
        raise InvalidInput("review.invalid-mask")
    rows = ([int(number) for number in part.split(",")] for part in text.split(";"))
    return tuple((left, top, width, height) for left, top, width, height in rows)


class DecisionForm(forms.Form):
    reason = forms.CharField(
        label=_("reason"),
        max_length=MAX_REASON_LENGTH,
        help_text=_("Recorded in the audit trail and in the profile. Do not enter patient names."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
