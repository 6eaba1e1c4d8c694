"""Overlays that contain a name, and icon images. Used by the sample series."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.sequence import Sequence

from adit.demo.glyphs import draw
from adit.demo.headers import item
from adit.demo.people import Person
from adit.demo.stack import image_module


def make_overlay(person: Person, rows: int, columns: int) -> dict[int, tuple[str, Any]]:
    """Return an overlay plane with the patient's name in its bits (PS3.3 C.9.2)."""
    plane = np.zeros((rows, columns), np.uint8)
    draw(plane, [person.plain_name, f"{person.born:%d.%m.%Y}"], (6, 6), 1 + rows // 300)
    bits = np.packbits(plane.astype(bool).ravel(), bitorder="little").tobytes()
    return {
        0x60000010: ("US", rows), 0x60000011: ("US", columns), 0x60000022: ("LO", "Patient"),
        0x60000040: ("CS", "G"), 0x60000050: ("SS", [1, 1]), 0x60000100: ("US", 1),
        0x60000102: ("US", 0), 0x60003000: ("OW", bits + b"\0" * (len(bits) % 2)),
    }  # fmt: skip


def make_icon(pixels: NDArray[Any], low: float, high: float) -> Sequence:
    step = max(1, pixels.shape[0] // 64)
    small = np.clip((pixels[::step, ::step][:64, :64] - low) / (high - low) * 255, 0, 255)
    icon = item(**image_module(small.shape[0], small.shape[1], 8))
    icon.add_new(0x7FE00010, "OB", small.astype(np.uint8).tobytes())
    return Sequence([icon])
