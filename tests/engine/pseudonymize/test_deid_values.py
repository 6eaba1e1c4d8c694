"""Dates, UIDs, text, numbers and codes: what is kept, changed or removed."""

from datetime import datetime, timedelta

import pytest
from lab.deid_objects import (
    KEY,
    MR,
    PET,
    ROOT,
    change,
    encode,
    endless,
    header,
    instance,
    items,
    out_bytes,
    result,
)

from adit_engine.errors import InstanceWithheld
from adit_engine.messages import Message
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.pseudonymize.verify.verifier import verify
from adit_engine.values.instance import EXPLICIT_LE, Instance

DAYS = KEY.date_offset_days("LUNG-0001")


def shifted(day: str) -> str:
    return (datetime.strptime(day, "%Y%m%d") + timedelta(days=DAYS)).strftime("%Y%m%d")


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("20240229", shifted("20240229")),
        ("20240229101500", shifted("20240229") + "101500"),
        ("20240229101500.123456+0100", shifted("20240229") + "101500.123456+0100"),
        ("2024022910-0500", shifted("20240229") + "10-0500"),
        ("20240229+0100", shifted("20240229") + "+0100"),
    ],
)
def test_a_datetime_is_shifted_by_days_and_keeps_time_and_time_zone(value: str, left: str) -> None:
    made = instance(header(t0008002a=("DT", value.encode())))
    assert result(made)["AcquisitionDateTime"].value == left


@pytest.mark.parametrize(
    "value", ["2024", "202402", "20240230", "20240229-", "2024022925", "20240229101500.1234567"]
)
def test_partial_or_illegal_datetimes_are_removed(value: str) -> None:
    made = instance(header(t0008002a=("DT", value.encode())))
    assert "AcquisitionDateTime" not in result(made)


@pytest.mark.parametrize("value", ["2024.02.29", "202402", "20241301", "20240101-20241231", "MAY"])
def test_illegal_dates_are_emptied_if_type_2_and_removed_if_type_3(value: str) -> None:
    ds = result(
        instance(header(t00080020=("DA", value.encode()), t00080021=("DA", value.encode())))
    )
    assert ds.StudyDate == ""
    assert "SeriesDate" not in ds


def test_all_dates_of_a_multi_valued_attribute_are_shifted() -> None:
    made = instance(header(t00181200=("DA", b"20240101\\20240201")))
    moved = encode(0x00181200, "DA", f"{shifted('20240101')}\\{shifted('20240201')}".encode())
    assert moved in out_bytes(made)


def test_valid_times_are_kept_and_illegal_ones_are_removed() -> None:
    ds = result(instance(header(t00080031=("TM", b"235960.5"), t00080032=("TM", b"12:30:00"))))
    assert ds["SeriesTime"].value == "235960.5"
    assert "AcquisitionTime" not in ds


def test_pet_timing_and_dose_are_kept_in_their_sequence() -> None:
    inner = encode(0x00181072, "TM", b"083000.00") + encode(0x00181074, "DS", b"350000000")
    inner += encode(0x00181075, "DS", b"6586.2") + encode(0x00181078, "DT", b"20240229083000")
    inner += encode(0x00180031, "LO", b"FDG")
    made = instance(header(PET, t00540016=("SQ", items(inner))))
    (item,) = result(made).RadiopharmaceuticalInformationSequence
    assert item["RadiopharmaceuticalStartTime"].value == "083000.00"
    assert item["RadiopharmaceuticalStartDateTime"].value == shifted("20240229") + "083000"
    assert item.RadionuclideTotalDose == 350000000
    assert item.RadionuclideHalfLife == 6586.2
    assert item.Radiopharmaceutical == "FDG"


def test_no_date_or_time_is_kept_without_a_date_option() -> None:
    made = instance(header(t00080021=("DA", b"20240229"), t00080032=("TM", b"101516")))
    out = out_bytes(made, change("113109"))
    assert b"20240229" not in out
    assert b"1015" not in out
    assert result(made, change("113109")).LongitudinalTemporalInformationModified == "REMOVED"


def test_original_dates_are_kept_with_their_option() -> None:
    made = instance(header())
    assert result(made, change("113106")).StudyDate == "20240229"


