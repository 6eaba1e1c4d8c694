"""Admission of objects to pseudonymization: an allow-list of SOP classes and header checks.

Used before an instance is rewritten, and for warnings when a transfer is ordered.
"""

from collections.abc import Mapping
from enum import IntEnum

from adit_engine.errors import InstanceWithheld
from adit_engine.messages import Message
from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.face_risk import UNCONFIRMED_ANNOTATION, RiskDecision
from adit_engine.pseudonymize.profile import CLEAN_STRUCTURE, ConfidentialityProfile
from adit_engine.pseudonymize.tables import AdmittedSopClass
from adit_engine.pseudonymize.text_detection.inspection import must_inspect

_IMAGE_TYPE = 0x00080008
_CONVERSION_TYPE = 0x00080064
_SAMPLES_PER_PIXEL = 0x00280002
_BURNED_IN_ANNOTATION = 0x00280301
_RECOGNIZABLE_VISUAL_FEATURES = 0x00280302

REQUIRED_TAGS = frozenset(
    {
        _IMAGE_TYPE,
        _CONVERSION_TYPE,
        _SAMPLES_PER_PIXEL,
        _BURNED_IN_ANNOTATION,
        _RECOGNIZABLE_VISUAL_FEATURES,
    }
)
"""The tags whose values `check` needs."""

_SCREEN_IMAGE_TYPES = (
    b"SCREEN SAVE",
    b"SCREENSAVE",
    b"SCREEN_SAVE",
    b"SCREENSHOT",
    b"SCREEN SHOT",
    b"DOSE_INFO",
    b"DOSE INFO",
    b"REPORT",
    b"PROTOCOL",
    b"PASTED",
)
_CAPTURE_CONVERSION_TYPES = frozenset({b"SC", b"WSD", b"DI", b"DF", b"SI", b"DRW", b"SYN"})


class RuleCoverage(IntEnum):
    """What the pixel rules or the text detection of the profile do for one image."""

    NOTHING = 0
    INSPECTED = 1
    """No rule, but the image leaves only if no text is found in its pixels."""
    RELEASED = 2
    """A reviewer confirmed that the device burns in no text."""
    MASKED = 3


LIFTED_BY_PIXEL_RULE = frozenset(
    {"pixel-rule", UNCONFIRMED_ANNOTATION, "conversion", "burned-in", "burned-in-unknown"}
    | {"text-found"}
)
"""Categories of refusals that a pixel rule for the device can lift."""


def sop_class_refusal(sop_class_uid: str, profile: ConfidentialityProfile) -> Message | None:
    """Return the reason if no object of this class may leave.

    None: it depends on the object.
    """
    uid = sop_class_uid.strip(" \0")
    admitted = tables.admitted_sop_classes().get(uid)
    if admitted is not None:
        if "rule" not in admitted.conditions or any(
            r.sop_class == uid for r in profile.pixel_rules
        ):
            return None
        if must_inspect(profile, admitted.modality):
            from adit_engine.pseudonymize.text_detection.detector import is_installed  # rarely used

            return None if is_installed() else Message("text-detection.not-installed")
        return Message("pixel-rule.class", sop_class=admitted.name.removesuffix(" Storage"))
    if uid in tables.report_sop_classes() and CLEAN_STRUCTURE in profile.options:
        return None
    name = _standard_name(uid)
    if name is None:
        return Message("class.unknown")
    return Message("class.not-admitted", sop_class=name)


def _standard_name(uid: str) -> str | None:
    """The name in the standard. A UID outside of the standard may identify anything."""
    if not uid.startswith("1.2.840.10008."):
        return None
    from pydicom.uid import UID  # slow to import, and needed for this sentence only

    name = UID(uid).name
    return None if name == uid else name.removesuffix(" Storage")


def needs_risk_decision(modality: str) -> bool:
    """Whether images of this modality need a pixel rule or trust in their header."""
    return any(one.needs_risk_decision for one in _classes_of_modality(modality))


