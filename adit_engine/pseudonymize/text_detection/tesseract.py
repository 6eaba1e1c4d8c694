"""Read lines in scripts that the models do not know, where tesseract is installed.

Runs in the child process only. Lines are passed through pipes: no text reaches a file.
"""

import os
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from shutil import which
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]

LANGUAGES = ("kor", "jpn", "rus", "deu", "ell", "heb")
"""Languages that are used if installed (ISO 639-3, as in the names of the Debian packages)."""
DEADLINE_S = 30.0
"""For all lines of one call. A line takes about 0.06 s on an idle processor, the start 0.2 s."""
_HEIGHT, _MAX_WIDTH, _MARGIN = 48, 1600, 10
_SINGLE_LINE = "7"
"""Page segmentation mode of tesseract(1)."""
_WORD = "5"


@cache
def get_languages() -> tuple[str, ...]:
    """Return the languages that can be read; none if tesseract is not installed.

    Raises OSError, subprocess.SubprocessError if it is installed and does not work.
    """
    if which("tesseract") is None:
        return ()
    listed = set(_run(["--list-langs"], b"").split())
    return tuple(language for language in LANGUAGES if language in listed)


def read_lines(lines: Sequence[Frame]) -> list[str]:
    """Return the text of each upright line (gray or BGR); empty without tesseract.

    Raises OSError, subprocess.SubprocessError.
    """
    if not lines or not get_languages():
        return [""] * len(lines)
    pages = [_make_page(line) for line in lines]
    _, sheet = cv2.imencodemulti(".tiff", pages)
    options = ["stdin", "stdout", "--psm", _SINGLE_LINE, "-l", "+".join(get_languages()), "tsv"]
    words: dict[int, list[str]] = defaultdict(list)
    for row in _run(options, sheet.tobytes()).splitlines():
        level, page, *_, text = row.split("\t")
        if level == _WORD:
            words[int(page)].append(text)
    return [" ".join(words[number]) for number in range(1, len(lines) + 1)]


def _make_page(line: Frame) -> Frame:
    """Return dark letters on bright ground, of the size that tesseract reads best."""
    gray = line if line.ndim == 2 else cv2.cvtColor(line, cv2.COLOR_BGR2GRAY)
    width = min(max(round(gray.shape[1] * _HEIGHT / gray.shape[0]), 1), _MAX_WIDTH)
    page: Any = cv2.resize(gray, (width, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    _, ink = cv2.threshold(page, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    if ink.mean() < 0.5:
        page = 255 - page
    framed: Frame = cv2.copyMakeBorder(page, *(_MARGIN,) * 4, cv2.BORDER_REPLICATE)
    return framed


def _run(options: list[str], given: bytes) -> str:
    done = subprocess.run(  # noqa: S603 - the program is that of the administrator
        ["tesseract", *options],  # noqa: S607
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_THREAD_LIMIT": "1"},
        timeout=DEADLINE_S,
        check=True,
    )
    return done.stdout.decode("utf-8", "replace")
