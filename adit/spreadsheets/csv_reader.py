"""Read the cells of a CSV file in the encodings and dialects that common programs write.

Used by the reader subprocess.
"""

import csv
import io
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator

from adit.spreadsheets import limits
from adit.spreadsheets.columns import is_known_header
from adit.spreadsheets.limits import CellPosition, SheetReadError
from adit_engine.csv_text import unescape_formulas
from adit_engine.messages import Message

_DELIMITERS = ";,\t"
_TEXT_FORMULA = re.compile(r'="([^"]*)"')
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?')
_LINES_INSPECTED = 20


def read_lines(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cell texts of each line that is not empty.

    Raises SheetReadError.
    """
    text = decode_text(data)
    first = text.split("\n", 1)[0].strip()
    said = _SEPARATOR_LINE.fullmatch(first)
    delimiter = said[1] if said else _detect_delimiter(text)
    for number, texts in _read_records(text, delimiter):
        if (number == 1 and said) or not any(text.strip() for text in texts):
            continue
        while not texts[-1].strip():
            texts.pop()
        limits.check_line(number, texts)
        yield number, [unescape_cell(text) for text in texts]


def unescape_cell(text: str) -> str:
    """Remove the markup that keeps a spreadsheet from interpreting the text.

    These are the apostrophes that our exports put before formulas, and the formula ="0012" by
    which other programs keep leading zeros.
    """
    if said := _TEXT_FORMULA.fullmatch(text):
        return said[1]
    return unescape_formulas(text)


def decode_text(data: bytes) -> str:
    """Decode by byte order mark, else as UTF-8, else as Windows-1252.

    Raises SheetReadError.
    """
    if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        return _decode_as(data, "utf-16")
    if data.startswith(BOM_UTF8):
        return _decode_as(data, "utf-8-sig")
    if (nul := data.find(b"\0")) >= 0:
        raise SheetReadError(
            Message("sheet.binary-data"),
            CellPosition(data.count(b"\n", 0, nul) + 1),
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _decode_as(data, "cp1252")


def _decode_as(data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise SheetReadError(
            Message("sheet.unknown-encoding"),
            CellPosition(data.count(b"\n", 0, error.start) + 1),
        ) from None
    if "\0" in text:
        raise SheetReadError(
            Message("sheet.binary-data"),
            CellPosition(text.count("\n", 0, text.index("\0")) + 1),
        )
    return text


def _detect_delimiter(text: str) -> str:
    """Return the delimiter that yields most known headers in the first lines.

    Without known headers, return the most frequent one in the first of these lines that contains a
    delimiter.
    """
    head = [line for line in text[:100_000].splitlines()[: 2 * _LINES_INSPECTED] if line.strip()]
    head = head[:_LINES_INSPECTED]

    def rank(delimiter: str) -> tuple[int, int]:
        known = max((_count_known_headers(line, delimiter) for line in head), default=0)
        return known if known > 1 else 0, next(
            (line.count(delimiter) for line in head if any(d in line for d in _DELIMITERS)), 0
        )

    return max(_DELIMITERS, key=rank)


def _count_known_headers(line: str, delimiter: str) -> int:
    return sum(is_known_header(cell.strip().strip('"')) for cell in line.split(delimiter))


def _read_records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    # A line break inside a cell does not start a new line: line numbers are those that a
    # spreadsheet shows.
    csv.field_size_limit(limits.MAX_FILE_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    while True:
        number += 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise SheetReadError(Message("sheet.quotation-mark"), CellPosition(number)) from None
