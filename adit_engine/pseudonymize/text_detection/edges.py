"""Cheap measures by which an image with text differs from its neighbours: edges and strokes."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adit_engine.pseudonymize.pixel_rules import Rectangle

_BLOCK = 16
_AROUND = 2
"""Blocks around those that differ that are looked at, too."""
_FACTOR = 1.15
_EDGE_MARGIN, _STROKE_MARGIN = 0.05, 0.04
"""Edges count as more if they exceed those before by factor and margin (in stored numbers), strokes
by factor and margin (share of the pixels)."""
_LEVEL, _STEP = 128, 8
"""A stroke keeps its value to 1/128 of the range of the image and has a border of 1/8 of it."""

Part = tuple[slice, slice]
WHOLE: Part = (slice(None), slice(None))


class EdgeHistory:
    """The most edges and strokes that each block had in images that were found clean.

    Noise has more edges than text but no strokes. Of blocks with harmless marks nothing is kept,
    since text may replace a mark: they differ unless their pixels are the same.
    """

    def __init__(self) -> None:
        self._most: list[NDArray[np.float32]] = []
        self._last: tuple[NDArray[Any], ...] = ()

    def find_new_edges(self, layers: Sequence[NDArray[Any]]) -> Part | None:
        """Return the rows and columns that differ from the images before; None if none do.

        `layers` are all values of a frame (see `RenderableImage.stored_values`).
        """
        if not self._most:
            return WHOLE
        differ = np.zeros(self._most[0].shape[1:], bool)
        for values, last, most in zip(layers, self._last, self._most, strict=True):
            differ |= (_measure(values) > _get_limits(most)).any(axis=0) & _find_changes(
                values, last
            )
        rows, columns = np.nonzero(differ)
        return (_to_pixels(rows), _to_pixels(columns)) if len(rows) else None

    def add(self, layers: Sequence[NDArray[Any]], marks: Iterable[Rectangle]) -> None:
        """Add a frame that was found clean but for harmless marks."""
        self._last = tuple(layers)
        measured = [_measure(values) for values in layers]
        before = self._most or [np.zeros_like(one) for one in measured]
        for new, old in zip(measured, before, strict=True):
            np.maximum(new, old, out=new)
            for left, top, width, height in marks:
                rows = slice(max(top // _BLOCK - 1, 0), (top + height) // _BLOCK + 2)
                columns = slice(max(left // _BLOCK - 1, 0), (left + width) // _BLOCK + 2)
                new[:, rows, columns] = old[:, rows, columns]
        self._most = measured


def _to_pixels(blocks: NDArray[Any]) -> slice:
    first, last = int(blocks.min()) - _AROUND, int(blocks.max()) + _AROUND
    return slice(max(first, 0) * _BLOCK, (last + 1) * _BLOCK)


def _get_limits(most: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the limits of both measures. Neighbours count, since anatomy moves between images."""
    padded = np.pad(most, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows, columns = most.shape[1:]
    shifts = (padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3))
    margins = np.array([_EDGE_MARGIN, _STROKE_MARGIN], np.float32)[:, np.newaxis, np.newaxis]
    limits: NDArray[np.float32] = np.maximum.reduce(list(shifts)) * np.float32(_FACTOR) + margins
    return limits


def _measure(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return for each block the mean difference of neighbours, and the share of stroke borders."""
    numbers = values.astype(np.int32)
    if numbers.ndim == 2:
        numbers = numbers[..., np.newaxis]
    sample = numbers[::4, ::4]
    extent = float(np.subtract(*np.percentile(sample, (99.5, 0.5))))
    across = np.abs(np.diff(numbers, axis=1, append=numbers[:, -1:])).max(axis=2)
    down = np.abs(np.diff(numbers, axis=0, append=numbers[-1:])).max(axis=2)
    level, step = extent / _LEVEL, max(extent / _STEP, 2)
    strokes = ((across <= level) & (down >= step)) | ((down <= level) & (across >= step))
    return np.stack([_average(across + down), _average(strokes)])


def _find_changes(values: NDArray[Any], last: NDArray[Any]) -> NDArray[np.bool_]:
    differs = values != last
    if differs.ndim == 3:
        differs = differs.any(axis=2)
    return _average(differs) > 0


def _average(pixels: NDArray[Any]) -> NDArray[np.float32]:
    height, width = pixels.shape
    rows, columns = (-(-side // _BLOCK) for side in pixels.shape)
    padded = np.zeros((rows * _BLOCK, columns * _BLOCK), np.float32)
    padded[:height, :width] = pixels
    blocks: NDArray[np.float32] = padded.reshape(rows, _BLOCK, columns, _BLOCK).mean(axis=(1, 3))
    return blocks
