"""The kind "batch transfer": check the studies of a sheet, then send them to one destination."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, ClassVar

from adit.jobs.kinds.base import (
    Kind,
    ListedSeries,
    ListedStudy,
    OrderedChange,
    Pseudonymize,
    RowCheck,
    RowNote,
    SheetRow,
    TaskContext,
    TaskOutput,
    TaskPlan,
    transfer_study,
)
from adit_engine.errors import AditError, InvalidInput
from adit_engine.nodes.base import SupportsSharedAssociation
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.transfer.study_lookup import StudyCriteria, StudyLookup
from adit_engine.values.record import Record
from adit_engine.values.references import SeriesRef, StudyRef

MAX_ROWS = 10_000
MAX_SOURCES = 5
QUESTIONS_PER_TASK = 25
"""Queries per check task: few enough to be retried, many enough to be fast."""
MAX_LISTED_STUDIES = 20
"""If a row matches more studies, only so many are offered to choose from."""


@dataclass(frozen=True, slots=True)
class BatchTransferRow:
    """One row of the sheet. `wanted` identifies the study; no series UID means all of it."""

    line: int
    wanted: StudyCriteria
    series_uid: str = ""
    pseudonym: str = ""
    own: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        wanted = self.wanted
        if wanted.study_uid:
            object.__setattr__(
                self, "wanted", replace(wanted, study_uid=StudyRef(wanted.study_uid).study_uid)
            )
        elif not (wanted.accession_number or (wanted.patient_id and wanted.study_date)):
            raise InvalidInput(f"Line {self.line} names no study.")
        if self.pseudonym:
            validate_pseudonym(self.pseudonym)

    @property
    def asked(self) -> dict[str, str]:
        """The values of the row, by the headers of the template."""
        wanted = self.wanted
        day = wanted.study_date
        values = {
            "PatientID": wanted.patient_id,
            "StudyInstanceUID": wanted.study_uid,
            "SeriesInstanceUID": self.series_uid,
            "AccessionNumber": wanted.accession_number,
            "StudyDate": day.isoformat() if day else "",
            "Days": str(wanted.days) if wanted.days else "",
            "Modality": ", ".join(wanted.modalities),
            "Pseudonym": self.pseudonym,
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class BatchTransferOrder:
    """A sheet to be checked and, once started, transferred.

    `further` are queried one after the other for what `source` does not have. `pilot`: the number
    of studies to send first. `starts_itself`: start automatically if each row has one match.
    """

    rows: tuple[BatchTransferRow, ...] = field(repr=False)
    source: int
    destination: int
    project: int | None = None
    change: OrderedChange = field(default=Pseudonymize())
    own_headers: tuple[str, ...] = ()
    skips_delivered: bool = True
    starts_itself: bool = False
    pilot: int = 0
    announced: tuple[str, ...] = ()
    further: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            raise InvalidInput("The sheet has no row that can be ordered.")
        if len(self.rows) > MAX_ROWS:
            raise InvalidInput(f"At most {MAX_ROWS} rows fit into one order: split the sheet.")
        if len({self.source, *self.further}) > MAX_SOURCES:
            raise InvalidInput(f"At most {MAX_SOURCES} PACS or folders to fetch from in one order.")
        if self.destination in (self.source, *self.further):
            raise InvalidInput("Source and destination are the same: choose another destination.")
        if len({row.line for row in self.rows}) < len(self.rows):
            raise InvalidInput("One line of the sheet is ordered twice.")

    @property
    def facts(self) -> dict[str, Any]:
        """The part of the order without identifying values, stored with the job."""
        return {
            "source": self.source,
            "further": [pk for pk in dict.fromkeys(self.further) if pk != self.source],
            "own_headers": list(self.own_headers),
            "skips_delivered": self.skips_delivered,
            "starts_itself": self.starts_itself,
            "pilot": self.pilot,
        }


@dataclass(frozen=True, slots=True)
class ReadyRow:
    """A row whose study is known. `series_uids` are the series to send; empty = all."""

    line: int
    source: int
    study: Record = field(repr=False)
    series_uids: tuple[str, ...] = ()
    pseudonym: str = ""


class BatchTransfer(Kind):
    word: ClassVar[str] = "batch_transfer"
    label: ClassVar[str] = "Batch transfer"
    has_transfer_rows: ClassVar[bool] = True
    limit_setting: ClassVar[str] = "MAX_TRANSFER_ROWS"
    stage: ClassVar[str] = "check"
    """The job starts with a check and then waits for its owner."""

    def plan(self, order: BatchTransferOrder) -> list[TaskPlan]:
        """Return the tasks of the check. The transfer tasks depend on its results."""
        by_question: dict[StudyCriteria, list[BatchTransferRow]] = {}
        for row in order.rows:
            by_question.setdefault(_question_key(row.wanted), []).append(row)
        questions = list(by_question.values())
        return [
            _plan_check(order.source, questions[at : at + QUESTIONS_PER_TASK])
            for at in range(0, len(questions), QUESTIONS_PER_TASK)
        ]

    def run(self, payload: Mapping[str, Any], context: TaskContext) -> Iterator[TaskOutput]:
        if "check" in payload:
            return check_rows([_row_from_json(row) for row in payload["check"]], context)
        return transfer_study(payload, context)


def plan_check_at(payload: Mapping[str, Any], source: int, lines: Collection[int]) -> TaskPlan:
    """Return a task that checks these lines of a payload at another source."""
    rows = [_row_from_json(data) for data in payload["check"] if data["line"] in lines]
    return _plan_check(source, [rows])


def plan_transfers(rows: Sequence[ReadyRow]) -> list[TaskPlan]:
    """Return one task per study, in the order of the sheet.

    A task serves all rows that name its study.
    """
    by_study: dict[tuple[int, str], list[ReadyRow]] = {}
    for row in rows:
        by_study.setdefault((row.source, row.study.study_uid), []).append(row)
    return [_plan_transfer(same) for same in by_study.values()]


def check_rows(rows: Sequence[BatchTransferRow], context: TaskContext) -> Iterator[RowCheck]:
    """Query the source for each row. Lazy.

    An error that concerns only one row is stored with the row.
    """
    sighting = StudyLookup(context.source, context.stop)
    with ExitStack() as stack:
        if isinstance(context.source, SupportsSharedAssociation):
            stack.enter_context(context.source.share_association())
        for row in rows:
            try:
                yield _check_row(row, sighting)
            except AditError as error:
                if error.again or context.stop.is_set():
                    raise
                yield RowCheck(row.line, (), (RowNote.NO_ANSWER,), str(error))


def _check_row(row: BatchTransferRow, sighting: StudyLookup) -> RowCheck:
    sighted = sighting.studies(row.wanted)
    mine = [study for study in sighted.studies if row.wanted.is_of_patient(study)]
    capped = (RowNote.CAPPED,) if sighted.is_capped else ()
    if not mine:
        note = RowNote.OTHER_PERSON if sighted.studies else RowNote.NOTHING
        return RowCheck(row.line, (), (note, *capped))
    if row.wanted.study_uid and len(sighted.studies) > 1:
        # One study UID under two patients: nothing of it may be sent before this is corrected.
        return RowCheck(row.line, (), (RowNote.PATIENTS,))
    seen = [_list_study(row, study, sighting) for study in mine[:MAX_LISTED_STUDIES]]
    studies = tuple(study for study in seen if study.series)
    if not studies:
        return RowCheck(row.line, (), (RowNote.SERIES_GONE if row.series_uid else RowNote.NOTHING,))
    return RowCheck(row.line, studies, (*_row_notes(studies), *capped))


def _row_notes(studies: Sequence[ListedStudy]) -> tuple[RowNote, ...]:
    if len(studies) == 1:
        return ()
    several = len({study.record.patient_id for study in studies}) > 1
    return (RowNote.SEVERAL, RowNote.PATIENTS) if several else (RowNote.SEVERAL,)


def _list_study(row: BatchTransferRow, study: Record, sighting: StudyLookup) -> ListedStudy:
    series = [one for one in sighting.series(study) if row.series_uid in ("", one.series_uid)]
    if row.wanted.modalities and not study.modalities:
        held = {word for one in series for word in one.modalities}
        series = [] if held.isdisjoint(row.wanted.modalities) else series
    return ListedStudy(
        study, tuple(ListedSeries(one, sighting.classes(study, one) or None) for one in series)
    )


def _question_key(wanted: StudyCriteria) -> StudyCriteria:
    """Return a key that is equal for rows with the same matches."""
    return StudyCriteria(study_uid=wanted.study_uid) if wanted.study_uid else wanted


def _plan_check(source: int, questions: Sequence[Sequence[BatchTransferRow]]) -> TaskPlan:
    rows = [row for same in questions for row in same]
    lines = sorted(row.line for row in rows)
    return TaskPlan(
        source=source,
        payload={"check": [_row_to_json(row) for row in rows]},
        title=f"Check of lines {lines[0]} to {lines[-1]}",
        searches=True,
        rows=tuple(SheetRow(row.line, row.own, row.pseudonym, row.asked) for row in rows),
    )


def _plan_transfer(rows: Sequence[ReadyRow]) -> TaskPlan:
    study = rows[0].study
    whole = any(not row.series_uids for row in rows)
    series = () if whole else tuple(dict.fromkeys(uid for row in rows for uid in row.series_uids))
    return TaskPlan(
        source=rows[0].source,
        payload={
            "study_uid": study.study_uid,
            "patient_id": study.patient_id,
            "series_uids": [SeriesRef(study.study_uid, uid).series_uid for uid in series],
            "labels": _study_labels(study),
        },
        patient_id=study.patient_id,
        pseudonym=next((row.pseudonym for row in rows if row.pseudonym), ""),
        title=_title(study),
        rows=tuple(SheetRow(row.line) for row in rows),
    )


def _study_labels(study: Record) -> dict[str, str]:
    return {
        "patient_name": study.patient_name,
        "birth_date": study.text("PatientBirthDate"),
        "study_date": study.text("StudyDate"),
        "study_description": study.study_description,
        "modalities": ", ".join(study.modalities),
        "accession_number": study.accession_number,
    }


def _title(study: Record) -> str:
    parts: Iterable[str] = (
        study.text("StudyDate"),
        ", ".join(study.modalities),
        study.study_description,
    )
    return " ".join(part for part in parts if part) or "Study"


def _row_to_json(row: BatchTransferRow) -> dict[str, Any]:
    asked, day = row.wanted, row.wanted.study_date
    wanted = {
        "patient_id": asked.patient_id,
        "study_uid": asked.study_uid,
        "accession_number": asked.accession_number,
        "study_date": day.isoformat() if day else None,
        "days": asked.days,
        "modalities": list(asked.modalities),
    }
    return {"line": row.line, "wanted": wanted, "series_uid": row.series_uid}


def _row_from_json(data: Mapping[str, Any]) -> BatchTransferRow:
    wanted = data["wanted"]
    day = wanted["study_date"]
    return BatchTransferRow(
        data["line"],
        StudyCriteria(
            **{
                **wanted,
                "study_date": date.fromisoformat(day) if day else None,
                "modalities": tuple(wanted["modalities"]),
            }
        ),
        data["series_uid"],
    )
