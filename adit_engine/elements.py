"""Scan and encode data elements: tag, VR, offsets and length (PS3.5 7.1, 7.5).

Decodes no value. Little endian only, explicit and implicit VR. Offsets count bytes from the start
of the buffer passed in, at every depth, so that callers can cut and join without copying. Used by
everything that reads headers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from typing import NamedTuple

from adit_engine.errors import Malformed

Buffer = bytes | bytearray | memoryview

ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
UNDEFINED = 0xFFFFFFFF
MAX_DEPTH = 64

PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""Float, double float and integer pixel data: the header of an instance ends before them."""

_TAG_LENGTH = Struct("<HHI")
_TAG_VR_LENGTH = Struct("<HH2sH")
_MARK_VR_LENGTH = Struct("<I2sH")
"""A mark is a tag as encoded, read as one number: the group is in the low 16 bits."""
_LENGTH = Struct("<I")

# PS3.5 7.1.2: these have two reserved bytes and a 4-byte length.
_LONG_VRS = {
    vr: vr.decode()
    for vr in (
        b"OB",
        b"OD",
        b"OF",
        b"OL",
        b"OV",
        b"OW",
        b"SQ",
        b"SV",
        b"UC",
        b"UN",
        b"UR",
        b"UT",
        b"UV",
    )
}
_SHORT_VRS = {
    vr.encode(): vr
    for vr in [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FL",
        "FD",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "SL",
        "SS",
        "ST",
        "TM",
        "UI",
        "UL",
        "US",
    ]
}


class Element(NamedTuple):
    """One data element.

    `vr` is empty in implicit VR. `end` is after the delimiter, if there is one.
    """

    tag: int
    vr: str
    start: int
    value: int
    end: int
    undefined: bool

    @property
    def value_end(self) -> int:
        return self.end - 8 if self.undefined else self.end


class SequenceItem(NamedTuple):
    """One sequence item, from `start` (its tag) to `end`.

    Its elements are between `value` and `value_end`.
    """

    start: int
    value: int
    value_end: int
    end: int


def format_tag(tag: int) -> str:
    """Return the tag as shown in messages and reports: (0010,0020)."""
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def elements(
    data: Buffer, explicit: bool, start: int = 0, stop: int | None = None, depth: int = 0
) -> Iterator[Element]:
    """Yield the elements of one level between two offsets, in encoded order; lazy.

    Raises Malformed for a length beyond the buffer, an unknown VR, a stray delimiter, or more than
    64 levels.
    """
    stop = len(data) if stop is None else stop
    position = start
    unpack, short, new = _TAG_VR_LENGTH.unpack_from, _SHORT_VRS, tuple.__new__
    while position < stop:
        # Most elements are explicit and short: the same as below, without a call for each.
        if explicit and position + 8 <= stop:
            group, number, code, length = unpack(data, position)
            vr = short.get(code)
            end = position + 8 + length
            if vr is not None and end <= stop and group < 0xFFFE:
                yield new(Element, (group << 16 | number, vr, position, position + 8, end, False))
                position = end
                continue
        element = _element_at(data, explicit, position, stop, depth)
        if element.tag >= 0xFFFE0000:
            raise Malformed("data-set.delimiter", offset=position)
        yield element
        position = element.end


def items(data: Buffer, explicit: bool, element: Element, depth: int = 0) -> Iterator[SequenceItem]:
    """Yield the items of a sequence; lazy. `depth` is that of the element itself."""
    position, stop = element.value, element.value_end
    while position < stop:
        item = _item_at(data, explicit, position, stop, depth)
        yield item
        position = item.end


def is_sequence(element: Element, vr: str) -> bool:
    """Return whether the element is a sequence.

    `vr` is the dictionary's VR, used if none is encoded.
    """
    if element.vr:
        return element.vr == "SQ" or (element.vr == "UN" and element.undefined)
    return vr == "SQ" or (element.undefined and element.tag not in PIXEL_TAGS)


def nested_explicit(element: Element, explicit: bool) -> bool:
    """Return whether nested elements have an explicit VR.

    The content of a UN element of undefined length is implicit VR little endian (PS3.5 6.2.2 note
    2).
    """
    return explicit and element.vr != "UN"


def header_end_and_values(
    data: Buffer, explicit: bool, wanted: frozenset[int], last: int = 0xFFFFFFFF
) -> tuple[int, dict[int, bytes]]:
    """Return the offset of the pixel data, and the values of wanted elements before it.

    Without pixel data, the offset is that of the end. The scan ends after the tag `last`, if given.
    """
    stop, position, found = len(data), 0, {}
    unpack, short = _TAG_VR_LENGTH.unpack_from, _SHORT_VRS
    marks, behind = _tag_prefixes(wanted), min(last >> 16, 0x7FDF) + 1
    while position < stop:
        if explicit:
            position = _skip_short_elements(data, position, stop, marks, behind)
            if position == stop:
                break
        # As in elements(): most elements are explicit and short.
        if explicit and position + 8 <= stop:
            group, number, code, length = unpack(data, position)
            end = position + 8 + length
            if code in short and end <= stop and group < 0x7FE0:
                tag = group << 16 | number
                if tag in wanted:
                    found[tag] = bytes(data[position + 8 : end])
                elif tag > last:
                    break
                position = end
                continue
        element = _element_at(data, explicit, position, stop, 0)
        if element.tag in PIXEL_TAGS:
            return element.start, found
        if element.tag >= 0xFFFE0000:
            raise Malformed("data-set.delimiter", offset=position)
        if element.tag > last:
            break
        if element.tag in wanted:
            found[element.tag] = bytes(data[element.value : element.end])
        position = element.end
    return position, found


