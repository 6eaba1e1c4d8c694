"""Lookup tables are kept complete, without any bytes after them."""

from struct import pack

import pytest
from lab.deid_objects import Header, encode, header, instance, items, out_bytes, read, result

REMARK = b"a remark that is nobody's name "
TABLE = pack("<4H", 0, 100, 200, 300)


def modality(table: bytes, vr: str, *, explicit: bool, entries: int = 4) -> Header:
    lut = encode(0x00283002, "US", pack("<3H", entries, 0, 16), explicit)
    lut += encode(0x00283004, "LO", b"HU", explicit) + encode(0x00283006, vr, table, explicit)
    return header(t00283000=("SQ", items(lut)))


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("vr", ["US", "OW"])
def test_bytes_after_a_lookup_table_are_removed(vr: str, explicit: bool) -> None:
    for text in (b"", REMARK):
        made = instance(modality(TABLE + text, vr, explicit=explicit), explicit=explicit)
        assert TABLE in out_bytes(made)
        assert REMARK not in out_bytes(made)
        assert result(made).ModalityLUTSequence[0].LUTDescriptor == [4, 0, 16]


def test_palettes_are_trimmed_and_zero_entries_mean_65536() -> None:
    made = header(t00280004=("CS", b"PALETTE COLOR"))
    for n in range(3):
        made[0x00281101 + n] = ("US", pack("<3H", 4, 0, 16))
        made[0x00281201 + n] = ("OW", TABLE + REMARK)
    ds = result(instance(made))
    assert ds.BluePaletteColorLookupTableData == TABLE
    full = bytes(2 * 65536)
    made = modality(full + REMARK, "OW", explicit=True, entries=0)
    assert len(result(instance(made)).ModalityLUTSequence[0].LUTData) == len(full)


def test_a_table_of_the_described_length_is_unchanged() -> None:
    made = instance(modality(TABLE, "OW", explicit=True))
    assert read(made).ModalityLUTSequence[0].LUTData == TABLE
    assert encode(0x00283006, "OW", TABLE) in out_bytes(made)


@pytest.mark.parametrize("descriptor", [None, pack("<H", 4)])
def test_a_palette_without_a_valid_descriptor_is_removed(descriptor: bytes | None) -> None:
    made = header(t00281201=("OW", REMARK))
    if descriptor is not None:
        made[0x00281101] = ("US", descriptor)
    assert REMARK not in out_bytes(instance(made))


def test_a_nested_table_without_a_descriptor_is_removed() -> None:
    lut = encode(0x00283004, "LO", b"HU") + encode(0x00283006, "OW", REMARK)
    made = header(t00283000=("SQ", items(lut)))
    assert REMARK not in out_bytes(instance(made))
