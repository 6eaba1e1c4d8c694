"""Detect and read text in one frame, with PP-OCRv4. Runs in the child process only.

Frames are enlarged and cut into overlapping tiles, so that letters of 8 pixels are found and memory
stays bounded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from adit_engine.pseudonymize.text_detection import tesseract
from adit_engine.pseudonymize.text_detection.letter_shapes import Margins, shows_letters
from adit_engine.pseudonymize.text_detection.regions import TextRegion

Frame = NDArray[np.uint8]
Probabilities = NDArray[np.float32]

_MODELS = Path(__file__).parent / "models"
_TILE, _OVERLAP = 1024, 96
_ENLARGED_UP_TO = 1_700_000
"""Frames of at most so many pixels are enlarged; text in larger ones is larger, too."""
_FINER, _MIN_FINER = 3.0, 1.25
"""Most enlargement of the second look at a single image; its least ratio to that of the first."""
_MAX_PIXELS = 15_000_000
"""Pixels of both looks together: about 6 s of processor time."""
_STEP = 32
"""The detection model needs sides that are multiples of this."""
_PROBABLE, _CERTAIN_REGION, _CERTAIN_FINER = 0.25, 0.4, 0.75
_CERTAIN_UNREAD = 0.9
"""Least score of the second look for a region in which nothing is read: it also enlarges noise."""
_LINE_HEIGHT = 48
_LINE = 1.5
_MAX_LINE_WIDTH = 1600
_STRAIGHT = 4
"""Degrees up to which a line is read without being turned."""
_SEEN, _READ = 0.5, 0.6
"""Share of a region that was read before with at least this confidence, so that it counts once."""
_MAX_READ = 24
"""Regions that are read. Further ones count as text that cannot be read."""
_MAX_READ_AGAIN, _WELL_READ = 8, 0.95
"""Lines that tesseract also reads, where it is installed: those read with less confidence."""
_FLAT = 2
"""A tile whose neighbouring pixels differ by at most this much contains nothing."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text: the rectangle along it, turned by `angle` degrees, and the box around that.

    All in pixels of the enlarged image.
    """

    score: float
    box: tuple[int, int, int, int]
    center: tuple[float, float]
    width: float
    height: float
    angle: float
    is_long: bool

    @classmethod
    def around(cls, points: Any, score: float, limit: tuple[int, int]) -> "Line":
        """Widen what the model marks, which is the core of a line, by a share of its area."""
        center, (width, height), angle = cv2.minAreaRect(points)
        turns = round(angle / 90)
        angle -= 90 * turns  # from -45 to 45
        if turns % 2:
            width, height = height, width
        short, long = sorted((width, height))
        left, top, across, down = cv2.boundingRect(points)
        if abs(angle) < _STRAIGHT:
            angle, width, height = 0.0, across, down
            center = left + across / 2, top + down / 2
        grow = round(1.6 * width * height / (2 * (width + height)))
        width, height = width + 2 * grow, height + 2 * grow
        x, y, right, bottom = left - grow, top - grow, left + across + grow, top + down + grow
        x, y, right, bottom = max(x, 0), max(y, 0), min(right, limit[0]), min(bottom, limit[1])
        is_long = long >= _LINE * (short + 1)
        return cls(score, (x, y, right - x, bottom - y), center, width, height, angle, is_long)

    @property
    def letter_height(self) -> int:
        return round(min(self.width, self.height))

    def shrink(self, scale: float) -> "Line":
        """Return the line in the pixels of an image that is smaller by `scale`."""
        left, top, width, height = self.box
        return replace(
            self,
            box=(
                int(left // scale),
                int(top // scale),
                int(-(-width // scale)),
                int(-(-height // scale)),
            ),
            center=(self.center[0] / scale, self.center[1] / scale),
            width=self.width / scale,
            height=self.height / scale,
        )

    def cut_out(self, image: Frame, margin: int = 0) -> tuple[Frame, Margins]:
        """Return the line, upright, and its surroundings: pixels at the left, top, right, bottom.

        At the edge of the image there are fewer.
        """
        if self.angle:
            size = round(self.width) + 2 * margin, round(self.height) + 2 * margin
            turn = cv2.getRotationMatrix2D(self.center, self.angle, 1)
            turn[:, 2] += (size[0] / 2 - self.center[0], size[1] / 2 - self.center[1])
            turned = cv2.warpAffine(image, turn, size, borderMode=cv2.BORDER_REPLICATE)
            return turned, (margin, margin, margin, margin)
        x, y, width, height = self.box
        left, top = min(margin, x), min(margin, y)
        right = min(margin, image.shape[1] - x - width)
        bottom = min(margin, image.shape[0] - y - height)
        cut = image[y - top : y + height + bottom, x - left : x + width + right]
        return cut, (left, top, right, bottom)


class TextReader:
    """Both models, loaded once."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        self._detection = onnxruntime.InferenceSession(
            _MODELS / "ch_PP-OCRv4_det_infer.onnx", options, ["CPUExecutionProvider"]
        )
        self._recognition = onnxruntime.InferenceSession(
            _MODELS / "ch_PP-OCRv4_rec_infer.onnx", options, ["CPUExecutionProvider"]
        )
        listed = self._recognition.get_modelmeta().custom_metadata_map["character"]
        self._characters = ["", *listed.splitlines(), " "]

    def read(self, frame: Frame, *, is_thorough: bool = False) -> list[TextRegion]:
        """Return the regions of a frame with gray values or RGB, in its own pixels.

        With `is_thorough` it is looked at twice, the second time further enlarged: this separates
        small letters from noise.
        """
        pixels = frame.shape[0] * frame.shape[1]
        scale = 2.0 if pixels <= _ENLARGED_UP_TO else 1.0
        regions = self._read_enlarged(frame, scale, _CERTAIN_REGION)
        finer = min(_FINER, max(_MAX_PIXELS / pixels - scale**2, 0) ** 0.5)
        if is_thorough and finer >= _MIN_FINER * scale:
            seen = np.zeros(frame.shape[:2], np.uint8)
            for region in regions:
                if region.confidence < _READ:
                    continue
                left, top, width, height = region.box
                seen[top : top + height, left : left + width] = 1
            for region in self._read_enlarged(frame, finer, _CERTAIN_FINER):
                left, top, width, height = region.box
                is_new = seen[top : top + height, left : left + width].mean() < _SEEN
                if is_new and (region.text or region.score >= _CERTAIN_UNREAD):
                    regions.append(region)
        return regions

    def _read_enlarged(self, frame: Frame, scale: float, least: float) -> list[TextRegion]:
        image = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame
        if scale > 1:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        regions, unread = [], []
        found = (line for line in self._detect(image) if line.score >= least)
        for number, line in enumerate(sorted(found, key=lambda one: (-one.is_long, -one.score))):
            text, confidence, cut = "", 0.0, None
            if number < _MAX_READ:
                text, confidence, cut = self._read_line(image, line)
            here = line.shrink(scale)
            has_letters = shows_letters(*here.cut_out(frame, max(4, here.letter_height // 2)))
            regions.append(
                TextRegion(here.box, line.score, text, confidence, line.is_long, has_letters)
            )
            if cut is not None and line.is_long and confidence < _WELL_READ:
                unread.append((number, cut))
        again = unread[:_MAX_READ_AGAIN]
        second = tesseract.read_lines([cut for _, cut in again])
        for (number, _), text in zip(again, second, strict=True):
            regions[number] = replace(regions[number], second_text=text)
        return regions

    def _detect(self, image: Frame) -> Iterator[Line]:
        rows, columns = image.shape[:2]
        found = np.zeros((rows, columns), np.float32)
        for top in range(0, max(rows - _OVERLAP, 1), _TILE - _OVERLAP):
            for left in range(0, max(columns - _OVERLAP, 1), _TILE - _OVERLAP):
                tile = image[top : top + _TILE, left : left + _TILE]
                if not _is_flat(tile):
                    place = found[top : top + _TILE, left : left + _TILE]
                    np.maximum(place, self._probabilities(tile), out=place)
        count, labels, boxes, _ = cv2.connectedComponentsWithStats(
            (found > _PROBABLE).astype(np.uint8), connectivity=8
        )
        for number in range(1, count):
            left, top, width, height, area = (int(n) for n in boxes[number])
            if min(width, height) < 3 or area < 20:
                continue
            part = (slice(top, top + height), slice(left, left + width))
            inside = labels[part] == number
            score = float(found[part][inside].mean())
            if score < _CERTAIN_REGION:
                continue
            points = cv2.findNonZero(inside.astype(np.uint8)) + (left, top)
            yield Line.around(points, score, (columns, rows))

    def _probabilities(self, tile: Frame) -> Probabilities:
        """Return the probability of text for each pixel."""
        rows, columns = tile.shape[:2]
        padded = cv2.copyMakeBorder(
            tile, 0, -rows % _STEP, 0, -columns % _STEP, cv2.BORDER_REPLICATE
        )
        result = self._run(self._detection, _normalize(padded)[np.newaxis])
        return np.asarray(result[0, 0, :rows, :columns], np.float32)

    def _read_line(self, image: Frame, line: Line) -> tuple[str, float, Frame]:
        """Return the text, its confidence and the line itself.

        Text that does not run to the right is turned.
        """
        cut, _ = line.cut_out(image)
        turns = (1, 3) if cut.shape[0] >= 1.5 * cut.shape[1] else (0, 2) if line.angle else (0,)
        turned = (np.rot90(cut, times).copy() for times in turns)
        return max(((*self._recognize(one), one) for one in turned), key=lambda one: one[1])

    def _recognize(self, line: Frame) -> tuple[str, float]:
        width = round(line.shape[1] * _LINE_HEIGHT / line.shape[0])
        width = min(max(width, _LINE_HEIGHT), _MAX_LINE_WIDTH)
        resized = cv2.resize(line, (width, _LINE_HEIGHT), interpolation=cv2.INTER_LINEAR)
        scores = self._run(self._recognition, _normalize(resized)[np.newaxis])[0]
        best = scores.argmax(axis=1)
        # CTC: 0 is blank, and a repeated class is one character.
        kept = [n for n, one in enumerate(best) if one and (n == 0 or best[n - 1] != one)]
        text = "".join(self._characters[best[n]] for n in kept)
        confidence = float(np.mean([scores[n, best[n]] for n in kept])) if kept else 0.0
        return text, confidence

    @staticmethod
    def _run(session: Any, data: Probabilities) -> Any:
        return session.run(None, {session.get_inputs()[0].name: data})[0]


def _normalize(image: Frame) -> Probabilities:
    scaled = image.astype(np.float32) * (2 / 255) - 1
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def _is_flat(tile: Frame) -> bool:
    kernel = np.ones((3, 3), np.uint8)
    return int(cv2.morphologyEx(tile, cv2.MORPH_GRADIENT, kernel).max()) <= _FLAT
