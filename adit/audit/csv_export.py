"""Write rows as CSV in which no cell is read as a formula. Used by pages that offer a download."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO

_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
BOM = "\ufeff"
"""Without it, spreadsheet programs do not recognize UTF-8."""


def csv_lines(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the byte order mark, then one line for each row; lazy.

    A cell that starts like a formula gets a leading apostrophe.
    """
    yield BOM
    for row in rows:
        line = StringIO()
        csv.writer(line, lineterminator="\r\n").writerow([format_cell(value) for value in row])
        yield line.getvalue()


def format_cell(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA_PREFIXES) else text