def _skip_short_elements(
    data: Buffer, position: int, stop: int, marks: frozenset[int], behind: int
) -> int:
    """Skip elements that are explicit, short, complete, not in `marks` and of an earlier group."""
    unpack, short, most = _MARK_VR_LENGTH.unpack_from, _SHORT_VRS, stop - 8
    while position <= most:
        mark, code, length = unpack(data, position)
        end = position + 8 + length
        if code not in short or mark in marks or end > stop or mark & 0xFFFF >= behind:
            break
        position = end
    return position


@lru_cache(maxsize=16)
def _tag_prefixes(tags: frozenset[int]) -> frozenset[int]:
    return frozenset((tag & 0xFFFF) << 16 | tag >> 16 for tag in tags)


def _element_at(data: Buffer, explicit: bool, position: int, stop: int, depth: int) -> Element:
    """Parse one element. Errors do not quote a tag, because it may be part of a text."""
    if position + 8 > stop:
        raise Malformed("data-set.truncated", offset=position)
    if explicit:
        group, number, code, length = _TAG_VR_LENGTH.unpack_from(data, position)
        value = position + 8
        vr = _SHORT_VRS.get(code)
        if vr is None:
            vr = _LONG_VRS.get(code)
            if vr is None:
                if group == 0xFFFE:
                    return Element((group << 16) | number, "", position, value, value, False)
                raise Malformed("data-set.no-vr", offset=position)
            if position + 12 > stop:
                raise Malformed("data-set.truncated", offset=position)
            (length,) = _LENGTH.unpack_from(data, position + 8)
            value = position + 12
    else:
        group, number, length = _TAG_LENGTH.unpack_from(data, position)
        vr = ""
        value = position + 8
    tag = (group << 16) | number
    if length != UNDEFINED or group == 0xFFFE:
        end = value + (0 if group == 0xFFFE else length)
        if end > stop:
            raise Malformed("data-set.element-too-long", offset=position)
        return Element(tag, vr, position, value, end, False)
    if vr not in ("", "SQ", "UN") and tag not in PIXEL_TAGS:
        raise Malformed("data-set.undefined-length", offset=position)
    end = _sequence_end(data, explicit and vr != "UN", value, stop, depth + 1)
    return Element(tag, vr, position, value, end, True)


def _item_at(data: Buffer, explicit: bool, position: int, stop: int, depth: int) -> SequenceItem:
    if position + 8 > stop:
        raise Malformed("data-set.item-truncated", offset=position)
    group, number, length = _TAG_LENGTH.unpack_from(data, position)
    if (group, number) != (0xFFFE, 0xE000):
        raise Malformed("data-set.not-an-item", offset=position)
    value = position + 8
    if length != UNDEFINED:
        if value + length > stop:
            raise Malformed("data-set.item-too-long", offset=position)
        return SequenceItem(position, value, value + length, value + length)
    inside = value
    while True:
        element = _element_at(data, explicit, inside, stop, depth)
        if element.tag == ITEM_END:
            return SequenceItem(position, value, inside, inside + 8)
        if element.tag >= 0xFFFE0000:
            raise Malformed("data-set.delimiter", offset=inside)
        inside = element.end


def _sequence_end(data: Buffer, explicit: bool, position: int, stop: int, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise Malformed("data-set.too-deep", limit=MAX_DEPTH)
    while True:
        if position + 8 > stop:
            raise Malformed("data-set.sequence-open", offset=stop)
        group, number, _ = _TAG_LENGTH.unpack_from(data, position)
        if (group, number) == (0xFFFE, 0xE0DD):
            return position + 8
        position = _item_at(data, explicit, position, stop, depth).end


_IMPLICIT = Struct("<HHI")
_SHORT = Struct("<HH2sH")
_LONG = Struct("<HH2sHI")
_ITEM = Struct("<HHI")

LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_ZERO_PADDED = frozenset({"UI", "OB", "UN"})


@dataclass(frozen=True, slots=True)
class EncodedElements:
    """Encoded elements and their encoding. `depth` counts the enclosing sequences."""

    data: Buffer
    explicit: bool
    depth: int = 0

    def nested(self, explicit: bool) -> "EncodedElements":
        """Return the encoding one sequence deeper. Raise Malformed if there are too many."""
        if self.depth >= MAX_DEPTH:
            raise Malformed("data-set.too-deep", limit=MAX_DEPTH)
        return EncodedElements(self.data, explicit, self.depth + 1)


def encode_element(tag: int, vr: str, value: bytes, explicit: bool) -> bytes:
    """Return one encoded element. Raise Malformed if the value is too long for its VR."""
    if len(value) & 1:
        value += b"\0" if vr in _ZERO_PADDED else b" "
    group, number = tag >> 16, tag & 0xFFFF
    if not explicit:
        return _IMPLICIT.pack(group, number, len(value)) + value
    if vr in LONG_VRS:
        return _LONG.pack(group, number, vr.encode(), 0, len(value)) + value
    if len(value) > 0xFFFF:
        raise Malformed("data-set.value-too-long", tag=format_tag(tag))
    return _SHORT.pack(group, number, vr.encode(), len(value)) + value


def encode_item(content: bytes) -> bytes:
    return _ITEM.pack(0xFFFE, 0xE000, len(content)) + content
