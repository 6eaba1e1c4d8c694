"""Pictures: a frame of an image as PNG bytes, for the eyes of who may see it and for no file."""

from io import BytesIO

from PIL import Image

from adit_engine.rendering import render_frame
from adit_engine.values.instance import Instance

SMALL = 320
LARGEST = 2048
"""Pixels of the longer side; rectangles are drawn in the image's own pixels all the same."""


def png_of(
    instance: Instance, frame: int = 0, *, largest: int = LARGEST, whole_range: bool = False
) -> bytes:
    """Raises WrongInput for what cannot be shown."""
    image = Image.fromarray(render_frame(instance, frame, whole_range=whole_range))
    image.thumbnail((largest, largest))
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
