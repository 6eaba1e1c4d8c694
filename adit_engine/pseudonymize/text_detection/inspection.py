"""Look at the pixels of images that are about to leave. Used by `apply`.

Images of modalities that burn in text are looked at frame by frame. Series of slices are screened:
the first image, some further ones, and those that differ from the images before as text does.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adit_engine.errors import InstanceWithheld, InvalidInput
from adit_engine.pseudonymize.profile import ConfidentialityProfile, TextDetection
from adit_engine.pseudonymize.text_detection.findings import (
    PatientWords,
    TextFindings,
    judge_regions,
)
from adit_engine.values.instance import Instance

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adit_engine.pseudonymize.frame_rendering import RenderableImage
    from adit_engine.pseudonymize.pixel_rules import Rectangle
    from adit_engine.pseudonymize.text_detection.edges import EdgeHistory, Part
    from adit_engine.pseudonymize.text_detection.regions import TextRegion

INSPECTED_MODALITIES = frozenset({"CR", "DX", "MG", "XA", "RF", "NM", "US", "SC", "RTIMAGE"})
SCREENED_MODALITIES = frozenset({"CT", "MR", "PT"})
_EVERY_POWER = 16
"""Of a series, images 1, 16, 256 … are looked at as a whole, whatever they look like."""
_MAX_SERIES = 64
MAX_IMAGE_S = 900.0
"""Limit for all frames of one image; a clip of 500 frames mostly takes less than a minute."""


def must_inspect(profile: ConfidentialityProfile, modality: str) -> bool:
    if profile.text_detection is TextDetection.OFF:
        return False
    return modality in INSPECTED_MODALITIES or (
        modality in SCREENED_MODALITIES
        and profile.text_detection is TextDetection.IMAGES_AND_SLICES
    )


@dataclass
class _Screening:
    """What is known about one series of slices."""

    edges: "EdgeHistory"
    images: int = 0


class PixelInspector:
    """Inspects the images of one task. Not thread-safe."""

    def __init__(self) -> None:
        self._series: OrderedDict[object, _Screening] = OrderedDict()

    def inspect(
        self, image: Instance, modality: str, series: str, source: Mapping[int, bytes],
        *, is_masked: bool = False,
    ) -> bool:  # fmt: skip
        """Return whether frames were looked at, all without text that must not leave.

        `source` are values of the original (see `findings.REQUIRED_TAGS`). Raises InstanceWithheld
        if text is found, or a frame cannot be looked at.
        """
        from adit_engine.pseudonymize.frame_rendering import RenderableImage  # loads numpy

        end = time.monotonic() + MAX_IMAGE_S
        patient = PatientWords.from_values(source)
        try:
            readable = RenderableImage(image)
            looked_at = False
            is_single = modality not in SCREENED_MODALITIES and readable.form.frames == 1
            for frame, part, history in self._choose_frames(readable, modality, series):
                marks: list[Rectangle] = []
                layers = readable.stored_values(frame)
                for values in layers:
                    if time.monotonic() > end:
                        raise InstanceWithheld("text-detection.timed-out")
                    found = judge_regions(_find_text(values[part], is_single), patient)
                    _withhold_text(found, is_masked)
                    marks += (_move(mark.box, part) for mark in found.marks)
                if history is not None:
                    history.add(layers, marks)
                looked_at = True
        except (InvalidInput, ValueError, IndexError):
            raise InstanceWithheld("text-detection.unreadable") from None
        return looked_at

    def _choose_frames(
        self, image: "RenderableImage", modality: str, series: str
    ) -> "Iterator[tuple[int, Part, EdgeHistory | None]]":
        """Yield the frames to look at, the part of each that differs from those before, and these.

        Each must be found clean, and added to the history, before the next is asked for.
        """
        from adit_engine.pseudonymize.text_detection.edges import WHOLE, EdgeHistory

        count = image.form.frames
        is_screened = modality in SCREENED_MODALITIES
        if is_screened:
            key = (series, image.form.rows, image.form.columns)
            state = self._series.setdefault(key, _Screening(EdgeHistory()))
            if len(self._series) > _MAX_SERIES:
                self._series.popitem(last=False)
        elif count > 1:
            state = _Screening(EdgeHistory())
        else:
            yield 0, WHOLE, None
            return
        for frame in range(count):
            state.images += 1
            is_due = _is_power(state.images) or (count > 1 and frame in (count // 2, count - 1))
            layers = image.stored_values(frame)
            part = WHOLE if is_due else state.edges.find_new_edges(layers)
            if part is not None:
                yield frame, part, state.edges


def _move(box: "Rectangle", part: "Part") -> "Rectangle":
    """Return the place in the whole frame of a box in a part of it."""
    rows, columns = part
    return (box[0] + (columns.start or 0), box[1] + (rows.start or 0), *box[2:])


def _find_text(values: "NDArray[Any]", is_thorough: bool) -> "list[TextRegion]":
    # Imported here because most transfers look at no image.
    from adit_engine.pseudonymize.text_detection.detector import shared_detector

    return shared_detector().find_text(values, is_thorough=is_thorough)


def _is_power(number: int) -> bool:
    while number % _EVERY_POWER == 0:
        number //= _EVERY_POWER
    return number == 1


def _withhold_text(found: TextFindings, is_masked: bool) -> None:
    if found.identity:
        raise InstanceWithheld("text-found.identity")
    if found.text and is_masked:
        raise InstanceWithheld("text-found.beside-masks")
    if found.codes:
        raise InstanceWithheld("text-found.code")
    if found.text:
        raise InstanceWithheld("text-found.text")
