"""Size limits of a sheet, and the error that is raised for a file that cannot be read.

Imports no Django, because the reader subprocess uses this module and has to start quickly.
"""

from dataclasses import dataclass

from adit_engine.messages import Message


@dataclass(frozen=True, slots=True)
class CellPosition:
    """A cell or a line, counted from 1 as in a spreadsheet; 0 means unknown."""

    line: int = 0
    column: int = 0


class SheetReadError(Exception):
    """A file cannot be read as a sheet. The message never contains the content of a cell."""

    def __init__(self, message: Message, position: CellPosition | None = None) -> None:
        super().__init__(message.code)
        self.message = message
        self.position = position or CellPosition()


MAX_FILE_BYTES = 5_000_000
MAX_UNPACKED_BYTES = 50_000_000
MAX_RATIO = 200
"""Maximum ratio of unpacked to packed size. A sheet of 10,000 equal rows has about 40; a zip bomb
has 1,000.
"""
RATIO_FROM_BYTES = 1_000_000
MAX_ROWS = 10_000
MAX_HEADER_LINE = 20
"""The header is searched in this many lines; they include the title lines above it."""
MAX_COLUMNS = 50
MAX_CHARACTERS = 1_000
MAX_SECONDS = 20
MAX_MEMORY_BYTES = 300_000_000


def check_size(size_bytes: int) -> None:
    """Raise SheetReadError if the file is too large."""
    if size_bytes > MAX_FILE_BYTES:
        raise SheetReadError(Message("sheet.too-large", limit=MAX_FILE_BYTES // 1_000_000))


def check_line(number: int, texts: list[str]) -> None:
    """Raise SheetReadError if a line has too many columns or a cell is too long."""
    for column, text in enumerate(texts, 1):
        if column > MAX_COLUMNS and text:
            raise SheetReadError(
                Message("sheet.too-many-columns", limit=MAX_COLUMNS), CellPosition(number, column)
            )
        if len(text) > MAX_CHARACTERS:
            raise SheetReadError(
                Message("sheet.cell-too-long", limit=MAX_CHARACTERS), CellPosition(number, column)
            )


def check_count(filled: int, number: int) -> None:
    """Raise SheetReadError at the first line beyond the maximum number of rows.

    `filled` is the number of lines so far that are not empty.
    """
    if filled > MAX_ROWS + MAX_HEADER_LINE:
        raise make_too_many_rows(number)


def make_too_many_rows(number: int) -> SheetReadError:
    return SheetReadError(Message("sheet.too-many-rows", limit=MAX_ROWS), CellPosition(number))
