"""Simulate CT, MR, PET and X-ray images of a phantom, with typical noise.

Used by `demo.tomography` and `demo.singles`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from adit.demo.phantoms import Body, Tissue

Pixels = NDArray[np.int16]

_T = Tissue
HOUNSFIELD: Mapping[Tissue, float] = {
    _T.AIR: -1000, _T.FAT: -98, _T.MUSCLE: 55, _T.BONE: 820, _T.MARROW: 230, _T.LUNG: -860,
    _T.VESSEL: 20, _T.BLOOD: 42, _T.HEART: 48, _T.LIVER: 60, _T.SPLEEN: 52, _T.KIDNEY: 34,
    _T.BOWEL: 40, _T.WATER: 8, _T.GREY: 39, _T.WHITE: 28, _T.EYE: 12, _T.LESION: 32, _T.COUCH: -320,
}  # fmt: skip
"""HU without contrast medium."""

ENHANCED: Mapping[Tissue, float] = {
    **HOUNSFIELD, _T.VESSEL: 160, _T.BLOOD: 185, _T.HEART: 95, _T.LIVER: 112, _T.SPLEEN: 128,
    _T.KIDNEY: 190, _T.BOWEL: 75, _T.LESION: 66,
}  # fmt: skip
"""HU in the portal venous phase."""

_MR_BASE = dict.fromkeys(Tissue, 20.0) | {_T.BONE: 30, _T.AIR: 4, _T.COUCH: 4}
T1 = _MR_BASE | {
    _T.FAT: 880, _T.MUSCLE: 330, _T.MARROW: 520, _T.WATER: 110, _T.GREY: 400, _T.WHITE: 560,
    _T.EYE: 130, _T.LESION: 300, _T.BLOOD: 160,
}  # fmt: skip
T2 = _MR_BASE | {
    _T.FAT: 620, _T.MUSCLE: 180, _T.MARROW: 380, _T.WATER: 1150, _T.GREY: 520, _T.WHITE: 370,
    _T.EYE: 1050, _T.LESION: 860, _T.BLOOD: 60,
}  # fmt: skip
FLAIR = T2 | {_T.WATER: 60, _T.EYE: 80, _T.GREY: 480, _T.WHITE: 360, _T.LESION: 900}
DIFFUSION = {
    0: T2 | {_T.FAT: 60, _T.MARROW: 40},
    1000: _MR_BASE | {_T.WATER: 40, _T.GREY: 220, _T.WHITE: 205, _T.EYE: 40, _T.LESION: 620},
}
"""Signals by b-value in s/mm2."""

ACTIVITY: Mapping[Tissue, float] = dict.fromkeys(Tissue, 0.7) | {
    _T.AIR: 0.0, _T.COUCH: 0.0, _T.LUNG: 0.4, _T.FAT: 0.3, _T.BLOOD: 1.6, _T.HEART: 5.5,
    _T.LIVER: 2.3, _T.SPLEEN: 2.0, _T.KIDNEY: 6.0, _T.GREY: 8.5, _T.WHITE: 4.0, _T.LESION: 9.5,
}  # fmt: skip
"""Standardized uptake values of FDG."""


def scan(body: Body, values: Mapping[Tissue, float], noise: float, seed: int) -> Pixels:
    """Return sample values `[z, y, x]`, slightly blurred in plane, with noise."""
    table = np.array([values[tissue] for tissue in Tissue], np.float32)
    rng = np.random.default_rng(seed)
    height, width = body.tissues.shape[1:]
    tile = rng.normal(0, noise, (height + 64, width + 64)).astype(np.float32)
    tile[1:, 1:] = (tile[1:, 1:] + tile[:-1, 1:] * 0.6 + tile[1:, :-1] * 0.6) / 1.31
    scanned = np.empty(body.tissues.shape, np.int16)
    for index, layer in enumerate(body.tissues):
        smooth = table[layer]
        smooth[1:-1] = (smooth[:-2] + 2 * smooth[1:-1] + smooth[2:]) * 0.25
        smooth[:, 1:-1] = (smooth[:, :-2] + 2 * smooth[:, 1:-1] + smooth[:, 2:]) * 0.25
        down, right = rng.integers(0, 64, 2)
        smooth += tile[down : down + height, right : right + width]
        scanned[index] = np.rint(smooth)
    return scanned


def projected(body: Body, axis: int, step: float) -> NDArray[np.float32]:
    """Return the attenuation along an axis of `[z, y, x]`, head at the top."""
    density = np.array([(HOUNSFIELD[tissue] + 1000) / 1000 for tissue in Tissue], np.float32)
    density[Tissue.COUCH] = 0
    lost: NDArray[np.float32] = density[body.tissues].sum(axis=axis) * np.float32(step * 0.02)
    return lost[::-1]
