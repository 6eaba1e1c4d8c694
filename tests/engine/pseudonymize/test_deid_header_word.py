"""Radiographs without a pixel rule are released only if the project trusts Burned In Annotation."""

from dataclasses import replace

import numpy as np
import pytest
from lab.deid_objects import CR, CT, DX, MR, PET, change, header, instance, read

from adit_engine.errors import InstanceWithheld, ProfileError
from adit_engine.messages import Message
from adit_engine.pseudonymize import tables
from adit_engine.pseudonymize.admission import modality_warning
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.pixel_rules import APPLIES_TO_ALL, APPLIES_TO_WITHHELD, PixelRule
from adit_engine.pseudonymize.profile import (
    CLEAN_PIXELS,
    ConfidentialityProfile,
    TextDetection,
    is_compatible_decision,
    is_compatible_version,
)
from adit_engine.pseudonymize.statistics import PIXEL_DATA, AppliedAction, ChangeStatistics
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.device import ImagingDevice
from adit_engine.values.instance import Instance

XA = "1.2.840.10008.5.1.4.1.1.12.1"
SIDE = 256
BAND = ((0, 0, SIDE, 60),)
WORDY = sorted(
    one.uid
    for one in tables.admitted_sop_classes().values()
    if one.modality in {"CR", "DX", "MG", "XA", "RF", "NM"}
)
NOT_ACCEPTED = [RiskDecision.UNDECIDED, RiskDecision.WITHHOLD]


def how(choice: RiskDecision = RiskDecision.UNDECIDED, *rules: PixelRule) -> Pseudonymization:
    options = frozenset({"113107", CLEAN_PIXELS} if rules else {"113107"})
    return replace(
        change(),
        profile=ConfidentialityProfile("Test", 1, options, rules),
        annotation_decision=choice,
    )


def rule(
    sop_class: str, *rectangles: tuple[int, int, int, int], applies: str = APPLIES_TO_ALL
) -> PixelRule:
    device = ("Sample Devices", "Model 1", "")
    return PixelRule(sop_class, *device, SIDE, SIDE, rectangles, applies, "somebody has looked")


def with_name(sop_class: str, name: str = "MUELLER^ANNA", burned_in: bytes = b"NO") -> Instance:
    """Return an image with a patient's name in its pixels, whatever its header states."""
    canvas = np.full((SIDE, SIDE), 40, "<u2")
    for place, letter in enumerate(name):
        strokes = np.unpackbits(np.array([[ord(letter)]], np.uint8), axis=1)
        canvas[20:34, 10 + 10 * place : 18 + 10 * place] = np.where(strokes, 250, 40)
    pixels = canvas.tobytes()
    size = ("US", SIDE.to_bytes(2, "little"))
    made = header(
        sop_class,
        t00081090=("LO", b"Model 1"),
        t00280010=size,
        t00280011=size,
        t00280301=("CS", burned_in),
        t7FE00010=("OW", pixels),
    )
    return instance(made)


def has_name(image: Instance) -> bool:
    pixels = np.frombuffer(read(image).PixelData, "<u2").reshape(SIDE, SIDE)
    return len(np.unique(pixels[:60])) > 1


def code(image: Instance, choice: Pseudonymization) -> str:
    """Return the category of the refusal; empty if released and verified."""
    try:
        verify(image, apply(choice, image), choice)
    except InstanceWithheld as held:
        return held.message.category
    return ""


def test_radiographs_with_names_in_pixels_are_withheld_by_default() -> None:
    kinds = {"CR": CR, "DX": DX, "XA": XA, "CT": CT, "MR": MR}
    names = [f"NAME{number}^ANNA" for number in range(16)]

    left = {
        kind: sum(code(with_name(uid, name), how()) == "" for name in names)
        for kind, uid in kinds.items()
    }

    assert left == {"CR": 0, "DX": 0, "XA": 0, "CT": 16, "MR": 16}


