"""Verify pixels: all bits that belong to the image are unchanged. Used by the verifier."""

from collections.abc import Iterator, Mapping
from itertools import zip_longest

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.verify.compressed_streams import is_same_stream, readable_segments
from adit_engine.pseudonymize.verify.reader import PIXELS, DatasetContent, PixelValue

SAMPLES, PHOTOMETRIC_INTERPRETATION, FRAMES, ROWS, COLUMNS = (
    0x00280002,
    0x00280004,
    0x00280008,
    0x00280010,
    0x00280011,
)
ALLOCATED, STORED, HIGH_BIT, PIXEL_REPRESENTATION = 0x00280100, 0x00280101, 0x00280102, 0x00280103
NUMERIC_TAGS = frozenset(
    {SAMPLES, ROWS, COLUMNS, ALLOCATED, STORED, HIGH_BIT, PIXEL_REPRESENTATION, 0x00280006}
)
PIXEL_MODULE_TAGS = NUMERIC_TAGS | {
    PHOTOMETRIC_INTERPRETATION,
    FRAMES,
    0x00281052,
    0x00281053,
    0x00281054,
}
"""Top-level attributes that define how the pixels are read."""

_RLE = "1.2.840.10008.1.2.5"
_FRAME_SIGNATURES = (b"\xff\xd8", b"\xff\x4f", b"\0\0\0\x0cjP")
_CHUNK_BYTES = 1 << 20
"""Number of bytes copied at a time for comparison."""
_NO_PIXELS = PixelValue(False, [])


class ImagePixelModule:
    """The pixel data of one data set, and the attributes of PIXEL_MODULE_TAGS."""

    def __init__(self, content: DatasetContent, top: Mapping[int, bytes]) -> None:
        self.big_endian = content.big_endian
        self.pixels = content.pixel_values
        self.values = {
            tag: top[tag] if tag in NUMERIC_TAGS else top[tag].strip(b" \0")
            for tag in PIXEL_MODULE_TAGS
            if top.get(tag)
        }

    def number(self, tag: int) -> int:
        return int.from_bytes(self.values.get(tag, b""), "big" if self.big_endian else "little")

    def comparable(self) -> dict[int, bytes | int]:
        return {
            tag: self.number(tag) if tag in NUMERIC_TAGS else value
            for tag, value in self.values.items()
        }

    @property
    def size(self) -> int:
        """Size of the pixels in bytes by PS3.5 8.1, without padding; 0 if unknown."""
        frames = int(self.values.get(FRAMES, b"1") or 1)
        samples = self.number(SAMPLES)
        if self.values.get(PHOTOMETRIC_INTERPRETATION) == b"YBR_FULL_422":
            samples = 2
        bits = self.number(ROWS) * self.number(COLUMNS) * samples * frames * self.number(ALLOCATED)
        return (bits + 7) // 8


def check_same_pixels(
    source: ImagePixelModule, output: ImagePixelModule, syntaxes: tuple[str, str]
) -> None:
    """Check that the pixels of output and source are equal. Raises InstanceWithheld.

    `syntaxes` are the transfer syntaxes of both. Allowed differences: truncation to the computed
    length, other values in bits that belong to no pixel, and in compressed streams missing comments
    and missing data behind the end.
    """
    if source.comparable() != output.comparable():
        raise InstanceWithheld("verify-pixel.attribute")
    if source.pixels.keys() != output.pixels.keys():
        raise InstanceWithheld("verify-pixel.missing")
    for tag, value in output.pixels.items():
        original = source.pixels.get(tag, _NO_PIXELS)
        if original.encapsulated != value.encapsulated:
            raise InstanceWithheld("verify-pixel.encapsulation")
        if value.encapsulated:
            if syntaxes[0] != syntaxes[1]:
                raise InstanceWithheld("verify-pixel.transfer-syntax")
            plane = output.number(ROWS) * output.number(COLUMNS)
            _check_same_fragments(original, value, (syntaxes[1], plane))
        else:
            _check_same_values(source, output, tag)


def _check_same_values(source: ImagePixelModule, output: ImagePixelModule, tag: int) -> None:
    original, made = source.pixels[tag], output.pixels[tag]
    before, after = original.parts, made.parts
    size = output.size
    length = sum(len(part) for part in after)
    original_length = sum(len(part) for part in before)
    if size and length > size + size % 2:
        raise InstanceWithheld("verify-pixel.trailing-bytes")
    kept = min(size or original_length, original_length)
    if length < kept or length > original_length + original_length % 2:
        raise InstanceWithheld("verify-pixel.length")
    alike = source.big_endian == output.big_endian and (
        original.is_same_memory_as(made) or _is_identical(before, after, length)
    )
    if not alike and not _has_equal_pixel_bits(source, output, tag, kept):
        raise InstanceWithheld("verify-pixel.value")
    if tag == PIXELS and not has_clean_spare_bits(output):
        raise InstanceWithheld("verify-pixel.spare-bits")


