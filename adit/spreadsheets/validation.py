"""Judging: the way from a table and its mapping to rows with verdicts, whatever the kind."""

from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from django.utils.translation import gettext as _

from adit.spreadsheets import limits
from adit.spreadsheets.limits import Place, Refusal, gettext_noop
from adit.spreadsheets.mapping import Mapping
from adit.spreadsheets.row_reader import DateOrder, RowReader
from adit.spreadsheets.row_verdicts import Finding, Judged, JudgedRow, Verdict
from adit.spreadsheets.table import Line, Table, Unreadable
from adit.spreadsheets.template import is_example

R = TypeVar("R")
Crosswise = Callable[[list[R]], Iterable[Finding]]


def judged(
    table: Table,
    mapping: Mapping,
    order: DateOrder,
    one: Callable[[RowReader], R],
    crosswise: Crosswise[R],
    left_out: Collection[int] = (),
) -> Judged[R]:
    """`one` reads a row and notes findings; `crosswise` compares those that have no error.

    Lines that a person left out are judged, but not compared with others.
    """
    lines = _lines(table, mapping)
    rows = [
        _row(RowReader(line, mapping, order), mapping, one, line.number in table.hidden)
        for line in lines
    ]
    compared = (row for row in rows if row.line not in left_out)
    found = crosswise([row.row for row in compared if row.row is not None])
    return Judged(
        table.file,
        tuple(mapping.name(column) for field, column in mapping.places),
        mapping.own_headers,
        tuple(_with(found, rows)),
    )


def _lines(table: Table, mapping: Mapping) -> list[Line]:
    lines = list(table.after(mapping.header_line))
    if not lines:
        raise Unreadable(
            table.file,
            Refusal(
                gettext_noop("Below the headers the sheet is empty."), Place(mapping.header_line)
            ),
        )
    if len(lines) > limits.MOST_ROWS:
        raise Unreadable(table.file, limits.too_many_rows(lines[limits.MOST_ROWS].number))
    return lines


def _row(
    reader: RowReader, mapping: Mapping, one: Callable[[RowReader], R], is_hidden: bool
) -> JudgedRow[R]:
    if is_hidden:
        reader.warn(None, _("The workbook hides this row, as a filter does: is it meant?"))
    value: R | None = None
    if is_example(mapping, reader.line):
        reader.leave_out(_("An example of the template: it is left out."))
    else:
        value = one(reader)
    left_out = any(finding.verdict is Verdict.LEFT_OUT for finding in reader.findings)
    return JudgedRow(
        reader.line.number,
        None if reader.failed or left_out else value,
        tuple(reader.findings),
        reader.own(),
        reader.shown(),
    )


def _with(found: Iterable[Finding], rows: list[JudgedRow[R]]) -> Iterable[JudgedRow[R]]:
    by_line: dict[int, list[Finding]] = {}
    for finding in found:
        for line in finding.lines:
            by_line.setdefault(line, []).append(finding)
    for row in rows:
        more = tuple(by_line.get(row.line, ()))
        failed = any(finding.verdict is Verdict.ERROR for finding in more)
        yield JudgedRow(
            row.line, None if failed else row.row, row.findings + more, row.own, row.shown
        )
