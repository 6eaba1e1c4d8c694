"""A place in a frame where text was found. Shared by the detector and its child process."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TextRegion:
    """A rectangle (left, top, width, height) with what could be read in it.

    The text may identify the patient: it is never logged, stored or part of a message.
    """

    box: tuple[int, int, int, int]
    score: float
    text: str = field(repr=False)
    confidence: float
    is_line: bool
    """Whether it is clearly longer than high, in whatever direction it runs."""
    has_letters: bool = True
    """Whether it shows shapes like letters, of whatever script (see `letter_shapes`)."""
    is_code: bool = False
    """Whether it is a barcode or a matrix code (see `barcodes`)."""
    second_text: str = field(default="", repr=False)
    """What tesseract reads, also in other scripts. Only compared with the patient's values."""
