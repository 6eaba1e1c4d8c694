"""Writing: tables as .xlsx and CSV that no spreadsheet runs, rounds or shortens."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import xlsxwriter

from adit.spreadsheets.columns import plain

QUERY_RESULT = (
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

_RUNS = re.compile(r"'*[=+\-@\t\r]")
_BOM = "\ufeff"
_ROWS_A_CHUNK = 200
_WIDEST = 40


def with_own(columns: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """The columns of an export, and after them the user's own, whose names stay apart from ours."""
    taken = {plain(column) for column in columns}
    named = (f"{name} (own)" if plain(name) in taken else name for name in own)
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
        page.set_column(column, column, min(max(len(name) + 2, 12), _WIDEST), text)
        page.write_string(0, column, name, head)
    page.freeze_panes(1, 0)
    for number, row in enumerate(rows, 1):
        for column, value in enumerate(row):
            if value:
                page.write_string(number, column, value, text)
    book.close()


def csv_chunks(
    columns: Sequence[str], rows: Iterable[Sequence[str]], delimiter: str = ","
) -> Iterator[bytes]:
    """UTF-8 with a byte order mark, for a streamed answer; what would run gets an apostrophe."""
    page = io.StringIO()
    page.write(_BOM)
    writer = csv.writer(page, delimiter=delimiter)
    writer.writerow(columns)
    for number, row in enumerate(rows, 1):
        writer.writerow([safe(value) for value in row])
        if number % _ROWS_A_CHUNK == 0:
            yield _taken(page)
    yield _taken(page)


def safe(text: str) -> str:
    """With an apostrophe before what a spreadsheet would run, and before what looks like one."""
    return f"'{text}" if _RUNS.match(text) else text


def _taken(page: io.StringIO) -> bytes:
    data = page.getvalue().encode()
    page.seek(0)
    page.truncate()
    return data
