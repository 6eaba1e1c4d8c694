"""Check the rows of a sheet, whatever its kind.

Used by `query_rows`, `transfer_rows` and `consent_rows`.
"""

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from adit.spreadsheets import limits
from adit.spreadsheets.limits import CellPosition, SheetReadError
from adit.spreadsheets.mapping import ColumnMapping
from adit.spreadsheets.row_reader import DateOrder, RowReader
from adit.spreadsheets.row_verdicts import RowFinding, RowVerdict, ValidatedRow, ValidatedSheet
from adit.spreadsheets.table import SheetLine, SheetTable, UnreadableSheet
from adit.spreadsheets.template import is_example
from adit_engine.messages import Message

R = TypeVar("R")
CompareRows = Callable[[list[R]], Iterable[RowFinding]]


def validate_rows(
    table: SheetTable,
    mapping: ColumnMapping,
    order: DateOrder,
    read_row: Callable[[RowReader], R],
    compare_rows: CompareRows[R],
    left_out: Collection[int] = (),
) -> ValidatedSheet[R]:
    """Check each data row of the table, then compare the rows with each other.

    `read_row` reads a row and notes findings. `compare_rows` compares the rows that have no error. Rows
    that the user left out are checked, but not compared with others.
    """
    lines = _get_data_lines(table, mapping)
    rows = [
        _validate_row(
            RowReader(line, mapping, order), mapping, read_row, line.number in table.hidden
        )
        for line in lines
    ]
    compared = (row for row in rows if row.line not in left_out)
    found = compare_rows([row.row for row in compared if row.row is not None])
    return ValidatedSheet(
        table.file,
        tuple(field for field, column in mapping.columns),
        tuple(mapping.name(column) for field, column in mapping.columns),
        mapping.own_headers,
        tuple(_add_findings(found, rows)),
    )


def _get_data_lines(table: SheetTable, mapping: ColumnMapping) -> list[SheetLine]:
    lines = list(table.lines_after(mapping.header_line))
    if not lines:
        raise UnreadableSheet(
            table.file,
            SheetReadError(Message("sheet.no-rows"), CellPosition(mapping.header_line)),
        )
    if len(lines) > limits.MAX_ROWS:
        raise UnreadableSheet(table.file, limits.make_too_many_rows(lines[limits.MAX_ROWS].number))
    return lines


def _validate_row(
    reader: RowReader, mapping: ColumnMapping, read_row: Callable[[RowReader], R], is_hidden: bool
) -> ValidatedRow[R]:
    if is_hidden:
        reader.warn(None, Message("sheet-row.hidden"))
    value: R | None = None
    if is_example(mapping, reader.line):
        reader.leave_out(Message("sheet-row.example"))
    else:
        value = read_row(reader)
    left_out = any(finding.verdict is RowVerdict.LEFT_OUT for finding in reader.findings)
    return ValidatedRow(
        reader.line.number,
        None if reader.failed or left_out else value,
        tuple(reader.findings),
        reader.get_user_cells(),
        reader.get_values(),
    )


def _add_findings(
    found: Iterable[RowFinding], rows: list[ValidatedRow[R]]
) -> Iterable[ValidatedRow[R]]:
    by_line: dict[int, list[RowFinding]] = {}
    for finding in found:
        for line in finding.lines:
            by_line.setdefault(line, []).append(finding)
    for row in rows:
        more = tuple(by_line.get(row.line, ()))
        failed = any(finding.verdict is RowVerdict.ERROR for finding in more)
        yield ValidatedRow(
            row.line, None if failed else row.row, row.findings + more, row.user_cells, row.values
        )
