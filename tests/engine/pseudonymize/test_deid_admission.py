"""Admission: which classes and images are always withheld."""

from struct import pack

import pytest
from lab.deid_objects import (
    CR,
    CT,
    MR,
    change,
    encode,
    header,
    instance,
    items,
    result,
)
from pydicom.uid import UID_dictionary

from adit_engine.errors import InstanceWithheld
from adit_engine.message_templates import TEMPLATES
from adit_engine.pseudonymize import admission, tables
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import RiskDecision
from adit_engine.pseudonymize.pixel_rules import PixelRule
from adit_engine.pseudonymize.profile import ConfidentialityProfile
from adit_engine.pseudonymize.verify.verifier import verify

XA, RF, NM, RTIMAGE = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("12.1", "12.2", "20", "481.1"))
NO_IMAGES = {f"1.2.840.10008.5.1.4.1.1.481.{end}" for end in (3, 5, 8)}
OPEN = {uid for uid, one in tables.admitted_sop_classes().items() if "rule" not in one.conditions}


def code(made: dict[int, tuple[str, bytes]]) -> str:
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), instance(made))
    return caught.value.message.category


@pytest.mark.parametrize("sop_class", sorted(OPEN))
def test_admitted_classes_are_released(sop_class: str) -> None:
    assert admission.sop_class_refusal(sop_class, ConfidentialityProfile.default()) is None
    made = header(sop_class)
    if sop_class in NO_IMAGES:
        made = {tag: element for tag, element in made.items() if tag >> 16 not in (0x28, 0x7FE0)}
    assert apply(change(), instance(made)).sop_class_uid == sop_class


@pytest.mark.parametrize("sop_class", sorted(NO_IMAGES))
def test_pixels_in_a_class_without_pixel_data_are_withheld(sop_class: str) -> None:
    assert code(header(sop_class)) == "pixel-meaning"


def test_every_other_class_is_withheld() -> None:
    classes = [uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class"]
    for sop_class in (*classes, "1.2.3.4.5"):
        if sop_class not in OPEN:
            assert (
                admission.sop_class_refusal(sop_class, ConfidentialityProfile.default()) is not None
            )
            assert code(header(sop_class)) in ("class", "pixel-rule")


@pytest.mark.parametrize(
    ("tag", "vr", "value", "expected"),
    [
        (0x00280301, "CS", b"YES", "burned-in"),
        (0x00280301, "CS", b"yes", "burned-in"),
        (0x00280301, "CS", b"MAYBE", "burned-in"),
        (0x00280302, "CS", b"YES", "recognizable"),
        (0x00080008, "CS", b"DERIVED\\SECONDARY\\SCREEN SAVE", "image-type"),
        (0x00080008, "CS", b"DERIVED\\SECONDARY\\DOSE_INFO", "image-type"),
        (0x00080008, "CS", b"DERIVED\\SECONDARY\\CSA REPORT", "image-type"),
        (0x00080008, "CS", b"DERIVED\\SECONDARY\\PROTOCOL", "image-type"),
        (0x00080008, "CS", b"DERIVED\\SECONDARY\\PASTED", "image-type"),
        *((0x00080064, "CS", one, "conversion") for one in b"SC WSD DI DF SI DRW SYN".split()),
        (0x00280002, "US", pack("<H", 3), "samples"),
    ],
)
def test_an_image_with_a_refused_header_value_is_withheld(
    tag: int, vr: str, value: bytes, expected: str
) -> None:
    assert code(header() | {tag: (vr, value)}) == expected


@pytest.mark.parametrize("sop_class", [CR, XA, RF, NM, RTIMAGE])
def test_some_classes_require_burned_in_annotation_in_the_header(sop_class: str) -> None:
    made = header(sop_class)
    del made[0x00280301]
    assert code(made) == "burned-in-unknown"
    del (plain := header())[0x00280301]
    assert apply(change(), instance(plain))


def test_burned_in_annotation_after_the_pixels_is_evaluated() -> None:
    made = header()
    del made[0x00280301]
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), instance(made, behind=encode(0x00280301, "CS", b"YES")))
    assert caught.value.message.category == "burned-in"


