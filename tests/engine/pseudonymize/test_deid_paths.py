"""All transfer syntaxes give the same result: explicit, implicit, big endian and deflated."""

import zlib
from io import BytesIO
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab.deid_objects import (
    MR,
    PET,
    ROOT,
    change,
    encode,
    endless,
    header,
    instance,
    items,
    read,
)
from pydicom.dataset import Dataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_dataset

from adit_engine.elements import encode_element
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.tables import confidentiality, dictionary
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, Instance


def values(ds: Dataset) -> dict[int, object]:
    """Map each tag to its value; a sequence becomes a list of such mappings."""
    return {
        int(e.tag): [values(item) for item in e.value] if e.VR == "SQ" else e.value
        for e in ds
        if e.tag != 0x7FE00010
    }


VALUE = {
    "AE": b"SECRETAE", "AS": b"067Y", "CS": b"HEAD", "DA": b"19560412", "DS": b"1.5",
    "DT": b"19560412101500", "IS": b"15", "LO": b"Some Text", "LT": b"Some Text", "PN": b"A^B",
    "SH": b"Some Text", "ST": b"Some Text", "TM": b"101516", "UC": b"Some Text",
    "UI": b"1.2.826.0.1.3680043.8.498.9", "UR": b"http://x", "UT": b"Some Text",
    "US": pack("<H", 2), "SS": pack("<h", -2), "UL": pack("<I", 3), "SL": pack("<i", -3),
    "FL": pack("<f", 1.5), "FD": pack("<d", 2.5), "AT": pack("<HH", 0x18, 0x50),
}  # fmt: skip
TAGS = sorted(
    tag
    for tag, vr in dictionary().items()
    if vr in VALUE and 0x00080000 < tag < 0x7FE00000 and tag >> 24 not in (0x50, 0x60)
)
FIXED = {tag for tag in header() if tag >> 16 == 0x28} | {
    0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00080064,
    0x00280302, 0x00287FE0,
}  # fmt: skip
PLAIN = [tag for tag in TAGS if tag not in FIXED]


@given(
    st.lists(st.sampled_from(PLAIN), max_size=20, unique=True),
    st.lists(st.sampled_from(PLAIN), max_size=8, unique=True),
)
@settings(max_examples=150)
def test_explicit_and_implicit_vr_give_the_same_result(top: list[int], nested: list[int]) -> None:
    outs = []
    for explicit in (True, False):
        made = header(MR) | {tag: (dictionary()[tag], VALUE[dictionary()[tag]]) for tag in top}
        inner = b"".join(
            encode(t, dictionary()[t], VALUE[dictionary()[t]], explicit) for t in sorted(nested)
        )
        made[0x00081140] = ("SQ", items(inner))
        outs.append(_ended(instance(made, explicit=explicit)))
    assert outs[0] == outs[1]


def _ended(made: Instance) -> object:
    """Return the released values, or the category of the refusal."""
    try:
        return values(read(apply(change(), made)))
    except InstanceWithheld as reason:
        return reason.message.category


def test_undefined_and_defined_sequence_lengths_give_the_same_bytes() -> None:
    front = {t: e for t, e in header().items() if t < 0x00082112}
    back = {t: e for t, e in header().items() if t > 0x00082112}
    inner = encode(0x00081155, "UI", ROOT.encode()) + encode(0x00081150, "UI", PET.encode())
    outs = []
    for sequence in (encode(0x00082112, "SQ", items(inner)), endless(0x00082112, inner)):
        data = b"".join(encode(t, *e) for t, e in sorted(front.items())) + sequence
        data += b"".join(encode(t, *e) for t, e in sorted(back.items()))
        out = apply(change(), Instance.from_data_set("", "", EXPLICIT_LE, data))
        outs.append(b"".join(bytes(part) for part in out.parts()))
    assert outs[0] == outs[1]


def big_endian(ds: Dataset) -> bytes:
    buffer = DicomFileLike(BytesIO())
    buffer.is_little_endian, buffer.is_implicit_VR = False, False
    write_dataset(buffer, ds)
    return buffer.parent.getvalue()  # type: ignore[no-any-return]


def test_big_endian_and_deflated_give_the_same_bytes_as_explicit_vr() -> None:
    inner = encode(0x00081155, "UI", ROOT.encode()) + encode(0x00081150, "UI", PET.encode())
    made = header(
        MR,
        t00082112=("SQ", items(inner)),
        t00189087=("FD", pack("<d", 1000.5)),
        t00280009=("AT", pack("<HH", 0x18, 0x1063)),
        t00280106=("US", pack("<H", 5)),
        t7fe00010=("OW", pack("<16H", *range(16))),
    )
    del made[0x00280009]
    plain = instance(made)
    expected = apply(change(), plain)
    whole = b"".join(bytes(part) for part in plain.parts())
    deflate = zlib.compressobj(wbits=-15)
    deflated = deflate.compress(whole) + deflate.flush()
    ds = read(plain)
    ds.PixelData = pack(">16H", *range(16))
    for syntax, data in ((DEFLATED_LE, deflated), (EXPLICIT_BE, big_endian(ds))):
        out = apply(change(), Instance.from_data_set("", "", syntax, data))
        assert out.transfer_syntax_uid == EXPLICIT_LE
        assert out.sha256() == expected.sha256()


def test_a_decompression_bomb_is_withheld() -> None:
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(deflate.compress(bytes(1 << 20)) for _ in range(300)) + deflate.flush()
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), Instance.from_data_set("", "", DEFLATED_LE, bomb))
    assert caught.value.message.category == "too-large"


@pytest.mark.parametrize("syntax", [DEFLATED_LE, EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE])
@given(data=st.binary(max_size=200))
@settings(max_examples=60)
def test_random_bytes_are_withheld_in_every_transfer_syntax(syntax: str, data: bytes) -> None:
    with pytest.raises(InstanceWithheld):
        apply(change(), Instance("1.2", "1.3", syntax, data))


@given(st.data())
@settings(max_examples=150)
def test_a_damaged_object_never_reveals_the_patient_name(data: st.DataObject) -> None:
    made = instance(header(t00100010=("PN", b"Mustermann^Erika"), t00104000=("LT", b"Erika lives")))
    whole = bytearray(b"".join(bytes(part) for part in made.parts()))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    assert b"Erika" not in _said(bytes(whole))


def _said(data: bytes) -> bytes:
    """Return the bytes of the output, or the text of the refusal."""
    try:
        out = apply(change(), Instance.from_data_set("", "", EXPLICIT_LE, data))
    except (InstanceWithheld, Malformed) as reason:
        return str(reason).encode()
    return b"".join(bytes(part) for part in out.parts())


def test_every_tag_of_the_dictionary_can_be_encoded() -> None:
    for tag, vr in dictionary().items():
        assert encode_element(tag, vr.split("/")[0], b"ab", True)
    assert confidentiality()
