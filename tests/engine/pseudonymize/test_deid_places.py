"""Identity in unusual places: private blocks, overlays, curves, icons, data after the pixels."""

from dataclasses import replace
from struct import pack

import pytest
from lab.deid_objects import (
    CT,
    ROOT,
    change,
    encode,
    endless,
    header,
    instance,
    items,
    out_bytes,
    read,
    result,
)

from adit_engine.errors import InstanceWithheld, InvalidInput
from adit_engine.messages import Message
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.parameters import ClinicalTrialAttributes
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.pseudonymize.visit import TrialVisit, explain_visit_risk
from adit_engine.values.instance import EXPLICIT_LE, Instance

NAME = b"Mustermann^Erika"


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
def test_private_elements_are_removed(explicit: bool) -> None:
    made = header(
        t00090010=("LO", b"VENDOR"),
        t00091001=("PN", NAME),
        t00290010=("LO", b"SIEMENS CSA HEADER"),
        t00291010=("OB", NAME),
        t7fe10010=("LO", b"VENDOR"),
        t7fe11001=("LO", NAME),
    )
    made_instance = instance(made, explicit=explicit)
    out = apply(change(), made_instance)
    assert NAME not in b"".join(bytes(part) for part in out.parts())
    assert not [e for e in read(out) if e.tag.is_private]


@pytest.mark.parametrize("group", [0x5000, 0x5002, 0x501E, 0x6000, 0x6002, 0x601E])
def test_curves_and_overlays_are_removed(group: int) -> None:
    made = header()
    for element, vr, value in (
        (0x0010, "US", pack("<H", 4)),
        (0x0022, "LO", NAME),
        (0x3000, "OW", NAME),
        (0x4000, "LT", NAME),
    ):
        made[group << 16 | element] = (vr, value)
    ds = result(instance(made))
    assert not [e for e in ds if e.tag.group == group]
    assert NAME not in out_bytes(instance(made))


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
@pytest.mark.parametrize("size", [1, 2, 8, 511])
def test_trailing_zero_bytes_are_removed(size: int, explicit: bool) -> None:
    plain = instance(header(), explicit=explicit)
    padded = replace(plain, rest=(b"".join(map(bytes, plain.rest)) + bytes(size),))
    out = apply(change(), padded)
    verify(padded, out, change())
    assert out.sha256() == apply(change(), plain).sha256()


def test_an_image_with_other_trailing_bytes_is_withheld() -> None:
    plain = instance(header())
    padded = replace(plain, rest=(b"".join(map(bytes, plain.rest)) + bytes(8) + NAME,))
    with pytest.raises(InstanceWithheld):
        apply(change(), padded)


def test_group_lengths_and_directory_elements_are_removed() -> None:
    made = header(
        t00080000=("UL", pack("<I", 4711)),
        t00100000=("UL", pack("<I", 4711)),
        t00041130=("CS", b"ERIKA"),
    )
    ds = result(instance(made))
    assert not [e for e in ds if e.tag.element == 0 or e.tag.group == 4]


def test_icon_images_are_removed() -> None:
    icon = encode(0x00280010, "US", pack("<H", 4)) + encode(0x7FE00010, "OB", NAME)
    made = header(t00880200=("SQ", items(icon)))
    assert NAME not in out_bytes(instance(made))
    assert "IconImageSequence" not in result(instance(made))


def test_pixel_data_inside_a_sequence_is_removed() -> None:
    inner = encode(0x00081155, "UI", ROOT.encode()) + encode(0x7FE00010, "OW", NAME)
    made = header(t00081140=("SQ", items(inner)))
    assert NAME not in out_bytes(instance(made))


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
def test_elements_after_the_pixels_are_removed(explicit: bool) -> None:
    behind = encode(0x7FE10010, "LO", b"VENDOR", explicit)
    behind += encode(0x7FE11001, "LO", NAME, explicit)
    behind += encode(0xFFFAFFFA, "SQ", items(encode(0x00100010, "PN", NAME, explicit)), explicit)
    behind += encode(0xFFFCFFFC, "OB", NAME, explicit)
    out = apply(change(), instance(header(), explicit=explicit, behind=behind))
    assert NAME not in b"".join(bytes(part) for part in out.parts())
    assert max(read(out).keys()) == 0x7FE00010


def test_elements_out_of_order_are_processed_and_sorted() -> None:
    behind = encode(0x00104000, "LT", NAME) + encode(0x00180050, "DS", b"1.5")
    ds = result(instance(header(), behind=behind))
    assert "PatientComments" not in ds
    assert ds.SliceThickness == 1.5
    assert list(ds.keys()) == sorted(ds.keys())


