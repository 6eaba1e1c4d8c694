"""Rules added later release withheld images and do not change released ones."""

from dataclasses import replace

import numpy as np
import pytest
from lab.deid_objects import CR, CT, KEY, TRIAL, header, instance, read
from test_deid_blank import ROWS, RULE, US_FRAMES, image, inside, noise

from adit_engine.elements import elements
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.pixel_rules import PixelRule
from adit_engine.pseudonymize.profile import ConfidentialityProfile, is_compatible_version
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.device import ImagingDevice
from adit_engine.values.instance import Instance

PLAIN = ConfidentialityProfile("Test", 1, frozenset({"113107"}))
LATER = replace(RULE, applies="withheld", reason="looked at")
CR_RULE = replace(LATER, sop_class=CR)


def with_rules(*rules: PixelRule, version: int = 2) -> ConfidentialityProfile:
    return ConfidentialityProfile("Test", version, frozenset({"113107", "113101"}), rules)


def out(source: Instance, profile: ConfidentialityProfile) -> bytes:
    how = Pseudonymization(
        profile, "LUNG-0001", KEY, TRIAL, RiskDecision.ACCEPT, RiskDecision.ACCEPT
    )
    made = apply(how, source)
    verify(source, made, how)
    return b"".join(bytes(part) for part in made.parts())


def code(source: Instance, profile: ConfidentialityProfile) -> str:
    with pytest.raises(InstanceWithheld) as caught:
        out(source, profile)
    return caught.value.message.category


def radiograph(burned_in: bytes | None) -> Instance:
    made = image(noise(1, 1), "MONOCHROME2", t00080016=("UI", CR.encode()))
    values = {0x00280301: ("CS", burned_in)} if burned_in is not None else {}
    ds = {tag: value for tag, value in _header(made).items() if tag != 0x00280301} | values
    return instance(ds)


def _header(made: Instance) -> dict[int, tuple[str, bytes]]:
    data = b"".join(bytes(part) for part in made.parts())
    return {e.tag: (e.vr, data[e.value : e.end]) for e in elements(data, True)}


def test_a_version_with_an_added_rule_is_compatible() -> None:
    assert is_compatible_version(PLAIN, with_rules(LATER), RiskDecision.ACCEPT)
    assert is_compatible_version(
        with_rules(LATER), with_rules(LATER, CR_RULE, version=3), RiskDecision.ACCEPT
    )
    assert is_compatible_version(
        PLAIN, with_rules(RULE), RiskDecision.ACCEPT
    )  # ultrasound was never released without a rule


@pytest.mark.parametrize(
    "after",
    [
        ConfidentialityProfile("Other", 2, frozenset({"113107", "113101"}), (LATER, CR_RULE)),
        ConfidentialityProfile(
            "Test", 2, frozenset({"113107", "113101", "113108"}), (LATER, CR_RULE)
        ),
        with_rules(CR_RULE),
        PLAIN,
        with_rules(replace(LATER, rectangles=((0, 0, 16, 4),)), CR_RULE),
        with_rules(LATER, replace(RULE, sop_class=CR)),
        with_rules(LATER, CR_RULE, replace(LATER, software="*")),
        with_rules(LATER, replace(RULE, sop_class=CT)),
    ],
)
def test_a_version_with_any_other_change_is_not_compatible(after: ConfidentialityProfile) -> None:
    assert not is_compatible_version(with_rules(LATER), after, RiskDecision.ACCEPT)


def test_images_released_before_keep_the_same_bytes() -> None:
    before, after = PLAIN, with_rules(LATER, CR_RULE)
    for source in (instance(header()), radiograph(b"NO")):
        assert out(source, before) == out(source, after)


def test_images_withheld_before_are_released_with_blanked_pixels() -> None:
    for burned_in in (None, b"YES"):
        source = radiograph(burned_in)
        assert code(source, PLAIN).startswith("burned-in")
        how = Pseudonymization(
            with_rules(CR_RULE), "LUNG-0001", KEY, TRIAL, RiskDecision.ACCEPT, RiskDecision.ACCEPT
        )
        made = read(apply(how, source))
        verify(source, apply(how, source), how)
        assert made.BurnedInAnnotation == "NO"
        assert not np.frombuffer(made.PixelData, "u1").reshape(ROWS, -1)[inside()].any()


def test_a_rule_without_rectangles_keeps_pixels_and_records_no_cleaning() -> None:
    profile = with_rules(replace(CR_RULE, rectangles=(), reason="burns nothing in"))
    source = radiograph(None)
    how = Pseudonymization(
        profile, "LUNG-0001", KEY, TRIAL, RiskDecision.ACCEPT, RiskDecision.ACCEPT
    )
    made = apply(how, source)
    verify(source, made, how)
    ds = read(made)
    assert ds.PixelData == read(source).PixelData
    assert "BurnedInAnnotation" not in ds
    assert [item.CodeValue for item in ds.DeidentificationMethodCodeSequence] == [
        "113100",
        "113107",
    ]


def test_a_rule_without_rectangles_does_not_release_burned_in_images() -> None:
    profile = with_rules(replace(LATER, rectangles=(), reason="burns nothing in"))
    assert code(image(noise()), profile) == "burned-in"
    assert out(image(noise(), t00280301=("CS", b"NO")), profile)


def test_a_rule_without_a_version_applies_only_to_images_without_one() -> None:
    rule = replace(LATER, software="")
    assert out(image(noise(), t00181020=("LO", b"")), with_rules(rule))
    assert code(image(noise()), with_rules(rule)) == "pixel-rule"


def test_verification_fails_for_an_ultrasound_image_that_was_not_blanked() -> None:
    source = image(noise(), t00280301=("CS", b"NO"))
    released = Pseudonymization(
        with_rules(replace(LATER, rectangles=(), reason="nothing")), "LUNG-0001", KEY, TRIAL
    )
    left = apply(released, source)
    with pytest.raises(InstanceWithheld) as caught:
        verify(
            source,
            left,
            Pseudonymization(
                with_rules(LATER), "LUNG-0001", KEY, TRIAL, RiskDecision.ACCEPT, RiskDecision.ACCEPT
            ),
        )
    assert caught.value.message.category == "verify-stamp"


def test_a_pixel_rule_is_made_from_the_device_in_the_header() -> None:
    device = ImagingDevice.from_instance(image(noise()))
    assert device == ImagingDevice(US_FRAMES, "MAKER", "Sonograph 5", "V2.1", ROWS, 16)
    assert ImagingDevice.from_json(device.to_json()) == device
    assert PixelRule.for_device(device, ((0, 0, 1, 1),), "seen", RiskDecision.ACCEPT).covers(device)
    assert not ImagingDevice(US_FRAMES).is_known
