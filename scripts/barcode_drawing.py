"""Draw barcodes and matrix codes with made-up numbers. Used by the pixel corpus and by tests."""

import numpy as np
from numpy.typing import NDArray
from zxingcpp import BarcodeFormat, create_barcode

Modules = NDArray[np.bool_]
"""Rows and columns of a code; True where it is dark."""


def draw_code(kind: str, text: str, height: int = 20) -> Modules:
    """Return a code of a kind such as "Code 128" or "Data Matrix", one module per element.

    Of codes of one row of bars, `height` is in modules.
    """
    made = create_barcode(text, getattr(BarcodeFormat, kind.replace(" ", "")))
    dark: Modules = np.asarray(made.to_image(scale=1, add_quiet_zones=False)) < 128
    is_one_row = (dark == dark[0]).all()
    return np.tile(dark[0], (height, 1)) if is_one_row else dark


def burn_code(
    values: NDArray[np.float64], code: Modules, place: tuple[int, int], *, module: int,
    dark: float = 60, bright: float = 3900, margin: int = 4,
) -> NDArray[np.float64]:  # fmt: skip
    """Put a code at (left, top) of an image, on a field with a margin in modules."""
    field = np.kron(np.pad(code, margin), np.ones((module, module), bool))
    left, top = place
    burned = values.copy()
    burned[top : top + field.shape[0], left : left + field.shape[1]] = np.where(field, dark, bright)
    return burned
