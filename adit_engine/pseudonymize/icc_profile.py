"""ICC: a colour profile with its numbers alone; its texts, dates and maker's marks are left out.

Layout by ICC.1 (ISO 15076-1). PS3.15 Table E.1-1 has no row for ICC Profile, but a profile has room
for any text, and without it colours would be shown differently: so it stays, made anew.
"""

from itertools import accumulate
from struct import Struct, pack
from struct import error as StructError

_ENTRY = Struct(">4sII")
_HEAD_LENGTH, _LARGEST_COUNT = 128, 100
_CLASSES = frozenset({b"scnr", b"mntr", b"prtr", b"spac"})
# Public tags that are made of numbers, and the types that these may have.
_TAGS = frozenset(
    b"""
    rXYZ gXYZ bXYZ rTRC gTRC bTRC kTRC wtpt bkpt chad lumi chrm A2B0 A2B1 A2B2 B2A0 B2A1 B2A2
    gamt pre0 pre1 pre2
    """.split()
)
_TYPES = frozenset(
    {b"XYZ ", b"curv", b"para", b"sf32", b"mft1", b"mft2", b"mAB ", b"mBA ", b"chrm"}
)
_MATRIX = frozenset(b"rXYZ gXYZ bXYZ rTRC gTRC bTRC".split())
_ANY_DATE = pack(">6H", 2000, 1, 1, 0, 0, 0)
_TEXT = "Colour profile"


def cleaned(profile: bytes, work: object) -> bytes | None:
    """An action: the profile without words; None where it is not understood, and must go."""
    try:
        kept = _numbers(profile)
    except StructError:
        return None
    if kept is None or not (b"A2B0" in kept or b"kTRC" in kept or kept.keys() >= _MATRIX):
        return None
    described = _described(profile[8] >= 4)
    return _written(profile, {b"desc": described[0], b"cprt": described[1]} | kept)


def _numbers(profile: bytes) -> dict[bytes, bytes] | None:
    """Tag to its data, type included."""
    (size,) = Struct(">I").unpack_from(profile, 0)
    (count,) = Struct(">I").unpack_from(profile, _HEAD_LENGTH)
    if profile[36:40] != b"acsp" or profile[12:16] not in _CLASSES or count > _LARGEST_COUNT:
        return None
    kept = {}
    for number in range(count):
        tag, at, length = _ENTRY.unpack_from(profile, _HEAD_LENGTH + 4 + number * _ENTRY.size)
        data = profile[at : at + length]
        if length < 8 or len(data) != length or at + length > size:
            return None
        if tag in _TAGS:
            if data[:4] not in _TYPES or not _is_full(data):
                return None
            kept[tag] = data[:4] + bytes(4) + data[8:]
    return kept


def _is_full(data: bytes) -> bool:
    """A curve has as many points as it says, so that nothing stands behind them."""
    if data[:4] != b"curv":
        return True
    (count,) = Struct(">I").unpack_from(data, 8)
    return len(data) - 12 - 2 * int(count) in (0, 1, 2, 3)


def _described(is_version_4: bool) -> tuple[bytes, bytes]:
    """The two texts that each profile must have: description and copyright."""
    if is_version_4:
        text = _TEXT.encode("utf-16-be")
        one = b"mluc" + pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(text), 28) + text
        return one, one
    plain = _TEXT.encode() + b"\0"
    described = b"desc" + pack(">II", 0, len(plain)) + plain + bytes(8 + 3 + 67)
    return described, b"text" + bytes(4) + plain


def _written(profile: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Data that several tags have in common stand there once."""
    parts = {data: data + bytes(-len(data) % 4) for data in tags.values()}
    begin = _HEAD_LENGTH + 4 + _ENTRY.size * len(tags)
    *starts, end = accumulate(map(len, parts.values()), initial=begin)
    place = dict(zip(parts, starts, strict=True))
    table = b"".join(_ENTRY.pack(tag, place[data], len(data)) for tag, data in tags.items())
    head = (
        pack(">I", end) + bytes(4) + profile[8:24] + _ANY_DATE + b"acsp" + bytes(24)
        + profile[64:80] + bytes(48)
    )  # fmt: skip
    return head + pack(">I", len(tags)) + table + b"".join(parts.values())