@pytest.mark.parametrize("sop_class", WORDY)
@pytest.mark.parametrize("choice", NOT_ACCEPTED)
def test_images_of_six_modalities_are_withheld_unless_headers_are_accepted(
    sop_class: str, choice: RiskDecision
) -> None:
    with pytest.raises(InstanceWithheld) as held:
        apply(how(choice), with_name(sop_class))

    assert held.value.message.category == "header-word"
    assert "Ask a reviewer" in str(held.value)
    asks_manager = "a manager of research projects" in str(held.value)
    assert asks_manager is (choice is RiskDecision.UNDECIDED)


@pytest.mark.parametrize("choice", NOT_ACCEPTED)
def test_burned_in_annotation_is_reported_before_the_project_decision(choice: RiskDecision) -> None:
    assert code(with_name(CR, burned_in=b"YES"), how(choice)) == "burned-in"
    assert code(with_name(CR, burned_in=b"YES"), how(choice, rule(CR))) == "burned-in"
    assert code(with_name(CR, burned_in=b""), how(choice)) == "header-word"


def test_the_condition_applies_to_all_classes_of_six_modalities() -> None:
    asking = {
        one.uid for one in tables.admitted_sop_classes().values() if "header-word" in one.conditions
    }

    assert asking == set(WORDY)
    assert len(WORDY) == 11


@pytest.mark.parametrize("sop_class", WORDY)
def test_the_header_decides_if_the_project_accepts_it(sop_class: str) -> None:
    accepted = how(RiskDecision.ACCEPT)
    asks = tables.admitted_sop_classes()[sop_class].conditions

    assert code(with_name(sop_class), accepted) == ""
    assert code(with_name(sop_class, burned_in=b"YES"), accepted) == "burned-in"
    unsaid = "burned-in-unknown" if "not-burned-in" in asks else ""
    assert code(with_name(sop_class, burned_in=b""), accepted) == unsaid


@pytest.mark.parametrize("choice", RiskDecision)
@pytest.mark.parametrize("sop_class", [CR, DX, XA])
def test_a_device_rule_releases_images_under_every_decision(
    sop_class: str, choice: RiskDecision
) -> None:
    image = with_name(sop_class)

    masked = how(choice, rule(sop_class, *BAND))
    assert code(image, masked) == ""
    assert has_name(image)
    assert not has_name(apply(masked, image))
    assert code(image, how(choice, rule(sop_class))) == ""


@pytest.mark.parametrize("choice", NOT_ACCEPTED)
def test_a_rule_for_withheld_images_masks_only_if_headers_are_not_accepted(
    choice: RiskDecision,
) -> None:
    late = rule(DX, *BAND, applies=APPLIES_TO_WITHHELD)
    image = with_name(DX)

    assert code(image, how(choice, late)) == ""
    assert not has_name(apply(how(choice, late), image))
    assert has_name(apply(how(RiskDecision.ACCEPT, late), image))


@pytest.mark.parametrize("sop_class", [CT, MR, PET])
def test_slices_need_no_decision_on_annotations(sop_class: str) -> None:
    assert code(with_name(sop_class), how()) == ""


def test_a_rule_for_another_device_does_not_release_an_image() -> None:
    other = replace(rule(CR, *BAND), model="Model 2")

    assert code(with_name(CR), how(RiskDecision.UNDECIDED, other)) == "header-word"


@pytest.mark.parametrize("sop_class", WORDY)
def test_verification_withholds_radiographs_released_without_a_decision(sop_class: str) -> None:
    image = with_name(sop_class)
    made = apply(how(RiskDecision.ACCEPT), image)

    for choice in NOT_ACCEPTED:
        other = replace(rule(sop_class), model="Model 2")
        for rules in ((), (other,)):
            with pytest.raises(InstanceWithheld) as held:
                verify(image, made, how(choice, *rules))
            assert held.value.message.code == "verify-pixel.no-rule"


def test_radiographs_released_on_their_header_are_counted() -> None:
    tally = ChangeStatistics()

    apply(how(RiskDecision.ACCEPT), with_name(CR), tally)
    apply(how(RiskDecision.ACCEPT, rule(CR)), with_name(CR), tally)
    apply(how(RiskDecision.ACCEPT), with_name(CT), tally)

    assert tally.counts[PIXEL_DATA, AppliedAction.ANNOTATION_ACCEPTED] == 1


