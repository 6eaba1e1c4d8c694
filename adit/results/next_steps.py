"""The next step for each row of a batch transfer that was not delivered. Used by its result sheet."""

from collections.abc import Mapping

from adit.jobs.kinds.base import RowNote
from adit.jobs.models import Job, JobStage, JobState, ResultLine, TaskState
from adit.jobs.states import LIVE_TASKS
from adit.nodes.models import Lane
from adit_engine.messages import Message

_STEPS: Mapping[str, str] = {
    "invalid": "row-step.correct-error",
    RowNote.BLOCKED: "row-step.blocked",
    "pseudonym": "row-step.correct-pseudonym",
    RowNote.LEFT_OUT: "row-step.upload-again",
    RowNote.DELIVERED: "row-step.delivered-before",
    RowNote.NO_ANSWER: "row-step.ask-source",
    RowNote.SERIES_GONE: "row-step.correct-series",
    RowNote.OTHER_PERSON: "row-step.correct",
    RowNote.NOTHING: "row-step.correct",
    RowNote.SEVERAL: "row-step.choose",
    RowNote.PATIENTS: "row-step.correct-archive",
}
"""The first note of a row in this order decides."""
_TASK_STEPS: Mapping[str, str] = {
    TaskState.PENDING: "row-step.wait",
    TaskState.IN_PROGRESS: "row-step.wait",
    TaskState.HELD: "row-step.confirm-patient",
    TaskState.CANCELED: "row-step.upload-again",
    TaskState.WARNING: "row-step.retry",
    TaskState.FAILURE: "row-step.retry",
}
_NO_OBSTACLES = frozenset({RowNote.CAPPED, RowNote.NOT_ASKED})
_FOUND_STEPS: Mapping[str, str] = {
    JobStage.CHECK: "row-step.start",
    JobStage.PILOT: "row-step.continue",
    JobStage.WHOLE: "row-step.upload-again",
}


def get_transfer_step(job: Job, row: ResultLine, *, has_withheld: bool) -> Message | None:
    """Return the next step for a row of a transfer; None if all its images were delivered."""
    task = row.task
    if task is not None and task.lane != Lane.SEARCH:
        if task.state == TaskState.SUCCESS:
            return Message("row-step.withheld") if has_withheld else None
        needs_approval = job.state == JobState.WAITING_FOR_APPROVAL
        return Message("row-step.approve" if needs_approval else _TASK_STEPS[task.state])
    for note, step in _STEPS.items():
        if note in row.notes:
            return Message(step)
    if task is not None and not row.is_asked:
        is_waiting = task.state in LIVE_TASKS
        return Message("row-step.wait" if is_waiting else "row-step.retry")
    if not row.is_found or not _NO_OBSTACLES.issuperset(row.notes):
        return Message("row-step.correct")
    return Message(_FOUND_STEPS[job.stage])