def _is_identical(before: list[memoryview], after: list[memoryview], length: int) -> bool:
    if len(before) == len(after) == 1:
        one, other = before[0], after[0]
        # bytearray compares with any buffer by memcmp, a memoryview item by item.
        return len(other) <= len(one) and all(
            bytearray(one[at : at + _CHUNK_BYTES]) == other[at : at + _CHUNK_BYTES][: len(one) - at]
            for at in range(0, len(other), _CHUNK_BYTES)
        )
    return b"".join(before)[:length] == b"".join(after)


def _has_equal_pixel_bits(
    source: ImagePixelModule, output: ImagePixelModule, tag: int, length: int
) -> bool:
    allocated = output.number(ALLOCATED) if tag == PIXELS else {8: 32, 9: 64}[tag & 0xF]
    if allocated not in (8, 16, 32, 64):
        return _join_parts(source, tag)[:length] == _join_parts(output, tag)[:length]
    import numpy as np  # slow to import and rarely needed

    width = allocated // 8
    one, other = (
        np.frombuffer(_join_parts(picture, tag)[: length - length % width], _dtype(picture, width))
        for picture in (source, output)
    )
    if tag != PIXELS:
        return bool(np.array_equal(one.view(f"u{width}"), other.view(f"u{width}")))
    mask = pixel_mask(output)
    return not bool(((one ^ other) & mask).any())


def pixel_mask(image_module: ImagePixelModule) -> int:
    """Return the mask of the bits that hold the pixel; all bits for an invalid header."""
    allocated, stored, high = (image_module.number(tag) for tag in (ALLOCATED, STORED, HIGH_BIT))
    if not 0 < stored <= high + 1 <= allocated:
        return (1 << allocated) - 1
    return ((1 << stored) - 1) << (high + 1 - stored)


def has_clean_spare_bits(image_module: ImagePixelModule) -> bool:
    """Whether the bits above all pixels are zero, or above all pixels extend the sign."""
    allocated, high = image_module.number(ALLOCATED), image_module.number(HIGH_BIT)
    if allocated not in (8, 16, 32) or high + 1 >= allocated:
        return True
    data = _join_parts(image_module, PIXELS)
    import numpy as np  # slow to import, and not needed if pixels use all bits

    values = np.frombuffer(data, _dtype(image_module, allocated // 8), len(data) * 8 // allocated)
    if not len(values):
        return True
    if int(values.max()) < 1 << (high + 1):
        return True
    if not image_module.number(PIXEL_REPRESENTATION):
        return False
    values = values.view(values.dtype.str.replace("u", "i"))
    return int(values.min()) >= -(1 << high) and int(values.max()) < 1 << high


def _dtype(image_module: ImagePixelModule, width: int) -> str:
    return f"{'>' if image_module.big_endian else '<'}u{width}"


def _join_parts(image_module: ImagePixelModule, tag: int) -> bytes | memoryview:
    parts = image_module.pixels[tag].parts
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _split_fragments(value: PixelValue) -> Iterator[memoryview]:
    """Yield every fragment except the offset table."""
    data = value.parts[0] if len(value.parts) == 1 else memoryview(b"".join(value.parts))
    at, first = 0, True
    while at < len(data):
        start = at + 8
        at = start + int.from_bytes(data[at + 4 : start], "little")
        if not first:
            yield data[start:at]
        first = False


def _join_frames(value: PixelValue) -> list[bytes]:
    """Join fragments to frames. A fragment without a frame signature continues the previous one."""
    frames: list[list[memoryview]] = []
    for fragment in _split_fragments(value):
        if frames and not bytes(fragment[:6]).startswith(_FRAME_SIGNATURES):
            frames[-1].append(fragment)
        else:
            frames.append([fragment])
    return [b"".join(parts) for parts in frames]


def _check_same_fragments(before: PixelValue, after: PixelValue, how: tuple[str, int]) -> None:
    """`how`: transfer syntax, and number of pixels per frame."""
    by_image = how[0] != _RLE
    originals, now = (
        _join_frames(value) if by_image else list(map(bytes, _split_fragments(value)))
        for value in (before, after)
    )
    for one, other in zip_longest(originals, now):
        if one is None or other is None:
            raise InstanceWithheld("verify-pixel.frame-count")
        if not is_same_stream(one, other, *how):
            raise InstanceWithheld("verify-pixel.frame")


def extract_readable_bytes(content: DatasetContent) -> bytes:
    """Return all bytes of compressed pixels in which text can hide, joined."""
    return b"\0".join(
        part
        for value in content.pixel_values.values()
        if value.encapsulated
        for frame in _join_frames(value)
        for part in readable_segments(frame)
    )
