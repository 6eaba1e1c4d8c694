"""Pictures of frames as JPEG, PNG or GIF, and the parameters for them (PS3.18 8.3.5)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

from django.http import QueryDict
from PIL import Image, ImageCms, ImageOps

from adit.dicomweb.dicom_json import find_bulk_value
from adit.dicomweb.errors import InvalidParameter, NotAcceptable
from adit_engine.errors import NotFound
from adit_engine.messages import Message
from adit_engine.rendering import WINDOW_FUNCTIONS, Window, count_frames, render_frame
from adit_engine.values.instance import Instance

MAX_SIDE = 8192
MAX_PIXELS = MAX_SIDE * MAX_SIDE
"""Of all frames in one answer."""
DEFAULT_QUALITY = 75
MAX_PROFILE_BYTES = 1024 * 1024
FRAME_MS = 100
"""How long a GIF picture shows each frame."""

_ANNOTATIONS = ("patient", "technique")
_PROFILES = ("no", "yes", "srgb", "adobergb", "rommrgb", "displayp3")
_KNOWN_PROFILES = ("no", "yes", "srgb")
_ICC_PROFILE = "00282000"
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))

T = TypeVar("T")

Region = tuple[float, float, float | None, float | None]
"""Left, top, width and height in pixels of the frame.

