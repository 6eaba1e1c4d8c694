"""Propose the rectangles of a pixel rule from images of one device. Used by the review of images."""

from collections.abc import Iterable
from itertools import combinations

from adit_engine.errors import InstanceWithheld, InvalidInput
from adit_engine.pseudonymize.pixel_rules import Rectangle
from adit_engine.pseudonymize.text_detection.detector import shared_detector
from adit_engine.pseudonymize.text_detection.findings import PatientWords, judge_regions
from adit_engine.values.instance import Instance

_MARGIN = 6
"""Pixels around the text: other images of the device show longer names."""


def propose_rectangles(images: Iterable[Instance], most: int) -> tuple[Rectangle, ...]:
    """Return at most `most` rectangles that cover the text in all images, from top to bottom.

    Looks at the first, middle and last frame of each image. Images of another size than the first
    one, and those that cannot be rendered, are ignored. Raises InstanceWithheld if the detector
    fails.
    """
    from adit_engine.pseudonymize.frame_rendering import RenderableImage  # loads numpy

    found: list[Rectangle] = []
    size: tuple[int, int] | None = None
    for image in images:
        try:
            readable = RenderableImage(image)
            rows, columns, frames = readable.form.rows, readable.form.columns, readable.form.frames
            size = size or (rows, columns)
            if size != (rows, columns):
                continue
            for frame in sorted({0, frames // 2, frames - 1}):
                values = readable.stored_values(frame)[0]
                regions = shared_detector().find_text(values, is_thorough=frames == 1)
                text = judge_regions(regions, PatientWords()).text
                found += [_widen(region.box, columns, rows) for region in text]
        except (InvalidInput, ValueError, IndexError):
            continue
    return _merge(found, most)


def find_text_places(image: Instance) -> tuple[Rectangle, ...] | None:
    """Return rectangles around the text in the middle frame; None if it cannot be looked at."""
    from adit_engine.pseudonymize.frame_rendering import RenderableImage  # loads numpy

    try:
        readable = RenderableImage(image)
        values = readable.stored_values(readable.form.frames // 2)[0]
        is_thorough = readable.form.frames == 1
        regions = shared_detector().find_text(values, is_thorough=is_thorough)
    except (InvalidInput, InstanceWithheld, ValueError, IndexError):
        return None
    return tuple(region.box for region in judge_regions(regions, PatientWords()).text)


def _widen(box: Rectangle, columns: int, rows: int) -> Rectangle:
    left, top = max(box[0] - _MARGIN, 0), max(box[1] - _MARGIN, 0)
    right = min(box[0] + box[2] + _MARGIN, columns)
    return left, top, right - left, min(box[1] + box[3] + _MARGIN, rows) - top


def _merge(rectangles: Iterable[Rectangle], most: int) -> tuple[Rectangle, ...]:
    """Join rectangles that overlap; of too many, those that then cover the fewest other pixels."""
    kept: list[Rectangle] = []
    for one in rectangles:
        joined = one
        while touching := [other for other in kept if _overlap(joined, other)]:
            for other in touching:
                joined = _join(joined, other)
                kept.remove(other)
        kept.append(joined)
    while len(kept) > most:
        first, second = min(combinations(kept, 2), key=lambda pair: _added_area(*pair))
        kept = [one for one in kept if one not in (first, second)]
        kept = list(_merge([*kept, _join(first, second)], len(kept) + 1))
    return tuple(sorted(kept, key=lambda one: (one[1], one[0])))


def _overlap(one: Rectangle, other: Rectangle) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )


def _join(one: Rectangle, other: Rectangle) -> Rectangle:
    left, top = min(one[0], other[0]), min(one[1], other[1])
    right = max(one[0] + one[2], other[0] + other[2])
    return left, top, right - left, max(one[1] + one[3], other[1] + other[3]) - top


def _added_area(one: Rectangle, other: Rectangle) -> int:
    whole = _join(one, other)
    return whole[2] * whole[3] - one[2] * one[3] - other[2] * other[3]
