"""Query rows: what each row of a batch query asks for."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date

from django.utils.translation import gettext as _

from adit.spreadsheets import row_verdicts
from adit.spreadsheets.columns import Field
from adit.spreadsheets.mapping import Mapping
from adit.spreadsheets.row_reader import DateOrder, PersonName, RowReader, first_given, person_name
from adit.spreadsheets.row_verdicts import Finding, Judged
from adit.spreadsheets.table import Table
from adit.spreadsheets.validation import judged
from adit_engine.errors import InvalidInput

MOST_SERIES_NUMBER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class QueryRow:
    """Empty means: not asked. Descriptions may hold * and ?, for matching without regard to case."""

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


def query_rows(
    table: Table,
    mapping: Mapping,
    order: DateOrder = DateOrder.DAY_FIRST,
    *,
    left_out: Collection[int] = (),
) -> Judged[QueryRow]:
    """In the order of the sheet. Raises Unreadable without rows or with too many."""

    def compared(rows: list[QueryRow]) -> Iterator[Finding]:
        return _crosswise(rows, _header(mapping))

    return judged(table, mapping, order, _row, compared, left_out)


def _header(mapping: Mapping) -> str:
    place = mapping.place(Field.PATIENT_ID)
    return "" if place is None else mapping.name(place)


def _row(reader: RowReader) -> QueryRow:
    row = QueryRow(
        reader.line.number,
        patient_id=reader.identifier(Field.PATIENT_ID, 64),
        name=_name(reader),
        birth_date=_birth_date(reader),
        accession=reader.identifier(Field.ACCESSION, 16),
        first_day=reader.day(Field.FROM),
        last_day=reader.day(Field.UNTIL),
        modalities=reader.modalities(),
        study_description=reader.text(Field.STUDY_DESCRIPTION, 64),
        series_description=reader.text(Field.SERIES_DESCRIPTION, 64),
        series_number=reader.number(Field.SERIES_NUMBER, MOST_SERIES_NUMBER),
        pseudonym=reader.pseudonym(),
    )
    if row.first_day and row.last_day and row.first_day > row.last_day:
        reader.error(Field.UNTIL, _("The last day lies before the first."))
    if not reader.failed:
        _check_enough(reader, row)
        reader.check_veil(row.pseudonym, row.patient_id)
    return row


def _check_enough(reader: RowReader, row: QueryRow) -> None:
    if row.patient_id or row.accession or (row.name and row.birth_date):
        if row.name and not row.name.given and not (row.patient_id or row.accession):
            reader.warn(_name_field(reader), _("Only a family name: others may be found too."))
    elif row.name:
        reader.error(Field.BIRTH_DATE, _("A name needs the birth date beside it."))
    elif row.birth_date:
        reader.error(_name_field(reader), _("A birth date needs the name beside it."))
    else:
        reader.error(
            None,
            _("Give a patient ID, or name and birth date, or an accession number."),
        )


def _name_field(reader: RowReader) -> Field:
    return Field.FAMILY_NAME if reader.has(Field.FAMILY_NAME) else Field.PATIENT_NAME


def _birth_date(reader: RowReader) -> date | None:
    day = reader.day(Field.BIRTH_DATE)
    if day is not None and day > _latest_birth():
        reader.error(Field.BIRTH_DATE, _("The birth date lies in the future."))
        return None
    return day


def _latest_birth() -> date:
    return date.today()  # noqa: DTZ011 a day either way does not matter for a birth date


def _name(reader: RowReader) -> PersonName | None:
    """From one column, or from one for the family name and one for the given names."""
    if reader.has(Field.FAMILY_NAME):
        family = _name_text(reader, Field.FAMILY_NAME)
        given = first_given(_name_text(reader, Field.GIVEN_NAME))
        return PersonName(family, given) if family else None
    if reader.has(Field.GIVEN_NAME) and not reader.has(Field.PATIENT_NAME):
        reader.error(Field.FAMILY_NAME, _("The family name is missing."))
        return None
    text = _name_text(reader, Field.PATIENT_NAME)
    if not text:
        return None
    try:
        return person_name(text)
    except InvalidInput as error:
        reader.error(Field.PATIENT_NAME, str(error))
        return None


def _name_text(reader: RowReader, column: Field) -> str:
    text = reader.text(column, 194)  # PS3.5 6.2: three spellings of 64 characters
    if "*" in text or "?" in text:
        reader.error(column, _("No * or ? here: write the whole value."))
        return ""
    return text


def _crosswise(rows: list[QueryRow], header: str) -> Iterator[Finding]:
    yield from row_verdicts.several(
        rows,
        lambda row: row.patient_id,
        lambda row: row.pseudonym,
        lambda row: row.line,
        _("One patient with several pseudonyms. Give each patient one."),
    )
    yield from row_verdicts.several(
        rows,
        lambda row: row.pseudonym.casefold(),
        lambda row: row.patient_id,
        lambda row: row.line,
        _("One pseudonym for several patients. Give each patient an own one."),
    )
    yield from row_verdicts.twice(rows, _asked, lambda row: row.line)
    yield from row_verdicts.alike(rows, lambda row: row.patient_id, lambda row: row.line, header)


def _asked(row: QueryRow) -> tuple[object, ...]:
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
