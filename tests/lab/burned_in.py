"""Images with text in their pixels. Drawing needs OpenCV, which only the extra "ocr" installs."""

from struct import pack

import numpy as np
from numpy.typing import NDArray

from adit_engine.values.instance import Instance
from lab.deid_objects import CR, Header, header, instance

SIDE = 256
NAME = "MUELLER ANNA"
US = "1.2.840.10008.5.1.4.1.1.6.1"
US_FRAMES = "1.2.840.10008.5.1.4.1.1.3.1"
SC = "1.2.840.10008.5.1.4.1.1.7"


def strokes(text: str, height: int = 14, place: tuple[int, int] = (20, 40), *, side: int = SIDE,
            weight: int = 0, angle: float = 0) -> NDArray[np.float64]:  # fmt: skip
    """Return how much of each pixel the text covers; `place` is the left end of its base line.

    It is turned by `angle` degrees around the center of the image.
    """
    import cv2

    canvas = np.zeros((side, side, 3), np.uint8)
    cv2.putText(canvas, text, place, (255, 255, 255), cv2.FontFace("sans"), height, weight)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1)
    return cv2.warpAffine(canvas[..., 0], turn, (side, side)) / 255


def texture(side: int = SIDE, grain: int = 12, seed: int = 1) -> NDArray[np.float64]:
    """Return smooth, irregular structures, as of glandular tissue, with noise."""
    import cv2

    random = np.random.default_rng(seed)
    coarse = random.normal(0, 1, (side // grain + 2,) * 2).astype(np.float32)
    smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return 900 + 150 * smooth + random.normal(0, 8, (side, side))


def heart_curve(side: int = SIDE) -> NDArray[np.float64]:
    """Return an electrocardiogram below an image."""
    import cv2

    x = np.arange(side)
    beat = (x / 70) % 1
    wave = 60 * np.exp(-(((beat - 0.3) / 0.015) ** 2)) + 12 * np.exp(-(((beat - 0.6) / 0.06) ** 2))
    points = np.stack([x, side - 30 - wave], axis=1).round().astype(np.int32)
    drawn = cv2.polylines(anatomy(side).astype(np.float32), [points], False, 4000, 1, cv2.LINE_AA)
    return drawn.astype(np.float64)


def grid(side: int = SIDE) -> NDArray[np.float64]:
    values = anatomy(side)
    values[::25] = values[:, ::25] = 3500
    return values


def grid_on_noise(side: int = SIDE) -> NDArray[np.float64]:
    """Return noise, which a look at local contrast enhances, between bright lines."""
    values = 1000 + np.random.default_rng(2).normal(0, 25, (side, side))
    values[::64] = values[:, ::64] = 3500
    return values


def scale_marks(side: int = SIDE, step: int = 12) -> NDArray[np.float64]:
    """Return a scale of fine marks beside an image; each fifth mark is longer."""
    values = anatomy(side)
    for number, row in enumerate(range(20, side - 20, step)):
        values[row, 20 : 32 if number % 5 else 40] = 3900
    return values


def anatomy(
    side: int = SIDE, seed: int = 1, *, mean: int = 900, noise: float = 25.0
) -> NDArray[np.float64]:
    """Return smooth bright shapes with noise, as on a radiograph of 12 bits."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    shape = np.sin(5 * x + seed) * np.cos(4 * y) + (np.hypot(x - 0.5, y - 0.5) < 0.35)
    ribs = (np.sin(40 * y + 8 * (x - 0.5) ** 2) > 0.75) * 0.4
    return mean + 500 * shape + 300 * ribs + random.normal(0, noise, (side, side))


def burn(
    values: NDArray[np.float64], text: str = NAME,
    brightness: float | NDArray[np.float64] = 4095, **how: object,
) -> NDArray[np.float64]:  # fmt: skip
    cover = strokes(text, side=values.shape[0], **how)  # type: ignore[arg-type]
    return values * (1 - cover) + brightness * cover


def image(
    values: NDArray[np.float64], sop_class: str = CR, *, name: bytes = b"Schmidt^Eva",
    number: int = 1, frames: int = 1, **more: tuple[str, bytes],
) -> Instance:  # fmt: skip
    """Encode values of 12 bits as an image of a fictitious patient."""
    made: Header = header(sop_class)
    made |= {
        0x00080018: ("UI", f"1.2.826.0.1.3680043.8.498.4711.1.1.{number}".encode()),
        0x00081090: ("LO", b"Model 1"),
        0x00100010: ("PN", name),
        0x00100020: ("LO", b"4711-0815"),
        0x00100030: ("DA", b"19800512"),
        0x00280010: ("US", pack("<H", values.shape[-2])),
        0x00280011: ("US", pack("<H", values.shape[-1])),
        0x7FE00010: ("OW", values.round().clip(0, 4095).astype("<u2").tobytes()),
    }
    if frames > 1:
        made[0x00280008] = ("IS", str(frames).encode())
    return instance(made | {int(tag[1:], 16): element for tag, element in more.items()})
