"""Check the rows of a batch transfer: which study or series each row names.

Used by batch transfer uploads.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date

from adit.spreadsheets import row_verdicts
from adit.spreadsheets.columns import SheetField
from adit.spreadsheets.mapping import ColumnMapping
from adit.spreadsheets.row_reader import DateOrder, RowReader
from adit.spreadsheets.row_verdicts import RowFinding, RowVerdict, ValidatedSheet
from adit.spreadsheets.table import SheetTable
from adit.spreadsheets.validation import validate_rows
from adit.spreadsheets.writer import RESULT_FOUND
from adit_engine.messages import Message
from adit_engine.pseudonymize.visit import TrialVisit, explain_visit_risk

MAX_DAYS = 366


@dataclass(frozen=True, slots=True)
class TransferRow:
    """The study or series that one row of a batch transfer names.

    It names one of three: patient ID and study UID; accession number; patient ID, study date ± days
    and modality. Without a study UID the check of the sheet finds the study. An empty series UID
    means the whole study.
    """

    line: int
    patient_id: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    study_date: date | None = field(default=None, repr=False)
    days: int = 0
    modalities: tuple[str, ...] = ()
    pseudonym: str = field(default="", repr=False)
    visit: TrialVisit | None = None


def validate_transfer_rows(
    table: SheetTable,
    mapping: ColumnMapping,
    order: DateOrder = DateOrder.DAY_FIRST,
    *,
    pseudonym_required: bool = False,
    left_out: Collection[int] = (),
) -> ValidatedSheet[TransferRow]:
    """Check the rows of a batch transfer, in the order of the sheet.

    A pseudonym is required for users who may not transfer identified data, unless the order says
    that pseudonyms are generated. Raises UnreadableSheet if there are no rows or too many.
    """

    def one(reader: RowReader) -> TransferRow:
        return _read_row(reader, mapping, pseudonym_required)

    def compared(rows: list[TransferRow]) -> Iterator[RowFinding]:
        return _compare_rows(rows, mapping)

    return validate_rows(table, mapping, order, one, compared, left_out)


def _read_row(reader: RowReader, mapping: ColumnMapping, pseudonym_required: bool) -> TransferRow:
    if _is_empty_result(reader, mapping):
        reader.leave_out(Message("sheet-row.no-result"))
        return TransferRow(reader.line.number)
    row = TransferRow(
        reader.line.number,
        patient_id=reader.identifier(SheetField.PATIENT_ID, 64),
        study_uid=reader.uid(SheetField.STUDY_UID),
        series_uid=reader.uid(SheetField.SERIES_UID),
        accession=reader.identifier(SheetField.ACCESSION, 16),
        study_date=reader.day(SheetField.STUDY_DATE),
        days=reader.number(SheetField.DAYS, MAX_DAYS) or 0,
        modalities=reader.modalities(),
        pseudonym=reader.pseudonym(),
        visit=reader.visit(),
    )
    if reader.failed:
        return row
    _require_enough(reader, row)
    reader.check_pseudonym_differs(row.pseudonym, row.patient_id)
    if row.visit is not None and (risk := explain_visit_risk(row.visit, row.patient_id)):
        reader.warn(SheetField.VISIT, risk)
    if pseudonym_required and not row.pseudonym:
        reader.error(SheetField.PSEUDONYM, Message("sheet-row.pseudonym-missing"))
    return row


def _is_empty_result(reader: RowReader, mapping: ColumnMapping) -> bool:
    """Whether this is a row of a query export that has no result."""
    headers = [header.strip() for header in mapping.headers]
    if RESULT_FOUND not in headers:
        return False
    return reader.line.cell(headers.index(RESULT_FOUND)).text.strip() == "no"


def _require_enough(reader: RowReader, row: TransferRow) -> None:
    if row.study_uid and not row.patient_id:
        reader.error(SheetField.PATIENT_ID, Message("sheet-row.patient-id-missing"))
    elif row.series_uid and not (row.study_uid or row.accession):
        reader.error(SheetField.STUDY_UID, Message("sheet-row.study-uid-missing"))
    elif row.study_uid or row.accession:
        return
    elif not row.patient_id:
        reader.error(None, Message("sheet-row.transfer-incomplete"))
    elif row.study_date is None:
        reader.error(SheetField.STUDY_DATE, Message("sheet-row.study-missing"))
    elif not row.modalities:
        reader.error(SheetField.MODALITY, Message("sheet-row.modality-missing"))


def _compare_rows(rows: list[TransferRow], mapping: ColumnMapping) -> Iterator[RowFinding]:
    for key, value, message in (
        (_get_study, _get_patient, Message("sheet-row.study-of-patients")),
        (_get_patient, _get_pseudonym, Message("sheet-row.patient-with-pseudonyms")),
        (_get_folded_pseudonym, _get_patient, Message("sheet-row.pseudonym-of-patients")),
        (_get_named_study, _get_pseudonym, Message("sheet-row.study-with-pseudonyms")),
        (_get_named_study, _get_visit, Message("sheet-row.study-with-visits")),
        (_get_series, _get_study, Message("sheet-row.series-in-studies")),
    ):
        yield from row_verdicts.find_conflicts(rows, key, value, _get_line, message)
    yield from row_verdicts.find_duplicates(rows, _query_key, _get_line)
    yield from _find_covered_series(rows)
    place = mapping.get_column(SheetField.PATIENT_ID)
    column = "" if place is None else mapping.name(place)
    yield from row_verdicts.find_similar_ids(rows, _get_patient, _get_line, column)


def _find_covered_series(rows: list[TransferRow]) -> Iterator[RowFinding]:
    """Yield a warning where one row names a whole study and another a series of it."""
    whole = {_get_named_study(row): row.line for row in rows if not row.series_uid}
    whole.pop("", None)
    for row in rows:
        study = _get_named_study(row)
        if row.series_uid and study in whole:
            yield RowFinding(
                RowVerdict.WARNING,
                Message("sheet-row.series-covered"),
                (row.line, whole[study]),
            )


def _get_line(row: TransferRow) -> int:
    return row.line


def _get_patient(row: TransferRow) -> str:
    return row.patient_id


def _get_pseudonym(row: TransferRow) -> str:
    return row.pseudonym


def _get_folded_pseudonym(row: TransferRow) -> str:
    return row.pseudonym.casefold()


def _get_study(row: TransferRow) -> str:
    return row.study_uid


def _get_named_study(row: TransferRow) -> str:
    """The study UID, or the accession number if there is none."""
    return row.study_uid or (f"accession {row.accession}" if row.accession else "")


def _get_visit(row: TransferRow) -> TrialVisit | None:
    return row.visit


def _get_series(row: TransferRow) -> str:
    return row.series_uid


def _query_key(row: TransferRow) -> tuple[object, ...]:
    by_date = () if row.study_uid or row.accession else (row.study_date, row.days, row.modalities)
    return row.patient_id, row.study_uid or row.accession, row.series_uid, by_date