@pytest.mark.parametrize("tag", [0x00080016, 0x00080018, 0x0020000D, 0x0020000E])
def test_an_object_with_an_empty_identifying_uid_is_withheld(tag: int) -> None:
    made = instance(header())
    bare = header()
    bare[tag] = ("UI", b"")
    data = instance(bare | {0x00080016: bare[0x00080016]})
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), type(made)("", "", data.transfer_syntax_uid, data.header, data.rest))
    assert caught.value.message.category == "identity"


def test_an_object_received_as_another_class_is_withheld() -> None:
    made = instance(header())
    foreign = type(made)(MR, made.instance_uid, made.transfer_syntax_uid, made.header, made.rest)
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), foreign)
    assert caught.value.message.category == "identity"


def test_the_uid_in_the_data_set_overrides_that_of_the_file_meta() -> None:
    made = instance(header())
    labelled = type(made)(CT, "1.2.3", made.transfer_syntax_uid, made.header, made.rest)
    out = apply(change(), labelled)
    assert out == apply(change(), made)
    verify(labelled, out, change())


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00280010, "IS", b"4 "),
        (0x00281052, "LO", b"-1024"),
        (0x00281200, "US", b"\0\0"),
        (0x00287FE0, "UR", b"http://pacs/1"),
        (0x00282000, "OB", b"Profile of Erika"),
        (0x52009229, "SQ", b""),
    ],
)
def test_an_image_with_invalid_pixel_interpretation_attributes_is_withheld(
    tag: int, vr: str, value: bytes
) -> None:
    assert code(header() | {tag: (vr, value)}) in ("pixel-meaning", "pixel-format")


def test_rescale_and_modality_lut_are_kept_in_mr() -> None:
    lut = encode(0x00283002, "US", pack("<3H", 2, 0, 16)) + encode(0x00283003, "LO", b"Erika")
    lut += encode(0x00283004, "LO", b"US") + encode(0x00283006, "OW", pack("<2H", 1, 2))
    ds = result(
        instance(
            header(
                MR,
                t00189087=("FD", pack("<d", 1000)),
                t00281052=("DS", b"0"),
                t00281053=("DS", b"1.5"),
                t00283000=("SQ", items(lut)),
            )
        )
    )
    assert ds.RescaleSlope == 1.5
    assert ds.DiffusionBValue == 1000
    (item,) = ds.ModalityLUTSequence
    assert item.ModalityLUTType == "US"
    assert bytes(item.LUTData) == pack("<2H", 1, 2)
    assert "LUTExplanation" not in item


def warning_code(modality: str, profile: ConfidentialityProfile) -> str | None:
    warning = admission.modality_warning(modality, profile, RiskDecision.ACCEPT)
    return None if warning is None else warning.code


def test_the_modality_alone_predicts_whether_images_may_be_withheld() -> None:
    plain = ConfidentialityProfile.default()
    assert warning_code("CT", plain) is None
    assert warning_code("SR", plain) == "may-be-withheld.class"
    assert warning_code("US", plain) == "may-be-withheld.pixel-rule"
    assert warning_code("CR", plain) == "may-be-withheld.burned-in"


def test_pixel_rules_of_the_profile_change_the_modality_warning() -> None:
    def ruled(uid: str) -> ConfidentialityProfile:
        rule = PixelRule(uid, "Sample Devices", "M", "*", 4, 4, ((0, 0, 4, 1),))
        return ConfidentialityProfile("Test", 1, frozenset({"113107", "113101"}), (rule,))

    ultrasound = "1.2.840.10008.5.1.4.1.1.6.1"
    assert warning_code("US", ruled(ultrasound)) == "may-be-withheld.device"
    assert warning_code("CR", ruled(CR)) == "may-be-withheld.burned-in-or-device"
    assert warning_code("CR", ruled(ultrasound)) == "may-be-withheld.burned-in"


def test_categories_lifted_by_pixel_rules_have_message_templates() -> None:
    categories = {code.partition(".")[0] for code in TEMPLATES}
    assert categories >= admission.LIFTED_BY_PIXEL_RULE
