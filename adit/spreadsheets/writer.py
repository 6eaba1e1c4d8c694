"""Writing: tables as .xlsx and CSV that no spreadsheet runs, rounds or shortens.
Download: a table as a file that a spreadsheet opens."""

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
"""Columns of a batch query's export, which a batch transfer reads as they are."""
RESULT_LINE = "ADIT line"
RESULT_OUTCOME = "ADIT outcome"
RESULT_REASON = "ADIT reason"
RESULT_SOURCE = "ADIT source"
RESULT_FOUND = "ADIT found"
"""Of a query's export: `no` for a row without a result, which a batch transfer leaves out."""
"""Headers that begin with ADIT and a blank are answers: an upload does not take them for data."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_BOM = "\ufeff"
_ROWS_PER_CHUNK = 200
_MAX_WIDTH = 40


def add_own_columns(columns: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """The columns of an export, and after them the user's own, whose names stay apart from ours."""
    taken = {normalize_header(column) for column in columns}
    named = (f"{name} (own)" if normalize_header(name) in taken else name for name in own)
    return (*columns, *named)


def write_xlsx(
    columns: Sequence[str], rows: Iterable[Sequence[str]], target: IO[bytes], sheet: str = "ADIT"
) -> None:
    """All cells and columns are text. Rows are taken one by one; nothing is laid on a disk."""
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
    """UTF-8 with a byte order mark, for a streamed answer; what would run gets an apostrophe."""
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
    """With an apostrophe before what a spreadsheet would run, and before what looks like one."""
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
    """`form` is csv, which is streamed, or xlsx; `name` goes without it. Raises Http404 for others."""
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"'}
    if form == "csv":
        chunks = stream_csv(columns, rows)
        return StreamingHttpResponse(chunks, content_type="text/csv", headers=headers)
    if form != "xlsx":
        raise Http404
    target = io.BytesIO()
    write_xlsx(columns, rows, target)
    return HttpResponse(target.getvalue(), content_type=XLSX, headers=headers)
