"""Tell letters of any script from other structures. Runs in the child process.

For text that cannot be read: letters are sharp, and separate from what surrounds the line. Anatomy
is smooth; curves, grids and edges run on beyond the region.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Margins = tuple[int, int, int, int]
"""Pixels of surroundings at the left, top, right and bottom; 0 where the image ends."""

_SHARP, _SHARP_PER_PIXEL, _SHARP_IF_JOINED, _SHARP_IF_LARGE = 5.0, 0.3, 7.5, 9.0
"""Change of brightness over the height of a line, as a multiple of its contrast. Small letters are
blurred by the pixels themselves."""
_JOINED_PER_PIXEL, _SMALLEST_JOINED = 0.42, 10
_FAINT, _DISTINCT = 35, 90
"""Contrast, of 255. Letters that are joined to one shape, or very large, must be distinct."""
_LARGE, _LARGE_LINE = 32, 1.65
_SEPARATE = 0.5
"""Share of the ink that belongs to shapes inside of the region."""
_FEWEST_MARKS, _MANY_MARKS, _FAR = 5, 10, 0.6
"""Strokes of a scale; their least distance, as a share of their length, if they are not many."""
_UNEQUAL, _LENGTHS_OF_MARKS, _SPECK = 1.5, 3, 2
"""Most pixels by which one is out of place; most lengths; pixels beside a straight stroke."""


def shows_letters(cut: NDArray[np.uint8], margins: Margins) -> bool:
    """Whether a region, cut out with surroundings in the pixels of the frame, shows letters."""
    left, top, right, bottom = margins
    inner = (slice(top, cut.shape[0] - bottom), slice(left, cut.shape[1] - right))
    values = _most_distinct_channel(cut, inner)
    height = min(values[inner].shape)
    smooth = cv2.GaussianBlur(values, (0, 0), max(0.5, height / 32))
    detail = smooth - cv2.blur(smooth, (height | 1, height | 1))
    low, high = np.percentile(detail[inner], (2, 98))
    contrast = float(high - low)
    if contrast < _FAINT:
        return False
    slope = np.hypot(
        cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8),
    )
    sharpness = float(np.percentile(slope[inner], 95)) / contrast * height
    if sharpness < min(_SHARP, _SHARP_PER_PIXEL * height):
        return False
    if height > _LARGE and (
        sharpness < _SHARP_IF_LARGE
        or contrast < _DISTINCT
        or max(values[inner].shape) < _LARGE_LINE * height
    ):
        return False
    bright, dark = (_find_separate_shapes(sign * detail, inner, margins) for sign in (1, -1))
    if _are_scale_marks(bright) or _are_scale_marks(dark):
        return False
    is_sharp = sharpness >= min(_SHARP_IF_JOINED, _JOINED_PER_PIXEL * height)
    may_be_joined = is_sharp and contrast >= _DISTINCT and height >= _SMALLEST_JOINED
    return max(len(bright), len(dark)) >= (1 if may_be_joined else 2)


def _most_distinct_channel(cut: NDArray[np.uint8], inner: Any) -> NDArray[np.float32]:
    """Return the color in which the region has most contrast: others may be equally bright."""
    if cut.ndim == 2:
        return cut.astype(np.float32)
    spread = cut[inner].reshape(-1, cut.shape[2]).std(axis=0)
    return cut[..., int(spread.argmax())].astype(np.float32)


def _find_separate_shapes(
    detail: NDArray[np.float32], inner: Any, margins: Margins
) -> NDArray[np.int64]:
    """Return the bright shapes inside the region: left, top, width, height and area of each.

    There are none if most of the ink runs beyond the region.
    """
    height = min(detail[inner].shape)
    limit = 0.3 * max(float(np.percentile(detail[inner], 99)), 1)
    marked = _remove_straight_lines((detail > limit).astype(np.uint8), detail[inner].shape)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    inside = np.bincount(labels[inner].ravel(), minlength=count)
    rows, columns = detail.shape
    left, top, right, bottom = (margin > 0 for margin in margins)
    all_ink, ink = 0, 0
    shapes: list[tuple[int, int, int, int, int]] = []
    for number in range(1, count):
        x, y, width, tall, area = (int(value) for value in boxes[number])
        if area < max(4, height * height / 100) or not inside[number]:
            continue
        all_ink += int(inside[number])
        runs_on = (
            (left and x == 0)
            or (top and y == 0)
            or (right and x + width == columns)
            or (bottom and y + tall == rows)
        )
        if not runs_on and inside[number] >= 0.8 * area:
            ink += int(inside[number])
            shapes.append((x, y, width, tall, area))
    return np.array(shapes if ink >= _SEPARATE * all_ink else [], np.int64).reshape(-1, 5)


def _are_scale_marks(shapes: NDArray[np.int64]) -> bool:
    """Whether all shapes (left, top, width, height, area) are the marks of one scale.

    These are straight strokes of one width and few lengths, side by side in equal distances. Letters
    such as I and l stand closer together, and bars of a barcode differ in width.
    """
    if len(shapes) < _FEWEST_MARKS:
        return False
    centers = shapes[:, :2] + shapes[:, 2:4] / 2
    along = int(np.ptp(centers[:, 1]) > np.ptp(centers[:, 0]))
    order = np.argsort(centers[:, along])
    shapes, centers = shapes[order], centers[order]
    lengths = shapes[:, 3 - along]
    strokes = shapes[:, 4] / lengths  # a speck of noise may touch one
    places = centers[:, along]
    misplaced = np.abs(places - np.linspace(places[0], places[-1], len(places))).max()
    distance, length = float(np.median(np.diff(places))), float(np.median(lengths))
    starts = shapes[:, 1 - along]
    aligned = min(np.ptp(starts), np.ptp(starts + lengths), np.ptp(starts + lengths / 2))
    return bool(
        (len(shapes) >= _MANY_MARKS or distance >= _FAR * length)
        and misplaced <= max(_UNEQUAL, 0.1 * distance)
        and np.ptp(strokes) <= _SPECK  # the outer ones seem wider
        and aligned <= _UNEQUAL
        and (lengths >= 2 * strokes).all()
        and (shapes[:, 2 + along] <= strokes + _SPECK).all()
        and (np.diff(np.sort(lengths)) > 1).sum() < _LENGTHS_OF_MARKS
    )


def _remove_straight_lines(marked: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Remove straight lines along the whole text, such as underlines: they would join letters."""
    rows, columns = size
    along = np.ones((1, columns) if columns > rows else (rows, 1), np.uint8)
    removed: NDArray[np.uint8] = marked * (1 - cv2.morphologyEx(marked, cv2.MORPH_OPEN, along))
    return removed
