"""Write tables as .xlsx and CSV files so that spreadsheets neither interpret nor change a value.

Used by all pages that offer a table as a download.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, Any

import xlsxwriter
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.translation import gettext as _
from xlsxwriter.utility import xl_range

from adit_engine.csv_text import format_csv_row

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
CSV = "text/csv; charset=utf-8"

Cell = str | int

_BOM = "\ufeff"
"""Without it, spreadsheet programs do not recognize UTF-8."""
_ROWS_PER_CHUNK = 200
_MIN_WIDTH, _MAX_WIDTH = 8, 60


def stream_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Yield a CSV file in chunks, as UTF-8 with a byte order mark. Lazy."""
    lines = [_BOM]
    for row in chain([columns], rows):
        lines.append(format_csv_row(row))
        if len(lines) >= _ROWS_PER_CHUNK:
            yield "".join(lines).encode()
            lines = []
    yield "".join(lines).encode()


def write_xlsx(
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    target: IO[bytes],
    summary: Iterable[tuple[str, Cell]] = (),
) -> None:
    """Write a workbook in which each string is a text cell.

    `summary` becomes a second sheet. It is read after the last row, so that it can count them. No
    temporary file is written.
    """
    book = xlsxwriter.Workbook(target, {"in_memory": True})
    text = book.add_format({"num_format": "@"})
    head = book.add_format({"num_format": "@", "bold": True})
    page = book.add_worksheet("ADIT")
    widths = [len(name) for name in columns]
    for column, name in enumerate(columns):
        page.write_string(0, column, name, head)
    last = 0
    for last, row in enumerate(rows, 1):
        for column, value in enumerate(row):
            if value != "":
                _write_cell(page, last, column, value, text)
                widths[column] = max(widths[column], len(str(value)))
    for column, width in enumerate(widths):
        # One character more for the margins, and two for the button of the filter.
        page.set_column(column, column, min(max(width + 3, _MIN_WIDTH), _MAX_WIDTH), text)
    page.freeze_panes(1, 0)
    page.autofilter(0, 0, last, len(columns) - 1)
    page.ignore_errors({"number_stored_as_text": xl_range(0, 0, last, len(columns) - 1)})
    _write_summary(book, list(summary), head, text)
    book.close()


def _write_cell(page: Any, line: int, column: int, value: Cell, text: Any) -> None:
    if isinstance(value, str):
        page.write_string(line, column, value, text)
    else:
        page.write_number(line, column, value)


def _write_summary(book: Any, summary: Sequence[tuple[str, Cell]], head: Any, text: Any) -> None:
    if not summary:
        return
    page = book.add_worksheet(_("Summary"))
    for line, (name, value) in enumerate(summary):
        page.write_string(line, 0, name, head)
        _write_cell(page, line, 1, value, text)
    page.set_column(0, 0, max(len(name) for name, _value in summary) + 2)
    page.set_column(1, 1, _MAX_WIDTH)
    page.ignore_errors({"number_stored_as_text": xl_range(0, 0, len(summary), 1)})


def make_table_response(
    form: str,
    name: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    summary: Iterable[tuple[str, Cell]] = (),
) -> HttpResponseBase:
    """Return a download as csv, which is streamed, or xlsx, which also has the summary.

    `name` has no file extension. Raises Http404 for other formats.
    """
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    if form == "csv":
        return StreamingHttpResponse(stream_csv(columns, rows), content_type=CSV, headers=headers)
    if form != "xlsx":
        raise Http404
    target = io.BytesIO()
    write_xlsx(columns, rows, target, summary)
    return HttpResponse(target.getvalue(), content_type=XLSX, headers=headers)
