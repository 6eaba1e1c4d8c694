"""Encapsulated: the fragments of compressed pixel data, with a true table of where frames begin."""

from dataclasses import dataclass
from itertools import accumulate, pairwise

from adit_engine.elements import Buffer, Element, items
from adit_engine.errors import Malformed, Withhold
from adit_engine.pseudonymize.compressed_streams import walked
from adit_engine.pseudonymize.pixel_format import PixelFormat

_ITEM = b"\xfe\xff\x00\xe0"
_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_HEAD = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Encapsulated:
    """`table` is the basic offset table as it stands, `fragments` the items behind it (PS3.5 A.4)."""

    table: bytes
    fragments: tuple[memoryview, ...]

    @classmethod
    def of(cls, data: Buffer, element: Element) -> "Encapsulated":
        view = memoryview(data)
        found = tuple(view[item.value : item.value_end] for item in items(data, True, element))
        if not found:
            raise Malformed("The compressed pixels hold no fragment.")
        return cls(bytes(found[0]), found[1:])

    def frames(self, form: PixelFormat) -> list[list[memoryview]]:
        """The fragments of each frame. Raises Withhold where nothing says which belong together."""
        if form.frames == 1:
            return [list(self.fragments)]
        if len(self.fragments) == form.frames:
            return [[fragment] for fragment in self.fragments]
        starts = self._starts()
        offsets = _numbers(self.table, 4)
        if len(offsets) != form.frames or not set(offsets) <= set(starts):
            raise Withhold("pixel-stream", "Nothing says where each compressed image begins.")
        cuts = [*(starts.index(offset) for offset in offsets), len(self.fragments)]
        return [list(self.fragments[begin:end]) for begin, end in pairwise(cuts)]

    def _starts(self) -> list[int]:
        return [0, *accumulate(8 + len(fragment) for fragment in self.fragments)][:-1]


def rewritten(
    data: Buffer, element: Element, form: PixelFormat, syntax: str
) -> tuple[Buffer, ...] | None:
    """The whole element with one fragment a frame; None where it can pass as it stands."""
    read = Encapsulated.of(data, element)
    old = read.frames(form)
    if not all(old):
        raise Withhold("pixel-length", "There are fewer images than the header says.")
    new = []
    same = element.vr == "OB" and not any(len(part) & 1 for part in read.fragments)
    for fragments in old:
        frame = bytes(fragments[0]) if len(fragments) == 1 else b"".join(fragments)
        walk = walked(frame, form, syntax)
        same = same and walk is frame
        new.append(fragments if walk is frame else [memoryview(walk)])
    if same and read.table in (b"", _table([_length(fragments) for fragments in old])):
        return None
    parts: list[Buffer] = []
    for fragments in new:
        size = sum(len(fragment) for fragment in fragments)
        parts += (_ITEM + (size + (size & 1)).to_bytes(4, "little"), *fragments)
        if size & 1:
            parts.append(b"\0")
    sizes = [8 + sum(map(len, fragments)) for fragments in new]
    table = _table([size + (size & 1) for size in sizes]) if form.frames > 1 else b""
    return (_HEAD + _ITEM + len(table).to_bytes(4, "little") + table, *parts, _END)


def extended_table(data: Buffer, element: Element, form: PixelFormat) -> tuple[bytes, bytes]:
    """The values of Extended Offset Table and its lengths as they must be (PS3.3 C.7.6.3.1.8)."""
    frames = Encapsulated.of(data, element).frames(form)
    starts = [0, *accumulate(_length(fragments) for fragments in frames)][:-1]
    sizes = [sum(map(len, fragments)) for fragments in frames]
    return _bytes(starts, 8), _bytes(sizes, 8)


def _length(fragments: list[memoryview]) -> int:
    return sum(8 + len(fragment) for fragment in fragments)


def _table(lengths: list[int]) -> bytes:
    """Empty where the offsets do not fit into four bytes; readers then go by the items."""
    starts = [0, *accumulate(lengths)][:-1]
    return _bytes(starts, 4) if starts[-1] < 1 << 32 else b""


def _bytes(numbers: list[int], width: int) -> bytes:
    return b"".join(number.to_bytes(width, "little") for number in numbers)


def _numbers(data: bytes, width: int) -> list[int]:
    return [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]
