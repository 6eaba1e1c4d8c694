"""Describe a profile and its DICOM option codes in plain language.

The sections can be laid out by a template. Used by the pages of profiles, projects and reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from adit_engine.pseudonymize.explanation import explain_profile
from adit_engine.pseudonymize.profile import (
    BASIC,
    CLEAN_DESCRIPTORS,
    CODE_MEANINGS,
    DEVICE_IDENTITY,
    FULL_DATES,
    INSTITUTION_IDENTITY,
    MODIFIED_DATES,
    PATIENT_CHARACTERISTICS,
    SAFE_PRIVATE,
    SUPPORTED_OPTIONS,
    ConfidentialityProfile,
)

_BULLET = "- "


@dataclass(frozen=True, slots=True)
class ProfileSection:
    title: str
    sentences: list[str]
    points: list[str]


def build_sections(rules: ConfidentialityProfile) -> list[ProfileSection]:
    """Return the sections of the engine's description of a profile.

    The description alternates titles and blocks of lines, with an empty line between them; items
    begin with a hyphen.
    """
    blocks = explain_profile(rules).strip().split("\n\n")
    return [_make_section(*pair) for pair in zip(blocks[::2], blocks[1::2], strict=True)]


def _make_section(title: str, body: str) -> ProfileSection:
    lines = body.splitlines()
    return ProfileSection(
        title,
        [line for line in lines if not line.startswith(_BULLET)],
        [line.removeprefix(_BULLET) for line in lines if line.startswith(_BULLET)],
    )


OPTION_MEANINGS: Mapping[str, Any] = {
    BASIC: _(
        "Everything that the standard lists as identifying is removed, emptied or replaced, at "
        "every depth; all identifiers of studies, series and images are replaced."
    ),
    "113101": _("Text burned into the pixels is blanked by rules for each device."),
    "113102": _("Features by which a face could be recognized are removed from the pixels."),
    "113103": _("Graphics and overlays are cleaned by taking all of them away."),
    "113104": _("Structured content stays as far as it is public codes and numbers."),
    CLEAN_DESCRIPTORS: _("Descriptions stay where every word of them is known to be harmless."),
    FULL_DATES: _("All dates and times stay as they are."),
    MODIFIED_DATES: _(
        "Dates are shifted by a number of days of each patient's own; intervals between a "
        "patient's visits stay. Times of day stay."
    ),
    PATIENT_CHARACTERISTICS: _("Age (90 at most), sex, size and weight stay."),
    DEVICE_IDENTITY: _("Which device made the images stays: its name, serial number and place."),
    "113110": _("The original identifiers of studies, series and images stay."),
    SAFE_PRIVATE: _(
        "Values of manufacturers that the standard calls safe stay, such as those for diffusion "
        "and PET."
    ),
    INSTITUTION_IDENTITY: _("The name and address of the institution stay."),
}

WITHOUT_DATES = _("All dates and times are removed.")


@dataclass(frozen=True, slots=True)
class ProfileOption:
    code: str
    meaning: str
    """The name of the option in the standard."""
    words: Any


def list_options(rules: ConfidentialityProfile) -> list[ProfileOption]:
    """Return the basic profile, followed by each option in the order of codes."""
    return [
        ProfileOption(code, CODE_MEANINGS[code], OPTION_MEANINGS.get(code, ""))
        for code in (BASIC, *sorted(rules.options))
    ]


def list_available_options() -> list[ProfileOption]:
    """Return the options that a profile may have now."""
    return [
        ProfileOption(code, CODE_MEANINGS[code], OPTION_MEANINGS.get(code, ""))
        for code in sorted(SUPPORTED_OPTIONS)
    ]


def removes_dates(rules: ConfidentialityProfile) -> bool:
    return not rules.options & {FULL_DATES, MODIFIED_DATES}
