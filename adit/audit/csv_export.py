"""Table: rows as a CSV file in which no cell can become a formula of a spreadsheet."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO

_FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
BOM = "\ufeff"
"""Without it spreadsheet programs take UTF-8 for something else."""


def csv_lines(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """A line for each row; lazy. What a formula may begin with gets an apostrophe in front."""
    yield BOM
    for row in rows:
        line = StringIO()
        csv.writer(line, lineterminator="\r\n").writerow([format_cell(value) for value in row])
        yield line.getvalue()


def format_cell(value: object) -> str:
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA_PREFIXES) else text
