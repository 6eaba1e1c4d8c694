"""Rebuild an ICC profile from its numbers only, without texts, dates and manufacturer data.

Used as an action. Layout by ICC.1 (ISO 15076-1). PS3.15 Table E.1-1 has no row for ICC Profile. A
profile can contain any text, but without it colors would be displayed differently. So it is
rebuilt.
"""

from itertools import accumulate
from struct import Struct, pack
from struct import error as StructError

_TAG_ENTRY = Struct(">4sII")
_HEADER_BYTES, _MAX_TAGS = 128, 100
_DEVICE_CLASSES = frozenset({b"scnr", b"mntr", b"prtr", b"spac"})
# Public tags that hold numbers, and their allowed types.
_NUMERIC_TAGS = frozenset(
    b"""
    rXYZ gXYZ bXYZ rTRC gTRC bTRC kTRC wtpt bkpt chad lumi chrm A2B0 A2B1 A2B2 B2A0 B2A1 B2A2
    gamt pre0 pre1 pre2
    """.split()
)
_NUMERIC_TYPES = frozenset(
    {b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA ", b"chrm"}
)
_MATRIX_TAGS = frozenset(b"rXYZ gXYZ bXYZ rTRC gTRC bTRC".split())
_FIXED_DATE = pack(">6H", 2000, 1, 1, 0, 0, 0)
_FIXED_TEXT = "Colour profile"


def clean_icc_profile(profile: bytes, context: object) -> bytes | None:
    """Return the profile without text, or None if it is not understood.

    A profile that is not understood must be removed.
    """
    try:
        kept = _read_numeric_tags(profile)
    except StructError:
        return None
    if kept is None or not (b"A2B0" in kept or b"kTRC" in kept or kept.keys() >= _MATRIX_TAGS):
        return None
    described = _make_required_texts(profile[8] >= 4)
    return _encode_profile(profile, {b"desc": described[0], b"cprt": described[1]} | kept)


def _read_numeric_tags(profile: bytes) -> dict[bytes, bytes] | None:
    """Return the data by tag, including the type."""
    (size,) = Struct(">I").unpack_from(profile, 0)
    (count,) = Struct(">I").unpack_from(profile, _HEADER_BYTES)
    if profile[36:40] != b"acsp" or profile[12:16] not in _DEVICE_CLASSES or count > _MAX_TAGS:
        return None
    kept = {}
    for number in range(count):
        tag, at, length = _TAG_ENTRY.unpack_from(
            profile, _HEADER_BYTES + 4 + number * _TAG_ENTRY.size
        )
        data = profile[at : at + length]
        if length < 8 or len(data) != length or at + length > size:
            return None
        if tag in _NUMERIC_TAGS:
            if data[:4] not in _NUMERIC_TYPES or not _is_complete(data):
                return None
            kept[tag] = data[:4] + bytes(4) + data[8:]
    return kept


def _is_complete(data: bytes) -> bool:
    """A curve must have exactly the number of points that it declares, with nothing after them."""
    if data[:4] != b"curv":
        return True
    (count,) = Struct(">I").unpack_from(data, 8)
    return len(data) - 12 - 2 * int(count) in (0, 1, 2, 3)


def _make_required_texts(is_version_4: bool) -> tuple[bytes, bytes]:
    """The two texts that each profile must have: description and copyright."""
    if is_version_4:
        text = _FIXED_TEXT.encode("utf-16-be")
        one = b"mluc" + pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(text), 28) + text
        return one, one
    plain = _FIXED_TEXT.encode() + b"\0"
    described = b"desc" + pack(">II", 0, len(plain)) + plain + bytes(8 + 3 + 67)
    return described, b"text" + bytes(4) + plain


def _encode_profile(profile: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Encode a profile. Data shared by several tags are written once."""
    parts = {data: data + bytes(-len(data) % 4) for data in tags.values()}
    begin = _HEADER_BYTES + 4 + _TAG_ENTRY.size * len(tags)
    *starts, end = accumulate(map(len, parts.values()), initial=begin)
    place = dict(zip(parts, starts, strict=True))
    table = b"".join(_TAG_ENTRY.pack(tag, place[data], len(data)) for tag, data in tags.items())
    head = (
        pack(">I", end) + bytes(4) + profile[8:24] + _FIXED_DATE + b"acsp" + bytes(24)
        + profile[64:80] + bytes(48)
    )  # fmt: skip
    return head + pack(">I", len(tags)) + table + b"".join(parts.values())
