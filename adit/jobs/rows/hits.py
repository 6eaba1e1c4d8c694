"""Hits: what a query found for each row of its sheet, as sealed lines; all of a task's at once."""

from collections.abc import Mapping, Sequence

from adit.jobs.kinds.base import Found, StudySeen
from adit.jobs.models import ResultLine, Task
from adit.jobs.rows import lines
from adit.jobs.rows.lines import Content
from adit.vault.box import Box
from adit_engine.record import Record
from adit_engine.reference import Level


def write(box: Box, answered: Mapping[Task, Sequence[Found]]) -> None:
    """In place of what earlier attempts found. In the caller's transaction, under its fence."""
    asked = {
        (line.task_id, line.line): lines.opened(box, line)
        for line in ResultLine.objects.filter(task__in=list(answered), number=1)
    }
    ResultLine.objects.filter(task__in=list(answered)).delete()
    ResultLine.objects.bulk_create(
        line
        for task, rows in answered.items()
        for found in rows
        for line in _lines(box, task, found, asked[task.pk, found.line])
    )


def _lines(box: Box, task: Task, found: Found, asked: Content) -> list[ResultLine]:
    """One for each record; one without any where nothing was found."""
    records: Sequence[Record | None] = found.records or [None]
    return [
        ResultLine(
            task=task,
            job_id=task.job_id,
            line=found.line,
            number=number,
            sealed=lines.seal(box, task.job_id, found.line, _content(asked, record)),
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
    one = record.text("Modality") if record.level is Level.SERIES else ""
    return (one or ", ".join(record.modalities))[:64]
