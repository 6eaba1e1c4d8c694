"""The lines and cells of a sheet, before its columns are mapped.

Produced by the reader, used by the mapping and the row checks.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from adit.spreadsheets.limits import CellPosition, SheetReadError
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message


class CellKind(StrEnum):
    TEXT = "text"
    NUMBER = "number"
    DATE = "date"
    ERROR = "error"
    """An error value such as #N/A."""
    NO_VALUE = "no value"
    """A formula that no spreadsheet has calculated yet."""
    PADDED = "padded"
    """A number that the spreadsheet shows with leading zeros; the text includes them."""
    MERGED = "merged"
    """The value of a cell above that is merged with this one."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell as text: a whole number without .0, a date as 2026-01-31."""

    text: str = field(default="", repr=False)
    kind: CellKind = CellKind.TEXT

    @property
    def empty(self) -> bool:
        return self.kind is CellKind.TEXT and not self.text.strip()


EMPTY_CELL = Cell()


@dataclass(frozen=True, slots=True)
class SheetLine:
    """A line of a sheet.

    `number` counts from 1 as in a spreadsheet: a line break inside a cell does not count.
    """

    number: int
    cells: tuple[Cell, ...]

    def cell(self, index: int) -> Cell:
        return self.cells[index] if index < len(self.cells) else EMPTY_CELL

    def with_texts(self, texts: Mapping[int, str]) -> "SheetLine":
        """Return a copy with these texts in the cells of these columns, counted from 0."""
        width = max(len(self.cells), 1 + max(texts))
        cells = [self.cell(column) for column in range(width)]
        for column, text in texts.items():
            cells[column] = Cell(text)
        return SheetLine(self.number, tuple(cells))

    def texts(self, width: int) -> tuple[str, ...]:
        return tuple(self.cell(index).text for index in range(width))


@dataclass(frozen=True, slots=True)
class SheetTable:
    """All lines of a sheet that are not empty, in order.

    `file` is the name as uploaded, without folders.
    """

    file: str
    lines: tuple[SheetLine, ...]
    sheet: str = ""
    other_sheets: tuple[str, ...] = ()
    """Visible sheets of the workbook that were not read."""
    hidden: frozenset[int] = frozenset()
    """Lines that the workbook does not show, such as those hidden by a filter."""

    @property
    def width(self) -> int:
        return max((len(line.cells) for line in self.lines), default=0)

    def line(self, number: int) -> SheetLine | None:
        return next((line for line in self.lines if line.number == number), None)

    def lines_after(self, number: int) -> Iterator[SheetLine]:
        return (line for line in self.lines if line.number > number)

    def with_texts(self, texts: Mapping[tuple[int, int], str]) -> "SheetTable":
        """Return a copy with other texts in some cells, by line and column (counted from 0)."""
        by_line: dict[int, dict[int, str]] = {}
        for (line, column), text in texts.items():
            by_line.setdefault(line, {})[column] = text
        return replace(
            self,
            lines=tuple(
                line.with_texts(by_line[line.number]) if line.number in by_line else line
                for line in self.lines
            ),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON: plain text as it is, other cells as [kind, text]."""
        lines = [[line.number, [_cell_to_json(cell) for cell in line.cells]] for line in self.lines]
        return {
            "file": self.file,
            "sheet": self.sheet,
            "others": list(self.other_sheets),
            "hidden": sorted(self.hidden),
            "lines": lines,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SheetTable":
        lines = tuple(
            SheetLine(number, tuple(_cell_from_json(cell) for cell in cells))
            for number, cells in data["lines"]
        )
        others, hidden = tuple(data["others"]), frozenset(data.get("hidden", ()))
        return cls(data["file"], lines, data["sheet"], others, hidden)


def make_table(file: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> SheetTable:
    """Return a table of headers and rows of text that was not read from a file."""
    texts = (headers, *rows)
    return SheetTable(
        file,
        tuple(SheetLine(n, tuple(map(Cell, row))) for n, row in enumerate(texts, 1)),
    )


def _cell_to_json(cell: Cell) -> str | list[str]:
    return cell.text if cell.kind is CellKind.TEXT else [cell.kind, cell.text]


def _cell_from_json(cell: str | list[str]) -> Cell:
    if isinstance(cell, str):
        return Cell(cell) if cell else EMPTY_CELL
    kind, text = cell
    return Cell(text, CellKind(kind))


class UnreadableSheet(InvalidInput):
    """The file is not a sheet, or exceeds the limits.

    The message names file, line and column, as far as they are known.
    """

    def __init__(self, file: str, error: SheetReadError) -> None:
        self.file = file
        self.position = error.position
        located = _locate(file, error.position, error.message)
        super().__init__(located.code, **located.values)


def _locate(file: str, place: CellPosition, reason: Message) -> Message:
    if not place.line:
        return Message("sheet.unreadable", file=file, reason=reason)
    if not place.column:
        return Message("sheet.unreadable-line", file=file, line=place.line, reason=reason)
    return Message(
        "sheet.unreadable-cell",
        file=file,
        line=place.line,
        column=column_letters(place.column),
        reason=reason,
    )


def column_letters(column: int) -> str:
    """Return the name of a column in a spreadsheet: 1 is A, 27 is AA."""
    name = ""
    while column > 0:
        column, rest = divmod(column - 1, 26)
        name = chr(65 + rest) + name
    return name
