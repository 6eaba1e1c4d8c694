"""The table of allowed state transitions of jobs and tasks, and the functions that apply them.

All code that changes a state uses this module.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from adit.jobs import end_state, notifications, webhook_events
from adit.jobs.models import OPEN_TASKS as OPEN_TASKS
from adit.jobs.models import RUNNABLE_JOBS as RUNNABLE_JOBS
from adit.jobs.models import Job, JobState, Task, TaskState, TaskType
from adit.jobs.progress import count_unanswered_rows
from adit.nodes.models import Lane
from adit_engine.messages import Message

T, J = TaskState, JobState

TASK_TRANSITIONS: Mapping[TaskState, frozenset[TaskState]] = {
    T.PENDING: frozenset({T.IN_PROGRESS, T.CANCELED, T.FAILURE}),
    T.IN_PROGRESS: frozenset({T.PENDING, T.HELD, T.SUCCESS, T.WARNING, T.FAILURE, T.CANCELED}),
    T.HELD: frozenset({T.PENDING, T.FAILURE, T.CANCELED}),
    T.SUCCESS: frozenset({T.PENDING}),
    T.WARNING: frozenset({T.PENDING}),
    T.FAILURE: frozenset({T.PENDING}),
    T.CANCELED: frozenset({T.PENDING}),
}
"""A lost lease, a retry, a pause and the end of a window lead back to PENDING; so do resume, retry
and restart. A restart leaves SUCCESS, and so does a retry of images withheld as announced.
"""

_ENDED_JOB_STATES = frozenset({J.SUCCESS, J.WARNING, J.FAILURE, J.CANCELED})

JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    J.WAITING_FOR_APPROVAL: frozenset({J.PENDING, J.CANCELED}),
    J.PENDING: frozenset(
        {J.IN_PROGRESS, J.CANCELING, J.WAITING_FOR_APPROVAL, J.WAITING_FOR_OWNER, J.HELD}
    )
    | _ENDED_JOB_STATES,
    J.IN_PROGRESS: frozenset(
        {J.PENDING, J.CANCELING, J.WAITING_FOR_APPROVAL, J.WAITING_FOR_OWNER, J.HELD}
    )
    | _ENDED_JOB_STATES,
    J.HELD: frozenset({J.PENDING, J.IN_PROGRESS, J.CANCELING, J.WAITING_FOR_OWNER})
    | _ENDED_JOB_STATES,
    J.WAITING_FOR_OWNER: frozenset({J.PENDING, J.IN_PROGRESS, J.WAITING_FOR_APPROVAL})
    | _ENDED_JOB_STATES,
    J.CANCELING: _ENDED_JOB_STATES,
    J.CANCELED: frozenset({J.PENDING, J.IN_PROGRESS, J.WAITING_FOR_APPROVAL, J.WAITING_FOR_OWNER}),
    J.SUCCESS: frozenset({J.PENDING, J.IN_PROGRESS}),
    J.WARNING: frozenset({J.PENDING, J.IN_PROGRESS}),
    J.FAILURE: frozenset({J.PENDING, J.IN_PROGRESS}),
}

RESET_FIELDS: Mapping[str, Any] = {
    "failures": 0,
    "not_before": None,
    "message": None,
    "stop_requested": False,
    "has_broken_rule": False,
    "ended_at": None,
}
"""The values set when a user lets a task be tried again."""

LIVE_TASKS = frozenset({T.PENDING, T.IN_PROGRESS})
WAITING_TASKS = frozenset({T.PENDING, T.HELD})
"""No worker executes them. HELD tasks continue only after a user has decided."""
ENDED_TASKS = frozenset(TaskState) - OPEN_TASKS
ENDED_JOBS = _ENDED_JOB_STATES
UNSTARTED_JOBS = frozenset({J.WAITING_FOR_APPROVAL, J.WAITING_FOR_OWNER})
RETRYABLE_TASKS = frozenset({T.FAILURE, T.WARNING, T.CANCELED})
"""Ended tasks in which something is missing."""


class IllegalTransition(Exception):
    """The transition is not in the table: a programming error, not a user error."""


class StaleRow(Exception):
    """The row has changed since it was read. The caller must stop using it."""


def lock_job(job_id: int) -> Job:
    """Return the job's row, locked until the transaction ends.

    Take this lock before the lock of any task of the job.
    """
    return Job.objects.select_for_update(of=("self",), no_key=True).get(pk=job_id)


def mark_stored(job_id: int) -> None:
    """Record that a destination has, or may have, received an image of the job."""
    Job.objects.filter(pk=job_id, may_have_stored=False).update(may_have_stored=True)


def move_row(
    row: Job | Task, to: JobState | TaskState, message: Message | None = None, **fields: Any
) -> None:
    """Change the state of one row and, for a task, update its job.

    A task is changed only if it still has the attempt and worker that `row` was read with. Other
    `fields` are set with it. Raises IllegalTransition, StaleRow.
    """
    with transaction.atomic():
        if isinstance(row, Task):
            move_task(lock_job(row.job_id), row, TaskState(to), message, **fields)
        else:
            _move_job(row, JobState(to), message, fields)


def move_task(
    job: Job, task: Task, to: TaskState, message: Message | None = None, **fields: Any
) -> None:
    """Change the state of one task of a locked job; see move_row()."""
    _move_task(task, to, message, fields)
    if not _stays_in_progress(job, to):
        update_job_state(job)


def _stays_in_progress(job: Job, to: TaskState) -> bool:
    """Whether this transition of one task cannot change the state of its job.

    In most cases this saves a query of all tasks.
    """
    if job.state != J.IN_PROGRESS:
        return False
    if to == T.IN_PROGRESS:
        return True
    live = Task.objects.filter(job=job, state__in=LIVE_TASKS).exclude(type=TaskType.PACK)
    return to in ENDED_TASKS and live.exists()


def move_tasks(job: Job, tasks: QuerySet[Task], to: TaskState, **fields: Any) -> int:
    """Change the state of all tasks that allow it; return how many.

    Updates the locked job, too.
    """
    sources = [state for state, targets in TASK_TRANSITIONS.items() if to in targets]
    with transaction.atomic():
        count = tasks.filter(job=job, state__in=sources).update(
            state=to, **{**_timestamps(to), "lease_until": None, **fields}
        )
        update_job_state(job)
    return count


def end_tasks(job: Job, ends: Mapping[tuple[TaskState, Message], Sequence[Task]]) -> None:
    """End running tasks of a locked job, grouped by state and message.

    Each task must still have the attempt and worker that it was read with. Raises StaleRow.
    """
    for (to, message), tasks in ends.items():
        for attempt, worker in {(task.attempt, task.worker) for task in tasks}:
            pks = [task.pk for task in tasks if (task.attempt, task.worker) == (attempt, worker)]
            rows = Task.objects.filter(
                pk__in=pks, attempt=attempt, worker=worker, state=T.IN_PROGRESS
            )
            values = {"state": to, "message": message, "lease_until": None, "worker": ""}
            if rows.update(**values, **_timestamps(to)) != len(pks):
                raise StaleRow(f"tasks of {job} have moved in the meantime")
    update_job_state(job)


def begin_tasks(job: Job, tasks: Sequence[Task], **fields: Any) -> None:
    """Start the next attempt of pending tasks of a locked, running job.

    Raises StaleRow.
    """
    for attempt in {task.attempt for task in tasks}:
        pks = [task.pk for task in tasks if task.attempt == attempt]
        rows = Task.objects.filter(pk__in=pks, attempt=attempt, state=T.PENDING, job=job)
        values = {"state": T.IN_PROGRESS, "attempt": attempt + 1, "message": None, **fields}
        if rows.update(**values, **_timestamps(T.IN_PROGRESS)) != len(pks):
            raise StaleRow(f"tasks of {job} have moved in the meantime")
    for task in tasks:
        _copy_values(task, {"state": T.IN_PROGRESS, "attempt": task.attempt + 1, **fields})


def update_job_state(job: Job) -> None:
    """Set the state of a locked job according to its tasks."""
    to = _derive_job_state(job, _task_states(job))
    if job.stage and to in _ENDED_JOB_STATES - {J.CANCELED}:
        to = J.WAITING_FOR_OWNER
    ended = to in _ENDED_JOB_STATES or to in (J.WAITING_FOR_OWNER, J.HELD)
    message = end_state.describe_job_end(job, to) if ended else None
    if to != job.state:
        _move_job(job, to, message, {})
    elif ended and message != job.message:
        Job.objects.filter(pk=job.pk).update(message=message)


def _task_states(job: Job) -> set[TaskState]:
    """Return the states of the tasks that count for the job.

    A packing task waits for held tasks, so it does not count while it is pending. Answered searches
    do not count as success where there are studies to transfer.
    """
    tasks = Task.objects.filter(job=job).order_by()
    found = {
        (TaskState(state), work, lane == Lane.SEARCH)
        for state, work, lane in tasks.values_list("state", "type", "lane").distinct()
    }
    states = {state for state, _work, _asks in found}
    sends = any(not asks for _state, _work, asks in found)
    return {
        state
        for state, work, asks in found
        if not (sends and asks and state is T.SUCCESS)
        and not (T.HELD in states and work == TaskType.PACK and state is T.PENDING)
    }


def _derive_job_state(job: Job, states: set[TaskState]) -> JobState:
    now = JobState(job.state)
    if now is J.WAITING_FOR_APPROVAL or not states:
        return now
    if now is J.CANCELING and T.IN_PROGRESS in states:
        return J.CANCELING
    if states & LIVE_TASKS:
        return J.IN_PROGRESS if states - {T.PENDING} else J.PENDING
    if T.HELD in states:
        return J.HELD
    if states == {T.CANCELED} or (T.CANCELED in states and now in (J.CANCELING, J.CANCELED)):
        return J.CANCELED
    if states == {T.SUCCESS}:
        return J.WARNING if count_unanswered_rows(job) else J.SUCCESS
    if states == {T.FAILURE} or _has_broken_rule(job) or _has_failed_packing(job):
        return J.FAILURE
    return J.WARNING


def _has_broken_rule(job: Job) -> bool:
    return Task.objects.filter(job=job, has_broken_rule=True).exists()


def _has_failed_packing(job: Job) -> bool:
    """Whether packing failed: without the 7-Zip file nothing is delivered."""
    return Task.objects.filter(job=job, type=TaskType.PACK, state=T.FAILURE).exists()


def _move_task(task: Task, to: TaskState, message: Message | None, fields: dict[str, Any]) -> None:
    _require_transition(to in TASK_TRANSITIONS[TaskState(task.state)], task, to)
    values = {"state": to, "message": message, **_timestamps(to), **fields}
    if to != T.IN_PROGRESS:
        values.setdefault("lease_until", None)
        values.setdefault("worker", "")
    rows = Task.objects.filter(
        pk=task.pk, state=task.state, attempt=task.attempt, worker=task.worker
    )
    if rows.update(**values) != 1:
        raise StaleRow(f"task {task.pk} is not {task.state} in attempt {task.attempt} any more")
    _copy_values(task, values)


def _move_job(job: Job, to: JobState, message: Message | None, fields: dict[str, Any]) -> None:
    _require_transition(to in JOB_TRANSITIONS[JobState(job.state)], job, to)
    values = {"state": to, "message": message, **_timestamps(to), **fields}
    if to in _ENDED_JOB_STATES:
        values["archive_password"] = None
        values["delivery_list_due_at"] = timezone.now()
    if to == J.IN_PROGRESS and job.started_at is not None:
        del values["started_at"]
    if Job.objects.filter(pk=job.pk, state=job.state).update(**values) != 1:
        raise StaleRow(f"job {job.pk} is not {job.state} any more")
    _copy_values(job, values)
    if to in _ENDED_JOB_STATES:
        notifications.notify_ended(job, to)
    elif to == J.WAITING_FOR_APPROVAL:
        notifications.request_approval(job)
    elif to == J.WAITING_FOR_OWNER:
        notifications.notify_start_needed(job)
    webhook_events.queue_for_state(job)


def _timestamps(to: JobState | TaskState) -> dict[str, Any]:
    """Return the timestamps of a transition. JobState and TaskState share their values."""
    now = timezone.now()
    if to == T.IN_PROGRESS:
        return {"started_at": now, "ended_at": None}
    return {"ended_at": now if to.value in {end.value for end in _ENDED_JOB_STATES} else None}


def _require_transition(allowed: bool, row: Job | Task, to: JobState | TaskState) -> None:
    if not allowed:
        raise IllegalTransition(f"{type(row).__name__} {row.pk}: {row.state} does not lead to {to}")


def _copy_values(row: Job | Task, values: dict[str, Any]) -> None:
    for name, value in values.items():
        setattr(row, name, value)
