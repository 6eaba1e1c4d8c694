"""No value of any row of PS3.15 Table E.1-1 remains, at any depth and in both encodings."""

from struct import pack

import pytest
from lab.deid_objects import change, elements_of, encode, header, instance, items, out_bytes, result

from adit_engine.pseudonymize import tables

ROWS = sorted(tables.confidentiality().values(), key=lambda row: row.tag)
# Sequences of the CT IOD, outermost first: Referenced Image, Purpose of Reference, Equivalent Code.
NEST = (0x00081140, 0x0040A170, 0x00080121)

SECRET = {
    "AE": b"SECRETAE",
    "AS": b"067Y",
    "CS": b"SECRETCS",
    "DA": b"19560412",
    "DS": b"4711.0815",
    "DT": b"19560412101500.123456",
    "IS": b"47110815",
    "LO": b"Secret Text 4711",
    "LT": b"Secret Text 4711",
    "PN": b"Mustermann^Erika",
    "SH": b"Secret 4711",
    "ST": b"Secret Text 4711",
    "TM": b"101516.4711",
    "UC": b"Secret Text 4711",
    "UI": b"1.2.826.0.1.3680043.8.498.4711.99.4711",
    "UN": b"Secret Text 4711",
    "UR": b"http://secret.example/4711",
    "US": pack("<H", 0x4711),
    "UT": b"Secret Text 4711",
    "OB": b"Secret Text 4711",
}


def secret(row: tables.ConfidentialityRow, explicit: bool) -> tuple[str, bytes]:
    vr = (row.vr or "UN").split("/")[0]
    if vr == "SQ":
        inner = encode(0x00080050, "SH", b"SECRETACC", explicit)
        inner += encode(0x00100010, "PN", b"Mustermann^Erika", explicit)
        inner += encode(0x00104000, "LT", b"Secret Text 4711", explicit)
        return vr, items(inner)
    return vr, SECRET[vr]


def at_depth(
    tag: int, vr: str, value: bytes, depth: int, explicit: bool
) -> dict[int, tuple[str, bytes]]:
    """Return header elements that contain the element inside `depth` sequences."""
    element = encode(tag, vr, value, explicit)
    for place in reversed(NEST[1 : max(depth, 1)]):
        element = encode(place, "SQ", items(element), explicit)
    return {NEST[0]: ("SQ", items(element))} if depth else {tag: (vr, value)}


SHIFTED = {"DA", "DT", "TM"}


def is_clean(row: tables.ConfidentialityRow, value: bytes, out: bytes) -> bool:
    """Return whether the value is gone; times are kept with modified dates (113107)."""
    if row.vr == "TM" and "113107" in row.options:
        return True
    if row.vr == "SQ":
        return not any(s in out for s in (b"SECRETACC", b"Mustermann", b"Secret Text"))
    return value not in out


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_no_value_of_any_table_row_remains(depth: int, explicit: bool) -> None:
    for row in ROWS:
        vr, value = secret(row, explicit)
        more = at_depth(row.tag, vr, value, depth, explicit)
        if depth == 0 and row.tag in (0x00080018, 0x0020000D, 0x0020000E):
            continue  # these identify the object and have their own tests
        made = header() | more
        out = out_bytes(instance(made, explicit=explicit))
        assert is_clean(row, value, out), f"{row.tag:08x} {row.keyword} at depth {depth}"


@pytest.mark.parametrize("explicit", [True, False], ids=["explicit", "implicit"])
def test_values_in_private_sequences_are_removed(explicit: bool) -> None:
    for row in ROWS:
        vr, value = secret(row, explicit)
        inner = encode(row.tag, vr, value, explicit)
        made = header() | {
            0x00090010: ("LO", b"SECRET VENDOR"),
            0x00091001: ("SQ", items(inner)),
        }
        out = out_bytes(instance(made, explicit=explicit))
        assert value not in out
        assert b"SECRET VENDOR" not in out
        assert b"\x09\x00\x01\x10" not in out


def test_action_x_removes_and_action_z_empties_at_each_depth() -> None:
    for row in ROWS:
        if row.basic not in ("X", "Z") or "113107" in row.options or row.tag >> 16 in (0, 2, 4, 18):
            continue
        vr, value = secret(row, True)
        for depth in (0, 1):
            made = header() | at_depth(row.tag, vr, value, depth, True)
            found = [e for tag, e in elements_of(result(instance(made))) if tag == row.tag]
            if row.basic == "X":
                assert not found, row.keyword
            elif row.tag != 0x00100010:
                assert all(element.is_empty for element in found), row.keyword


def test_action_d_writes_a_dummy_value_at_the_top_level() -> None:
    for row in ROWS:
        dated = "113107" in row.options
        if row.basic != "D" or row.vr in ("SQ", "PN") or dated or row.tag >> 16 == 0x0012:
            continue
        made = header() | {row.tag: secret(row, True)}
        element = result(instance(made))[row.tag]
        assert not element.is_empty, row.keyword


def test_combined_actions_follow_the_attribute_type_in_the_iod() -> None:
    # Institution Name is X/Z/D and type 3, Content Date Z/D and 2C, Protocol Name X/D and type 3.
    made = header(
        t00080023=("DA", b"partly"),
        t00080080=("LO", b"Klinikum Beispielstadt"),
        t00181030=("LO", b"Thorax Erika M."),
        t00180010=("LO", b"given by Dr. X"),
    )
    ds = result(instance(made))
    assert ds.ContentDate == ""
    assert "InstitutionName" not in ds
    assert "ProtocolName" not in ds
    assert ds.ContrastBolusAgent == ""


def test_references_are_kept_with_the_new_uids() -> None:
    class_uid = encode(0x00081150, "UI", b"1.2.840.10008.5.1.4.1.1.2")
    instance_uid = encode(0x00081155, "UI", b"1.2.826.0.1.3680043.8.498.4711.1.1.1")
    private = encode(0x00091001, "LO", b"Secret") + encode(0x00090010, "LO", b"V")
    made = header(t00082112=("SQ", items(class_uid + instance_uid + private)))
    ds = result(instance(made))
    (item,) = ds.SourceImageSequence
    assert item.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert item.ReferencedSOPInstanceUID == ds.SOPInstanceUID
    assert len(item) == 2


OPTION_ROWS = [
    ("113108", 0x00101030, "DS", b"71.5", b"71.5"),
    ("113108", 0x00101010, "AS", b"099Y", b"090Y"),
    ("113108", 0x00101010, "AS", b"067Y", b"067Y"),
    ("113109", 0x00181000, "LO", b"SN-4711", b"SN-4711"),
    ("113109", 0x00081010, "SH", b"CT-ROOM-4", b"CT-ROOM-4"),
    ("113112", 0x00080080, "LO", b"Klinikum", b"Klinikum"),
]


@pytest.mark.parametrize(("option", "tag", "vr", "value", "left"), OPTION_ROWS)
def test_an_attribute_is_kept_only_with_its_option(
    option: str, tag: int, vr: str, value: bytes, left: bytes
) -> None:
    made = instance(header() | {tag: (vr, value)})
    assert encode(tag, vr, left) in out_bytes(made, change("113107", option))
    assert value not in out_bytes(made, change("113107"))


def test_the_age_is_computed_from_the_original_dates_with_its_option() -> None:
    made = instance(header(t00100030=("DA", b"19240301")))
    ds = result(made, change("113107", "113108"))
    assert ds.PatientAge == "090Y"
    assert ds.PatientBirthDate == ""
    assert "PatientAge" not in result(made)