def _classes_of_modality(modality: str) -> list[AdmittedSopClass]:
    plain = modality.strip(" \0").upper()
    return [one for one in tables.admitted_sop_classes().values() if one.modality == plain]


def modality_warning(
    modality: str, profile: ConfidentialityProfile, annotation_decision: RiskDecision
) -> Message | None:
    """Return a warning that says “may”, from the modality alone, or None.

    None also if `needs_risk_decision` holds and the project does not accept the risk: that decision
    gives more precise information. With text detection it does not matter.
    """
    plain, classes = modality.strip(" \0").upper(), _classes_of_modality(modality)
    if classes and must_inspect(profile, plain):
        return Message("may-be-withheld.text", modality=plain)
    if annotation_decision is not RiskDecision.ACCEPT and needs_risk_decision(modality):
        return None
    if plain == "SR" and CLEAN_STRUCTURE in profile.options:
        return Message("may-be-withheld.report")
    ruled = {rule.sop_class for rule in profile.pixel_rules}
    if all("rule" in one.conditions and one.uid not in ruled for one in classes):
        return Message(
            "may-be-withheld.pixel-rule" if classes else "may-be-withheld.class",
            modality=plain or Message("clause.no-modality"),
        )
    asks = {ask for one in classes for ask in one.conditions}
    covered = any(one.uid in ruled for one in classes)
    if "rule" in asks:
        return Message("may-be-withheld.device", modality=plain)
    if "not-burned-in" not in asks:
        return None
    return Message(
        "may-be-withheld.burned-in-or-device" if covered else "may-be-withheld.burned-in",
        modality=plain,
    )


def check(
    admitted: AdmittedSopClass,
    values: Mapping[int, bytes],
    annotation_decision: RiskDecision,
    coverage: RuleCoverage = RuleCoverage.NOTHING,
) -> bool:
    """Return whether the object leaves only because the project trusts its header.

    `values` are encoded values by tag (see REQUIRED_TAGS). Raises InstanceWithheld if the header
    rules the object out.
    """

    def said(tag: int) -> bytes:
        return values.get(tag, b"").strip(b" \0").upper()

    types = said(_IMAGE_TYPE).split(b"\\")
    if any(word in one for one in types for word in _SCREEN_IMAGE_TYPES):
        raise InstanceWithheld("image-type.screen")
    if said(_RECOGNIZABLE_VISUAL_FEATURES) not in (b"", b"NO"):
        raise InstanceWithheld("recognizable.stated")
    if "gray" in admitted.conditions and values.get(_SAMPLES_PER_PIXEL, b"") not in (
        b"",
        b"\x01\x00",
    ):
        raise InstanceWithheld("samples.color", modality=admitted.modality)
    if not coverage and "rule" in admitted.conditions:
        raise InstanceWithheld("pixel-rule.device")
    if not coverage and said(_CONVERSION_TYPE) in _CAPTURE_CONVERSION_TYPES:
        raise InstanceWithheld("conversion.capture")
    if coverage < RuleCoverage.MASKED and said(_BURNED_IN_ANNOTATION) not in (b"", b"NO"):
        raise InstanceWithheld("burned-in.stated")
    if not coverage and admitted.needs_rule(annotation_decision):
        raise InstanceWithheld(_UNCONFIRMED[annotation_decision], modality=admitted.modality)
    if not (coverage or said(_BURNED_IN_ANNOTATION)) and "not-burned-in" in admitted.conditions:
        raise InstanceWithheld("burned-in-unknown.not-stated", modality=admitted.modality)
    return admitted.needs_risk_decision and not coverage


_UNCONFIRMED = {
    RiskDecision.UNDECIDED: "header-word.undecided",
    RiskDecision.WITHHOLD: "header-word.not-accepted",
}


def needs_pixel_rule(
    admitted: AdmittedSopClass, values: Mapping[int, bytes], annotation_decision: RiskDecision
) -> bool:
    """Whether the object is withheld unless a pixel rule covers its device."""
    try:
        check(admitted, values, annotation_decision)
    except InstanceWithheld as held:
        return held.message.category in LIFTED_BY_PIXEL_RULE
    return False
