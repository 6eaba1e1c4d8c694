"""Encoding: data elements and items as bytes (PS3.5 7.1, 7.5)."""

from dataclasses import dataclass
from struct import Struct

from adit_engine.elements import MAX_DEPTH, Buffer
from adit_engine.errors import Malformed

_IMPLICIT = Struct("<HHI")
_SHORT = Struct("<HH2sH")
_LONG = Struct("<HH2sHI")
_ITEM = Struct("<HHI")

LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_ZERO_PADDED = frozenset({"UI", "OB", "UN"})


@dataclass(frozen=True, slots=True)
class Source:
    """Encoded elements and how they are encoded. `depth` counts the sequences around them."""

    data: Buffer
    explicit: bool
    depth: int = 0

    def inside(self, explicit: bool) -> "Source":
        """One sequence further in. Raises Malformed where there are too many."""
        if self.depth >= MAX_DEPTH:
            raise Malformed(f"Sequences are nested more than {MAX_DEPTH} levels deep.")
        return Source(self.data, explicit, self.depth + 1)


def encoded(tag: int, vr: str, value: bytes, explicit: bool) -> bytes:
    """One element. Raises Malformed where the value is longer than its VR can say."""
    if len(value) & 1:
        value += b"\0" if vr in _ZERO_PADDED else b" "
    group, number = tag >> 16, tag & 0xFFFF
    if not explicit:
        return _IMPLICIT.pack(group, number, len(value)) + value
    if vr in LONG_VRS:
        return _LONG.pack(group, number, vr.encode(), 0, len(value)) + value
    if len(value) > 0xFFFF:
        raise Malformed(f"Element ({group:04x},{number:04x}) is too long for its VR.")
    return _SHORT.pack(group, number, vr.encode(), len(value)) + value


def encoded_item(content: bytes) -> bytes:
    return _ITEM.pack(0xFFFE, 0xE000, len(content)) + content
