"""Refusal: why a file cannot be read as a sheet, and at which line and column.

Plain Python: the reading process imports this, and it starts quickly because it knows no Django.
Limits: how large a sheet may be, and what reading it may cost."""

from dataclasses import dataclass


def gettext_noop(text: str) -> str:
    """Marks a sentence for translation; the parent process translates it."""
    return text


@dataclass(frozen=True, slots=True)
class CellPosition:
    """A cell or a line, counted from 1 as a spreadsheet shows them; 0 = not known."""

    line: int = 0
    column: int = 0


class SheetReadError(Exception):
    """The sentence holds %-placeholders for `values`; neither ever holds what a cell says."""

    def __init__(
        self, sentence: str, place: CellPosition | None = None, **values: str | int
    ) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.place = place or CellPosition()
        self.values = values


MAX_FILE_BYTES = 5_000_000
MAX_UNPACKED_BYTES = 50_000_000
MAX_RATIO = 200
"""Unpacked to packed. A sheet of 10,000 equal rows has about 40; a bomb has 1,000."""
RATIO_FROM_BYTES = 1_000_000
MAX_ROWS = 10_000
MAX_HEADER_LINE = 20
"""Lines of title above the header, and the header."""
MAX_COLUMNS = 50
MAX_CHARACTERS = 1_000
MAX_SECONDS = 20
MAX_MEMORY_BYTES = 300_000_000


def check_size(size_bytes: int) -> None:
    """Raises SheetReadError."""
    if size_bytes > MAX_FILE_BYTES:
        raise SheetReadError(
            gettext_noop(
                "The file has more than %(most)d MB. Split it, or take pictures and "
                "formatting out of it."
            ),
            most=MAX_FILE_BYTES // 1_000_000,
        )


def check_line(number: int, texts: list[str]) -> None:
    """Raises SheetReadError when a line reaches too far to the right or a cell says too much."""
    for column, text in enumerate(texts, 1):
        if column > MAX_COLUMNS and text:
            raise SheetReadError(
                gettext_noop("More than %(most)d columns. Take out those that are not needed."),
                CellPosition(number, column),
                most=MAX_COLUMNS,
            )
        if len(text) > MAX_CHARACTERS:
            raise SheetReadError(
                gettext_noop("The cell has more than %(most)d characters. Shorten it."),
                CellPosition(number, column),
                most=MAX_CHARACTERS,
            )


def check_count(filled: int, number: int) -> None:
    """Raises SheetReadError at the first line too many; `filled` lines say anything so far."""
    if filled > MAX_ROWS + MAX_HEADER_LINE:
        raise make_too_many_rows(number)


def make_too_many_rows(number: int) -> SheetReadError:
    return SheetReadError(
        gettext_noop(
            "More than %(most)d rows. Split the sheet; or, if the list is shorter, "
            "delete what stands far below it."
        ),
        CellPosition(number),
        most=MAX_ROWS,
    )
