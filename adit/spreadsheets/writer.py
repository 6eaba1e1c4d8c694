"""Write tables as .xlsx and CSV so that spreadsheets do not interpret, round or shorten any value.

Used by the downloads of results and templates.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import xlsxwriter
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse

from adit.spreadsheets.columns import normalize_header

QUERY_RESULT_COLUMNS = (
    "Pseudonym",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "ModalitiesInStudy",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "NumberOfStudyRelatedInstances",
    "AccessionNumber",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
)
"""Columns of a batch query export. A batch transfer accepts them unchanged."""
RESULT_LINE = "ADIT line"
RESULT_OUTCOME = "ADIT outcome"
RESULT_REASON = "ADIT reason"
RESULT_SOURCE = "ADIT source"
RESULT_FOUND = "ADIT found"
"""Column of a query export: `no` for a row without a result. A batch transfer leaves such rows
out.
"""
"""Headers that begin with ADIT and a space are results. An upload does not read them as data."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_BOM = "\ufeff"
_ROWS_PER_CHUNK = 200
_MAX_WIDTH = 40


def add_own_columns(columns: Sequence[str], user_cells: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of an export, followed by the user's own columns.

    Own columns whose names collide with ours are renamed.
    """
    taken = {normalize_header(column) for column in columns}
    named = (f"{name} (own)" if normalize_header(name) in taken else name for name in user_cells)
    return (*columns, *named)


def write_xlsx(
    columns: Sequence[str], rows: Iterable[Sequence[str]], target: IO[bytes], sheet: str = "ADIT"
) -> None:
    """Write a workbook in which all cells and columns are text.

    Rows are consumed one by one. No temporary file is written.
    """
    book = xlsxwriter.Workbook(target, {"in_memory": True})
    page = book.add_worksheet(sheet)
    text = book.add_format({"num_format": "@"})
    head = book.add_format({"num_format": "@", "bold": True})
    for column, name in enumerate(columns):
        page.set_column(column, column, min(max(len(name) + 2, 12), _MAX_WIDTH), text)
        page.write_string(0, column, name, head)
    page.freeze_panes(1, 0)
    for number, row in enumerate(rows, 1):
        for column, value in enumerate(row):
            if value:
                page.write_string(number, column, value, text)
    book.close()


def stream_csv(
    columns: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str = ","
) -> Iterator[bytes]:
    """Yield a CSV file in chunks, as UTF-8 with a byte order mark.

    Formulas are escaped with an apostrophe.
    """
    page = io.StringIO()
    page.write(_BOM)
    writer = csv.writer(page, delimiter=delimiter)
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        writer.writerow([escape_formula(value) for value in row])
        if number % _ROWS_PER_CHUNK == 0:
            yield _take_text(page)
    yield _take_text(page)


def escape_formula(text: str) -> str:
    """Put an apostrophe before a formula, and before an already escaped text."""
    return f"'{text}" if _FORMULA.match(text) else text


def _take_text(page: io.StringIO) -> bytes:
    data = page.getvalue().encode()
    page.seek(0)
    page.truncate()
    return data


XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def make_sheet_response(
    form: str, name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> HttpResponseBase:
    """Return a download as csv, which is streamed, or xlsx.

    `name` has no file extension. Raises Http404 for other formats.
    """
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    if form == "csv":
        chunks = stream_csv(columns, rows)
        return StreamingHttpResponse(chunks, content_type="text/csv", headers=headers)
    if form != "xlsx":
        raise Http404
    target = io.BytesIO()
    write_xlsx(columns, rows, target)
    return HttpResponse(target.getvalue(), content_type=XLSX, headers=headers)
