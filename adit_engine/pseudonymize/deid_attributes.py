"""The attributes written after de-identification: pseudonym, method, clinical trial.

Used when an instance is rewritten.
"""

import re
from collections.abc import Collection, Mapping

from adit_engine import __version__
from adit_engine.pseudonymize import actions, tables
from adit_engine.pseudonymize.charset import UTF8_TERM
from adit_engine.pseudonymize.parameters import ClinicalTrialAttributes, Pseudonymization
from adit_engine.pseudonymize.profile import (
    BASIC,
    CLEAN_PIXELS,
    CODE_MEANINGS,
    FULL_DATES,
    MODIFIED_DATES,
    PATIENT_CHARACTERISTICS,
    ConfidentialityProfile,
)

PATIENT_BIRTH_DATE = 0x00100030
STUDY_DATE = 0x00080020
PATIENT_AGE = 0x00101010
BURNED_IN_ANNOTATION = 0x00280301
METHOD_CODE_SEQUENCE = 0x00120064

_LEGAL = re.compile(r"[^\\\x00-\x1f\x7f-\x9f]{0,64}")

_TYPE_2_ATTRIBUTES = {
    0x00080050: "SH",
    0x00080090: "PN",
    PATIENT_BIRTH_DATE: "DA",
    0x00100040: "CS",
    0x00200010: "SH",
}
"""Type 2 in every IOD (PS3.3 C.7.1.1, C.7.2.1); empty unless a rule kept them."""

_PATIENT_SPECIES = frozenset({0x00102201, 0x00102202})
# The person responsible for an animal (2C, PS3.3 C.7.1.1). dciodvfy requires these if a species is
# given.
_TYPE_2_ATTRIBUTES_OF_ANIMALS = _TYPE_2_ATTRIBUTES | {0x00102297: "PN", 0x00102299: "LO"}

AttributeValues = dict[int, tuple[str, bytes]]


def build_attributes(change: Pseudonymization) -> AttributeValues:
    """Return VR and value by tag, equal for all objects of one patient in a project."""
    pseudonym = change.pseudonym.encode("ascii")
    found: AttributeValues = {
        0x00080005: ("CS", UTF8_TERM),
        0x00100010: ("PN", pseudonym),
        0x00100020: ("LO", pseudonym),
        0x00120062: ("CS", b"YES"),
        0x00120063: ("LO", _method_value(change.profile)),
        0x00280303: ("CS", _temporal_information_value(change.profile)),
    }
    if change.clinical_trial is not None:
        found |= {0x00120040: ("LO", pseudonym), **_clinical_trial_values(change.clinical_trial)}
    if change.visit is not None:
        found[0x00120050] = ("LO", change.visit.id.encode())
        if change.visit.description:
            found[0x00120051] = ("ST", change.visit.description.encode())
    return found


def build_method_codes(
    profile: ConfidentialityProfile, *, is_masked: bool = False
) -> list[dict[int, tuple[str, bytes]]]:
    """Return the items of De-identification Method Code Sequence, as applied.

    `blanked`: a pixel rule masked this image. Otherwise nothing is claimed about its pixels.
    """
    done = profile.options if is_masked else profile.options - {CLEAN_PIXELS}
    return [
        {
            0x00080100: ("SH", code.encode()),
            0x00080102: ("SH", b"DCM"),
            0x00080104: ("LO", CODE_MEANINGS[code].encode()),
        }
        for code in (BASIC, *sorted(done))
    ]


def required_empty_attributes(kept: Collection[int]) -> Mapping[int, str]:
    """Return VR by tag of attributes that must exist, possibly empty."""
    return (
        _TYPE_2_ATTRIBUTES if _PATIENT_SPECIES.isdisjoint(kept) else _TYPE_2_ATTRIBUTES_OF_ANIMALS
    )


def compute_patient_age(
    profile: ConfidentialityProfile, values: Mapping[int, bytes]
) -> bytes | None:
    """Compute the age from the unshifted dates. None unless the profile keeps ages."""
    if PATIENT_CHARACTERISTICS not in profile.options:
        return None
    return actions.age_from_dates(values.get(PATIENT_BIRTH_DATE, b""), values.get(STUDY_DATE, b""))


def _method_value(profile: ConfidentialityProfile) -> bytes:
    parts = (f"ADIT {__version__}", f"PS3.15 {tables.EDITION}", profile.name)
    return "\\".join(parts).encode()


def _temporal_information_value(profile: ConfidentialityProfile) -> bytes:
    if FULL_DATES in profile.options:
        return b"UNMODIFIED"
    return b"MODIFIED" if MODIFIED_DATES in profile.options else b"REMOVED"


def _clinical_trial_values(trial: ClinicalTrialAttributes) -> AttributeValues:
    """PS3.3 C.7.1.3: the sponsor and the protocol ID must have a value."""
    return {
        0x00120010: ("LO", trial.sponsor.encode()),
        0x00120020: ("LO", trial.protocol_id.encode()),
        0x00120021: ("LO", trial.protocol_name.encode()),
        0x00120030: ("LO", trial.site_id.encode()),
        0x00120031: ("LO", trial.site_name.encode()),
    }
