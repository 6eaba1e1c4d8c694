"""Store the rows of a sheet and their results as encrypted lines.

Every row has a line from the order on; a query replaces all lines of a task at once. Used by orders
and the worker.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction

from adit.jobs.kinds.base import ListedSeries, ListedStudy, RowCheck, RowMatches, SheetRow
from adit.jobs.models import Job, ResultLine, Task
from adit.jobs.queue import LeaseLost
from adit.vault.cipher import ValueCipher
from adit_engine.messages import Message
from adit_engine.pseudonymize.visit import TrialVisit
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

_KEY_LENGTH = 24
"""Hex digits of the hashes that distinguish the studies of one job."""


@dataclass(frozen=True, slots=True)
class RowContent:
    """The identifying content of a line: the uploaded row and its possible studies."""

    user_cells: tuple[str, ...] = field(default=(), repr=False)
    pseudonym: str = ""
    requested: dict[str, str] = field(default_factory=dict, repr=False)
    studies: tuple[ListedStudy, ...] = field(default=(), repr=False)
    chosen: int | None = None
    """Index of the study that is meant; None if it is not known yet."""
    reason: Message | None = None
    """The error of the source, if it failed for this row only."""
    finding: Message | None = None
    """What the upload found, see SheetRow."""

    @property
    def study(self) -> ListedStudy | None:
        return None if self.chosen is None else self.studies[self.chosen]

    @property
    def visit(self) -> TrialVisit | None:
        name = self.requested.get("Visit")
        return TrialVisit(name, self.requested.get("VisitDescription", "")) if name else None


def insert_rows(cipher: ValueCipher, job: Job, rows: Iterable[tuple[int | None, SheetRow]]) -> None:
    """Insert a line for each row.

    `rows` pairs the position of the task that processes the row with the row; None if no task does.
    Job and tasks are already saved.
    """
    tasks = dict(job.tasks.values_list("position", "pk"))
    ResultLine.objects.bulk_create(
        ResultLine(
            job_id=job.pk,
            task_id=None if position is None else tasks[position],
            line=row.line,
            sealed=seal_row(cipher, job.pk, row.line, _initial_content(row)),
            notes=[] if row.note is None else [row.note.value],
        )
        for position, row in rows
    )


def write_check(cipher: ValueCipher, task: Task, checked: RowCheck, facts: dict[str, Any]) -> None:
    """Store the result of the check of a row, fenced by worker and attempt number.

    Raises LeaseLost.
    """
    with transaction.atomic():
        mine = task.current_attempt()
        if mine.update(attempt=task.attempt) != 1:
            raise LeaseLost("task.taken-over")
        line = ResultLine.objects.filter(task=task, line=checked.line).first()
        if line is None:  # another task processes it by now
            return
        line.task = task
        content = replace(
            open_row(cipher, line),
            studies=checked.studies,
            chosen=0 if len(checked.studies) == 1 else None,
            reason=checked.reason,
        )
        line.sealed = seal_row(cipher, line.job_id, line.line, content)
        line.is_asked, line.is_found = True, bool(checked.studies)
        line.notes = [note.value for note in checked.notes]
        line.facts = add_study_keys(cipher, line, content, facts)
        line.save(update_fields=["sealed", "is_asked", "is_found", "notes", "facts"])


def add_study_keys(
    cipher: ValueCipher, line: ResultLine, content: RowContent, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the facts with keyed hashes of the study, and of the series that the row names.

    They are equal for the rows of a job that name the same, which count once.
    """
    if content.study is None or line.task is None:
        return dict(facts)
    study_uid = f"{line.task.source_id}\0{content.study.record.study_uid}"
    series_uid = content.requested.get("SeriesInstanceUID", "")
    purpose = f"rows of job {line.job_id}"
    return {
        **facts,
        "study_key": cipher.index(study_uid, purpose)[:_KEY_LENGTH],
        "series_key": cipher.index(series_uid, purpose)[:_KEY_LENGTH] if series_uid else "",
    }


def seal_row(cipher: ValueCipher, job_id: int, line: int, content: RowContent) -> bytes:
    values = {
        "own": list(content.user_cells),
        "pseudonym": content.pseudonym,
        "asked": content.requested,
        "studies": [_study_to_json(study) for study in content.studies],
        "chosen": content.chosen,
        "why": None if content.reason is None else content.reason.to_json(),
        "finding": None if content.finding is None else content.finding.to_json(),
    }
    return cipher.seal(values, seal_context(job_id, line))


def open_row(cipher: ValueCipher, line: ResultLine) -> RowContent:
    """Decrypt the content of a line.

    Raises DecryptionError.
    """
    values = cipher.open(line.sealed, seal_context(line.job_id, line.line))
    return RowContent(
        tuple(values["own"]),
        values["pseudonym"],
        values["asked"],
        tuple(_study_from_json(study) for study in values["studies"]),
        values["chosen"],
        None if values["why"] is None else Message.from_json(values["why"]),
        Message.from_json(values["finding"]) if values.get("finding") else None,
    )


def seal_context(job_id: int, line: int) -> str:
    """Return the encryption context of a line.

    It does not depend on the task: a line moves from the task that checks it to the task that
    transfers it.
    """
    return f"job {job_id} line {line}"


def _initial_content(row: SheetRow) -> RowContent:
    return RowContent(row.user_cells, row.pseudonym, dict(row.requested), finding=row.finding)


def _study_to_json(study: ListedStudy) -> dict[str, Any]:
    series = [
        {"record": one.record.to_json(), "classes": dict(one.classes) if one.classes else None}
        for one in study.series
    ]
    return {"record": study.record.to_json(), "series": series}


def _study_from_json(data: dict[str, Any]) -> ListedStudy:
    return ListedStudy(
        Record.from_json(data["record"]),
        tuple(ListedSeries(Record.from_json(o["record"]), o["classes"]) for o in data["series"]),
    )


def write_matches(cipher: ValueCipher, answered: Mapping[Task, Sequence[RowMatches]]) -> None:
    """Replace the results of earlier attempts.

    The caller provides the transaction and the fence.
    """
    asked = {
        (line.task_id, line.line): open_row(cipher, line)
        for line in ResultLine.objects.filter(task__in=list(answered), number=1)
    }
    ResultLine.objects.filter(task__in=list(answered)).delete()
    ResultLine.objects.bulk_create(
        line
        for task, rows in answered.items()
        for found in rows
        for line in _match_lines(cipher, task, found, asked[task.pk, found.line])
    )


def _match_lines(
    cipher: ValueCipher, task: Task, found: RowMatches, asked: RowContent
) -> list[ResultLine]:
    """One line for each record; one line without a record if nothing was found."""
    records: Sequence[Record | None] = found.records or [None]
    return [
        ResultLine(
            task=task,
            job_id=task.job_id,
            line=found.line,
            number=number,
            sealed=seal_row(cipher, task.job_id, found.line, _match_content(asked, record)),
            is_found=record is not None,
            is_asked=True,
            notes=[note.value for note in found.notes],
            modalities=_modalities_text(record),
            instances=None if record is None else record.instance_count,
        )
        for number, record in enumerate(records, start=1)
    ]


def _match_content(asked: RowContent, record: Record | None) -> RowContent:
    if record is None:
        return replace(asked, studies=(), chosen=None)
    return replace(asked, studies=(ListedStudy(record),), chosen=0)


def _modalities_text(record: Record | None) -> str:
    if record is None:
        return ""
    one = record.text("Modality") if record.level is QueryLevel.SERIES else ""
    return (one or ", ".join(record.modalities))[:64]
