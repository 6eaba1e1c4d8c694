"""The parser of the verification: flat and strict. Shares no code with the transformation."""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from struct import Struct
from struct import error as StructError

from adit_engine.errors import InstanceWithheld
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, IMPLICIT_LE, Instance

ITEM = 0xFFFEE000
FLOAT_PIXELS, DOUBLE_PIXELS, PIXELS = 0x7FE00008, 0x7FE00009, 0x7FE00010
_PIXEL_TAGS = frozenset({FLOAT_PIXELS, DOUBLE_PIXELS, PIXELS})

_ITEM_END, _SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_MAX_DEPTH = 64
_MAX_GUESSES = 2000
_MAX_INFLATED_BYTES = 1 << 30
_CONTAINER_VRS = (b"SQ", b"UN")

# PS3.5 7.1.2: these VRs have a length of two bytes, the others two reserved and four length bytes.
_SHORT_LENGTH = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG_LENGTH = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_DICTIONARY = Path(__file__).parents[1] / "tables" / "dictionary.tsv"
"""PS3.6. A test compares the table with that of pydicom, which is slow to import."""

Element = tuple[int, bytes, int, int, int]
"""Tag, VR, start and end of the value in the data of the region, depth (0 = top level)."""


Buffer = bytes | bytearray | memoryview
BufferRange = tuple[Buffer, int, int]
"""A buffer, and the start and end of a range in it."""


@dataclass(slots=True)
class Region:
    """A range of complete elements, before or after the pixel data.

    Elements of nested items follow their sequence in the list, and each item starts with an ITEM
    entry. The entry of a sequence has an empty value if it has no items, else a value of one byte.
    """

    data: bytes
    elements: list[Element] = field(default_factory=list)


@dataclass(slots=True)
class PixelValue:
    """Consecutive `parts` of a value. Encapsulated values (PS3.5 A.4) start with the offset table.

    `where` is the buffer range of each part.
    """

    encapsulated: bool
    parts: list[memoryview]
    ranges: list[BufferRange] = field(default_factory=list)

    def is_same_memory_as(self, other: "PixelValue") -> bool:
        """Whether both refer to the same memory, so that no comparison is needed."""
        return len(self.ranges) == len(other.ranges) and all(
            one[0] is another[0] and one[1:] == another[1:]
            for one, another in zip(self.ranges, other.ranges, strict=True)
        )


@dataclass(slots=True)
class DatasetContent:
    regions: list[Region]
    pixel_values: dict[int, PixelValue]
    big_endian: bool


def read_instance(instance: Instance, *, tolerant: bool = False) -> DatasetContent:
    """Read the whole instance without copying pixels.

    Raises InstanceWithheld if it cannot be parsed. Only `tolerant` allows data that some writers
    append: a checksum after deflated data, zeros after the pixels.
    """
    syntax = instance.transfer_syntax_uid
    header = bytes(instance.header)
    rest: Sequence[Buffer] = instance.rest
    if syntax == DEFLATED_LE:
        header, rest = _inflate(b"".join((header, *rest)), 8 if tolerant else 0), ()
    reader = _DatasetReader(header, syntax == EXPLICIT_BE)
    explicit = syntax != IMPLICIT_LE
    end = reader.read_dataset(0, len(header), 0, explicit)
    content = DatasetContent([reader.region], {}, syntax == EXPLICIT_BE)
    stream = _BufferStream([memoryview(header)[end:], *rest])
    if stream.size:
        _read_stream(stream, content, explicit, tolerant)
    return content


def _inflate(data: bytes, longest_rest: int) -> bytes:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    header = inflate.decompress(data, _MAX_INFLATED_BYTES)
    if not inflate.eof or len(inflate.unused_data.strip(b"\0")) > longest_rest:
        raise InstanceWithheld("verify-not-understood.deflated")
    return header


