"""Transfer rows: which study or series each row of a batch transfer names."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date

from django.utils.translation import gettext as _

from adit.spreadsheets import row_verdicts
from adit.spreadsheets.columns import Field
from adit.spreadsheets.mapping import Mapping
from adit.spreadsheets.row_reader import DateOrder, RowReader
from adit.spreadsheets.row_verdicts import Finding, Judged, Verdict
from adit.spreadsheets.table import Table
from adit.spreadsheets.validation import judged
from adit.spreadsheets.writer import RESULT_FOUND

MOST_DAYS = 366


@dataclass(frozen=True, slots=True)
class TransferRow:
    """One of three: patient and study UID; accession number; patient, day ± days and modality.

    Without a study UID the check finds the study. An empty series UID means the whole study.
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


def transfer_rows(
    table: Table,
    mapping: Mapping,
    order: DateOrder = DateOrder.DAY_FIRST,
    *,
    pseudonym_required: bool = False,
    left_out: Collection[int] = (),
) -> Judged[TransferRow]:
    """In the order of the sheet. Raises Unreadable without rows or with too many.

    A pseudonym is required of those who may not transfer identified data, unless the order says
    that pseudonyms are generated.
    """

    def one(reader: RowReader) -> TransferRow:
        return _row(reader, mapping, pseudonym_required)

    def compared(rows: list[TransferRow]) -> Iterator[Finding]:
        return _crosswise(rows, mapping)

    return judged(table, mapping, order, one, compared, left_out)


def _row(reader: RowReader, mapping: Mapping, pseudonym_required: bool) -> TransferRow:
    if _found_nothing(reader, mapping):
        reader.leave_out(_("The query found nothing for this row: it is left out."))
        return TransferRow(reader.line.number)
    row = TransferRow(
        reader.line.number,
        patient_id=reader.identifier(Field.PATIENT_ID, 64),
        study_uid=reader.uid(Field.STUDY_UID),
        series_uid=reader.uid(Field.SERIES_UID),
        accession=reader.identifier(Field.ACCESSION, 16),
        study_date=reader.day(Field.STUDY_DATE),
        days=reader.number(Field.DAYS, MOST_DAYS) or 0,
        modalities=reader.modalities(),
        pseudonym=reader.pseudonym(),
    )
    if reader.failed:
        return row
    _check_enough(reader, row)
    reader.check_veil(row.pseudonym, row.patient_id)
    if pseudonym_required and not row.pseudonym:
        reader.error(Field.PSEUDONYM, _("The pseudonym is missing."))
    return row


def _found_nothing(reader: RowReader, mapping: Mapping) -> bool:
    """A row of a query's export for which there is no result."""
    headers = [header.strip() for header in mapping.headers]
    if RESULT_FOUND not in headers:
        return False
    return reader.line.cell(headers.index(RESULT_FOUND)).text.strip() == "no"


def _check_enough(reader: RowReader, row: TransferRow) -> None:
    if row.study_uid and not row.patient_id:
        reader.error(Field.PATIENT_ID, _("A study UID needs the patient ID beside it."))
    elif row.series_uid and not (row.study_uid or row.accession):
        reader.error(Field.STUDY_UID, _("A series needs its study UID beside it."))
    elif row.study_uid or row.accession:
        return
    elif not row.patient_id:
        reader.error(
            None,
            _(
                "Give patient ID and study UID, or an accession number, or patient ID, "
                "study date and modality."
            ),
        )
    elif row.study_date is None:
        reader.error(
            Field.STUDY_DATE,
            _("Beside the patient ID: a study UID, or study date and modality."),
        )
    elif not row.modalities:
        reader.error(Field.MODALITY, _("A study date needs the modality beside it."))


def _crosswise(rows: list[TransferRow], mapping: Mapping) -> Iterator[Finding]:
    for key, value, text in (
        (_study, _patient, _("One study with several patients. Correct the patient ID.")),
        (_patient, _pseudonym, _("One patient with several pseudonyms. Give each patient one.")),
        (
            _folded_pseudonym,
            _patient,
            _("One pseudonym for several patients. Give each patient an own one."),
        ),
        (_study_named, _pseudonym, _("One study with several pseudonyms. Give each study one.")),
        (_series, _study, _("One series in several studies. Correct the study UID.")),
    ):
        yield from row_verdicts.several(rows, key, value, _line, text)
    yield from row_verdicts.twice(rows, _asked, _line)
    yield from _covered(rows)
    place = mapping.place(Field.PATIENT_ID)
    column = "" if place is None else mapping.name(place)
    yield from row_verdicts.alike(rows, _patient, _line, column)


def _covered(rows: list[TransferRow]) -> Iterator[Finding]:
    """A warning where a study is named whole and by series too."""
    whole = {_study_named(row): row.line for row in rows if not row.series_uid}
    whole.pop("", None)
    for row in rows:
        study = _study_named(row)
        if row.series_uid and study in whole:
            yield Finding(
                Verdict.WARNING,
                _("The series also comes with its whole study, which another line names."),
                (row.line, whole[study]),
            )


def _line(row: TransferRow) -> int:
    return row.line


def _patient(row: TransferRow) -> str:
    return row.patient_id


def _pseudonym(row: TransferRow) -> str:
    return row.pseudonym


def _folded_pseudonym(row: TransferRow) -> str:
    return row.pseudonym.casefold()


def _study(row: TransferRow) -> str:
    return row.study_uid


def _study_named(row: TransferRow) -> str:
    """The study UID, or the accession number that stands for it."""
    return row.study_uid or (f"accession {row.accession}" if row.accession else "")


def _series(row: TransferRow) -> str:
    return row.series_uid


def _asked(row: TransferRow) -> tuple[object, ...]:
    by_date = () if row.study_uid or row.accession else (row.study_date, row.days, row.modalities)
    return row.patient_id, row.study_uid or row.accession, row.series_uid, by_date
