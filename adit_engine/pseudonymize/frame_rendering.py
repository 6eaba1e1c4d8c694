"""Read frames of an image and convert them to gray or colors of 8 bits.

Used for display (`adit_engine.rendering`) and for the detection of text.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adit_engine.dicom_file.transcode import to_little_endian
from adit_engine.elements import PIXEL_TAGS, Element, elements
from adit_engine.errors import InstanceWithheld, InvalidInput, Malformed
from adit_engine.pseudonymize.encapsulated_pixel_data import EncapsulatedPixelData
from adit_engine.pseudonymize.pixel_decoding import decode_frame
from adit_engine.pseudonymize.pixel_format import REQUIRED_TAGS, PixelFormat
from adit_engine.values.instance import Instance

RenderedFrame = NDArray[np.uint8]
"""Rows and columns, or rows, columns and RGB."""

_PHOTOMETRIC, _PLANAR, _PIXELS = 0x00280004, 0x00280006, 0x7FE00010
_CENTER, _WIDTH, _INTERCEPT, _SLOPE = 0x00281050, 0x00281051, 0x00281052, 0x00281053
_LUTS = ((0x00281101, 0x00281201), (0x00281102, 0x00281202), (0x00281103, 0x00281203))
_WANTED_TAGS = REQUIRED_TAGS | {
    _PLANAR,
    _CENTER,
    _WIDTH,
    _INTERCEPT,
    _SLOPE,
    *(tag for pair in _LUTS for tag in pair),
}
_COMPRESSED_AS = {b"YBR_FULL_422": b"YBR_FULL", b"YBR_RCT": b"RGB", b"YBR_ICT": b"RGB"}


WINDOW_FUNCTIONS = ("linear", "linear-exact", "sigmoid")


@dataclass(frozen=True, slots=True)
class Window:
    """Which numbers are shown from black to white (PS3.3 C.11.2.1)."""

    center: float
    width: float
    function: str
    """One of WINDOW_FUNCTIONS; linear needs a width of at least 1, the others more than 0."""

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return brightness from 0 to 1."""
        if self.function == "sigmoid":
            exponent = np.clip(-4 * (values - self.center) / self.width, -700, 700)
            return 1 / (1 + np.exp(exponent))
        center, width = self.center, self.width
        if self.function == "linear":
            center, width = center - 0.5, width - 1
        return np.clip((values - center) / max(width, 1e-9) + 0.5, 0, 1)


