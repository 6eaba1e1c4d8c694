"""Decode: the values of one compressed image, where nothing else tells what they hold."""

from importlib import import_module
from typing import Any

from adit_engine.errors import Withhold
from adit_engine.pseudonymize.pixels import PixelFormat

# The first bytes tell what it is: JPEG 2000 begins with FF4F, JPEG-LS has a frame header FFF7.
_JPEG_2000 = b"\xff\x4f"
_JPEG_LS_FRAME = b"\xff\xf7"
_LONGEST_HEADER = 65536


def decoded(data: bytes, form: PixelFormat) -> bytes:
    """Little endian, in the allocated bits. Raises Withhold where it cannot be decoded."""
    try:
        pixels = _decoder(data)(data)
    except (RuntimeError, ValueError, TypeError):
        raise Withhold("pixel-stream", "The compressed pixels cannot be decoded.") from None
    if pixels.size != form.rows * form.columns * form.samples:
        raise Withhold("pixel-stream", "The compressed pixels are of another size than announced.")
    # Signed values become the same bits without a sign.
    return bytes(pixels.astype(f"<i{form.allocated // 4}").astype(f"<u{form.allocated // 8}"))


def _decoder(data: bytes) -> Any:
    """Imported when needed: decoders take long to load, and most streams need none."""
    if data.startswith(_JPEG_2000):
        return import_module("openjpeg").decode
    if _JPEG_LS_FRAME in data[:_LONGEST_HEADER]:
        return lambda stream: import_module("jpeg_ls").decode(_as_array(stream))
    return import_module("libjpeg").decode


def _as_array(data: bytes) -> Any:
    return import_module("numpy").frombuffer(data, "u1")