class _BufferStream:
    """Bytes in several buffers, read as one stream."""

    def __init__(self, parts: Iterable[Buffer]) -> None:
        self._parts = [(part, memoryview(part)) for part in parts if len(part)]
        self.size = sum(len(part) for _, part in self._parts)

    def _ranges(self, start: int, end: int) -> Iterator[tuple[memoryview, BufferRange]]:
        if not 0 <= start <= end <= self.size:
            raise InstanceWithheld("verify-not-understood.length")
        at = 0
        for buffer, part in self._parts:
            lower, upper = max(start - at, 0), min(end - at, len(part))
            if lower < upper:
                yield part[lower:upper], (buffer, lower, upper)
            at += len(part)

    def value(self, start: int, end: int, encapsulated: bool) -> PixelValue:
        found = list(self._ranges(start, end))
        parts, where = [part for part, _ in found], [place for _, place in found]
        return PixelValue(encapsulated, parts, where)

    def take(self, start: int, end: int) -> bytes:
        return b"".join(part for part, _ in self._ranges(start, end))


def _read_stream(
    stream: _BufferStream, content: DatasetContent, explicit: bool, tolerant: bool
) -> None:
    """Read pixel elements one by one. From the first other element on, read all elements."""
    at = 0
    while at < stream.size:
        head = stream.take(at, min(at + 12, stream.size))
        reader = _DatasetReader(head, content.big_endian)
        tag, _vr, value, length = reader.read_header(0, explicit)
        if tag not in _PIXEL_TAGS:
            break
        if tag in content.pixel_values:
            raise InstanceWithheld("verify-not-understood.two-pixel-data")
        start = at + value
        encapsulated = length == _UNDEFINED
        at = _find_fragments_end(stream, start) if encapsulated else start + length
        stop = at - 8 if encapsulated else at
        content.pixel_values[tag] = stream.value(start, stop, encapsulated)
        if tolerant and not stream.take(at, stream.size).strip(b"\0"):
            return
    if at < stream.size:
        reader = _DatasetReader(stream.take(at, stream.size), content.big_endian)
        end = reader.read_dataset(0, len(reader.data), 0, explicit)
        content.regions.append(reader.region)
        if end < len(reader.data):
            left = _BufferStream([memoryview(reader.data)[end:]])
            _read_stream(left, content, explicit, tolerant)


def _find_fragments_end(stream: _BufferStream, at: int) -> int:
    while True:
        group, number, length = _LITTLE.implicit(stream.take(at, at + 8), 0)
        tag = group << 16 | number
        at += 8
        if tag == _SEQUENCE_END:
            return at
        if tag != ITEM or length == _UNDEFINED:
            raise InstanceWithheld("verify-not-understood.fragments")
        at += length


@cache
def _read_dictionary() -> dict[int, bytes]:
    """The VR of each attribute; if several are allowed, the first."""
    lines = _DICTIONARY.read_bytes().splitlines()
    return {int(line[:8], 16): line[9:11] for line in lines if not line.startswith(b"#")}


def _implicit_vr(tag: int) -> bytes:
    """The VR in the dictionary; UN for private and unknown elements."""
    if not tag & 0xFFFF:
        return b"UL"
    if tag & 0x10000:
        return b"LO" if 0x10 <= tag & 0xFFFF <= 0xFF else b"UN"
    return _read_dictionary().get(tag, b"UN")


class _TooManyReadings(Exception):
    """The data are constructed so that trying all possible readings would not end."""


class _ByteOrder:
    """Byte order of numbers: little or big endian."""

    def __init__(self, sign: str) -> None:
        self.explicit = Struct(sign + "HH2sH").unpack_from
        self.implicit = Struct(sign + "HHL").unpack_from
        self.long = Struct(sign + "L").unpack_from
        self.item = Struct(sign + "HH").pack(0xFFFE, 0xE000)


_LITTLE, _BIG = _ByteOrder("<"), _ByteOrder(">")