class RenderableImage:
    """The attributes of one instance that rendering needs. Raises InvalidInput."""

    def __init__(self, instance: Instance) -> None:
        try:
            plain = to_little_endian(instance)
            self._data = b"".join(bytes(part) for part in plain.parts())
            found = {e.tag: e for e in elements(self._data, plain.explicit) if _is_wanted(e)}
            self._values = {tag: self._data[e.value : e.end] for tag, e in found.items()}
            self._element = found[_PIXELS]
            self.form = PixelFormat.from_values({**self._values, _PHOTOMETRIC: b""})
        except (Malformed, InstanceWithheld, KeyError):
            raise cannot_render() from None
        said = self._values.get(_PHOTOMETRIC, b"").strip(b" \0")
        self._meaning = _COMPRESSED_AS.get(said, said) if self._element.undefined else said
        is_known = self.form.bits_allocated in (8, 16) and self.form.samples_per_pixel in (1, 3)
        if not is_known or self._meaning == b"YBR_FULL_422":
            raise cannot_render()

    def render(self, frame: int, whole_range: bool, window: Window | None = None) -> RenderedFrame:
        raw = self._frame(frame)
        if self.form.samples_per_pixel == 3:
            return self._colours(raw)
        if self._meaning == b"PALETTE COLOR":
            return self._palette(raw[..., 0])
        return self._gray(self._numbers(raw[..., 0]), whole_range, window)

    def stored_values(self, frame: int) -> tuple[NDArray[Any], ...]:
        """Return everything that can make text visible: stored numbers, or RGB of 8 bits.

        For a palette image both: with another palette, other text may be visible.
        """
        raw = self._frame(frame)
        if self.form.samples_per_pixel == 3:
            return (self._colours(raw),)
        numbers = self._stored_numbers(raw[..., 0])
        if self._meaning == b"PALETTE COLOR":
            return self._palette(raw[..., 0]), numbers
        return (numbers,)

    @cached_property
    def _fragments(self) -> tuple[Any, ...]:
        data = EncapsulatedPixelData.from_element(self._data, self._element)
        return tuple(data.frames(self.form))

    def _frame(self, number: int) -> NDArray[Any]:
        one = replace(self.form, frames=1)
        planes = self._values.get(_PLANAR) == b"\1\0" and not self._element.undefined
        if self._element.undefined:
            data = decode_frame(b"".join(self._fragments[number]), one)
        else:
            start = self._element.value + number * one.size_bytes
            data = self._data[start : start + one.size_bytes]
        shape = (
            (one.samples_per_pixel, one.rows, one.columns)
            if planes
            else (one.rows, one.columns, one.samples_per_pixel)
        )
        plain = np.frombuffer(data, f"<u{one.bits_allocated // 8}").reshape(shape)
        return np.moveaxis(plain, 0, -1) if planes else plain

    def _stored_bits(self, raw: NDArray[Any]) -> NDArray[np.int32]:
        form = self.form
        return (raw.astype(np.int32) & form.mask) >> (form.high_bit + 1 - form.bits_stored)

    def _stored_numbers(self, raw: NDArray[Any]) -> NDArray[np.int32]:
        """Return the stored bits as numbers."""
        form, values = self.form, self._stored_bits(raw)
        if form.signed:
            values -= (values >= 1 << (form.bits_stored - 1)) * np.int32(1 << form.bits_stored)
        return values

    def _numbers(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Return the stored bits as numbers, with rescale slope and intercept applied."""
        values = self._stored_numbers(raw)
        slope, intercept = self._decimal(_SLOPE) or 1.0, self._decimal(_INTERCEPT) or 0.0
        return values.astype(np.float64) * slope + intercept

    def _gray(
        self, values: NDArray[np.float64], whole_range: bool, window: Window | None
    ) -> RenderedFrame:
        if window is not None:
            return self._invert(window.apply(values) * 255)
        center, width = self._decimal(_CENTER), self._decimal(_WIDTH)
        low, high = float(values.min()), float(values.max())
        if not whole_range and center is not None and width is not None and width >= 1:
            low, high = center - width / 2, center + width / 2
        elif not whole_range and self.form.bits_allocated == 8 and not self.form.signed:
            low, high = 0.0, float((1 << self.form.bits_stored) - 1)
        shown = np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255
        return self._invert(shown)

    def _invert(self, shown: NDArray[np.float64]) -> RenderedFrame:
        if self._meaning == b"MONOCHROME1":
            shown = 255 - shown
        return shown.round().astype(np.uint8)

    def _colours(self, raw: NDArray[Any]) -> RenderedFrame:
        values = self._stored_bits(raw) * (255 / ((1 << self.form.bits_stored) - 1))
        if self._meaning == b"YBR_FULL":  # PS3.3 C.7.6.3.1.2
            y, cb, cr = values[..., 0], values[..., 1] - 128, values[..., 2] - 128
            rgb = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
            values = np.stack(rgb, axis=-1).clip(0, 255)
        return values.round().astype(np.uint8)

    def _palette(self, raw: NDArray[Any]) -> RenderedFrame:
        """Apply the red, green and blue palette tables (PS3.3 C.7.6.3.1.5)."""
        channels = []
        for description, data in _LUTS:
            count, first, bits = (
                int(n) for n in np.frombuffer(self._values.get(description, b""), "<u2")
            )
            table = np.frombuffer(self._values.get(data, b""), "<u2" if bits > 8 else "<u1")
            places = np.clip(raw.astype(np.int64) - first, 0, len(table) - 1)
            channels.append((table[places] >> (bits - 8)).astype(np.uint8))
            if count not in (0, len(table)):
                raise cannot_render()
        return np.stack(channels, axis=-1)

    def _decimal(self, tag: int) -> float | None:
        """Return the first value of a decimal string."""
        text = self._values.get(tag, b"").split(b"\\")[0].strip(b" \0")
        try:
            return float(text) if text else None
        except ValueError:
            return None


def _is_wanted(element: Element) -> bool:
    return element.tag in PIXEL_TAGS or (element.tag in _WANTED_TAGS and not element.undefined)


def cannot_render() -> InvalidInput:
    return InvalidInput("rendering.unsupported")
