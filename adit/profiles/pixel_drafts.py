"""Pixel drafts: pixel rules added, changed and taken away in the text of a version to come."""

from collections.abc import Callable
from dataclasses import replace

from adit.profiles.models import Profile
from adit.profiles.versions import draft_of, next_version, rules_of
from adit_engine.pseudonymize.pixel_rules import PixelRule
from adit_engine.pseudonymize.profile import CLEAN_PIXELS
from adit_engine.pseudonymize.profile import Profile as Rules

PixelRules = tuple[PixelRule, ...]


def begun(profile: Profile) -> str:
    """The text to begin with. A text that is written in an unusual way is written anew."""
    text, rules = draft_of(profile), rules_of(profile)
    due = replace(rules, version=next_version(profile.name))
    return text if Rules.parse(text) == due else due.to_text()


def rules_in(text: str) -> PixelRules:
    """Raises ProfileError."""
    return Rules.parse(text).pixel_rules


def put(text: str, rule: PixelRule, place: int | None = None) -> str:
    """With the rule in that place, or behind all others. Raises ProfileError, with the line."""

    def changed(rules: PixelRules) -> PixelRules:
        if place is None or not 0 <= place < len(rules):
            return (*rules, rule)
        return (*rules[:place], rule, *rules[place + 1 :])

    return _with(text, changed)


def without(text: str, place: int) -> str:
    """Raises ProfileError."""
    return _with(text, lambda rules: tuple(r for n, r in enumerate(rules) if n != place))


def _with(text: str, change: Callable[[PixelRules], PixelRules]) -> str:
    before = Rules.parse(text)
    after = change(before.pixel_rules)
    options = before.options | {CLEAN_PIXELS} if after else before.options - {CLEAN_PIXELS}
    plain = replace(before, options=before.options - {CLEAN_PIXELS}, pixel_rules=()).to_text()
    option = f'\n[[rules]]\ncode = "{CLEAN_PIXELS}"\n' if CLEAN_PIXELS in options else ""
    made = plain + option + "".join(rule.to_text() for rule in after)
    Rules.parse(made)
    return made