def test_an_image_with_a_duplicate_element_is_withheld() -> None:
    behind = encode(0x00080060, "CS", b"CT")
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), instance(header(), behind=behind))
    problem = Message("data-set.duplicate-element", tag="(0008,0060)")
    assert caught.value.message == Message("malformed.data-set", problem=problem)


def test_an_image_with_bytes_that_are_not_an_element_is_withheld() -> None:
    with pytest.raises(InstanceWithheld):
        apply(change(), instance(header(), behind=b"Mustermann^Erika"))


def test_the_reason_of_a_refusal_contains_no_element_value() -> None:
    for extra in (b"Mustermann^Erika", encode(0x00104000, "LT", NAME)[:-3]):
        with pytest.raises(InstanceWithheld) as caught:
            apply(change(), instance(header(), behind=extra))
        assert "Mustermann" not in str(caught.value)
        assert caught.value.__cause__ is None


def test_an_image_with_200_nested_sequences_is_withheld() -> None:
    element = b""
    for _ in range(200):
        element = endless(0x00081140, element)
    whole = b"".join(encode(t, *e) for t, e in sorted(header().items()) if t < 0x00081140)
    whole += element
    whole += b"".join(encode(t, *e) for t, e in sorted(header().items()) if t > 0x00081140)
    with pytest.raises(InstanceWithheld):
        apply(change(), Instance(CT, "", EXPLICIT_LE, whole))


def test_safe_private_elements_are_kept_only_with_their_option() -> None:
    made = instance(
        header(
            t00190010=("LO", b"SIEMENS MR HEADER"),
            t0019100c=("IS", b"1000"),
            t00191008=("CS", b"ERIKA"),
            t00191026=("DS", b"Erika"),
            t00290010=("LO", b"SIEMENS CSA HEADER"),
            t00291010=("OB", NAME),
        )
    )
    with_option = result(made, change("113107", "113111"))
    private = [e for e in with_option if e.tag.is_private]
    assert [int(e.tag) for e in private] == [0x00190010, 0x0019100C]
    assert private[1].value == 1000
    assert not [e for e in result(made) if e.tag.is_private]


def test_a_safe_private_element_of_the_wrong_length_is_removed() -> None:
    """In implicit VR, text in place of a number is detected only by its length."""
    for value, kept in ((pack("<f", 1.5), True), (NAME, False), (b"", False)):
        made = header(t20010010=("LO", b"Philips Imaging DD 001"), t20011003=("FL", value))
        ds = result(instance(made, explicit=False), change("113107", "113111"))
        assert bool([e for e in ds if e.tag.is_private]) is kept


def test_a_private_creator_applies_only_to_its_own_block() -> None:
    made = instance(header(t00190010=("LO", b"SIEMENS MR HEADER"), t0019110c=("IS", b"1000")))
    assert not [e for e in result(made, change("113107", "113111")) if e.tag.is_private]


def test_existing_deidentification_and_trial_attributes_are_replaced() -> None:
    code = encode(0x00080100, "SH", b"113101") + encode(0x00080102, "SH", b"DCM")
    code += encode(0x00080104, "LO", b"Clean Pixel Data Option")
    made = instance(
        header(
            t00120010=("LO", b"Other sponsor"),
            t00120050=("LO", b"Visit of Erika"),
            t00120062=("CS", b"NO"),
            t00120063=("LO", b"Somebody else"),
            t00120064=("SQ", items(code)),
            t00280303=("CS", b"UNMODIFIED"),
        )
    )
    ds = result(made)
    assert ds.ClinicalTrialSponsorName == "Sponsor AG"
    assert "ClinicalTrialTimePointID" not in ds
    assert [item.CodeValue for item in ds.DeidentificationMethodCodeSequence] == [
        "113100",
        "113107",
    ]
    assert ds.LongitudinalTemporalInformationModified == "MODIFIED"


def test_the_output_records_the_pseudonym_and_the_deidentification() -> None:
    ds = result(instance(header()))
    assert ds.PatientName == ds.PatientID == ds.ClinicalTrialSubjectID == "LUNG-0001"
    assert ds.PatientIdentityRemoved == "YES"
    assert ds.DeidentificationMethod[1:] == ["PS3.15 2026c", "ADIT default"]
    assert ds.BurnedInAnnotation == "NO"
    for keyword in ("PatientBirthDate", "AccessionNumber", "StudyID", "ReferringPhysicianName"):
        assert ds[keyword].is_empty
    assert (ds.ClinicalTrialProtocolID, ds.ClinicalTrialSiteName) == ("EUDRA-1", "Site")