# Text detection -----------------------------------------------------------------------------------


def with_detection(profile: ConfidentialityProfile) -> ConfidentialityProfile:
    return replace(profile, text_detection=TextDetection.IMAGES)


@pytest.mark.parametrize("modality", ["CR", "US", "SC"])
def test_a_summary_says_which_images_are_checked_for_text(modality: str) -> None:
    for choice in RiskDecision:
        warning = modality_warning(modality, with_detection(how().profile), choice)
        assert warning == Message("may-be-withheld.text", modality=modality)
        before = modality_warning(modality, how().profile, choice)
        assert before is None or before.code != warning.code
    assert modality_warning("CT", with_detection(how().profile), RiskDecision.ACCEPT) is None


def test_the_text_detection_of_a_profile_is_read_and_written() -> None:
    detecting = with_detection(how().profile)

    assert ConfidentialityProfile.from_toml(detecting.to_text()) == detecting
    wrong = detecting.to_text().replace('"images"', '"some"')
    with pytest.raises(ProfileError, match="Line 3: text_detection must be one of: off, images"):
        ConfidentialityProfile.from_toml(wrong)


def test_a_mask_after_text_detection_starts_new_uids() -> None:
    """Images without text may have left unmasked."""
    before = how().profile
    masked = how(RiskDecision.UNDECIDED, rule(CR, *BAND)).profile
    late = how(RiskDecision.UNDECIDED, rule(DX, *BAND, applies=APPLIES_TO_WITHHELD)).profile
    undecided = RiskDecision.UNDECIDED

    assert is_compatible_version(before, with_detection(before), undecided)
    assert is_compatible_version(with_detection(before), before, undecided)
    assert not is_compatible_version(with_detection(before), with_detection(masked), undecided)
    assert not is_compatible_version(late, with_detection(late), undecided)


# One UID never has two contents -------------------------------------------------------------------


def test_a_rule_for_all_images_is_compatible_only_if_none_were_released() -> None:
    before, after = how().profile, how(RiskDecision.UNDECIDED, rule(CR, *BAND)).profile

    assert is_compatible_version(before, after, RiskDecision.UNDECIDED)
    assert not is_compatible_version(before, after, RiskDecision.ACCEPT)


def test_a_reviewers_rule_still_masks_after_headers_are_accepted() -> None:
    device = ImagingDevice(CR, "Sample Devices", "Model 1", "", SIDE, SIDE)

    made = PixelRule.for_device(device, BAND, "names at the top", RiskDecision.UNDECIDED)
    assert made.applies == APPLIES_TO_ALL
    assert (
        PixelRule.for_device(device, BAND, "names", RiskDecision.ACCEPT).applies
        == APPLIES_TO_WITHHELD
    )

    assert not has_name(apply(how(RiskDecision.ACCEPT, made), with_name(CR)))


@pytest.mark.parametrize(
    ("before", "after", "rules", "continuing"),
    [
        (RiskDecision.UNDECIDED, RiskDecision.WITHHOLD, (), True),
        (RiskDecision.UNDECIDED, RiskDecision.ACCEPT, (), True),
        (RiskDecision.UNDECIDED, RiskDecision.ACCEPT, (rule(CR, *BAND),), True),
        (
            RiskDecision.UNDECIDED,
            RiskDecision.ACCEPT,
            (rule(CR, *BAND, applies=APPLIES_TO_WITHHELD),),
            False,
        ),
        (RiskDecision.ACCEPT, RiskDecision.WITHHOLD, (), False),
        (RiskDecision.ACCEPT, RiskDecision.UNDECIDED, (), False),
        (
            RiskDecision.ACCEPT,
            RiskDecision.ACCEPT,
            (rule(CR, *BAND, applies=APPLIES_TO_WITHHELD),),
            True,
        ),
    ],
)
def test_a_decision_is_compatible_unless_released_pixels_would_change(
    before: RiskDecision, after: RiskDecision, rules: tuple[PixelRule, ...], continuing: bool
) -> None:
    assert is_compatible_decision(how(before, *rules).profile, before, after) is continuing
