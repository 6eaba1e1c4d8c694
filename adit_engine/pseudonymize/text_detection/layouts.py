"""Compare images of one device by where text stands. Used by the review of images."""

from collections.abc import Sequence

from adit_engine.pseudonymize.pixel_rules import Rectangle

_NEARBY = 12
"""Pixels by which text may be displaced in images of the same layout."""


def group_by_layout(images: Sequence[Sequence[Rectangle] | None]) -> list[list[int]]:
    """Return the positions of images with the same layout, in order of their first image.

    Each image is given by the rectangles around its text. Those of a layout begin and end at the
    same places; the image with the most extended text comes first. None, for an image whose text is
    unknown, is a layout of its own.
    """
    found: list[list[int]] = []
    for number, text in enumerate(images):
        for members in found:
            first = images[members[0]]
            if text is not None and first is not None and _is_alike(text, first):
                members.append(number)
                break
        else:
            found.append([number])
    return [sorted(members, key=lambda n: -_measure(images[n] or ())) for members in found]


def _measure(text: Sequence[Rectangle]) -> int:
    return sum(width * height for _left, _top, width, height in text)


def _is_alike(one: Sequence[Rectangle], other: Sequence[Rectangle]) -> bool:
    return _has_counterparts(one, other) and _has_counterparts(other, one)


def _has_counterparts(one: Sequence[Rectangle], other: Sequence[Rectangle]) -> bool:
    return all(any(_is_near(here, there) for there in other) for here in one)


def _is_near(one: Rectangle, other: Rectangle) -> bool:
    sides = zip(_find_sides(one), _find_sides(other), strict=True)
    return all(abs(here - there) <= _NEARBY for here, there in sides)


def _find_sides(one: Rectangle) -> Rectangle:
    left, top, width, height = one
    return left, top, left + width, top + height