class _DatasetReader:
    def __init__(self, data: bytes, big_endian: bool) -> None:
        self.data = data
        self.region = Region(data)
        self._guesses = 0
        self._order = _BIG if big_endian else _LITTLE

    def read_header(self, at: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """Return tag, VR, start of value, length. Items and delimiters have an empty VR."""
        group, number, length = self._order.implicit(self.data, at)
        tag = group << 16 | number
        if group == 0xFFFE:
            return tag, b"", at + 8, length
        if not explicit:
            return tag, _implicit_vr(tag), at + 8, length
        vr = self.data[at + 4 : at + 6]
        if vr in _SHORT_LENGTH:
            return tag, vr, at + 8, self._order.explicit(self.data, at)[3]
        if vr not in _LONG_LENGTH:
            raise InstanceWithheld("verify-not-understood.vr")
        return tag, vr, at + 12, self._order.long(self.data, at + 8)[0]

    def read_dataset(
        self, at: int, end: int, depth: int, explicit: bool, is_open: bool = False
    ) -> int:
        """Read elements up to `end`, the item delimiter, or pixel data at the top level."""
        if depth > _MAX_DEPTH:
            raise InstanceWithheld("verify-not-understood.depth")
        data, unpack, add = self.data, self._order.explicit, self.region.elements.append
        while at < end:
            group, number, vr, length = unpack(data, at)
            tag = group << 16 | number
            if explicit and vr in _SHORT_LENGTH and group != 0xFFFE:
                value = at + 8
            else:
                tag, vr, value, length = self.read_header(at, explicit)
                if tag == _ITEM_END and is_open:
                    return value
                if group == 0xFFFE:
                    raise InstanceWithheld("verify-not-understood.stray-item")
                if tag in _PIXEL_TAGS and not depth:
                    return at
                if length == _UNDEFINED or vr in _CONTAINER_VRS:
                    at = self._read_container((tag, vr, value, length, depth), end, explicit)
                    continue
            at = value + length
            if at > end:
                raise InstanceWithheld("verify-not-understood.length")
            add((tag, vr, value, at, depth))
        if is_open:
            raise InstanceWithheld("verify-not-understood.unterminated")
        return at

    def _read_container(
        self, head: tuple[int, bytes, int, int, int], end: int, explicit: bool
    ) -> int:
        """Read a sequence, or UN: a VR that the writer did not know (PS3.5 6.2.2)."""
        tag, vr, value, length, depth = head
        stop = end if length == _UNDEFINED else value + length
        if stop > end:
            raise InstanceWithheld("verify-not-understood.length")
        if vr == b"SQ":
            return self._read_sequence((tag, value, stop, depth), explicit, length == _UNDEFINED)
        if length == _UNDEFINED:
            if tag in _PIXEL_TAGS:
                rest = _BufferStream([memoryview(self.data)[value:stop]])
                return value + _find_fragments_end(rest, 0)
            if vr != b"UN":
                raise InstanceWithheld("verify-not-understood.undefined-length")
            return self._read_sequence((tag, value, stop, depth), False, True)
        known = _implicit_vr(tag)
        if self.data.startswith(self._order.item, value, stop) or known == b"SQ":
            for as_explicit in (False, True):
                if self._try_sequence((tag, value, stop, depth), as_explicit):
                    return stop
        self.region.elements.append((tag, known, value, stop, depth))
        return stop

    def _try_sequence(self, where: tuple[int, int, int, int], explicit: bool) -> bool:
        self._guesses += 1
        if self._guesses > _MAX_GUESSES:
            raise _TooManyReadings
        before = len(self.region.elements)
        try:
            return self._read_sequence(where, explicit, False) == where[2]
        except (InstanceWithheld, ArithmeticError, ValueError, LookupError, StructError):
            del self.region.elements[before:]
            return False

    def _read_sequence(
        self, where: tuple[int, int, int, int], explicit: bool, is_open: bool
    ) -> int:
        tag, at, stop, depth = where
        elements = self.region.elements
        mine = len(elements)
        elements.append((tag, b"SQ", at, at, depth))
        while at < stop:
            group, number, length = self._order.implicit(self.data, at)
            start = at + 8
            if (group, number) == (0xFFFE, 0xE0DD) and is_open:
                return start
            if (group, number) != (0xFFFE, 0xE000):
                raise InstanceWithheld("verify-not-understood.not-an-item")
            elements[mine] = (tag, b"SQ", start - 8, start - 7, depth)
            elements.append((ITEM, b"", start, start, depth + 1))
            item_open = length == _UNDEFINED
            item_end = stop if item_open else start + length
            if item_end > stop:
                raise InstanceWithheld("verify-not-understood.length")
            at = self.read_dataset(start, item_end, depth + 1, explicit, item_open)
        if is_open:
            raise InstanceWithheld("verify-not-understood.unterminated")
        return at
