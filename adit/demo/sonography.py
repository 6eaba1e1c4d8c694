"""Ultrasound stills and clips as devices draw them: a fan, and names in the pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adit.demo.examination import Examination
from adit.demo.glyphs import draw
from adit.demo.headers import Scan
from adit.demo.stack import image_module
from adit.demo.writing import Slice

STILL = "1.2.840.10008.5.1.4.1.1.6.1"
CLIP = "1.2.840.10008.5.1.4.1.1.3.1"
ROWS, COLUMNS, FRAMES = 480, 640, 10
BAND_ROWS = 48
"""Rows at the top in which the device writes name, birth date and hospital."""


def stills(examination: Examination, number: int, count: int) -> None:
    values = {**image_module(ROWS, COLUMNS, 8), "PatientOrientation": ""}
    scan = Scan(number, "US", STILL, "Abdomen B-mode", ("ORIGINAL", "PRIMARY", "ABDOMINAL"), values)
    slices = (
        Slice(_screen(examination, number * 100 + n, 1)[0], examination.moments(40 * n))
        for n in range(count)
    )
    examination.write(scan, slices)


def clip(examination: Examination, number: int) -> None:
    values = {
        **image_module(ROWS, COLUMNS, 8), "PatientOrientation": "", "NumberOfFrames": str(FRAMES),
        "FrameTime": "40", "FrameIncrementPointer": 0x00181063,
    }  # fmt: skip
    scan = Scan(number, "US", CLIP, "Liver, clip", ("ORIGINAL", "PRIMARY", "ABDOMINAL"), values)
    pixels = _screen(examination, number * 100, FRAMES)
    examination.write(scan, iter([Slice(pixels, examination.moments(300))]))


def _screen(examination: Examination, seed: int, frames: int) -> NDArray[np.uint8]:
    """Frames, rows, columns: a fan of speckle below the band with the patient's data."""
    person = examination.visit.person
    fan, depth = _fan()
    noise = np.random.default_rng(person.number * 10_000 + seed)
    screen = np.zeros((frames, ROWS, COLUMNS), np.uint8)
    echoes = _smooth(noise.random((ROWS, COLUMNS)))
    for number, frame in enumerate(screen):
        moved = np.roll(echoes, 3 * number, axis=1)
        bright = 40 + 130 * moved - 60 * depth
        frame[fan] = np.clip(bright, 4, 235)[fan].astype(np.uint8)
        lines = [
            f"{person.plain_name}  {person.born:%d.%m.%Y}",
            f"{person.patient_id}  {person.hospital.name}",
        ]
        draw(frame, lines, (6, 10), 2)
    return screen


def _fan() -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return where echoes are drawn, and the depth of each pixel from 0 to 1."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    down, aside = y - 20.0, x - COLUMNS / 2
    far = np.hypot(down, aside)
    inside = (abs(np.arctan2(aside, down)) < 0.65) & (far > 60) & (far < 440)
    return inside & (y >= BAND_ROWS), far / 440


def _smooth(values: NDArray[Any]) -> NDArray[Any]:
    """Return speckle of the size of some pixels, scaled to 0 to 1."""
    for axis in (0, 1, 0, 1):
        values = (values + np.roll(values, 1, axis) + np.roll(values, -1, axis)) / 3
    return (values - values.min()) / (values.max() - values.min())
