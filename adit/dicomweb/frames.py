"""Find the frames of an image in its encoded pixel data, without decoding them (PS3.5 8, A.4)."""

from collections.abc import Iterator
from dataclasses import dataclass

from adit.dicomweb.errors import NotAcceptable
from adit_engine.elements import Buffer, Element, elements, header_end_and_values, items
from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.encapsulated_pixel_data import EncapsulatedPixelData
from adit_engine.pseudonymize.pixel_format import REQUIRED_TAGS, PixelFormat
from adit_engine.values.instance import EXPLICIT_LE, IMPLICIT_LE, Instance

_PHOTOMETRIC = 0x00280004
_ALLOCATED, _STORED, _HIGH, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103

Ranges = tuple[tuple[int, int], ...]
"""Begin and end of the pieces of a frame, counted from the begin of the data set."""


@dataclass(frozen=True, slots=True)
class FrameTable:
    """The frames of an image. `syntax` is the transfer syntax in which they are encoded."""

    frames: tuple[Ranges, ...]
    syntax: str


def find_frames(instance: Instance) -> FrameTable:
    """Return the frames of an image in a little endian syntax. Raise NotAcceptable, Malformed.

    Uncompressed frames are always in explicit VR little endian, since they contain no VR.
    """
    if not instance.rest:
        raise NotAcceptable("dicomweb.no-frames")
    pixels: Buffer = instance.rest[0] if len(instance.rest) == 1 else b"".join(instance.rest)
    element = next(elements(pixels, instance.explicit))
    _end, values = header_end_and_values(instance.header, instance.explicit, REQUIRED_TAGS)
    start = len(instance.header)
    try:
        form = _read_format(values)
        if element.undefined:
            frames = tuple(_find_encapsulated(pixels, element, form, start))
            return FrameTable(frames, instance.transfer_syntax_uid)
    except InstanceWithheld:
        raise NotAcceptable("dicomweb.no-frames") from None
    bits = form.size_bytes * 8 // form.frames
    if b"YBR_FULL_422" in values.get(_PHOTOMETRIC, b""):
        bits = bits * 2 // 3
    size = bits // 8
    is_short = element.value + size * form.frames > element.end
    if is_short or (form.bits_allocated == 1 and form.rows * form.columns % 8):
        raise NotAcceptable("dicomweb.no-frames")
    begins = (start + element.value + number * size for number in range(form.frames))
    syntax = instance.transfer_syntax_uid
    syntax = EXPLICIT_LE if syntax == IMPLICIT_LE else syntax
    return FrameTable(tuple(((begin, begin + size),) for begin in begins), syntax)


def _read_format(values: dict[int, bytes]) -> PixelFormat:
    """Return the format. That of float pixels has no bits stored. Raise InstanceWithheld."""
    allocated = int.from_bytes(values.get(_ALLOCATED, b""), "little")
    last = max(0, allocated - 1).to_bytes(2, "little")
    plain = {_STORED: values.get(_ALLOCATED, b""), _HIGH: last, _SIGNED: b"\0\0"}
    return PixelFormat.from_values({**plain, **values, _PHOTOMETRIC: b""})


def _find_encapsulated(
    pixels: Buffer, element: Element, form: PixelFormat, start: int
) -> Iterator[Ranges]:
    fragments = iter(list(items(pixels, True, element))[1:])
    for frame in EncapsulatedPixelData.from_element(pixels, element).frames(form):
        places = (next(fragments) for _fragment in frame)
        yield tuple((start + place.value, start + place.value_end) for place in places)
