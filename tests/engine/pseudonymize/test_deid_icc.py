"""ICC profiles keep their numbers and lose their text."""

from struct import pack

import pytest
from lab.deid_objects import change, header, instance, result

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.icc_profile import clean_icc_profile

NAME = b"Mustermann^Erika"
WIDE = "Mustermann^Erika".encode("utf-16-be")
CURVE = b"curv" + pack(">IIH", 0, 1, 0x0233)
POINT = b"XYZ " + bytes(4) + pack(">3i", 0xF6D6, 0x10000, 0xD32D)
NUMBERS = {
    **{colour + b"XYZ": POINT for colour in (b"r", b"g", b"b")},
    **{colour + b"TRC": CURVE for colour in (b"r", b"g", b"b")},
    b"wtpt": POINT,
}


def profile(tags: dict[bytes, bytes], *, version: int = 2, kind: bytes = b"mntr") -> bytes:
    """Return an ICC profile whose header fields spell a name."""
    at, table, data = 132 + 12 * len(tags), b"", b""
    for tag, value in tags.items():
        table += tag + pack(">II", at + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = (
        b"Must"
        + bytes([version, 0x10, 0, 0])
        + kind
        + b"RGB XYZ "
        + pack(">6H", 2024, 2, 29, 1, 2, 3)
    )
    head += b"acsp" + b"erma" + bytes(4) + b"nn^E" + b"rika" + bytes(8) + pack(">I", 1)
    head += pack(">3i", 0xF6D6, 0x10000, 0xD32D) + b"Muster^E" + NAME
    head = head.ljust(124, b"\0") + pack(">I", len(tags))
    return pack(">I", at + len(data)) + head + table + data


def tags_of(made: bytes) -> dict[bytes, bytes]:
    count = int.from_bytes(made[128:132])
    found = {}
    for at in range(132, 132 + 12 * count, 12):
        begin, length = (
            int.from_bytes(made[at + 4 : at + 8]),
            int.from_bytes(made[at + 8 : at + 12]),
        )
        found[made[at : at + 4]] = made[begin : begin + length]
    return found


@pytest.mark.parametrize("version", [2, 4])
def test_an_icc_profile_keeps_its_numbers_and_loses_its_text(version: int) -> None:
    words = {
        b"desc": b"desc" + pack(">II", 0, len(NAME)) + NAME,
        b"cprt": b"text" + bytes(4) + NAME,
        b"dmnd": b"mluc" + pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(WIDE), 28) + WIDE,
        b"MSFT": NAME,
    }
    made = result(instance(header(t00282000=("OB", profile(words | NUMBERS, version=version)))))
    out = bytes(made.ICCProfile)
    assert NUMBERS.items() <= tags_of(out).items()
    assert tags_of(out).keys() == NUMBERS.keys() | {b"desc", b"cprt"}
    assert not any(word in out for word in (NAME, WIDE, b"Must", b"erma", b"rika"))
    assert int.from_bytes(out[:4]) == len(out)
    assert out[12:24] == b"mntrRGB XYZ "
    assert clean_icc_profile(out, None) == out


@pytest.mark.parametrize(
    "broken",
    [
        NAME,
        profile({}),
        profile(NUMBERS)[:-4],
        profile(NUMBERS, kind=b"link"),
        profile(NUMBERS | {b"rTRC": CURVE + NAME}),
        profile(NUMBERS | {b"rTRC": b"text" + bytes(4) + NAME}),
        profile(NUMBERS)[:128] + b"\xff\xff\xff\xff",
    ],
)
def test_an_image_with_an_invalid_icc_profile_is_withheld(broken: bytes) -> None:
    with pytest.raises(InstanceWithheld) as caught:
        apply(change(), instance(header(t00282000=("OB", broken))))
    assert caught.value.message.category == "pixel-meaning"
