"""Rebuild encapsulated pixel data (PS3.5 A.4) without data that a decoder does not read.

JPEG (ITU-T T.81), JPEG-LS (T.87), JPEG 2000 and HTJ2K (T.800, T.814), RLE (PS3.5 Annex G):
comments, application segments and bytes behind the image are removed without decoding. Instances
with unknown segments are withheld. Used when the pixel data of an instance are rebuilt.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from struct import Struct, pack
from struct import error as StructError

from adit_engine.elements import Buffer, Element, items
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize.pixel_decoding import decode_frame
from adit_engine.pseudonymize.pixel_format import PixelFormat, uses_spare_bits

StripFunction = Callable[[bytes, PixelFormat], bytes]
"""Return one encoded frame without extra data; the same object if nothing was removed."""

_U16 = Struct(">H")
_U32 = Struct(">I")

# Markers inside the entropy-coded data: JPEG stuffs FF00, JPEG-LS stuffs a zero bit.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_LS_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")

_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})
_TABLE_MARKERS = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD})
_APPLICATION_MARKERS = range(0xE0, 0xF0)
_COMMENT_MARKER = 0xFE
_SCAN_MARKER = 0xDA
_PRESET_MARKER = 0xF8

# T.800 Table A.2 and T.814: markers allowed in a main or tile-part header, besides comments.
_CODESTREAM_MARKERS = frozenset(
    {0x50, 0x51, 0x52, 0x53, 0x55, 0x57, 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63}
)
_CODESTREAM_COMMENT_MARKER = 0x64


@dataclass
class _FrameEditor:
    """Collects the parts of a frame that stay. `changed` is set if anything was removed."""

    data: bytes
    start: int = 0

    def __post_init__(self) -> None:
        self.parts: list[bytes] = []
        self.changed = False

    def remove(self, begin: int, end: int, instead: bytes = b"") -> None:
        """Remove the bytes from `begin` to `end`."""
        self.parts += (self.data[self.start : begin], instead)
        self.start = end
        self.changed = True

    def result(self, end: int) -> bytes:
        if not self.changed and not self.data[end:].strip(b"\0"):
            return self.data
        return b"".join((*self.parts, self.data[self.start : end]))


def strip_jpeg(data: bytes, form: PixelFormat) -> bytes:
    """Strip T.81 frames: baseline, extended, progressive and lossless."""
    return _strip_segments(data, form, _JPEG_MARKER)


def strip_jpeg_ls(data: bytes, form: PixelFormat) -> bytes:
    return _strip_segments(data, form, _JPEG_LS_MARKER)


def _strip_segments(data: bytes, form: PixelFormat, following: re.Pattern[bytes]) -> bytes:
    if data[:2] != b"\xff\xd8":
        raise InstanceWithheld("pixel-stream.no-jpeg")
    cuts = _FrameEditor(data)
    position, sized = 2, False
    while True:
        if data[position] != 0xFF:
            raise InstanceWithheld("pixel-stream.between-segments")
        code = data[position + 1]
        if code == 0xFF:
            cuts.remove(position, position + 1)
            position += 1
            continue
        if code == 0xD9:
            if not sized:
                raise InstanceWithheld("pixel-stream.empty")
            return cuts.result(position + 2)
        end = _segment_end(data, position)
        if code in _FRAME_MARKERS:
            _check_frame(data, position, form)
            sized = True
        elif code in _APPLICATION_MARKERS or code == _COMMENT_MARKER:
            if not _is_color_segment(data, position, end, form):
                cuts.remove(position, end)
        elif code == _SCAN_MARKER:
            found = following.search(data, end)
            if found is None:
                raise InstanceWithheld("pixel-stream.unterminated")
            end = found.start()
        elif code not in _TABLE_MARKERS and code != _PRESET_MARKER:
            raise InstanceWithheld("pixel-stream.unknown-segment")
        position = end


def _segment_end(data: bytes, position: int) -> int:
    """The segment length counts from behind the marker and includes its own two bytes."""
    return position + 2 + int.from_bytes(data[position + 2 : position + 4])


def _is_color_segment(data: bytes, start: int, end: int, form: PixelFormat) -> bool:
    """Detect color information, which must stay.

    APP14 of Adobe gives the color encoding. APP8 of HP does so in JPEG-LS; it is not supported.
    """
    if data[start + 1] == 0xE8 and form.samples_per_pixel > 1:
        raise InstanceWithheld("pixel-stream.color-encoding")
    adobe = (
        data[start + 1] == 0xEE and end - start == 16 and data[start + 4 : start + 9] == b"Adobe"
    )
    return adobe and form.samples_per_pixel > 1


def _check_frame(data: bytes, position: int, form: PixelFormat) -> None:
    precision = data[position + 4]
    rows, columns = _U16.unpack_from(data, position + 5)[0], _U16.unpack_from(data, position + 7)[0]
    if (rows, columns, data[position + 9]) != (form.rows, form.columns, form.samples_per_pixel):
        raise InstanceWithheld("pixel-stream.size")
    _check_precision(precision, data, form)


def _check_precision(precision: int, data: bytes, form: PixelFormat) -> None:
    """Decode a stream with more bits than the image, since only its values show their use."""
    if precision > form.bits_stored and uses_spare_bits(decode_frame(data, form), form):
        raise InstanceWithheld("pixel-bits.compressed")


def strip_jpeg_2000(data: bytes, form: PixelFormat) -> bytes:
    """Strip a bare codestream: remove comments from the main and tile-part headers."""
    data = _unwrap_jp2(data, form)
    if data[:4] != b"\xff\x4f\xff\x51":
        raise InstanceWithheld("pixel-stream.no-jpeg-2000")
    _check_codestream_size(data, form)
    cuts = _FrameEditor(data)
    position = 2
    while data[position + 1] != 0x90:
        position = _strip_codestream_segment(data, position, cuts)
    while data[position : position + 2] == b"\xff\x90":
        position = _strip_tile_part(data, position, cuts)
    if data[position : position + 2] != b"\xff\xd9":
        raise InstanceWithheld("pixel-stream.unterminated")
    return cuts.result(position + 2)


def _unwrap_jp2(data: bytes, form: PixelFormat) -> bytes:
    """Extract the codestream of a JP2 file (T.800 Annex I).

    PS3.5 8.2.4 does not allow JP2 files, but some systems write them. Color images are withheld,
    since the boxes around the codestream may define how to read the colors.
    """
    if not data.startswith(b"\0\0\0\x0cjP  ") or form.samples_per_pixel > 1:
        return data
    position = 0
    while data[position + 4 : position + 8] != b"jp2c":
        length = _U32.unpack_from(data, position)[0]
        if length < 8:
            raise InstanceWithheld("pixel-stream.unknown-box")
        position += length
    return data[position + 8 :]


def _strip_codestream_segment(data: bytes, position: int, cuts: _FrameEditor) -> int:
    end = _segment_end(data, position)
    if data[position] != 0xFF or end > len(data):
        raise InstanceWithheld("pixel-stream.between-segments")
    if data[position + 1] == _CODESTREAM_COMMENT_MARKER:
        cuts.remove(position, end)
    elif data[position + 1] not in _CODESTREAM_MARKERS:
        raise InstanceWithheld("pixel-stream.unknown-segment")
    return end


def _strip_tile_part(data: bytes, start: int, cuts: _FrameEditor) -> int:
    length: int = _U32.unpack_from(data, start + 6)[0]
    end = start + length
    if length == 0:
        end = data.index(b"\xff\xd9", start)
        if data.find(b"\xff\xd9", end + 2) >= 0:
            raise InstanceWithheld("pixel-stream.ambiguous-end")
    if end > len(data) or end < start + 14:
        raise InstanceWithheld("pixel-stream.tile")
    comments = []
    position = start + 12
    while data[position : position + 2] != b"\xff\x93":
        after = _segment_end(data, position)
        if data[position] != 0xFF or after > end:
            raise InstanceWithheld("pixel-stream.between-segments")
        if data[position + 1] == _CODESTREAM_COMMENT_MARKER:
            comments.append((position, after))
        elif data[position + 1] not in _CODESTREAM_MARKERS:
            raise InstanceWithheld("pixel-stream.unknown-segment")
        position = after
    if comments and length:
        shorter = length - sum(after - begin for begin, after in comments)
        cuts.remove(start + 6, start + 10, pack(">I", shorter))
    for begin, after in comments:
        cuts.remove(begin, after)
    return end


def _check_codestream_size(data: bytes, form: PixelFormat) -> None:
    width, height, left, top = (_U32.unpack_from(data, place)[0] for place in (8, 12, 16, 20))
    (components,) = _U16.unpack_from(data, 40)
    if (height - top, width - left, components) != (
        form.rows,
        form.columns,
        form.samples_per_pixel,
    ):
        raise InstanceWithheld("pixel-stream.size")
    for number in range(components):
        _check_precision((data[42 + 3 * number] & 0x7F) + 1, data, form)


def strip_rle(data: bytes, form: PixelFormat) -> bytes:
    """Strip RLE frames (PS3.5 Annex G).

    There is one segment per byte of the pixel, the most significant first, and each must fill its
    plane. Data between and behind the segments is removed, as are offsets of unused segments.
    """
    width = form.bits_allocated // 8
    count, *offsets = Struct("<16I").unpack_from(data)
    bounds = [*offsets[:count], len(data)]
    if count != width * form.samples_per_pixel or bounds[0] < 64 or bounds != sorted(bounds):
        raise InstanceWithheld("pixel-stream.no-rle")
    segments = []
    for number, (begin, stop) in enumerate(pairwise(bounds)):
        legal = _legal_bytes(form, 8 * (width - 1 - number % width))
        segments.append(
            data[begin : _find_plane_end(data, begin, stop, form.rows * form.columns, legal)]
        )
    gaps = zip(
        [64, *(b + len(s) for b, s in zip(bounds, segments, strict=False))], bounds, strict=True
    )
    is_clean = not any(offsets[count:]) and not any(data[a:b].strip(b"\0") for a, b in gaps)
    return data if is_clean else _encode_rle_segments(segments)


def _encode_rle_segments(segments: list[bytes]) -> bytes:
    even = [segment + b"\0" * (len(segment) & 1) for segment in segments]
    offsets = [*accumulate(map(len, even), initial=64)][:-1]
    head = Struct("<16I").pack(len(even), *offsets, *[0] * (15 - len(even)))
    return head + b"".join(even)


def _legal_bytes(form: PixelFormat, shift: int) -> bytes | None:
    """The allowed values of one byte of a pixel; None for any.

    Spare bits must be zero or repeat the sign.
    """
    spare = 0xFF & ~(form.mask >> shift)
    if not spare:
        return None
    sign = (1 << form.high_bit >> shift) & 0xFF
    return bytes(
        byte
        for byte in range(256)
        if not byte & spare or (form.signed and byte & spare == spare and byte & sign == sign)
    )


def _find_plane_end(data: bytes, position: int, stop: int, size: int, legal: bytes | None) -> int:
    """Return the offset at which the runs have filled the plane."""
    filled = 0
    while filled < size:
        if position + 1 >= stop:
            raise InstanceWithheld("pixel-stream.fewer-pixels")
        control = data[position]
        literal = control < 128
        run = data[position + 1 : position + 2 + (control if literal else 0)]
        if control != 128:
            filled += control + 1 if literal else 257 - control
            if legal is not None and run.translate(None, legal):
                raise InstanceWithheld("pixel-bits.compressed")
            position += len(run)
        position += 1
    if filled > size or position > stop:
        raise InstanceWithheld("pixel-stream.more-pixels")
    return position


STRIP_FUNCTIONS: dict[str, StripFunction] = {
    "1.2.840.10008.1.2.4.50": strip_jpeg,
    "1.2.840.10008.1.2.4.51": strip_jpeg,
    "1.2.840.10008.1.2.4.57": strip_jpeg,
    "1.2.840.10008.1.2.4.70": strip_jpeg,
    "1.2.840.10008.1.2.4.80": strip_jpeg_ls,
    "1.2.840.10008.1.2.4.81": strip_jpeg_ls,
    "1.2.840.10008.1.2.4.90": strip_jpeg_2000,
    "1.2.840.10008.1.2.4.91": strip_jpeg_2000,
    "1.2.840.10008.1.2.4.201": strip_jpeg_2000,
    "1.2.840.10008.1.2.4.202": strip_jpeg_2000,
    "1.2.840.10008.1.2.4.203": strip_jpeg_2000,
    "1.2.840.10008.1.2.5": strip_rle,
}
"""By transfer syntax UID. Instances in any other compressed syntax are withheld."""


def strip_frame(frame: bytes, form: PixelFormat, syntax: str) -> bytes:
    """Strip one frame.

    Raises InstanceWithheld for unknown content, Malformed if it is truncated.
    """
    try:
        return STRIP_FUNCTIONS[syntax](frame, form)
    except (IndexError, ValueError, StructError):
        raise Malformed("data-set.frame-truncated") from None


_ITEM_TAG = b"\xfe\xff\x00\xe0"
_SEQUENCE_DELIMITER = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_ELEMENT_HEADER = b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class EncapsulatedPixelData:
    """`table` is the Basic Offset Table as encoded, `fragments` the items after it (PS3.5 A.4)."""

    offset_table: bytes
    fragments: tuple[memoryview, ...]

    @classmethod
    def from_element(cls, data: Buffer, element: Element) -> "EncapsulatedPixelData":
        view = memoryview(data)
        found = tuple(view[item.value : item.value_end] for item in items(data, True, element))
        if not found:
            raise Malformed("data-set.no-fragment")
        return cls(bytes(found[0]), found[1:])

    def frames(self, form: PixelFormat) -> list[list[memoryview]]:
        """Return the fragments of each frame.

        Raises InstanceWithheld if nothing says which fragments belong together.
        """
        if form.frames == 1:
            return [list(self.fragments)]
        if len(self.fragments) == form.frames:
            return [[fragment] for fragment in self.fragments]
        starts = self._fragment_offsets()
        offsets = _decode_numbers(self.offset_table, 4)
        if len(offsets) != form.frames or not set(offsets) <= set(starts):
            raise InstanceWithheld("pixel-stream.no-offsets")
        cuts = [*(starts.index(offset) for offset in offsets), len(self.fragments)]
        return [list(self.fragments[begin:end]) for begin, end in pairwise(cuts)]

    def _fragment_offsets(self) -> list[int]:
        return [0, *accumulate(8 + len(fragment) for fragment in self.fragments)][:-1]


def rebuild_pixel_data(
    data: Buffer, element: Element, form: PixelFormat, syntax: str
) -> tuple[Buffer, ...] | None:
    """Return the element with one fragment per frame, or None if unchanged."""
    read = EncapsulatedPixelData.from_element(data, element)
    old = read.frames(form)
    if not all(old):
        raise InstanceWithheld("pixel-length.fewer-frames")
    new = []
    same = element.vr == "OB" and not any(len(part) & 1 for part in read.fragments)
    for fragments in old:
        frame = bytes(fragments[0]) if len(fragments) == 1 else b"".join(fragments)
        walk = strip_frame(frame, form, syntax)
        same = same and walk is frame
        new.append(fragments if walk is frame else [memoryview(walk)])
    if same and read.offset_table in (
        b"",
        _encode_offset_table([_items_length(fragments) for fragments in old]),
    ):
        return None
    parts: list[Buffer] = []
    for fragments in new:
        size = sum(len(fragment) for fragment in fragments)
        parts += (_ITEM_TAG + (size + (size & 1)).to_bytes(4, "little"), *fragments)
        if size & 1:
            parts.append(b"\0")
    sizes = [8 + sum(map(len, fragments)) for fragments in new]
    table = _encode_offset_table([size + (size & 1) for size in sizes]) if form.frames > 1 else b""
    return (
        _ELEMENT_HEADER + _ITEM_TAG + len(table).to_bytes(4, "little") + table,
        *parts,
        _SEQUENCE_DELIMITER,
    )


def build_extended_offset_table(
    data: Buffer, element: Element, form: PixelFormat
) -> tuple[bytes, bytes]:
    """Return the values of Extended Offset Table and its lengths (PS3.3 C.7.6.3.1.8)."""
    frames = EncapsulatedPixelData.from_element(data, element).frames(form)
    starts = [0, *accumulate(_items_length(fragments) for fragments in frames)][:-1]
    sizes = [sum(map(len, fragments)) for fragments in frames]
    return _encode_numbers(starts, 8), _encode_numbers(sizes, 8)


def _items_length(fragments: list[memoryview]) -> int:
    return sum(8 + len(fragment) for fragment in fragments)


def _encode_offset_table(lengths: list[int]) -> bytes:
    """Empty if an offset exceeds four bytes; readers then use the items."""
    starts = [0, *accumulate(lengths)][:-1]
    return _encode_numbers(starts, 4) if starts[-1] < 1 << 32 else b""


def _encode_numbers(numbers: list[int], width: int) -> bytes:
    return b"".join(number.to_bytes(width, "little") for number in numbers)


def _decode_numbers(data: bytes, width: int) -> list[int]:
    return [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]
