"""Geometry of the slices of a series, and the elements that describe it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numpy import int16
from numpy.typing import NDArray

from adit.demo.anatomy import Anatomy
from adit.demo.phantoms import Body, Grid

_AXES = {
    "axial": (1, 0, 0, 0, 1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
}


@dataclass(frozen=True)
class Stack:
    """Geometry of a series: plane, field of view, matrix and slice positions."""

    plane: str
    view_mm: float
    matrix: int
    first_mm: float
    step_mm: float
    count: int
    middle_mm: float = 0.0

    @property
    def spacing(self) -> float:
        return self.view_mm / self.matrix

    def body(self, part: Anatomy, person: int) -> Body:
        """Return the tissues at these slices; `layers` turns scanned values into images."""
        return _painted(self, part, person)

    def grid(self) -> Grid:
        start, step = -self.view_mm / 2, self.spacing
        across = (start, step, self.matrix)
        upright = (start + self.middle_mm, step, self.matrix)
        through = (self.first_mm, self.step_mm, self.count)
        x, y, z = {
            "axial": (across, across, through),
            "coronal": (across, through, upright),
            "sagittal": (through, across, upright),
        }[self.plane]
        return Grid.over((x[0], y[0], z[0]), (x[1], y[1], z[1]), (x[2], y[2], z[2]))

    def layers(self, scanned: NDArray[int16]) -> NDArray[int16]:
        if self.plane == "axial":
            return scanned
        order = (1, 0, 2) if self.plane == "coronal" else (2, 0, 1)
        return scanned.transpose(order)[:, ::-1]

    def place(self, index: int) -> dict[str, Any]:
        """Return the Image Plane module (PS3.3 C.7.6.2) of one slice."""
        start = -self.view_mm / 2
        at = self.first_mm + index * self.step_mm
        top = start + self.middle_mm + (self.matrix - 1) * self.spacing
        corner = {
            "axial": (start, start, at),
            "coronal": (start, at, top),
            "sagittal": (at, start, top),
        }[self.plane]
        return {
            "ImagePositionPatient": [f"{value:.4f}" for value in corner],
            "ImageOrientationPatient": [str(value) for value in _AXES[self.plane]],
            "SliceLocation": f"{at:.2f}",
        }


def image_module(rows: int, columns: int, bits: int, *, signed: bool = False) -> dict[str, Any]:
    """Return the Image Pixel module (PS3.3 C.7.6.3)."""
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 8 if bits == 8 else 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(signed),
    }


@lru_cache(maxsize=1)
def _painted(stack: Stack, part: Anatomy, person: int) -> Body:
    """Cached for the next series, which often shows the same slices in another way."""
    return part(stack.grid(), person)
