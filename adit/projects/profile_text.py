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
        "All elements that the standard lists as identifying are removed, emptied or replaced, at "
        "every nesting level. All identifiers of studies, series and images are replaced."
    ),
    "113101": _("Burned-in text is masked by pixel rules for each device."),
    "113102": _("Recognizable features of faces are removed from the pixels."),
    "113103": _("All graphics and overlays are removed."),
    "113104": _(
        "Structured content is kept if it consists of public codes and numbers. Radiation dose and "
        "measurement reports are sent."
    ),
    CLEAN_DESCRIPTORS: _("Descriptions are kept if all their words are known to be harmless."),
    FULL_DATES: _("All dates and times are kept."),
    MODIFIED_DATES: _(
        "Dates are shifted by a number of days that differs between patients. The intervals between "
        "the dates of a patient are kept, and times of day are kept."
    ),
    PATIENT_CHARACTERISTICS: _("Age (at most 90), sex, size and weight are kept."),
    DEVICE_IDENTITY: _("Name, serial number and location of the device are kept."),
    "113110": _("The original identifiers of studies, series and images are kept."),
    SAFE_PRIVATE: _(
        "Private elements that the standard lists as safe are kept, such as those for diffusion and "
        "PET."
    ),
    INSTITUTION_IDENTITY: _("Name and address of the institution are kept."),
}

WITHOUT_DATES = _("All dates and times are removed.")


@dataclass(frozen=True, slots=True)
class ProfileOption:
    code: str
    meaning: str
    """The name of the option in the standard."""
    text: Any


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
