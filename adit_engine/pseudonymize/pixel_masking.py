"""Mask rectangles in every frame of an image, after lossless decompression. Used by `apply`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adit_engine.elements import Element
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.encapsulated_pixel_data import EncapsulatedPixelData, strip_frame
from adit_engine.pseudonymize.pixel_decoding import decode_frame
from adit_engine.pseudonymize.pixel_format import PixelFormat
from adit_engine.pseudonymize.pixel_rules import Rectangle

_PHOTOMETRIC_INTERPRETATION = 0x00280004
_PLANAR_CONFIGURATION = 0x00280006

# Photometric interpretation after decoding, by that of the compressed data.
_DECODED_INTERPRETATION = {b"YBR_FULL_422": b"YBR_FULL", b"YBR_RCT": b"RGB", b"YBR_ICT": b"RGB"}
_COLOURS = frozenset({b"RGB", b"YBR_FULL"})
_GRAYS = frozenset({b"MONOCHROME1", b"MONOCHROME2", b"PALETTE COLOR"})


@dataclass(frozen=True, slots=True)
class MaskedPixels:
    """Uncompressed pixels and their layout. Decompressed color images are stored by pixel."""

    pixels: bytes
    photometric: bytes
    planar: bytes


def mask_pixels(
    data: memoryview, element: Element, values: Mapping[int, bytes], where: tuple[Rectangle, ...],
    syntax: str,
) -> MaskedPixels:  # fmt: skip
    """Return the image with black rectangles.

    Raises InstanceWithheld for pixels that cannot be decoded, or may not be clean afterwards.
    """
    said = values.get(_PHOTOMETRIC_INTERPRETATION, b"").strip(b" \0")
    form = PixelFormat.from_values({**values, _PHOTOMETRIC_INTERPRETATION: b""})
    now = _DECODED_INTERPRETATION.get(said, said) if element.undefined else said
    if now not in (
        _GRAYS if form.samples_per_pixel == 1 else _COLOURS
    ) or form.bits_allocated not in (8, 16, 32):
        raise InstanceWithheld("pixel-format.not-maskable")
    if element.undefined:
        pixels = b"".join(_decode_frames(data, element, form, syntax))
        planar = b"\0\0"
    else:
        pixels = bytes(data[element.value : element.end][: form.size_bytes])
        planar = (
            values.get(_PLANAR_CONFIGURATION, b"\0\0") if form.samples_per_pixel > 1 else b"\0\0"
        )
    if len(pixels) != form.size_bytes or planar not in (b"\0\0", b"\1\0"):
        raise InstanceWithheld("pixel-length.too-short")
    return MaskedPixels(
        _fill_rectangles(pixels, form, planar == b"\1\0", (now, where)), now, planar
    )


def _decode_frames(
    data: memoryview, element: Element, form: PixelFormat, syntax: str
) -> Iterator[bytes]:
    """Yield decoded frames. The streams are stripped first, as those that are passed on."""
    one = replace(form, frames=1)
    for fragments in EncapsulatedPixelData.from_element(data, element).frames(form):
        yield decode_frame(strip_frame(b"".join(fragments), form, syntax), one)


def _fill_rectangles(
    pixels: bytes, form: PixelFormat, by_plane: bool, how: tuple[bytes, tuple[Rectangle, ...]]
) -> bytes:
    import numpy as np  # imported here because it is slower to import than the rest of the engine

    shape: tuple[int, ...] = (form.frames, form.rows, form.columns, form.samples_per_pixel)
    if by_plane:
        shape = (form.frames, form.samples_per_pixel, form.rows, form.columns)
    image: Any = np.frombuffer(pixels, f"<u{form.bits_allocated // 8}").reshape(shape).copy()
    photometric, where = how
    black = _black_value(photometric, form)
    for left, top, width, height in where:
        rows, columns = slice(top, top + height), slice(left, left + width)
        for sample, value in enumerate(black):
            if by_plane:
                image[:, sample, rows, columns] = value
            else:
                image[:, rows, columns, sample] = value
    return bytes(image.tobytes())


def _black_value(photometric: bytes, form: PixelFormat) -> tuple[int, ...]:
    """Zero, which need not be black. In YBR zero would be green, so middle values are used."""
    if photometric == b"YBR_FULL":
        middle = 1 << (form.bits_stored - 1)
        return (0, middle, middle)
    return (0,) * form.samples_per_pixel
