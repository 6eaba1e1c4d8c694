"""Bodies made of ellipsoids, on any grid that a series is scanned with.

Lengths are millimetres in patient coordinates (PS3.3 C.7.6.2.1.1): x grows to the left hand, y to
the back, z to the head. Used by `demo.anatomy`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, auto

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]


class Tissue(IntEnum):
    AIR = 0
    FAT = auto()
    MUSCLE = auto()
    BONE = auto()
    MARROW = auto()
    LUNG = auto()
    VESSEL = auto()
    BLOOD = auto()
    HEART = auto()
    LIVER = auto()
    SPLEEN = auto()
    KIDNEY = auto()
    BOWEL = auto()
    WATER = auto()
    GREY = auto()
    WHITE = auto()
    EYE = auto()
    LESION = auto()
    COUCH = auto()


@dataclass(frozen=True)
class Grid:
    """Sample positions, as three rising series of coordinates."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    z: NDArray[np.float32]

    @classmethod
    def over(cls, start: Point, spacing: Point, counts: tuple[int, int, int]) -> "Grid":
        axes = [
            first + step * np.arange(count, dtype=np.float32)
            for first, step, count in zip(start, spacing, counts, strict=True)
        ]
        return cls(*axes)


class Body:
    """Tissues on a grid: `tissues[z, y, x]`. Later tissues cover earlier ones."""

    def __init__(self, grid: Grid, size: float = 1.0) -> None:
        self.grid = Grid(grid.x / size, grid.y / size, grid.z)
        self.tissues = np.zeros((len(grid.z), len(grid.y), len(grid.x)), np.uint8)

    def ellipsoid(
        self,
        tissue: Tissue,
        centre: Point,
        radii: Point,
        *,
        tilt: float = 0.0,
        within: Tissue | None = None,
    ) -> None:
        """Paint an ellipsoid; `tilt` in radians in the axial plane.

        `within` leaves all other tissues unchanged.
        """
        reach = max(radii[:2]) if tilt else 0.0
        heights = _span(self.grid.z, centre[2], radii[2])
        if heights.start == heights.stop:
            return
        box = (
            heights,
            _span(self.grid.y, centre[1], reach or radii[1]),
            _span(self.grid.x, centre[0], reach or radii[0]),
        )
        view = self.tissues[box]
        if not view.size:
            return
        x = (self.grid.x[box[2]] - centre[0])[None, :]
        y = (self.grid.y[box[1]] - centre[1])[:, None]
        z = ((self.grid.z[box[0]] - centre[2]) / radii[2]) ** 2
        cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        flat = ((cos * x + sin * y) / radii[0]) ** 2 + ((cos * y - sin * x) / radii[1]) ** 2
        inside = flat[None] <= (1 - z)[:, None, None]
        if within is not None:
            inside &= view == within
        view[inside] = tissue

    def column(
        self,
        tissue: Tissue,
        centre: tuple[float, float],
        radii: tuple[float, float],
        z: tuple[float, float],
    ) -> None:
        """Paint an upright column with an elliptical section between two heights."""
        rows = _span(self.grid.y, centre[1], radii[1])
        columns = _span(self.grid.x, centre[0], radii[0])
        heights = _span(self.grid.z, (z[0] + z[1]) / 2, (z[1] - z[0]) / 2)
        x = ((self.grid.x[columns] - centre[0]) / radii[0])[None, :]
        y = ((self.grid.y[rows] - centre[1]) / radii[1])[:, None]
        self.tissues[heights, rows, columns][:, x**2 + y**2 <= 1] = tissue

    def tube(
        self,
        tissue: Tissue,
        points: Iterable[Point],
        radius: tuple[float, float],
        within: Tissue | None = None,
    ) -> None:
        """Paint a chain of balls along a line, from the first radius to the last."""
        chain = list(points)
        for place, r in zip(chain, np.linspace(*radius, len(chain)), strict=True):
            self.ellipsoid(tissue, place, (float(r),) * 3, within=within)

    def spine(self, y: float, low: float, high: float) -> None:
        """Paint vertebrae every 27 mm with discs, the canal and the processes behind."""
        self.column(Tissue.MUSCLE, (-32, y + 25), (26, 20), (low, high))
        self.column(Tissue.MUSCLE, (32, y + 25), (26, 20), (low, high))
        self.column(Tissue.WATER, (0, y), (18, 14), (low, high))
        for middle in np.arange(low, high + 27, 27):
            z = (middle - 11, middle + 11)
            self.column(Tissue.BONE, (0, y), (21, 16), z)
            self.column(Tissue.MARROW, (0, y), (18, 13), z)
            self.ellipsoid(Tissue.BONE, (0, y + 20, middle), (32, 7, 8))
            self.ellipsoid(Tissue.BONE, (0, y + 36, middle - 4), (4, 17, 9))
        self.column(Tissue.BONE, (0, y + 20), (13, 11), (low, high))
        self.column(Tissue.WATER, (0, y + 20), (9, 8), (low, high))


def _span(axis: NDArray[np.float32], centre: float, reach: float) -> slice:
    return slice(int(axis.searchsorted(centre - reach)), int(axis.searchsorted(centre + reach)))
