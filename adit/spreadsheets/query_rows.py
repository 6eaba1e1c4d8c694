"""Check the rows of a batch query: which patient or studies each row asks for.

Used by batch query uploads.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date

from adit.spreadsheets import row_verdicts
from adit.spreadsheets.columns import SheetField
from adit.spreadsheets.mapping import ColumnMapping
from adit.spreadsheets.row_reader import (
    DateOrder,
    PersonName,
    RowReader,
    get_first_given_name,
    parse_person_name,
)
from adit.spreadsheets.row_verdicts import RowFinding, ValidatedSheet
from adit.spreadsheets.table import SheetTable
from adit.spreadsheets.validation import validate_rows
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message

MAX_SERIES_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class QueryRow:
    """What one row of a batch query asks for. An empty field means: not queried.

    Descriptions may contain the wildcards * and ?. They are matched case-insensitively.
    """

    line: int
    patient_id: str = field(default="", repr=False)
    name: PersonName | None = field(default=None, repr=False)
    birth_date: date | None = field(default=None, repr=False)
    accession: str = field(default="", repr=False)
    first_day: date | None = field(default=None, repr=False)
    last_day: date | None = field(default=None, repr=False)
    modalities: tuple[str, ...] = ()
    study_description: str = field(default="", repr=False)
    series_description: str = field(default="", repr=False)
    series_number: int | None = None
    pseudonym: str = field(default="", repr=False)

    @property
    def asks_for_series(self) -> bool:
        return bool(self.series_description) or self.series_number is not None


def validate_query_rows(
    table: SheetTable,
    mapping: ColumnMapping,
    order: DateOrder = DateOrder.DAY_FIRST,
    *,
    left_out: Collection[int] = (),
) -> ValidatedSheet[QueryRow]:
    """Check the rows of a batch query, in the order of the sheet.

    Raises UnreadableSheet if there are no rows or too many.
    """

    def compared(rows: list[QueryRow]) -> Iterator[RowFinding]:
        return _compare_rows(rows, _get_patient_id_header(mapping))

    return validate_rows(table, mapping, order, _read_row, compared, left_out)


def _get_patient_id_header(mapping: ColumnMapping) -> str:
    place = mapping.get_column(SheetField.PATIENT_ID)
    return "" if place is None else mapping.name(place)


def _read_row(reader: RowReader) -> QueryRow:
    row = QueryRow(
        reader.line.number,
        patient_id=reader.identifier(SheetField.PATIENT_ID, 64),
        name=_read_name(reader),
        birth_date=_read_birth_date(reader),
        accession=reader.identifier(SheetField.ACCESSION, 16),
        first_day=reader.day(SheetField.FROM),
        last_day=reader.day(SheetField.UNTIL),
        modalities=reader.modalities(),
        study_description=reader.text(SheetField.STUDY_DESCRIPTION, 64),
        series_description=reader.text(SheetField.SERIES_DESCRIPTION, 64),
        series_number=reader.number(SheetField.SERIES_NUMBER, MAX_SERIES_NUMBER),
        pseudonym=reader.pseudonym(),
    )
    if row.first_day and row.last_day and row.first_day > row.last_day:
        reader.error(SheetField.UNTIL, Message("sheet-row.days-reversed"))
    if not reader.failed:
        _require_enough(reader, row)
        reader.check_pseudonym_differs(row.pseudonym, row.patient_id)
    return row


def _require_enough(reader: RowReader, row: QueryRow) -> None:
    if row.patient_id or row.accession or (row.name and row.birth_date):
        if row.name and not row.name.given and not (row.patient_id or row.accession):
            reader.warn(_get_name_field(reader), Message("sheet-row.family-name-only"))
    elif row.name:
        reader.error(SheetField.BIRTH_DATE, Message("sheet-row.birth-date-missing"))
    elif row.birth_date:
        reader.error(_get_name_field(reader), Message("sheet-row.name-missing"))
    else:
        reader.error(None, Message("sheet-row.query-incomplete"))


def _get_name_field(reader: RowReader) -> SheetField:
    return SheetField.FAMILY_NAME if reader.has(SheetField.FAMILY_NAME) else SheetField.PATIENT_NAME


def _read_birth_date(reader: RowReader) -> date | None:
    day = reader.day(SheetField.BIRTH_DATE)
    if day is not None and day > _get_latest_birth_date():
        reader.error(SheetField.BIRTH_DATE, Message("sheet-row.birth-date-in-future"))
        return None
    return day


def _get_latest_birth_date() -> date:
    return date.today()  # noqa: DTZ011 a day either way does not matter for a birth date


def _read_name(reader: RowReader) -> PersonName | None:
    """The name comes from one column, or from a family name and a given name column."""
    if reader.has(SheetField.FAMILY_NAME):
        family = _read_name_text(reader, SheetField.FAMILY_NAME)
        given = get_first_given_name(_read_name_text(reader, SheetField.GIVEN_NAME))
        return PersonName(family, given) if family else None
    if reader.has(SheetField.GIVEN_NAME) and not reader.has(SheetField.PATIENT_NAME):
        reader.error(SheetField.FAMILY_NAME, Message("sheet-row.family-name-missing"))
        return None
    text = _read_name_text(reader, SheetField.PATIENT_NAME)
    if not text:
        return None
    try:
        return parse_person_name(text)
    except InvalidInput as error:
        reader.error(SheetField.PATIENT_NAME, error.message)
        return None


def _read_name_text(reader: RowReader, column: SheetField) -> str:
    text = reader.text(column, 194)  # PS3.5 6.2: three component groups of 64 characters
    if "*" in text or "?" in text:
        reader.error(column, Message("sheet-row.wildcard"))
        return ""
    return text


def _compare_rows(rows: list[QueryRow], header: str) -> Iterator[RowFinding]:
    yield from row_verdicts.find_conflicts(
        rows,
        lambda row: row.patient_id,
        lambda row: row.pseudonym,
        lambda row: row.line,
        Message("sheet-row.patient-with-pseudonyms"),
    )
    yield from row_verdicts.find_conflicts(
        rows,
        lambda row: row.pseudonym.casefold(),
        lambda row: row.patient_id,
        lambda row: row.line,
        Message("sheet-row.pseudonym-of-patients"),
    )
    yield from row_verdicts.find_duplicates(rows, _query_key, lambda row: row.line)
    yield from row_verdicts.find_similar_ids(
        rows, lambda row: row.patient_id, lambda row: row.line, header
    )


def _query_key(row: QueryRow) -> tuple[object, ...]:
    return (
        row.patient_id,
        row.name,
        row.birth_date,
        row.accession,
        row.first_day,
        row.last_day,
        frozenset(row.modalities),
        row.study_description.casefold(),
        row.series_description.casefold(),
        row.series_number,
    )
