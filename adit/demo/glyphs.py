"""Draw text as dots, for text burned into sample images and overlays."""

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Seven rows of five dots, each row as a hexadecimal number.
_ROWS = """
A 0E 11 11 1F 11 11 11/B 1E 11 11 1E 11 11 1E/C 0E 11 10 10 10 11 0E/D 1E 11 11 11 11 11 1E
E 1F 10 10 1E 10 10 1F/F 1F 10 10 1E 10 10 10/G 0E 11 10 17 11 11 0F/H 11 11 11 1F 11 11 11
I 0E 04 04 04 04 04 0E/J 07 02 02 02 02 12 0C/K 11 12 14 18 14 12 11/L 10 10 10 10 10 10 1F
M 11 1B 15 15 11 11 11/N 11 19 15 13 11 11 11/O 0E 11 11 11 11 11 0E/P 1E 11 11 1E 10 10 10
Q 0E 11 11 11 15 12 0D/R 1E 11 11 1E 14 12 11/S 0F 10 10 0E 01 01 1E/T 1F 04 04 04 04 04 04
U 11 11 11 11 11 11 0E/V 11 11 11 11 11 0A 04/W 11 11 11 15 15 1B 11/X 11 11 0A 04 0A 11 11
Y 11 11 0A 04 04 04 04/Z 1F 01 02 04 08 10 1F/0 0E 11 13 15 19 11 0E/1 04 0C 04 04 04 04 0E
2 0E 11 01 06 08 10 1F/3 1E 01 01 0E 01 01 1E/4 02 06 0A 12 1F 02 02/5 1F 10 1E 01 01 11 0E
6 06 08 10 1E 11 11 0E/7 1F 01 02 04 08 08 08/8 0E 11 11 0E 11 11 0E/9 0E 11 11 0F 01 02 0C
. 00 00 00 00 00 0C 0C/: 00 0C 0C 00 0C 0C 00/- 00 00 00 0E 00 00 00/, 00 00 00 00 0C 04 08
"""


def _dots(rows: list[str]) -> NDArray[np.bool_]:
    return np.array([[int(row, 16) >> (4 - dot) & 1 for dot in range(5)] for row in rows], bool)


_GLYPHS = {
    entry.split()[0]: _dots(entry.split()[1:])
    for entry in _ROWS.strip().replace("\n", "/").split("/")
}


def draw(
    image: NDArray[np.uint8], lines: Sequence[str], at: tuple[int, int], size: int = 2
) -> None:
    """Draw text with the image's brightest value; `at` is row and column.

    Accents are dropped.
    """
    row, column = at
    for line in lines:
        plain = unicodedata.normalize("NFKD", line).upper()
        left = column
        for letter in (one for one in plain if not unicodedata.combining(one)):
            glyph = _GLYPHS.get(letter)
            if glyph is not None:
                view = image[row : row + 7 * size, left : left + 5 * size]
                big = glyph.repeat(size, axis=0).repeat(size, axis=1)
                view[big[: view.shape[0], : view.shape[1]]] = np.iinfo(image.dtype).max
            left += 6 * size
        row += 10 * size
