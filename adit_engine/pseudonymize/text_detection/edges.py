"""A cheap measure by which an image with text differs from its neighbours: edges per block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 16
_AROUND = 2
"""Blocks around those with more edges that are looked at, too."""
_FACTOR = 1.15
_MARGIN = 0.05
"""Edges count as more if they exceed those before by this factor and margin, in stored numbers."""


class EdgeHistory:
    """The most edges that each block had in images that were found clean."""

    def __init__(self) -> None:
        self._most: NDArray[np.float32] | None = None

    def find_new_edges(self, values: NDArray[Any]) -> tuple[slice, slice] | None:
        """Return the rows and columns with more edges than before; None if there are none."""
        if self._most is None:
            return slice(None), slice(None)
        limit = _spread(self._most) * _FACTOR + _MARGIN
        rows, columns = np.nonzero(_count_edges(values) > limit)
        return (_to_pixels(rows), _to_pixels(columns)) if len(rows) else None

    def add(self, values: NDArray[Any]) -> None:
        edges = _count_edges(values)
        self._most = edges if self._most is None else np.maximum(self._most, edges)


def _to_pixels(blocks: NDArray[Any]) -> slice:
    first, last = int(blocks.min()) - _AROUND, int(blocks.max()) + _AROUND
    return slice(max(first, 0) * _BLOCK, (last + 1) * _BLOCK)


def _count_edges(values: NDArray[Any]) -> NDArray[np.float32]:
    """Return the mean difference of neighbouring pixels for each block."""
    numbers = values.astype(np.int32)
    if numbers.ndim == 3:
        numbers = numbers @ np.array([5, 9, 2], np.int32)  # colors of equal brightness differ, too
    down = np.abs(np.diff(numbers, axis=0, append=numbers[-1:]))
    across = np.abs(np.diff(numbers, axis=1, append=numbers[:, -1:]))
    rows, columns = (-(-side // _BLOCK) for side in numbers.shape)
    padded = np.zeros((rows * _BLOCK, columns * _BLOCK), np.float32)
    padded[: numbers.shape[0], : numbers.shape[1]] = down + across
    blocks: NDArray[np.float32] = padded.reshape(rows, _BLOCK, columns, _BLOCK).mean(axis=(1, 3))
    return blocks


def _spread(blocks: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the maximum of each block and its neighbours: anatomy moves from image to image."""
    padded = np.pad(blocks, 1, mode="edge")
    rows, columns = blocks.shape
    shifts = (padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3))
    most: NDArray[np.float32] = np.maximum.reduce(list(shifts))
    return most
