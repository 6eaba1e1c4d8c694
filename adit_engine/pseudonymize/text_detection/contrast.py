"""Make text visible whatever its contrast and the range of the image. Runs in the child process."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE, _TIMES = 17, 3
"""Side of the box, and how often it is averaged: nearly a normal distribution with sigma 8.5. Letters
are smaller. One box alone shows noise beside edges as sharply bounded squares, which resemble text."""
_AROUND = _SIDE // 2 * _TIMES
"""Rows around a strip that are needed for it."""
_STRIP_ROWS = 512
"""Rows that are handled at a time, so that large images need little memory."""
_PADDING_GAP = 2
"""Ratio of a gap between numbers to the range of the others above which it is due to padding."""
_SMALLEST_STEP = 0.75
"""Differences of less than one stored number cannot exist; noise below is not enlarged."""


def enhance_contrast(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return gray or colors of 8 bits: the mean of the whole range and of the local contrast."""
    step = [max(side // 512, 1) for side in values.shape[:2]]
    edge, excess = _find_gap(values)
    sample = _close_gap(values[:: step[0], :: step[1]], edge, excess)
    low, high = (float(np.percentile(sample, share)) for share in (0.1, 99.9))
    if high - low < 1:
        low, high = float(values.min()), float(values.max()) - excess
    shown = np.empty(values.shape, np.uint8)
    for top in range(0, values.shape[0], _STRIP_ROWS):
        above = min(top, _AROUND)
        strip = _close_gap(values[top - above : top + _STRIP_ROWS + _AROUND], edge, excess)
        mixed = _enhance_strip(strip, low, high)[above : above + _STRIP_ROWS]
        shown[top : top + _STRIP_ROWS] = mixed
    return shown


def _find_gap(values: NDArray[Any]) -> tuple[int, int]:
    """Return the end of the widest gap between numbers, and how much too wide it is.

    Padding may be far outside of the range of the image (PS3.3 C.7.5.1.1.2). What is beside it
    would have no contrast, so a far wider gap is made as wide as the range on one of its sides.
    """
    low = int(values.min())
    present = np.zeros(int(values.max()) - low + 1, bool)
    for top in range(0, values.shape[0], _STRIP_ROWS):
        present[values[top : top + _STRIP_ROWS] - low] = True
    levels = np.flatnonzero(present) + low
    gaps = np.diff(levels)
    if len(gaps) < 2:
        return low, 0
    at = int(gaps.argmax())
    others = int(max(levels[at] - low, levels[-1] - levels[at + 1]))
    gap = int(gaps[at])
    return int(levels[at + 1]), gap - others if gap > _PADDING_GAP * others else 0


def _close_gap(values: NDArray[Any], edge: int, excess: int) -> NDArray[np.float32]:
    shown = values.astype(np.float32)
    shown[values >= edge] -= excess
    return shown


def _enhance_strip(numbers: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    whole = (numbers - low) / max(high - low, 1.0)
    precise = numbers.astype(np.float64)  # float32 cannot hold the squares of 16 bits
    mean = _average(precise)
    spread = np.sqrt(np.maximum(_average(np.square(precise)) - np.square(mean), 0))
    local = ((precise - mean) / (spread + _SMALLEST_STEP) / 4 + 0.5).astype(np.float32)
    mixed: NDArray[np.float32] = (whole.clip(0, 1) + local.clip(0, 1)) * 127.5
    return mixed.round()


def _average(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    for _ in range(_TIMES):
        numbers = cv2.blur(numbers, (_SIDE, _SIDE))
    return numbers
