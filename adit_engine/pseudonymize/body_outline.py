"""Tell from the pixels of an axial CT or MR slice that it shows a trunk, and so no head.

Used where the header names no body part. The answer is yes only for an outline that is larger than
any head; everything else stays undecided.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adit_engine.errors import InstanceWithheld, InvalidInput
from adit_engine.values.instance import Instance

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IMAGE_TYPE, _ORIENTATION, _SPACING = 0x00080008, 0x00200037, 0x00280030
_INTERCEPT, _SLOPE = 0x00281052, 0x00281053
REQUIRED_TAGS = frozenset({_IMAGE_TYPE, _ORIENTATION, _SPACING, _INTERCEPT, _SLOPE})
"""The tags whose values `shows_trunk` needs."""

_AIR_HU = -300.0
_MR_SIGNAL = 0.12
"""Share of the bright signal from which a pixel of an MR image counts as tissue."""
_GRID = 128
"""Pixels of the longer side on which the outline is determined."""
_MIN_AREA_CM2, _MIN_LONG_CM, _MIN_SHORT_CM = 450.0, 28.0, 17.0
"""A head has at most about 300 cm2 and 25 cm; raised arms beside it are not convex with it."""
_MIN_CONVEXITY, _MIN_TISSUE = 0.93, 0.5
_MIN_FILLED, _MAX_FILLED = 0.7, 0.92
"""Share of the surrounding rectangle. That of an ellipse is 0.79."""
_AXIAL = 0.85


def shows_trunk(image: Instance, modality: str, values: Mapping[int, bytes]) -> bool:
    """Whether a slice shows a trunk. False for everything that cannot be judged.

    `values` are encoded values of the header (see REQUIRED_TAGS).
    """
    spacing, orientation = (_decimals(values.get(tag, b"")) for tag in (_SPACING, _ORIENTATION))
    if len(spacing) != 2 or min(spacing) <= 0 or not _is_axial(orientation):
        return False
    kind = values.get(_IMAGE_TYPE, b"").strip(b" \0").upper().split(b"\\")
    if kind[:2] != [b"ORIGINAL", b"PRIMARY"]:
        return False
    from adit_engine.pseudonymize.frame_rendering import RenderableImage  # loads numpy

    try:
        readable = RenderableImage(image)
        if readable.form.frames != 1 or readable.form.samples_per_pixel != 1:
            return False
        numbers = readable.stored_values(0)[0]
        if modality == "CT":
            slope, intercept = (_decimals(values.get(tag, b"")) for tag in (_SLOPE, _INTERCEPT))
            if len(slope) != 1 or len(intercept) != 1:
                return False
            numbers = numbers * slope[0] + intercept[0]
        elif modality != "MR":
            return False
    except (InvalidInput, InstanceWithheld, ValueError, IndexError):
        return False
    return _is_trunk(numbers, modality, spacing)


def _is_trunk(numbers: "NDArray[Any]", modality: str, spacing: list[float]) -> bool:
    import numpy as np

    step = -(-max(numbers.shape) // _GRID)
    rows, columns = (side // step for side in numbers.shape)
    blocks = numbers[: rows * step, : columns * step].reshape(rows, step, columns, step)
    small = blocks.mean(axis=(1, 3))
    limit = _AIR_HU if modality == "CT" else _MR_SIGNAL * float(np.percentile(small, 99))
    tissue = small > limit
    outside = _grow(np.pad(~tissue, 1, constant_values=True), (0, 0))[1:-1, 1:-1]
    if not all(outside[row, column] for row in (0, -1) for column in (0, -1)):
        return False
    body = ~outside
    if not body[rows // 4 : -rows // 4, columns // 4 : -columns // 4].any():
        return False
    outline = _find_largest(body)
    taken_rows, taken_columns = (np.flatnonzero(outline.any(axis=axis)) for axis in (1, 0))
    height, width = (int(taken[-1] - taken[0]) + 1 for taken in (taken_rows, taken_columns))
    area, row_cm, column_cm = int(outline.sum()), spacing[0] * step / 10, spacing[1] * step / 10
    short, long = sorted((height * row_cm, width * column_cm))
    return (
        area * row_cm * column_cm >= _MIN_AREA_CM2
        and long >= _MIN_LONG_CM
        and short >= _MIN_SHORT_CM
        and _MIN_FILLED <= area / (height * width) <= _MAX_FILLED
        and min(_convexity(outline), _convexity(outline.T)) >= _MIN_CONVEXITY
        and tissue[outline].mean() >= _MIN_TISSUE
    )


def _grow(allowed: "NDArray[Any]", start: tuple[int, int]) -> "NDArray[Any]":
    """Return the allowed pixels that are connected with the start."""
    import numpy as np

    found = np.zeros_like(allowed)
    found[start] = allowed[start]
    count = 0
    while (now := int(found.sum())) != count:
        count = now
        found[1:] |= found[:-1]
        found[:-1] |= found[1:]
        found[:, 1:] |= found[:, :-1]
        found[:, :-1] |= found[:, 1:]
        found &= allowed
    return found


def _find_largest(body: "NDArray[Any]") -> "NDArray[Any]":
    import numpy as np

    left, largest = body.copy(), np.zeros_like(body)
    while left.sum() > largest.sum():
        rows, columns = np.nonzero(left)
        part = _grow(left, (int(rows[len(rows) // 2]), int(columns[len(rows) // 2])))
        left &= ~part
        largest = max(largest, part, key=np.sum)
    return largest


def _convexity(outline: "NDArray[Any]") -> float:
    """Return which share of the distance from the first to the last pixel of each row is taken."""
    import numpy as np

    taken = outline[outline.any(axis=1)]
    first, last = taken.argmax(axis=1), taken.shape[1] - taken[:, ::-1].argmax(axis=1)
    return float(taken.sum() / np.sum(last - first))


def _is_axial(orientation: list[float]) -> bool:
    if len(orientation) != 6:
        return False
    x, y = orientation[:3], orientation[3:]
    return abs(x[0] * y[1] - x[1] * y[0]) >= _AXIAL


def _decimals(value: bytes) -> list[float]:
    try:
        return [float(part) for part in value.strip(b" \0").split(b"\\") if part.strip()]
    except ValueError:
        return []
