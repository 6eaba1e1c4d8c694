"""Find barcodes and matrix codes. Runs in the child process only.

Barcodes (Code 128, Code 39, ITF, EAN) are parallel bars and spaces of two levels and several widths;
marks of a scale and grids have one width. QR codes have three squares at their corners. Both are
found by their shape, also where they cannot be read. Data Matrix, Aztec, PDF417 and the smaller QR
codes are found by zxing-cpp, which reads them; what it reads is not used.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from zxingcpp import BarcodeFormat, Binarizer, read_barcodes

Gray = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_WINDOW = 13
_PARALLEL = 0.6
"""Coherence of the gradients in a window, from 0 to 1, in the core of a barcode."""
_GRADIENT = 12.0
"""Least mean change of brightness per pixel there."""
_ANY, _UPRIGHT, _LYING = 1, 2, 3
"""Direction of the bars where a pixel is marked."""
_MOSTLY = 4.0
"""Least ratio of the squared gradients across upright or lying bars and along them."""
_STRIP_ROWS, _STRIP_MARGIN = 512, 16
_MAX_CANDIDATES = 40
_LENGTH = 24
"""Shortest barcode, in pixels."""
_BAND, _FINE = 5, 4
"""Rows that are looked at together; steps per pixel in which widths are measured."""
_UNLIKE, _MAX_BANDS = 0.3, 12
"""Most difference between the rows of a barcode, as a share of their spread; bands looked at, about."""
_RUNS = 24
"""Fewest bars and spaces; the shortest codes of four digits have more."""
_WIDEST = 5.0
"""Widest bar or space, in modules: four, and some blur."""
_MODULES = (1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
_WIDE = 0.12
"""Least share of bars, and of spaces, that are wider than one module."""
_UNEVEN = 0.45
"""Most variation of the brightness of bars or of spaces, as a share of their contrast."""

_SAME = 0.85
"""Least correlation of the bars in two bands."""
_FILLED = 0.2
"""Least share of a rectangle that is filled by the bars in it."""

_FINDER = cv2.resize(
    np.kron(
        np.pad(np.pad(np.full((3, 3), 255, np.uint8), 1), 1, constant_values=255),
        np.ones((3, 3), np.uint8),
    ),
    (11, 11),
    interpolation=cv2.INTER_AREA,
)
_FINDER_MODULE = 11 / 7
_LARGEST_SCALE, _SMALLEST_SCALE, _COARSE_STEP, _FINE_STEP = 1.0, 0.14, 0.85, 0.9
_ENLARGED_UP_TO = 3_000_000
"""Images are resized to at most so many pixels."""
_MATCH, _SUM_OF_MATCHES, _MAX_FINDERS = 0.6, 2.2, 40
_SHORTEST_SIDE = 12
"""Modules between two corners; 14 in the smallest QR code."""
_ASKEW = 0.15
"""Most deviation from a square, as a share of its side."""

_READ_FORMATS = [
    BarcodeFormat.DataMatrix, BarcodeFormat.Aztec, BarcodeFormat.PDF417, BarcodeFormat.MicroQRCode,
    BarcodeFormat.RMQRCode, BarcodeFormat.MaxiCode,
]  # fmt: skip


def find_codes(frame: Gray, *, is_thorough: bool = False) -> list[Box]:
    """Return the boxes (left, top, width, height) of barcodes and matrix codes.

    With `is_thorough`, more sizes are looked for, in about twice the time.
    """
    gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if frame.ndim == 3 else frame
    scales, step = ((1, 2), _FINE_STEP) if is_thorough else ((1,), _COARSE_STEP)
    shapes = [*_find_barcodes(gray, scales), *_find_qr_codes(gray, step)]
    return [*shapes, *_read_codes(gray, is_thorough=is_thorough)]


def _find_barcodes(gray: Gray, scales: Sequence[int]) -> Iterator[Box]:
    """Yield the boxes of barcodes; those with wide bars are found at half the size."""
    for scale in scales:
        size = (gray.shape[1] // scale, gray.shape[0] // scale)
        image = cv2.resize(gray, size, interpolation=cv2.INTER_AREA) if scale > 1 else gray
        for box in _find_barcodes_in(image, _mark_parallel(image)):
            left, top, width, height = (value * scale for value in box)
            yield left, top, width, height


def _find_barcodes_in(gray: Gray, marked: Gray) -> Iterator[Box]:
    """Yield the boxes of connected marks that are barcodes.

    A barcode may touch an edge of the anatomy: connected marks that do not fill their rectangle are
    divided by their direction.
    """
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(
        (marked > 0).view(np.uint8), connectivity=4
    )
    order = np.argsort(-boxes[1:, cv2.CC_STAT_AREA])[:_MAX_CANDIDATES] + 1
    for number in order:
        left, top, width, height, area = (int(value) for value in boxes[number])
        if area < _LENGTH * _BAND or max(width, height) < _LENGTH:
            continue
        place = slice(top, top + height), slice(left, left + width)
        inside = labels[place] == number
        size = cv2.minAreaRect(cv2.findNonZero(inside.view(np.uint8)))[1]
        if area >= _FILLED * size[0] * size[1]:
            if _shows_barcode(gray, inside, left, top):
                yield left, top, width, height
            continue
        for direction in (_UPRIGHT, _LYING):
            part = (inside & (marked[place] == direction)).view(np.uint8) * _ANY
            for x, y, *extent in _find_barcodes_in(gray[place], part):
                yield left + x, top + y, extent[0], extent[1]


def _mark_parallel(gray: Gray) -> Gray:
    """Mark pixels around which brightness changes strongly, and in one direction only.

    The marks are _UPRIGHT or _LYING where bars would be about so, otherwise _ANY.
    """
    marked = np.zeros(gray.shape, np.uint8)
    for start in range(0, gray.shape[0], _STRIP_ROWS):
        above = min(start, _STRIP_MARGIN)
        strip = gray[start - above : start + _STRIP_ROWS + _STRIP_MARGIN]
        xx, yy, xy = _structure(strip)
        strong = xx + yy > _GRADIENT**2
        parallel = np.square(xx - yy) + 4 * np.square(xy) > np.square(_PARALLEL * (xx + yy))
        direction = np.where(xx > _MOSTLY * yy, _UPRIGHT, np.where(yy > _MOSTLY * xx, _LYING, _ANY))
        found = np.where(strong & parallel, direction, 0)
        marked[start : start + _STRIP_ROWS] = found[above : above + _STRIP_ROWS]
    return marked


def _structure(gray: Gray) -> tuple[Any, Any, Any]:
    """Return the mean products of the gradients (structure tensor) around each pixel."""
    across = cv2.Sobel(gray, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(gray, cv2.CV_32F, 0, 1, scale=1 / 8)
    size = (_WINDOW, _WINDOW)
    return (
        cv2.blur(across * across, size),
        cv2.blur(down * down, size),
        cv2.blur(across * down, size),
    )


def _shows_barcode(gray: Gray, inside: NDArray[np.bool_], left: int, top: int) -> bool:
    """Whether a part of the image, turned so that its bars are upright, has the runs of a code."""
    rows, columns = inside.shape
    part = gray[top : top + rows, left : left + columns]
    xx, yy, xy = (float(product[inside].sum()) for product in _structure(part))
    angle = np.degrees(np.arctan2(2 * xy, xx - yy)) / 2
    if abs(angle) > 87:
        upright = np.rot90(part)
    elif abs(angle) < 3:
        upright = part
    else:
        points = cv2.findNonZero(inside.astype(np.uint8)).reshape(-1, 2).astype(np.float32)
        turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), angle, 1)
        turned = points @ turn[:, :2].T.astype(np.float32) + turn[:, 2].astype(np.float32)
        low, high = turned.min(axis=0), turned.max(axis=0)
        turn[:, 2] += 8 - low
        width, height = (int(value) for value in np.ceil(high - low + 16))
        turn[:, 2] -= turn[:, :2] @ (left, top)
        upright = cv2.warpAffine(gray, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    return _has_code_bands(upright.astype(np.float32))


def _has_code_bands(upright: NDArray[np.float32]) -> bool:
    """Whether two bands of rows, one below the other, show the same bars of a code."""
    count, columns = upright.shape[0] // _BAND, upright.shape[1]
    rows = upright[: count * _BAND].reshape(count, _BAND, columns)
    profiles = rows.mean(axis=1)
    spread = profiles.std(axis=1) + 1
    alike = np.abs(rows - profiles[:, np.newaxis]).mean(axis=(1, 2)) < _UNLIKE * spread
    same = np.abs(np.diff(profiles, axis=0)).mean(axis=1) < _UNLIKE * spread[1:]
    places = np.flatnonzero(alike[:-1] & alike[1:] & same)
    chosen = places[:: max(1, len(places) // _MAX_BANDS)]
    return any(_has_code_runs(profiles[place : place + 2]) for place in chosen)


def _has_code_runs(pair: NDArray[np.float32]) -> bool:
    """Whether the profiles of two bands have a row of bars and spaces in common."""
    fine = cv2.resize(pair, None, fx=_FINE, fy=1, interpolation=cv2.INTER_CUBIC)
    profile = fine[:1]
    for module in _MODULES:
        around = np.ones((1, round(_WIDEST * module * _FINE) * 2 + 1), np.uint8)
        high, low = cv2.dilate(profile, around), cv2.erode(profile, around)
        bright = (profile > (high + low) / 2)[0]
        edges = np.flatnonzero(np.diff(bright)) + 1
        if len(edges) <= _RUNS:
            continue
        lengths = np.diff(edges) / _FINE
        fits = (lengths > 0.4 * module) & (lengths < _WIDEST * module)
        ends = np.flatnonzero(np.diff(np.concatenate(([0], fits.view(np.int8), [0]))))
        for first, last in zip(ends[::2], ends[1::2], strict=True):
            if last - first >= _RUNS and _is_code(lengths[first:last]):
                values = fine[:, edges[first] : edges[last]]
                is_same = np.corrcoef(values)[0, 1] > _SAME
                if is_same and _has_two_levels(values[0], edges[first : last + 1] - edges[first]):
                    return True
    return False


def _is_code(lengths: NDArray[Any]) -> bool:
    """Whether bars as well as spaces have several widths; those of a scale have one."""
    for one in (lengths[::2], lengths[1::2]):
        narrow = float(np.percentile(one, 20))
        wide = float((one > 1.4 * narrow + 0.25).mean())
        if wide < _WIDE:
            return False
    return True


def _has_two_levels(values: NDArray[Any], edges: NDArray[Any]) -> bool:
    middles = np.array([np.median(values[start:end]) for start, end in pairwise(edges)])
    one, other = middles[::2], middles[1::2]
    contrast = abs(float(np.median(one) - np.median(other)))
    return max(float(one.std()), float(other.std())) < _UNEVEN * contrast


def _find_qr_codes(gray: Gray, step: float) -> Iterator[Box]:
    """Yield squares with the finder pattern of ISO/IEC 18004, 6.3.3, in three corners."""
    scale = min(_LARGEST_SCALE, (_ENLARGED_UP_TO / gray.size) ** 0.5)
    smallest = scale * _SMALLEST_SCALE
    while scale > smallest:
        way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        image = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=way)
        if min(image.shape) < 21 * _FINDER_MODULE:
            return
        match = cv2.matchTemplate(image, _FINDER, cv2.TM_CCOEFF_NORMED)
        match[~np.isfinite(match)] = 0  # places without any contrast
        for sign in (1, -1):
            for left, top, width, height in _find_squares(sign * match):
                side = len(_FINDER)
                yield (
                    round(left / scale), round(top / scale),
                    round((width + side) / scale), round((height + side) / scale),
                )  # fmt: skip
        scale *= step


def _find_squares(match: NDArray[np.float32]) -> Iterator[Box]:
    """Yield the boxes around three equal matches that form half a square."""
    peaks = (match >= _MATCH) & (match >= cv2.dilate(match, np.ones((9, 9), np.uint8)))
    places = np.argwhere(peaks)[:, ::-1]
    if len(places) < 3:
        return
    scores = match[places[:, 1], places[:, 0]]
    best = np.argsort(-scores)[:_MAX_FINDERS]
    places, scores = places[best], scores[best]
    sides = places[np.newaxis] - places[:, np.newaxis]  # [corner, other]
    lengths = np.hypot(sides[..., 0], sides[..., 1])
    turned = np.stack([-sides[..., 1], sides[..., 0]], axis=-1)
    off = np.linalg.norm(turned[:, :, np.newaxis] - sides[:, np.newaxis], axis=-1)
    sums = scores[:, np.newaxis, np.newaxis] + scores[:, np.newaxis] + scores
    long = lengths > _SHORTEST_SIDE * _FINDER_MODULE
    for three in np.argwhere(
        (off < _ASKEW * lengths[..., np.newaxis]) & long[..., np.newaxis] & (sums > _SUM_OF_MATCHES)
    ):
        low, high = places[three].min(axis=0), places[three].max(axis=0)
        yield int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])
        return


def _read_codes(gray: Gray, *, is_thorough: bool) -> Iterator[Box]:
    """Yield the boxes of codes that are read, of those that are not found by their shape."""
    images, binarizers = [gray], [Binarizer.LocalAverage]
    if is_thorough and gray.size <= _ENLARGED_UP_TO:
        images.append(255 - gray)  # of PDF417, dark codes only are read
        binarizers.append(Binarizer.GlobalHistogram)
    for image, binarizer in product(images, binarizers):
        for code in read_barcodes(image, formats=_READ_FORMATS, binarizer=binarizer):
            place = code.position
            corners = (place.top_left, place.top_right, place.bottom_left, place.bottom_right)
            columns, rows = [one.x for one in corners], [one.y for one in corners]
            left, top = max(min(columns), 0), max(min(rows), 0)
            yield left, top, max(columns) - left + 1, max(rows) - top + 1
