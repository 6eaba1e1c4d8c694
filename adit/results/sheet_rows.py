"""Lines: the rows of a sheet and what answers each, sealed; every row has its line from the order on.
Hits: what a query found for each row of its sheet, as sealed lines; all of a task's at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from adit.jobs.kinds.base import Checked, Found, SeriesSeen, SheetRow, StudySeen
from adit.jobs.models import Job, ResultLine, Task
from adit.jobs.queue import LeaseLost
from adit.vault.cipher import ValueCipher
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel


@dataclass(frozen=True, slots=True)
class Content:
    """What a line holds of persons: the row as asked, and the studies that it may mean."""

    own: tuple[str, ...] = field(default=(), repr=False)
    pseudonym: str = ""
    asked: dict[str, str] = field(default_factory=dict, repr=False)
    studies: tuple[StudySeen, ...] = field(default=(), repr=False)
    chosen: int | None = None
    """Which of the studies is meant; None as long as nobody knows."""
    why: str = ""

    @property
    def study(self) -> StudySeen | None:
        return None if self.chosen is None else self.studies[self.chosen]


def make(box: ValueCipher, job: Job, rows: Iterable[tuple[int, SheetRow]]) -> None:
    """A line for each row, with the position of the task that will answer it; both are saved."""
    tasks = dict(job.tasks.values_list("position", "pk"))
    ResultLine.objects.bulk_create(
        ResultLine(
            job=job,
            task_id=tasks[position],
            line=row.line,
            sealed=seal(box, job.pk, row.line, _of(row)),
        )
        for position, row in rows
    )


def answer(box: ValueCipher, task: Task, checked: Checked, facts: dict[str, Any]) -> None:
    """Writes what a source holds for a row, under the task's fence. Raises LeaseLost."""
    with transaction.atomic():
        mine = task.as_claimed()
        if mine.update(attempt=task.attempt) != 1:
            raise LeaseLost(_("Another worker has taken over this task."))
        line = ResultLine.objects.filter(task=task, line=checked.line).first()
        if line is None:  # another task answers it by now
            return
        before = opened(box, line)
        chosen = 0 if len(checked.studies) == 1 else None
        content = Content(
            before.own, before.pseudonym, before.asked, checked.studies, chosen, checked.why
        )
        line.sealed = seal(box, line.job_id, line.line, content)
        line.is_asked, line.is_found = True, bool(checked.studies)
        line.notes = [note.value for note in checked.notes]
        line.facts = facts
        line.save(update_fields=["sealed", "is_asked", "is_found", "notes", "facts"])


def seal(box: ValueCipher, job_id: int, line: int, content: Content) -> bytes:
    values = {
        "own": list(content.own),
        "pseudonym": content.pseudonym,
        "asked": content.asked,
        "studies": [_study_to(study) for study in content.studies],
        "chosen": content.chosen,
        "why": content.why,
    }
    return box.seal(values, place(job_id, line))


def opened(box: ValueCipher, line: ResultLine) -> Content:
    """Raises DecryptionError."""
    values = box.open(line.sealed, place(line.job_id, line.line))
    return Content(
        tuple(values["own"]),
        values["pseudonym"],
        values["asked"],
        tuple(_study_from(study) for study in values["studies"]),
        values["chosen"],
        values["why"],
    )


def place(job_id: int, line: int) -> str:
    """Not the task's: a line goes over from the task that checks it to the one that transfers it."""
    return f"job {job_id} line {line}"


def _of(row: SheetRow) -> Content:
    return Content(row.own, row.pseudonym, dict(row.asked))


def _study_to(study: StudySeen) -> dict[str, Any]:
    series = [
        {"record": one.record.to_json(), "classes": dict(one.classes) if one.classes else None}
        for one in study.series
    ]
    return {"record": study.record.to_json(), "series": series}


def _study_from(data: dict[str, Any]) -> StudySeen:
    return StudySeen(
        Record.from_json(data["record"]),
        tuple(SeriesSeen(Record.from_json(o["record"]), o["classes"]) for o in data["series"]),
    )


def write(box: ValueCipher, answered: Mapping[Task, Sequence[Found]]) -> None:
    """In place of what earlier attempts found. In the caller's transaction, under its fence."""
    asked = {
        (line.task_id, line.line): opened(box, line)
        for line in ResultLine.objects.filter(task__in=list(answered), number=1)
    }
    ResultLine.objects.filter(task__in=list(answered)).delete()
    ResultLine.objects.bulk_create(
        line
        for task, rows in answered.items()
        for found in rows
        for line in _lines(box, task, found, asked[task.pk, found.line])
    )


def _lines(box: ValueCipher, task: Task, found: Found, asked: Content) -> list[ResultLine]:
    """One for each record; one without any where nothing was found."""
    records: Sequence[Record | None] = found.records or [None]
    return [
        ResultLine(
            task=task,
            job_id=task.job_id,
            line=found.line,
            number=number,
            sealed=seal(box, task.job_id, found.line, _content(asked, record)),
            is_found=record is not None,
            is_asked=True,
            notes=[note.value for note in found.notes],
            modalities=_modalities(record),
            instances=None if record is None else record.instance_count,
        )
        for number, record in enumerate(records, start=1)
    ]


def _content(asked: Content, record: Record | None) -> Content:
    if record is None:
        return Content(asked.own, asked.pseudonym, asked.asked)
    return Content(asked.own, asked.pseudonym, asked.asked, (StudySeen(record),), 0)


def _modalities(record: Record | None) -> str:
    if record is None:
        return ""
    one = record.text("Modality") if record.level is QueryLevel.SERIES else ""
    return (one or ", ".join(record.modalities))[:64]
