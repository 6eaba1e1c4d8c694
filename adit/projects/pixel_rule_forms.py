"""Forms and functions to add, change and remove pixel rules in the draft of a profile version.

Used by the page of pixel rules.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from adit.projects.models import ProfileVersion
from adit.projects.profile_versions import (
    MAX_TEXT_LENGTH,
    draft_next_version,
    get_next_version,
    parse_rules,
)
from adit_engine.errors import ProfileError
from adit_engine.pseudonymize.pixel_rules import (
    APPLIES_TO_ALL,
    APPLIES_TO_WITHHELD,
    MAX_REASON_LENGTH,
    PixelRule,
    Rectangle,
)
from adit_engine.pseudonymize.profile import CLEAN_PIXELS
from adit_engine.pseudonymize.profile import ConfidentialityProfile as Rules
from adit_engine.pseudonymize.tables import admitted_sop_classes

PixelRules = tuple[PixelRule, ...]


def start_draft(profile: ProfileVersion) -> str:
    """Return the initial text of the draft.

    A text in an unusual notation is replaced by our own notation.
    """
    text, rules = draft_next_version(profile), parse_rules(profile)
    due = replace(rules, version=get_next_version(profile.name))
    return text if Rules.from_toml(text) == due else due.to_text()


def parse_pixel_rules(text: str) -> PixelRules:
    """Return the pixel rules of the draft.

    Raises ProfileError.
    """
    return Rules.from_toml(text).pixel_rules


def put_pixel_rule(text: str, rule: PixelRule, place: int | None = None) -> str:
    """Return the draft with the rule at index `place`, or appended.

    Raises ProfileError with the line.
    """

    def changed(rules: PixelRules) -> PixelRules:
        if place is None or not 0 <= place < len(rules):
            return (*rules, rule)
        return (*rules[:place], rule, *rules[place + 1 :])

    return _change_pixel_rules(text, changed)


def remove_pixel_rule(text: str, place: int) -> str:
    """Return the draft without the rule at this index.

    Raises ProfileError.
    """
    return _change_pixel_rules(
        text, lambda rules: tuple(r for n, r in enumerate(rules) if n != place)
    )


def _change_pixel_rules(text: str, change: Callable[[PixelRules], PixelRules]) -> str:
    before = Rules.from_toml(text)
    after = change(before.pixel_rules)
    options = before.options | {CLEAN_PIXELS} if after else before.options - {CLEAN_PIXELS}
    plain = replace(before, options=before.options - {CLEAN_PIXELS}, pixel_rules=()).to_text()
    option = f'\n[[rules]]\ncode = "{CLEAN_PIXELS}"\n' if CLEAN_PIXELS in options else ""
    made = plain + option + "".join(rule.to_text() for rule in after)
    Rules.from_toml(made)
    return made


def _text_field(label: Any, help_text: Any = "", *, required: bool = True) -> forms.CharField:
    widget = forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"})
    return forms.CharField(
        label=label, help_text=help_text, max_length=256, required=required, widget=widget
    )


class ProfileDraftForm(forms.Form):
    """The current text of the draft. The page submits it with each click."""

    text = forms.CharField(max_length=MAX_TEXT_LENGTH, strip=False, widget=forms.HiddenInput)


class PixelRuleForm(forms.Form):
    sop_class = forms.ChoiceField(label=_("kind of image"))
    manufacturer = _text_field(_("manufacturer"))
    model = _text_field(_("model"))
    software = _text_field(
        _("software"),
        _("The full value, * for any value, empty if the device states none."),
        required=False,
    )
    rows = forms.IntegerField(label=_("rows"), min_value=1, max_value=65535)
    columns = forms.IntegerField(label=_("columns"), min_value=1, max_value=65535)
    rectangles = forms.CharField(
        label=_("rectangles"),
        required=False,
        help_text=_(
            "One rectangle per line: left, top, width, height, in pixels. Leave it empty if the "
            "device burns in no text, and enter below how you know."
        ),
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "class": "code-box"}),
    )
    applies = forms.ChoiceField(
        label=_("applies to"),
        choices=[
            (APPLIES_TO_WITHHELD, _("images that would be withheld without the rule")),
            (APPLIES_TO_ALL, _("all images of the device")),
        ],
        help_text=_("A rule for all images gives all images of the project new identifiers."),
    )
    reason = forms.CharField(label=_("reason"), max_length=MAX_REASON_LENGTH, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["sop_class"].choices = [  # type: ignore[attr-defined]
            (uid, known.name.removesuffix(" Storage"))
            for uid, known in admitted_sop_classes().items()
        ]

    def clean_rectangles(self) -> tuple[Rectangle, ...]:
        lines = self.cleaned_data["rectangles"].splitlines()
        found = []
        for number, line in enumerate(lines, start=1):
            parts = line.replace(",", " ").split()
            if not parts:
                continue
            if len(parts) != 4 or not all(part.isdecimal() and len(part) < 6 for part in parts):
                raise forms.ValidationError(
                    _("Line %(n)d: enter four whole numbers."), params={"n": number}
                )
            left, top, width, height = map(int, parts)
            found.append((left, top, width, height))
        return tuple(found)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                self.rule = PixelRule(**cleaned)
            except ProfileError as error:
                self.add_error(None, str(error))
        return cleaned


def pixel_rule_to_initial(rule: PixelRule) -> dict[str, Any]:
    """Return the initial values of the form for an existing rule."""
    names = (
        "sop_class",
        "manufacturer",
        "model",
        "software",
        "rows",
        "columns",
        "applies",
        "reason",
    )
    lines = "\n".join(" ".join(map(str, one)) for one in rule.rectangles)
    return {**{name: getattr(rule, name) for name in names}, "rectangles": lines}
