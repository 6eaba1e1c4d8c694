"""Options and presets: what each of them keeps, and what none of them keeps."""

from dataclasses import replace

import pytest
from lab.deid_objects import (
    CT,
    DX,
    KEY,
    MR,
    PET,
    ROOT,
    TRIAL,
    change,
    encode,
    header,
    instance,
    items,
    read,
)
from pydicom.dataset import Dataset

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.face_risk import FaceRisk, RiskDecision, SeriesTexts, assess_face_risk
from adit_engine.pseudonymize.parameters import Pseudonymization
from adit_engine.pseudonymize.profile import ConfidentialityProfile, preset_names
from adit_engine.pseudonymize.safe_text import is_safe_text
from adit_engine.pseudonymize.verify.verifier import verify


def released(made: dict[int, tuple[str, bytes]], how: Pseudonymization) -> Dataset:
    source = instance(made)
    out = apply(how, source)
    verify(source, out, how)
    return read(out)


def by_preset(name: str) -> Pseudonymization:
    return Pseudonymization(
        ConfidentialityProfile.preset(name),
        "LUNG-0001",
        KEY,
        TRIAL,
        RiskDecision.ACCEPT,
        RiskDecision.ACCEPT,
    )


NAMED = {
    0x00100010: ("PN", b"Mustermann^Erika"),
    0x00100020: ("LO", b"PID-0815"),
    0x00100030: ("DA", b"19560412"),
}


# Clean descriptors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"CT Thorax 5.0 mm", b"t2 tse sag 320", b"Head/Neck + contrast", b"PTV_60", b"LUNG 1.0 B"],
)
def test_descriptions_of_listed_words_are_kept_with_the_option(text: bytes) -> None:
    assert is_safe_text(text)
    made = header(t0008103e=("LO", text), t00081030=("LO", text)) | NAMED
    ds = released(made, change("113107", "113105"))
    assert ds.SeriesDescription == ds.StudyDescription == text.decode()
    assert "SeriesDescription" not in released(made, change("113107"))


@pytest.mark.parametrize(
    "text",
    [
        b"CT Thorax Mustermann",
        b"Thorax 4711",
        b"Thorax 12.04.56",
        b"Thorax 12 4 56",
        b"Thorax^Erika",
        b"Thorax\\Erika",
        "Schädel".encode("latin-1"),
        b"chest; mr. x?",
    ],
)
def test_any_other_description_is_removed_completely(text: bytes) -> None:
    assert not is_safe_text(text)
    made = header(t0008103e=("LO", text), t00104000=("LT", text)) | NAMED
    ds = released(made, change("113107", "113105"))
    assert "SeriesDescription" not in ds
    assert "PatientComments" not in ds


def test_a_description_is_removed_if_a_listed_word_is_the_patient_name() -> None:
    made = header(t0008103e=("LO", b"HEAD plain"), t00081030=("LO", b"neck plain"))
    ds = released(made | {0x00100010: ("PN", b"Head^Erika")}, change("113107", "113105"))
    assert "SeriesDescription" not in ds
    assert ds.StudyDescription == "neck plain"


SAID_OF_THE_PERSON = {
    0x00100016: "UT",
    0x00100033: "LO",
    0x00100034: "LO",
    0x00100042: "UT",
    0x00100045: "UT",
    0x00102000: "LO",
    0x00102110: "LO",
    0x00102180: "SH",
    0x001021B0: "LT",
    0x00104000: "LT",
}


def test_attributes_about_the_person_are_removed_despite_the_option() -> None:
    made = header() | NAMED | {tag: (vr, b"left 12") for tag, vr in SAID_OF_THE_PERSON.items()}
    ds = released(made, change("113105", "113107", "113108"))
    assert [hex(tag) for tag in SAID_OF_THE_PERSON if tag in ds] == []


@pytest.mark.parametrize("tag", SAID_OF_THE_PERSON)
def test_verification_withholds_attributes_about_the_person(tag: int) -> None:
    how, source = change("113105", "113107"), instance(header() | NAMED)
    out = apply(how, source)
    left = out.header + encode(tag, SAID_OF_THE_PERSON[tag], b"left 12")
    with pytest.raises(InstanceWithheld):
        verify(source, replace(out, header=left), how)


# Structured content -------------------------------------------------------------------------------


