"""Ultrasound clips of fictitious patients, with names burned into the pixels."""

import numpy as np

from adit.demo.glyphs import draw
from adit.nodes.models import Node
from adit_engine.nodes.memory import MemoryNode
from adit_engine.values.instance import Instance
from lab import samples

US_FRAMES = "1.2.840.10008.5.1.4.1.1.3.1"
ROWS, COLUMNS, FRAMES = 48, 160, 3
BAND = (0, 0, COLUMNS, 16)
"""The region with burned-in text."""


def pixels(number: int = 1) -> np.ndarray:
    """Return frames of noise with a name in the band at the top; no pixel is black."""
    noise = np.random.default_rng(number)
    clip = noise.integers(20, 90, (FRAMES, ROWS, COLUMNS), dtype=np.uint8)
    for frame in clip:
        draw(frame, ["MUSTERMANN"], (2, 2), 1)
    return clip


def clip(
    number: int = 1,
    *,
    study: str = "1",
    series: str = "7",
    seed: int | None = None,
    **changes: object,
) -> Instance:
    data = pixels(number if seed is None else seed)
    values: dict[str, object] = {
        "SOPClassUID": US_FRAMES,
        "Modality": "US",
        "Manufacturer": "Sonomaker",
        "ManufacturerModelName": "S9",
        "SoftwareVersions": "V1.2",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "NumberOfFrames": str(FRAMES),
        "FrameTime": "40",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 8,
        "BitsStored": 8,
        "HighBit": 7,
        "PixelData": data.tobytes(),
        "RescaleIntercept": None,
        "RescaleSlope": None,
        "KVP": None,
        **changes,
    }
    none_yet = {"NumberOfFrames", "FrameTime"}
    wanted = {k: v for k, v in values.items() if v is not None or k not in none_yet}
    return samples.instance(samples.ct(number, study=study, series=series, **wanted))


def put(node: Node, *clips: Instance) -> None:
    MemoryNode.shelves.setdefault(node.name, {}).update({one.instance_uid: one for one in clips})
