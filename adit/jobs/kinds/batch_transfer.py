"""The kind "batch transfer": check the studies of a sheet, then send them to one destination."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any, ClassVar

from adit.jobs.kinds.base import (
    Kind,
    ListedSeries,
    ListedStudy,
    OrderRequest,
    RowCheck,
    RowNote,
    SheetRow,
    TaskContext,
    TaskOutput,
    TaskPlan,
    transfer_study,
)
from adit.jobs.kinds.picked_study import PickedStudy
from adit_engine.errors import AditError, InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes.base import SupportsSharedAssociation
from adit_engine.pseudonymize.keys import validate_pseudonym
from adit_engine.pseudonymize.visit import TrialVisit
from adit_engine.transfer.study_lookup import StudyCriteria, StudyLookup
from adit_engine.values.record import Record
from adit_engine.values.references import StudyRef

MAX_ROWS = 10_000
MAX_SOURCES = 5
QUERIES_PER_TASK = 25
"""Queries per check task: few enough to be retried, many enough to be fast."""
MAX_LISTED_STUDIES = 20
"""If a row matches more studies, only so many are offered to choose from."""


@dataclass(frozen=True, slots=True)
class BatchTransferRow:
    """One row of the sheet. `wanted` identifies the study; no series UID means all of it."""

    line: int
    criteria: StudyCriteria
    series_uid: str = ""
    pseudonym: str = ""
    user_cells: tuple[str, ...] = field(default=(), repr=False)
    visit: TrialVisit | None = None
    finding: Message | None = None
    """See SheetRow."""

    def __post_init__(self) -> None:
        wanted = self.criteria
        if wanted.study_uid:
            object.__setattr__(
                self, "criteria", replace(wanted, study_uid=StudyRef(wanted.study_uid).study_uid)
            )
        elif not (wanted.accession_number or (wanted.patient_id and wanted.study_date)):
            raise InvalidInput("batch-transfer.no-study", line=self.line)
        if self.pseudonym:
            validate_pseudonym(self.pseudonym)

    @property
    def requested(self) -> dict[str, str]:
        """The values of the row, by the headers of the template."""
        wanted = self.criteria
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
            "Visit": self.visit.id if self.visit else "",
            "VisitDescription": self.visit.description if self.visit else "",
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class ReadyRow:
    """A row whose study is known."""

    line: int
    pick: PickedStudy


class BatchTransfer(Kind):
    code: ClassVar[str] = "batch_transfer"
    label: ClassVar[str] = "Batch transfer"
    has_transfer_rows: ClassVar[bool] = True
    limit_setting: ClassVar[str] = "MAX_TRANSFER_ROWS"
    stage: ClassVar[str] = "check"
    """The job starts with a check and then waits for its owner."""

    def plan(self, request: OrderRequest[BatchTransferRow]) -> list[TaskPlan]:
        """Return the tasks of the check. The transfer tasks depend on its results.

        Raises InvalidInput if the order contradicts itself.
        """
        rows = request.items
        if not rows:
            raise InvalidInput("batch-transfer.no-row")
        if len(rows) > MAX_ROWS:
            raise InvalidInput("batch-transfer.many-rows", limit=MAX_ROWS)
        if not request.sources:
            raise InvalidInput("batch-transfer.no-source")
        if len(set(request.sources)) > MAX_SOURCES:
            raise InvalidInput("batch-transfer.many-sources", limit=MAX_SOURCES)
        request.check_destinations(request.sources)
        if len({row.line for row in rows}) < len(rows):
            raise InvalidInput("batch-transfer.repeated-line")
        by_question: dict[StudyCriteria, list[BatchTransferRow]] = {}
        for row in rows:
            by_question.setdefault(_criteria_key(row.criteria), []).append(row)
        questions = list(by_question.values())
        return [
            _plan_check(request.sources[0], questions[at : at + QUERIES_PER_TASK])
            for at in range(0, len(questions), QUERIES_PER_TASK)
        ]

    def facts(self, request: OrderRequest[BatchTransferRow]) -> dict[str, Any]:
        source, *further = dict.fromkeys(request.sources)
        options = {**asdict(request.sheet), "own_headers": list(request.sheet.own_headers)}
        del options["next_destinations"]
        return {"source": source, "further": further, **options}

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
        by_study.setdefault((row.pick.source, row.pick.study.study_uid), []).append(row)
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
                if error.is_transient or context.stop.is_set():
                    raise
                yield RowCheck(row.line, (), (RowNote.NO_ANSWER,), error.message)


def _check_row(row: BatchTransferRow, lookup: StudyLookup) -> RowCheck:
    sighted = lookup.studies(row.criteria)
    mine = [study for study in sighted.studies if row.criteria.is_of_patient(study)]
    capped = (RowNote.CAPPED,) if sighted.is_capped else ()
    if not mine:
        note = RowNote.OTHER_PERSON if sighted.studies else RowNote.NOTHING
        return RowCheck(row.line, (), (note, *capped))
    if row.criteria.study_uid and len(sighted.studies) > 1:
        # One study UID under two patients: nothing of it may be sent before this is corrected.
        return RowCheck(row.line, (), (RowNote.PATIENTS,))
    seen = [_list_study(row, study, lookup) for study in mine[:MAX_LISTED_STUDIES]]
    studies = tuple(study for study in seen if study.series)
    if not studies:
        return RowCheck(row.line, (), (RowNote.SERIES_GONE if row.series_uid else RowNote.NOTHING,))
    return RowCheck(row.line, studies, (*_row_notes(studies), *capped))


def _row_notes(studies: Sequence[ListedStudy]) -> tuple[RowNote, ...]:
    if len(studies) == 1:
        return ()
    several = len({study.record.patient_id for study in studies}) > 1
    return (RowNote.SEVERAL, RowNote.PATIENTS) if several else (RowNote.SEVERAL,)


def _list_study(row: BatchTransferRow, study: Record, lookup: StudyLookup) -> ListedStudy:
    series = [one for one in lookup.series(study) if row.series_uid in ("", one.series_uid)]
    if row.criteria.modalities and not study.modalities:
        held = {word for one in series for word in one.modalities}
        series = [] if held.isdisjoint(row.criteria.modalities) else series
    return ListedStudy(
        study, tuple(ListedSeries(one, lookup.classes(study, one) or None) for one in series)
    )


def _criteria_key(wanted: StudyCriteria) -> StudyCriteria:
    """Return a key that is equal for rows with the same matches."""
    return StudyCriteria(study_uid=wanted.study_uid) if wanted.study_uid else wanted


def _plan_check(source: int, queries: Sequence[Sequence[BatchTransferRow]]) -> TaskPlan:
    rows = [row for same in queries for row in same]
    lines = sorted(row.line for row in rows)
    return TaskPlan(
        source=source,
        payload={"check": [_row_to_json(row) for row in rows]},
        title=f"Check of lines {lines[0]} to {lines[-1]}",
        searches=True,
        rows=tuple(
            SheetRow(row.line, row.user_cells, row.pseudonym, row.requested, row.finding)
            for row in rows
        ),
    )


def _plan_transfer(rows: Sequence[ReadyRow]) -> TaskPlan:
    picks = [row.pick for row in rows]
    whole = any(not pick.series_uids for pick in picks)
    series = () if whole else tuple(uid for pick in picks for uid in pick.series_uids)
    pseudonym = next((pick.pseudonym for pick in picks if pick.pseudonym), "")
    visit = next((pick.visit for pick in picks if pick.visit), None)
    left_out = {uid: reason for pick in picks for uid, reason in pick.left_out.items()}
    merged = replace(
        picks[0], series_uids=series, pseudonym=pseudonym, visit=visit, left_out=left_out
    )
    return merged.plan(tuple(SheetRow(row.line) for row in rows))


def _row_to_json(row: BatchTransferRow) -> dict[str, Any]:
    asked, day = row.criteria, row.criteria.study_date
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
