"""Compare images of one device by where text stands. Used by the review of images."""

from collections.abc import Sequence

from adit_engine.pseudonymize.pixel_rules import Rectangle

_NEARBY = 12
"""Pixels by which text may be displaced in images of the same layout."""


def group_by_layout(images: Sequence[Sequence[Rectangle] | None]) -> list[list[int]]:
    """Return the positions of images with the same layout, in order of their first image.

    Each image is given by the rectangles around its text. Longer or shorter text at the same place
    is the same layout. None, for an image whose text is unknown, is a layout of its own.
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
    return found


def _is_alike(one: Sequence[Rectangle], other: Sequence[Rectangle]) -> bool:
    return _has_counterparts(one, other) and _has_counterparts(other, one)


def _has_counterparts(one: Sequence[Rectangle], other: Sequence[Rectangle]) -> bool:
    return all(any(_is_near(here, there) for there in other) for here in one)


def _is_near(one: Rectangle, other: Rectangle) -> bool:
    return (
        one[0] < other[0] + other[2] + _NEARBY
        and other[0] < one[0] + one[2] + _NEARBY
        and one[1] < other[1] + other[3] + _NEARBY
        and other[1] < one[1] + one[3] + _NEARBY
    )