def test_every_uid_except_well_known_ones_is_mapped_by_the_key() -> None:
    inner = encode(0x00081150, "UI", MR.encode() + b"\0")
    inner += encode(0x00081155, "UI", b" " + ROOT.encode() + b".7 ")
    made = instance(
        header(
            t00080014=("UI", f"{ROOT}.5\\1.2.840.10008.1.2\\{ROOT}.6".encode()),
            t00081140=("SQ", items(inner)),
            t00200052=("UI", b"1.2.840.10008.1.4.1.1"),
        )
    )
    ds = result(made)
    assert ds.InstanceCreatorUID == [
        KEY.uid(f"{ROOT}.5"),
        "1.2.840.10008.1.2",
        KEY.uid(f"{ROOT}.6"),
    ]
    assert ds.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
    (item,) = ds.ReferencedImageSequence
    assert item.ReferencedSOPClassUID == MR
    assert item.ReferencedSOPInstanceUID == KEY.uid(f"{ROOT}.7")


def test_a_uid_that_only_starts_like_a_well_known_uid_is_mapped() -> None:
    made = instance(header(t00200052=("UI", b"1.2.840.10008.1.4.1.1.4711")))
    assert b"4711" not in out_bytes(made).replace(ROOT.encode(), b"")
    assert result(made).FrameOfReferenceUID == KEY.uid("1.2.840.10008.1.4.1.1.4711")


def test_two_projects_share_no_identifiers() -> None:
    made = instance(header(t00200052=("UI", f"{ROOT}.8".encode())))
    one = result(made)
    other = result(made, change(key=ProjectKey(b"f" * 32), pseudonym="OTHER"))
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "StudyDate"):
        assert one[keyword].value != other[keyword].value
    assert one.FrameOfReferenceUID != other.FrameOfReferenceUID
    assert one.PatientID != other.PatientID


def test_the_output_is_reproducible() -> None:
    made = instance(header())
    assert out_bytes(made) == out_bytes(made)


@pytest.mark.parametrize(
    ("charset", "value", "text"),
    [
        (b"ISO_IR 100", "Gerätebau".encode("latin-1"), "Gerätebau"),
        (b"ISO_IR 192", "Gerätebau".encode(), "Gerätebau"),
        (b"ISO_IR 144", "Прибор".encode("iso8859-5"), "Прибор"),
        (b"GB18030", "设备\\公司".encode("gb18030"), ["设备", "公司"]),
        (b"ISO_IR 13", "ｷｶｲ".encode("shift_jis"), "ｷｶｲ"),
        (b"\\ISO 2022 IR 87", b"Kikai \x1b$B5!3#\x1b(B", "Kikai 機械"),
        (b"\\ISO 2022 IR 149", b"\x1b$)C" + "기계".encode("euc_kr"), "기계"),
    ],
)
def test_kept_text_is_converted_to_utf_8(
    charset: bytes, value: bytes, text: str | list[str]
) -> None:
    made = instance(header(t00080005=("CS", charset), t00181020=("LO", value)))
    ds = result(made)
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert ds.SoftwareVersions == text


@pytest.mark.parametrize(
    ("charset", "value"),
    [
        (b"ISO_IR 192", b"Ger\xe4t"),
        (b"", b"Ger\xe4t"),
        (b"ISO_IR 4711", b"Plain"),
        (b"\\ISO 2022 IR 87", b"\x1b$)C\xb1\xe2"),
        (b"ISO_IR 100", b"V1\0Mustermann"),
        (b"ISO_IR 100", b"V1\x07"),
        (b"ISO_IR 100", b"V" * 65),
    ],
)
def test_undecodable_or_invalid_text_is_removed(charset: bytes, value: bytes) -> None:
    made = instance(header(t00080005=("CS", charset), t00181020=("LO", value)))
    assert "SoftwareVersions" not in result(made)


def test_text_attributes_not_reviewed_as_safe_are_removed() -> None:
    made = instance(header(t00181040=("LO", b"by Sr. Erika"), t00283003=("LO", b"hand made")))
    out = out_bytes(made)
    assert b"Erika" not in out
    assert b"hand made" not in out


@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00180050, "DS", b"1.0\0Mustermann"),
        (0x00180050, "DS", b"Erika"),
        (0x00200011, "IS", b"1;Erika"),
        (0x00185100, "CS", b"Erika"),
        (0x00185100, "LO", b"HFS"),
        (0x00180050, "UN", b"1.0 "),
        (0x00180050, "PN", b"1.0 "),
        (0x00189310, "FD", b"Erika"),
    ],
)
def test_a_value_that_violates_its_vr_is_removed(tag: int, vr: str, value: bytes) -> None:
    out = out_bytes(instance(header() | {tag: (vr, value)}))
    assert encode(tag, vr, value) not in out
    assert b"Erika" not in out
    assert b"Mustermann" not in out