def test_output_without_a_trial_has_no_trial_attributes() -> None:
    how = change()
    untold = replace(how, clinical_trial=None)
    ds = result(instance(header()), untold)
    assert [e.keyword for e in ds if e.tag.group == 0x12] == [
        "PatientIdentityRemoved",
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
    ]


ORIGINAL_VISIT = {"t00120050": ("LO", b"Visit of 3 May"), "t00120051": ("ST", b"First")}


def test_the_visit_of_the_order_replaces_that_of_the_original() -> None:
    original = instance(header(**ORIGINAL_VISIT))
    visit = TrialVisit("Wöche 12 ", "nach OP")

    made = result(original, replace(change(), visit=visit))
    assert (made.ClinicalTrialTimePointID, made.ClinicalTrialTimePointDescription) == (
        "Wöche 12",
        "nach OP",
    )
    for untold in (change(), change("113107", "113105"), replace(change(), clinical_trial=None)):
        ds = result(original, untold)
        assert "ClinicalTrialTimePointID" not in ds
        assert "ClinicalTrialTimePointDescription" not in ds


@pytest.mark.parametrize(
    "visit",
    [
        TrialVisit("4711-0815"),
        TrialVisit("V1", "Max Mustermann"),
        TrialVisit("Mustermann"),
        TrialVisit("19640812"),
    ],
)
def test_a_visit_that_identifies_the_patient_withholds_the_image(visit: TrialVisit) -> None:
    original = instance(
        header(
            t00100010=("PN", b"Mustermann^Max"),
            t00100020=("LO", b"4711-0815"),
            t00100030=("DA", b"19640812"),
        )
    )
    how = replace(change(), visit=visit)
    made = apply(how, original)
    with pytest.raises(InstanceWithheld, match="visit itself identifies"):
        verify(original, made, how)


def test_the_verification_compares_the_visit_at_the_top_level_only() -> None:
    how = replace(change(), visit=TrialVisit("V1", "Baseline"))
    original = instance(header())
    made = apply(how, original)
    verify(original, made, how)
    for wrong in (replace(how, visit=None), replace(how, visit=TrialVisit("V2", "Baseline"))):
        with pytest.raises(InstanceWithheld, match="of the visit is wrong"):
            verify(original, made, wrong)


@pytest.mark.parametrize(
    ("text", "description"),
    [("", ""), (" ", "x"), ("V" * 65, ""), ("A\\B", ""), ("V1", "a\nb"), ("V1", "x" * 201)],
)
def test_invalid_visits_are_rejected(text: str, description: str) -> None:
    with pytest.raises(InvalidInput):
        TrialVisit(text, description)


@pytest.mark.parametrize(
    ("visit", "risk"),
    [
        ("V1", None),
        ("Week 12", None),
        ("2", None),
        ("2024-02-29", "date"),
        ("20240229", "date"),
        ("29.2.24", "date"),
        ("0815", "patient-id"),
        ("V-123456", "patient-id"),
    ],
)
def test_a_visit_like_a_date_or_a_patient_id_is_noticed(visit: str, risk: str | None) -> None:
    found = explain_visit_risk(TrialVisit(visit), "815")

    assert (found.code if found else None) == (risk and f"visit.looks-like-{risk}")


@pytest.mark.parametrize(
    "words",
    [("", "P1"), ("Sponsor", " "), ("A\\B", "P1"), ("S" * 65, "P"), ("Sponsor", "P\n1")],
)
def test_invalid_clinical_trial_attributes_are_rejected(words: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput):
        ClinicalTrialAttributes(*words)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("Люксембург", "iso8859-5"), ("Διονυσιος", "iso8859-7"), ("Štěpánek", "iso8859-2"),
        ("Çavuşoğlu", "iso8859-9"), ("สมชายดี", "tis-620"), ("ﾔﾏﾀﾞ", "shift_jis"),
    ],
)  # fmt: skip
def test_verification_finds_a_name_with_a_wrong_character_set(name: str, codec: str) -> None:
    made = header(t00080005=("CS", b"ISO_IR 192"), t00100010=("PN", name.encode(codec)))
    verify(instance(made), apply(change(), instance(made)), change())
    told = instance(made | {0x00081090: ("LO", b"of " + name.encode())})
    with pytest.raises(InstanceWithheld) as held:
        verify(told, apply(change(), told), change())
    assert held.value.message.category == "verify-name"