def coded(value: bytes, scheme: bytes, meaning: bytes) -> bytes:
    return (
        encode(0x00080100, "SH", value)
        + encode(0x00080102, "SH", scheme)
        + encode(0x00080104, "LO", meaning)
    )


def test_structured_content_keeps_only_standard_codes() -> None:
    name = encode(0x0040A043, "SQ", items(coded(b"109054", b"DCM", b"Patient State")))
    private = encode(0x0040A043, "SQ", items(coded(b"X1", b"99HOSP", b"Seen by Mustermann")))
    state = encode(0x0040A168, "SQ", items(coded(b"128975004", b"SCT", b"Resting State")))
    text = encode(0x0040A160, "UT", b"Mustermann came late")
    person = encode(0x0040A123, "PN", b"Mustermann^Erika")
    made = header(DX, t00400555=("SQ", items(name + state, private + text + person))) | NAMED
    assert not released(made, change("113107")).AcquisitionContextSequence
    ds = released(made, change("113107", "113104"))
    first, *others = ds.AcquisitionContextSequence
    assert first.ConceptCodeSequence[0].CodeValue == "128975004"
    assert "Mustermann" not in str(others)


def test_a_person_name_content_item_is_removed_completely() -> None:
    name = encode(0x0040A043, "SQ", items(coded(b"121008", b"DCM", b"Person Observer Name")))
    person = encode(0x0040A040, "CS", b"PNAME ") + name + encode(0x0040A123, "PN", b"Reader^Rita")
    state = encode(0x0040A040, "CS", b"CODE") + encode(
        0x0040A043, "SQ", items(coded(b"109054", b"DCM", b"Patient State"))
    )
    made = header(DX, t00400555=("SQ", items(state, person))) | NAMED
    (only,) = released(made, change("113107", "113104")).AcquisitionContextSequence
    assert only.ValueType == "CODE"


# UIDs ---------------------------------------------------------------------------------------------


def test_uids_are_kept_everywhere_with_the_option() -> None:
    reference = encode(0x00081150, "UI", CT.encode()) + encode(0x00081155, "UI", ROOT.encode())
    made = header(t00081140=("SQ", items(reference)), t00200052=("UI", f"{ROOT}.5".encode()))
    how = change("113107", "113110")
    source = instance(made | NAMED)
    out = apply(how, source)
    verify(source, out, how)
    ds = read(out)
    assert out.instance_uid == ds.SOPInstanceUID == f"{ROOT}.1.1.1"
    assert (ds.StudyInstanceUID, ds.SeriesInstanceUID) == (f"{ROOT}.1", f"{ROOT}.1.1")
    assert ds.FrameOfReferenceUID == f"{ROOT}.5"
    assert ds.ReferencedImageSequence[0].ReferencedSOPInstanceUID == ROOT
    assert ds.PatientID == "LUNG-0001"


def test_an_invalid_uid_is_removed_despite_the_option() -> None:
    made = header(t00200052=("UI", b"Mustermann")) | NAMED
    assert "Mustermann" not in str(released(made, change("113107", "113110")))


# Graphics -----------------------------------------------------------------------------------------