def test_numbers_are_kept_byte_for_byte() -> None:
    made = header(t00180050=("DS", b"  1.0E-1 "), t00200032=("DS", b"-1.5\\+2\\.5"))
    out = out_bytes(instance(made))
    assert encode(0x00180050, "DS", b"  1.0E-1 ") in out
    assert encode(0x00200032, "DS", b"-1.5\\+2\\.5") in out


def coded(value: bytes, scheme: bytes, meaning: bytes) -> bytes:
    return (
        encode(0x00080100, "SH", value)
        + encode(0x00080102, "SH", scheme)
        + encode(0x00080104, "LO", meaning)
    )


def test_standard_codes_are_kept_and_private_ones_removed() -> None:
    made = header(
        t00081032=("SQ", items(coded(b"CT-ERIKA", b"99LOCAL", b"CT Erika"))),
        t00082218=("SQ", items(coded(b"39607008", b"SCT", b"Lung"), coded(b"X", b"L", b"Erika"))),
    )
    ds = result(instance(made))
    assert "ProcedureCodeSequence" not in ds
    (code,) = ds.AnatomicRegionSequence
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == (
        "39607008",
        "SCT",
        "Lung",
    )


def test_a_required_private_code_is_replaced_by_a_valid_dummy() -> None:
    equipment = encode(0x00080070, "LO", b"Maker")
    equipment += encode(0x0040A170, "SQ", items(coded(b"ERIKA", b"99X", b"Erika")))
    ds = result(instance(header(t0018a001=("SQ", items(equipment)))))
    (item,) = ds.ContributingEquipmentSequence
    (code,) = item.PurposeOfReferenceCodeSequence
    assert code.CodeMeaning == "Removed"
    assert item.Manufacturer == "Maker"


@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_items_in_sequences_of_undefined_length_are_processed(vr: str) -> None:
    explicit_inside = vr == "SQ"
    inner = encode(0x00081150, "UI", MR.encode(), explicit_inside)
    inner += encode(0x00081155, "UI", ROOT.encode(), explicit_inside)
    inner += encode(0x00100010, "PN", b"Mustermann^Erika", explicit_inside)
    data = endless(0x00082112, inner, vr=vr)
    made = header()
    front = {t: e for t, e in made.items() if t < 0x00082112}
    back = {t: e for t, e in made.items() if t > 0x00082112}
    whole = b"".join(encode(t, *front[t]) for t in sorted(front)) + data
    whole += b"".join(encode(t, *back[t]) for t in sorted(back))
    ds = result(Instance.from_data_set("", "", EXPLICIT_LE, whole))
    (item,) = ds.SourceImageSequence
    assert item.ReferencedSOPInstanceUID == KEY.uid(ROOT)
    assert item.ReferencedSOPClassUID == MR
    assert item.PatientName == ""


def test_patient_attributes_in_nested_items_are_removed() -> None:
    inner = encode(0x00100010, "PN", b"Mustermann^Erika") + encode(0x00100020, "LO", b"PID-4711")
    original = encode(0x04000550, "SQ", items(inner))
    made = header(t04000561=("SQ", items(original)))
    out = out_bytes(instance(made))
    assert b"Mustermann" not in out
    assert b"PID-4711" not in out


def test_as_is_returns_the_same_object() -> None:
    made = instance(header())
    assert apply(AsIs(), made) is made


@pytest.mark.parametrize("term", [b"ISO-IR 100", b"ISO_IR_100", b"ISO IR 100", b"ISO_2022_IR_100"])
def test_a_misspelled_character_set_is_recognized_by_its_number(term: bytes) -> None:
    made = instance(
        header(
            t00080005=("CS", term),
            t00080070=("LO", b"M\xfcller Devices"),
            t00281052=("DS", b"-1024 "),
            t00281053=("DS", b"1 "),
            t00281054=("LO", b"HU"),
        )
    )
    out = apply(change(), made)
    verify(made, out, change())
    ds = result(made)
    assert (ds.RescaleType, ds.Manufacturer) == ("HU", "Müller Devices")


def test_an_image_with_an_unreadable_rescale_type_is_withheld() -> None:
    made = instance(
        header(
            t00080005=("CS", b"LATIN1"),
            t00281052=("DS", b"-1024 "),
            t00281053=("DS", b"1 "),
            t00281054=("LO", b"HU"),
        )
    )
    with pytest.raises(InstanceWithheld) as held:
        apply(change(), made)
    assert held.value.message == Message("pixel-meaning.element", tag="(0028,1054)")