A negative size mirrors; None: to the edge.
"""


@dataclass(frozen=True, slots=True)
class PictureParameters:
    """How a frame is shown. None: with the window of its header, in its own size."""

    window: Window | None = None
    viewport: tuple[int, int] | None = None
    region: Region | None = None
    quality: int = DEFAULT_QUALITY
    profile: str = "no"
    """Colors: without ICC profile (no), with that of the image (yes), or converted to srgb."""
    warnings: tuple[Message, ...] = ()


def read_picture_parameters(values: QueryDict) -> PictureParameters:
    """Take the parameters for pictures out of the query. Raise InvalidParameter.

    What is known but not supported is ignored with a warning (PS3.18 8.3.5.1.1).
    """
    viewport, region = _read(values, "viewport", _parse_viewport) or (None, None)
    annotations = _read(values, "annotation", _parse_annotations) or ()
    profile = _read(values, "iccprofile", _parse_profile) or "no"
    ignored = {"annotation": annotations} if annotations else {}
    if profile not in _KNOWN_PROFILES:
        ignored["iccprofile"] = (profile,)
        profile = "no"
    return PictureParameters(
        _read(values, "window", _parse_window),
        viewport,
        region,
        _read(values, "quality", _parse_quality) or DEFAULT_QUALITY,
        profile,
        tuple(
            Message("dicomweb.values-ignored", parameter=name, values=", ".join(found))
            for name, found in ignored.items()
        ),
    )


def read_thumbnail_parameters(values: QueryDict) -> PictureParameters:
    """Take the size of a thumbnail out of the query (PS3.18 8.3.5.2). Raise InvalidParameter."""
    viewport, region = _read(values, "viewport", _parse_viewport) or (None, None)
    if region is not None:
        raise InvalidParameter("viewport", "dicomweb.not-a-viewport")
    return PictureParameters(viewport=viewport)


_REFUSALS = {
    "window": "dicomweb.not-a-window",
    "viewport": "dicomweb.not-a-viewport",
    "quality": "dicomweb.not-a-quality",
    "annotation": "dicomweb.not-an-annotation",
    "iccprofile": "dicomweb.not-a-profile",
}


def _read(values: QueryDict, name: str, parse: Callable[[str], T]) -> T | None:
    given = values.pop(name, [])
    try:
        return parse(*given) if given else None
    except (ValueError, TypeError):  # TypeError: given twice
        raise InvalidParameter(name, _REFUSALS[name]) from None


def _parse_window(text: str) -> Window:
    """Return the window of center,width,function. Raise ValueError."""
    center, width, function = text.split(",")
    window = Window(_parse_number(center), _parse_number(width), function.lower())
    least = 1.0 if window.function == "linear" else 1e-6
    if window.function not in WINDOW_FUNCTIONS or window.width < least:
        raise ValueError
    return window


def _parse_viewport(text: str) -> tuple[tuple[int, int], Region | None]:
    """Return size and region of width,height or width,height,x,y,w,h. Raise ValueError.

    Each number of the region can be empty, and those at the end can be missing.
    """
    width, height, *region = text.split(",")
    size = (int(width), int(height))
    if not all(0 < side <= MAX_SIDE for side in size) or len(region) > 4:
        raise ValueError
    if not region:
        return size, None
    numbers = [_parse_number(number) if number.strip() else None for number in region]
    left, top, across, down = numbers + [None] * (4 - len(numbers))
    if across == 0 or down == 0:
        raise ValueError
    return size, (abs(left or 0.0), abs(top or 0.0), across, down)


def _parse_quality(text: str) -> int:
    quality = int(text)
    if not 1 <= quality <= 100:
        raise ValueError
    return quality


def _parse_annotations(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    if not all(one in _ANNOTATIONS for one in found):
        raise ValueError
    return found


def _parse_profile(text: str) -> str:
    if text not in _PROFILES:
        raise ValueError
    return text


def _parse_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


# Rendering ---------------------------------------------------------------------------------------


def draw_frames(
    instance: Instance, numbers: Sequence[int], how: PictureParameters, largest: int = 0
) -> list[Image.Image]:
    """Return the frames as pictures. `largest`: the most pixels of a side without a viewport.

    Raise NotFound, NotAcceptable, InvalidInput.
    """
    frames = count_frames(instance)
    if not frames:
        raise NotAcceptable("rendering.unsupported")
    if not all(1 <= number <= frames for number in numbers):
        raise NotFound("rendering.frame", frames=frames)
    pictures: list[Image.Image] = []
    left = MAX_PIXELS
    for number in numbers:
        picture = _draw(instance, number, how, largest)
        left -= picture.width * picture.height
        if left < 0:
            raise InvalidParameter("frames", "dicomweb.pictures-too-large")
        pictures.append(picture)
    return pictures


def _draw(instance: Instance, number: int, how: PictureParameters, largest: int) -> Image.Image:
    picture = Image.fromarray(render_frame(instance, number - 1, window=how.window))
    if how.profile != "no":
        picture = _apply_profile(picture, instance, how.profile)
    if how.region is not None:
        picture = _cut_region(picture, how.region)
    if how.viewport is not None:
        picture = _fit(picture, how.viewport)
    if largest:
        picture.thumbnail((largest, largest))
    return picture


def _apply_profile(picture: Image.Image, instance: Instance, wanted: str) -> Image.Image:
    """Return the picture in RGB, with its ICC profile in `info` (PS3.18 8.3.5.1.2).

    That of the image applies to colors only; without one, sRGB is assumed.
    """
    stored = _read_profile(instance) if picture.mode == "RGB" else None
    picture = picture.convert("RGB")
    if stored is not None and wanted == "srgb":
        source = ImageCms.ImageCmsProfile(BytesIO(stored))
        try:
            picture = ImageCms.profileToProfile(picture, source, _SRGB) or picture
        except ImageCms.PyCMSError:
            raise NotAcceptable("rendering.unsupported") from None
        stored = None
    picture.info["icc_profile"] = stored or _SRGB.tobytes()
    return picture


def _read_profile(instance: Instance) -> bytes | None:
    """Return the ICC profile of an image with colors, if it can be used."""
    value = find_bulk_value(instance, _ICC_PROFILE)
    if not value or len(value) > MAX_PROFILE_BYTES:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(value)).profile
    except OSError:
        return None
    return value if profile.xcolor_space.strip() == "RGB" else None


def _cut_region(picture: Image.Image, region: Region) -> Image.Image:
    left, top, across, down = region
    width = picture.width - left if across is None else abs(across)
    height = picture.height - top if down is None else abs(down)
    box = (round(left), round(top), round(left + width), round(top + height))
    is_inside = box[0] < box[2] <= picture.width and box[1] < box[3] <= picture.height
    if not is_inside:
        raise InvalidParameter("viewport", "dicomweb.not-a-viewport")
    cut = picture.crop(box)
    cut = ImageOps.mirror(cut) if across is not None and across < 0 else cut
    return ImageOps.flip(cut) if down is not None and down < 0 else cut


def _fit(picture: Image.Image, viewport: tuple[int, int]) -> Image.Image:
    """Return the picture as large as the viewport allows, with its aspect ratio."""
    scale = min(viewport[0] / picture.width, viewport[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def encode_pictures(pictures: Sequence[Image.Image], kind: str, how: PictureParameters) -> bytes:
    """Return one file of a media type of pictures. Only GIF can hold several, and no profile."""
    first, *others = pictures
    profile = first.info.get("icc_profile")
    buffer = BytesIO()
    if kind == "image/gif":
        several = {"save_all": True, "append_images": others, "duration": FRAME_MS, "loop": 0}
        first.save(buffer, "GIF", **several if others else {})
    elif kind == "image/png":
        first.save(buffer, "PNG", icc_profile=profile)
    else:
        first.save(buffer, "JPEG", quality=how.quality, icc_profile=profile)
    return buffer.getvalue()