def test_the_clean_graphics_option_removes_overlays() -> None:
    made = header(t60000022=("LO", b"Arrow"), t60003000=("OW", b"\1\2\3\4")) | NAMED
    ds = released(made, change("113107", "113103"))
    assert not [element for element in ds if element.tag.group == 0x6000]
    codes = [code.CodeValue for code in ds.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113103", "113107"]


# Presets ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", preset_names())
def test_no_preset_keeps_identifying_values(name: str) -> None:
    made = header(
        t00080080=("LO", b"Klinikum Musterstadt"), t00081048=("PN", b"Haus^Arzt"),
        t00104000=("LT", b"Mustermann called"), t00081030=("LO", b"CT for Mustermann"),
    ) | NAMED  # fmt: skip
    text = str(released(made, by_preset(name)))
    for word in ("Mustermann", "Erika", "Haus", "Musterstadt", "19560412", "PID-0815"):
        assert word not in text


def test_the_strict_preset_keeps_no_date_time_or_description() -> None:
    made = header(t0008103e=("LO", b"CT Thorax"), t00080032=("TM", b"101500")) | NAMED
    ds = released(made, by_preset("strict"))
    assert ds.LongitudinalTemporalInformationModified == "REMOVED"
    assert not [e for e in ds.iterall() if e.VR in ("DA", "DT", "TM") and not e.is_empty]
    assert "SeriesDescription" not in ds


def test_ct_mr_research_shifts_dates_and_keeps_descriptions_and_diffusion() -> None:
    made = header(
        MR, t0008103e=("LO", b"epi diff ax 900"),
        t00190010=("LO", b"SIEMENS MR HEADER"), t0019100c=("IS", b"900"),
        t00189087=("FD", b"\0\0\0\0\0\0\x8c@"),
    ) | NAMED  # fmt: skip
    ds = released(made, by_preset("ct-mr-research"))
    assert ds.SeriesDescription == "epi diff ax 900"
    assert ds[0x0019100C].value == 900
    assert ds.DiffusionBValue == 896.0
    assert ds.StudyDate not in ("", "20240229")
    assert "PatientWeight" not in ds


def test_the_pet_preset_keeps_all_values_needed_for_suv() -> None:
    dose = (
        encode(0x00181072, "TM", b"091500.00")
        + encode(0x00181074, "DS", b"350000000")
        + encode(0x00181075, "DS", b"6586.2")
        + encode(0x00181076, "DS", b"0.9673")
        + encode(0x00181078, "DT", b"20240229091500.00")
    )
    made = header(
        PET, t00080021=("DA", b"20240229"), t00080022=("DA", b"20240229"),
        t00080031=("TM", b"101500"), t00080032=("TM", b"101530"),
        t00101010=("AS", b"093Y"), t00101020=("DS", b"1.72"), t00101030=("DS", b"71.5"),
        t00100040=("CS", b"F"), t00281052=("DS", b"0"), t00281053=("DS", b"0.37"),
        t00541001=("CS", b"BQML"), t00541102=("CS", b"START"), t00541300=("DS", b"1000"),
        t00280051=("CS", b"ATTN\\DECY"), t00540016=("SQ", items(dose)),
        t70530010=("LO", b"Philips PET Private Group"), t70531000=("DS", b"0.0004"),
    ) | NAMED  # fmt: skip
    ds = released(made, by_preset("pet-dose-timing"))
    (isotope,) = ds.RadiopharmaceuticalInformationSequence
    assert (ds.PatientWeight, ds.PatientSize, ds.PatientSex) == (71.5, 1.72, "F")
    assert ds.PatientAge == "090Y"
    assert isotope.RadionuclideTotalDose == 350_000_000
    assert isotope.RadionuclideHalfLife == 6586.2
    assert isotope.RadiopharmaceuticalStartTime == "091500.00"
    assert isotope.RadiopharmaceuticalStartDateTime == f"{ds.SeriesDate}091500.00"
    assert (ds.SeriesTime, ds.AcquisitionTime) == ("101500", "101530")
    assert (ds.Units, ds.DecayCorrection, ds.RescaleSlope) == ("BQML", "START", 0.37)
    assert ds.CorrectedImage == ["ATTN", "DECY"]
    assert ds[0x70531000].value == 0.0004


# Faces --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modality", "texts", "thickness", "images", "risk"),
    [
        ("CT", ["HEAD"], 0.6, 300, FaceRisk.LIKELY),
        ("MR", ["", "t1_mprage_sag Kopf"], None, 192, FaceRisk.LIKELY),
        ("PT", ["WHOLEBODY"], 2.0, None, FaceRisk.LIKELY),
        ("CT", ["HEAD"], 5.0, 30, FaceRisk.NONE),
        ("CT", ["HEAD"], None, 30, FaceRisk.UNKNOWN),
        ("CT", ["CHEST"], 1.0, 400, FaceRisk.NONE),
        ("DX", ["SKULL"], None, 2, FaceRisk.NONE),
        ("MR", [""], 1.0, 160, FaceRisk.UNKNOWN),
        ("CT", ["BRAIN"], None, None, FaceRisk.UNKNOWN),
        ("CT", ["Head Neck Thorax"], 1.0, 500, FaceRisk.LIKELY),
        ("CT", ["heart"], 0.6, 400, FaceRisk.NONE),
    ],
)
def test_the_face_risk_depends_on_modality_texts_and_thickness(
    modality: str, texts: list[str], thickness: float | None, images: int | None, risk: FaceRisk
) -> None:
    assert assess_face_risk(modality, SeriesTexts("", tuple(texts)), thickness, images) is risk
