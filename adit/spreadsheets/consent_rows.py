"""Check the rows of a consent list: which patient each row names, and what the consent covers.

Used by the upload of consent lists.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date

from adit.spreadsheets import row_verdicts
from adit.spreadsheets.columns import SheetField, is_result_header
from adit.spreadsheets.mapping import ColumnMapping
from adit.spreadsheets.row_reader import DateOrder, RowReader
from adit.spreadsheets.row_verdicts import RowFinding, ValidatedSheet
from adit.spreadsheets.table import SheetTable, column_letters
from adit.spreadsheets.validation import validate_rows
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

MAX_MODALITIES_LENGTH = 100
_HARMLESS_DOUBT = "sheet.headers-in-line"


@dataclass(frozen=True, slots=True)
class ConsentRow:
    line: int
    domain: str = ""
    patient_id: str = field(default="", repr=False)
    modalities: str = ""
    """Such as "CT, MR"; empty: all."""
    valid_until: date | None = None
    withdrawn_on: date | None = None


@dataclass(frozen=True, slots=True)
class ConsentRules:
    """What the rows of a list are checked against."""

    domains: Collection[str]
    """The known issuers of patient IDs."""
    default_domain: str
    """The issuer where the sheet names none; empty: each row has to name it."""
    today: date


def require_known_columns(table: SheetTable, mapping: ColumnMapping) -> None:
    """Raise InvalidInput unless the meaning of all columns is certain.

    A column that is ignored could be the one that says who withdrew.
    """
    if mapping.get_column(SheetField.PATIENT_ID) is None:
        raise InvalidInput("consent.no-patient-column")
    for doubt in mapping.doubts:
        if doubt.code != _HARMLESS_DOUBT:
            raise InvalidInput("consent.uncertain-columns", reason=doubt)
    lines = list(table.lines_after(mapping.header_line))
    unknown = [
        column_letters(column + 1)
        for column, header in enumerate(mapping.headers)
        if (column in mapping.own_columns or is_result_header(header))
        and any(not line.cell(column).empty for line in lines)
    ]
    if unknown:
        raise InvalidInput("consent.unknown-columns", columns=", ".join(unknown))


def validate_consent_rows(
    table: SheetTable, mapping: ColumnMapping, order: DateOrder, rules: ConsentRules
) -> ValidatedSheet[ConsentRow]:
    """Check the rows of a consent list, in the order of the sheet.

    Raises UnreadableSheet if there are no rows or too many.
    """

    def read(reader: RowReader) -> ConsentRow:
        return _read_row(reader, rules)

    def compare(rows: list[ConsentRow]) -> Iterator[RowFinding]:
        return _compare_rows(rows, mapping)

    return validate_rows(table, mapping, order, read, compare)


def _read_row(reader: RowReader, rules: ConsentRules) -> ConsentRow:
    row = ConsentRow(
        reader.line.number,
        domain=reader.text(SheetField.DOMAIN, 64) or rules.default_domain,
        patient_id=reader.identifier(SheetField.PATIENT_ID, 64),
        modalities=", ".join(sorted(reader.modalities())),
        valid_until=reader.day(SheetField.VALID_UNTIL),
        withdrawn_on=reader.day(SheetField.WITHDRAWN_ON),
    )
    if reader.failed:
        return row
    if not row.patient_id:
        reader.error(SheetField.PATIENT_ID, Message("sheet-row.consent-without-patient"))
    if not row.domain:
        reader.error(SheetField.DOMAIN, Message("sheet-row.domain-missing"))
    elif row.domain not in rules.domains:
        domains = ", ".join(sorted(rules.domains))
        reader.error(SheetField.DOMAIN, Message("consent.unknown-domain", domains=domains))
    if len(row.modalities) > MAX_MODALITIES_LENGTH:
        limit = MAX_MODALITIES_LENGTH
        reader.error(SheetField.MODALITY, Message("sheet-row.too-long", limit=limit))
    if row.withdrawn_on is not None and row.withdrawn_on > rules.today:
        reader.error(SheetField.WITHDRAWN_ON, Message("consent.withdrawn-in-future"))
    return row


def _compare_rows(rows: list[ConsentRow], mapping: ColumnMapping) -> Iterator[RowFinding]:
    message = Message("sheet-row.patient-with-consents")
    yield from row_verdicts.find_conflicts(rows, _get_patient, _get_terms, _get_line, message)
    yield from row_verdicts.find_duplicates(rows, _get_patient, _get_line)
    column = mapping.get_column(SheetField.PATIENT_ID)
    name = "" if column is None else mapping.name(column)
    yield from row_verdicts.find_similar_ids(rows, lambda row: row.patient_id, _get_line, name)


def _get_patient(row: ConsentRow) -> tuple[str, str]:
    return row.domain, row.patient_id


def _get_terms(row: ConsentRow) -> tuple[object, ...]:
    return row.modalities, row.valid_until, row.withdrawn_on


def _get_line(row: ConsentRow) -> int:
    return row.line
