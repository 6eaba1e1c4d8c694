"""Sheet: reads, judges and writes the lists of a batch query and a batch transfer; stores nothing.

    table = sheet.read(file, name)                      raises Unreadable: file, line, column, why
    mapping = sheet.guess(table, SheetKind.QUERY)       ask *which column is what* unless mapping.sure
    mapping = sheet.chosen(table, kind, header_line, {Field.PATIENT_ID: 0, …})
    judged = sheet.query_rows(table, mapping)           Judged[QueryRow]
    judged = sheet.transfer_rows(table, mapping, pseudonym_required=True)      Judged[TransferRow]
    for row in judged.rows: row.line, row.verdict, row.findings, row.row (None = error), row.own
    sheet.write_xlsx(sheet.with_own(columns, judged.own_headers), rows, target)
    sheet.csv_chunks(columns, rows)                     bytes, for a streamed answer
    sheet.template_xlsx(kind), sheet.template_csv(kind)

Rows to be written are sequences of text: dates as 2026-01-31, numbers as they shall be read.
Unreadable and WrongInput carry sentences for people; nothing here ever says what a cell says.
"""

from adit.spreadsheets.columns import FIELDS, Field, SheetKind
from adit.spreadsheets.limits import MOST_FILE_BYTES, MOST_ROWS
from adit.spreadsheets.mapping import Mapping, chosen, guess, mapping_at
from adit.spreadsheets.query_rows import QueryRow, query_rows
from adit.spreadsheets.reader import Readable, read
from adit.spreadsheets.row_reader import DateOrder, PersonName, first_given, person_name
from adit.spreadsheets.row_verdicts import Finding, Judged, JudgedRow, Verdict, lines_in_words
from adit.spreadsheets.table import Cell, CellKind, Line, Table, Unreadable, letters, table_of
from adit.spreadsheets.template import columns, examples, template_csv, template_xlsx
from adit.spreadsheets.transfer_rows import TransferRow, transfer_rows
from adit.spreadsheets.writer import (
    QUERY_RESULT,
    RESULT_FOUND,
    RESULT_LINE,
    RESULT_OUTCOME,
    RESULT_REASON,
    RESULT_SOURCE,
    csv_chunks,
    with_own,
    write_xlsx,
)

__all__ = [
    "FIELDS",
    "MOST_FILE_BYTES",
    "MOST_ROWS",
    "QUERY_RESULT",
    "RESULT_FOUND",
    "RESULT_LINE",
    "RESULT_OUTCOME",
    "RESULT_REASON",
    "RESULT_SOURCE",
    "Cell",
    "CellKind",
    "DateOrder",
    "Field",
    "Finding",
    "Judged",
    "JudgedRow",
    "Line",
    "Mapping",
    "PersonName",
    "QueryRow",
    "Readable",
    "SheetKind",
    "Table",
    "TransferRow",
    "Unreadable",
    "Verdict",
    "chosen",
    "columns",
    "csv_chunks",
    "examples",
    "first_given",
    "guess",
    "letters",
    "lines_in_words",
    "mapping_at",
    "person_name",
    "query_rows",
    "read",
    "table_of",
    "template_csv",
    "template_xlsx",
    "transfer_rows",
    "with_own",
    "write_xlsx",
]
