"""Decode one compressed frame, if its values are needed. Used for masking and for bit checks."""

from importlib import import_module
from typing import Any

from adit_engine.errors import InstanceWithheld
from adit_engine.pseudonymize.pixel_format import PixelFormat

# The first bytes show the format: JPEG 2000 starts with FF4F, JPEG-LS has a frame header FFF7.
_JPEG_2000 = b"\xff\x4f"
_JPEG_LS_FRAME = b"\xff\xf7"
_MAX_HEADER_BYTES = 65536
# RLE starts with the number of segments, and the first segment follows a header of 64 bytes.
_RLE_SIGNATURE = (b"\0\0\0", b"\x40\0\0\0")


def decode_frame(data: bytes, form: PixelFormat) -> bytes:
    """Decode to little endian values of the allocated size. Raises InstanceWithheld."""
    if (data[1:4], data[4:8]) == _RLE_SIGNATURE:
        return _decode_rle(data, form)
    try:
        pixels = _find_decoder(data)(data)
    except (RuntimeError, ValueError, TypeError):
        raise InstanceWithheld("pixel-stream.undecodable") from None
    if pixels.size != form.rows * form.columns * form.samples_per_pixel:
        raise InstanceWithheld("pixel-stream.size")
    # Signed values become unsigned values with the same bits.
    return bytes(
        pixels.astype(f"<i{form.bits_allocated // 4}").astype(f"<u{form.bits_allocated // 8}")
    )


def _find_decoder(data: bytes) -> Any:
    """Imported on demand: decoders are slow to import, and most streams need none."""
    if data.startswith(_JPEG_2000):
        return import_module("openjpeg").decode
    if _JPEG_LS_FRAME in data[:_MAX_HEADER_BYTES]:
        return lambda stream: import_module("jpeg_ls").decode(_as_array(stream))
    return import_module("libjpeg").decode


def _as_array(data: bytes) -> Any:
    return import_module("numpy").frombuffer(data, "u1")


def _decode_rle(data: bytes, form: PixelFormat) -> bytes:
    """PS3.5 Annex G: one segment per byte of each sample, the most significant byte first."""
    width, size = form.bits_allocated // 8, form.rows * form.columns
    starts = [int.from_bytes(data[4 * n : 4 * n + 4], "little") for n in range(1, data[0] + 1)]
    planes = [
        _unpack_segment(data[begin:end], size)
        for begin, end in zip(starts, [*starts[1:], len(data)], strict=True)
    ]
    if len(planes) != width * form.samples_per_pixel:
        raise InstanceWithheld("pixel-stream.size")
    out = bytearray(size * len(planes))
    for number, plane in enumerate(planes):
        sample, byte = divmod(number, width)
        out[sample * width + width - 1 - byte :: len(planes)] = plane
    return bytes(out)


def _unpack_segment(segment: bytes, size: int) -> bytes:
    """Decode runs and literals until the plane is full."""
    out = bytearray()
    at = 0
    while len(out) < size:
        if at + 1 >= len(segment):
            raise InstanceWithheld("pixel-stream.undecodable")
        control = segment[at]
        if control < 128:
            out += segment[at + 1 : at + 2 + control]
            at += 2 + control
        elif control > 128:
            out += segment[at + 1 : at + 2] * (257 - control)
            at += 2
        else:
            at += 1
    if len(out) != size:
        raise InstanceWithheld("pixel-stream.size")
    return bytes(out)
