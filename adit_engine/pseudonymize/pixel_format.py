"""Pixel format of a header, and removal of all bits and bytes that do not belong to the image.

Covers overlays in spare bits and data behind the last pixel. Used when pixel data are rebuilt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adit_engine.elements import Buffer
from adit_engine.errors import InstanceWithheld

_SAMPLES = 0x00280002
_PHOTOMETRIC_INTERPRETATION = 0x00280004
_FRAMES = 0x00280008
_ROWS = 0x00280010
_COLUMNS = 0x00280011
_ALLOCATED = 0x00280100
_STORED = 0x00280101
_HIGH = 0x00280102
_SIGNED = 0x00280103
_PADDING = 0x00280120

REQUIRED_TAGS = frozenset(
    {
        _SAMPLES,
        _PHOTOMETRIC_INTERPRETATION,
        _FRAMES,
        _ROWS,
        _COLUMNS,
        _ALLOCATED,
        _STORED,
        _HIGH,
        _SIGNED,
        _PADDING,
    }
)
"""The tags whose values `PixelFormat.from_values` needs."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Memory layout of pixels (PS3.3 C.7.6.3). `padding` is None if none is declared."""

    samples_per_pixel: int
    frames: int
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    padding: int | None

    @classmethod
    def from_float_values(cls, values: Mapping[int, bytes], size_bytes: int) -> "PixelFormat":
        """Create the format of float pixels (PS3.3 C.7.6.24, C.7.6.25).

        All bits count. Raises InstanceWithheld.
        """
        bits = (8 * size_bytes).to_bytes(2, "little")
        if values.get(_ALLOCATED) != bits:
            raise InstanceWithheld("pixel-format.undefined")
        high = (8 * size_bytes - 1).to_bytes(2, "little")
        return cls.from_values({**values, _STORED: bits, _HIGH: high, _SIGNED: b"\0\0"})

    @classmethod
    def from_values(cls, values: Mapping[int, bytes]) -> "PixelFormat":
        """Create the format from encoded values by tag.

        Raises InstanceWithheld for missing or impossible values.
        """
        numbers = {
            tag: _read_uint16(values.get(tag, b""))
            for tag in REQUIRED_TAGS - {_PHOTOMETRIC_INTERPRETATION, _FRAMES}
        }
        frames = values.get(_FRAMES, b"").strip(b" \0") or b"1"
        needed = {_SAMPLES, _ROWS, _COLUMNS, _ALLOCATED, _STORED, _HIGH, _SIGNED}
        if any(numbers[tag] is None for tag in needed) or not frames.isdigit():
            raise InstanceWithheld("pixel-format.undefined")
        made = cls(
            samples_per_pixel=numbers[_SAMPLES] or 0,
            frames=int(frames),
            rows=numbers[_ROWS] or 0,
            columns=numbers[_COLUMNS] or 0,
            bits_allocated=numbers[_ALLOCATED] or 0,
            bits_stored=numbers[_STORED] or 0,
            high_bit=numbers[_HIGH] or 0,
            signed=numbers[_SIGNED] == 1,
            padding=numbers[_PADDING],
        )
        if not made._is_valid or b"YBR_FULL_422" in values.get(_PHOTOMETRIC_INTERPRETATION, b""):
            raise InstanceWithheld("pixel-format.unsupported")
        return made

    @property
    def _is_valid(self) -> bool:
        positive = min(self.samples_per_pixel, self.frames, self.rows, self.columns) > 0
        bits = 1 <= self.bits_stored <= self.high_bit + 1 <= self.bits_allocated
        return positive and bits and self.bits_allocated in (1, 8, 16, 32, 64)

    @property
    def size_bytes(self) -> int:
        """The size of all frames. One-bit pixels have no gap between frames (PS3.5 8.1.1)."""
        return (
            self.samples_per_pixel * self.frames * self.rows * self.columns * self.bits_allocated
            + 7
        ) // 8

    @property
    def mask(self) -> int:
        """The bits that hold the image."""
        return ((1 << self.bits_stored) - 1) << (self.high_bit + 1 - self.bits_stored)


def clean_native_pixels(value: Buffer, form: PixelFormat) -> tuple[Buffer, ...]:
    """Return the cleaned value of uncompressed pixel data; the same memory if clean.

    Raises InstanceWithheld if pixels are missing, or if padding uses bits that must be cleared.
    """
    size = form.size_bytes
    if len(value) < size:
        raise InstanceWithheld("pixel-length.too-short")
    if len(value) == size + (size & 1):
        pixels: Buffer = value
    else:
        pixels = memoryview(value)[:size]
    clean = _clear_spare_bits(memoryview(value)[:size], form)
    if clean is not None:
        pixels = clean
    if not size & 1:
        return (pixels,)
    if len(pixels) > size:
        pixels = memoryview(pixels)[:size]
    return (pixels, b"\0")


def uses_spare_bits(value: bytes, form: PixelFormat) -> bool:
    """Whether decoded pixels set bits that the header does not give to the image."""
    return _clear_spare_bits(memoryview(value), form) is not None


def _read_uint16(value: bytes) -> int | None:
    return int.from_bytes(value, "little") if len(value) == 2 else None


def _clear_spare_bits(value: memoryview, form: PixelFormat) -> bytes | None:
    """None if no bit outside the image is set."""
    if form.bits_stored == form.bits_allocated:
        return None
    import numpy as np  # imported here because it is slower to import than the rest of the engine

    plain: Any = np.frombuffer(value, f"<u{form.bits_allocated // 8}")
    if form.mask & 1 and int(plain.max()) <= form.mask:
        return None
    if form.mask & 1 and form.signed and _is_sign_extended(plain, form):
        return None
    outside = ~np.array(form.mask, plain.dtype)
    if not (plain & outside).any():
        return None
    if form.padding is not None and form.padding & int(outside) and not form.signed:
        raise InstanceWithheld("pixel-bits.outside")
    clean = plain & np.array(form.mask, plain.dtype)
    if form.signed and form.high_bit + 1 < form.bits_allocated:
        spare = form.bits_allocated - 1 - form.high_bit
        clean = ((clean << spare).view(f"<i{form.bits_allocated // 8}") >> spare).view(plain.dtype)
        clean &= ~np.array((1 << (form.high_bit + 1 - form.bits_stored)) - 1, plain.dtype)
    return bytes(clean.astype(f"<u{form.bits_allocated // 8}", copy=False).tobytes())


def _is_sign_extended(plain: Any, form: PixelFormat) -> bool:
    signed = plain.view(f"<i{form.bits_allocated // 8}")
    limit = 1 << (form.bits_stored - 1)
    return bool(int(signed.max()) < limit and int(signed.min()) >= -limit)
