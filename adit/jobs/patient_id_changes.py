"""Decisions on held tasks: studies whose patient ID has changed at the source.

Such a study is not sent before an authorized user has confirmed or rejected the patient. Used
by the worker and the task page.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right, require
from adit.audit import trail
from adit.jobs import encrypted_payload, notifications, queue, states, visibility
from adit.jobs.models import Job, Task, TaskState
from adit.jobs.wakeup import wake_workers_on_commit
from adit.nodes.limits import slots
from adit.projects import patient_merge, pseudonyms
from adit.projects.validators import validate_reason
from adit_engine.errors import PatientChanged
from adit_engine.messages import Message

NEW_ID, CONFIRMED_ID = "found", "renamed"
"""Keys in the payload of a task: the ID to be confirmed, and the ID that a user has confirmed."""


@dataclass(frozen=True, slots=True)
class PatientIds:
    """Both IDs of the patient of a held task: as ordered, and as the source has it now."""

    ordered: str = field(repr=False)
    found: str = field(repr=False)


def hold_task(task: Task, changed: PatientChanged) -> None:
    """End an attempt and hold the task until a user decides. Raises StaleRow."""
    content = encrypted_payload.open_task(task)
    payload = {**content.payload, NEW_ID: changed.found}
    with transaction.atomic():
        states.move_row(
            task, TaskState.HELD, changed.message, payload=_reseal(task, content, payload)
        )
        slots.release_slots(queue.get_holder(task))
        trail.record("task.held", about=f"job:{task.job_id}", details={"task": task.position})
        notifications.notify_patient_decision_needed(task.job, users_who_may_decide(task.job))


def users_who_may_decide(job: Job) -> list[User]:
    """Return the users who may decide on the held tasks of a job."""
    may_confirm = notifications.users_with_right(Right.CONFIRM_PATIENTS)
    return [user for user in may_confirm if may_decide(user) and visibility.may_see(user, job)]


def tasks_to_decide(user: User) -> QuerySet[Task]:
    """Return the held tasks on which this user may decide."""
    if not may_decide(user):
        return Task.objects.none()
    return visibility.visible_tasks(user).filter(state=TaskState.HELD)


def may_decide(user: User) -> bool:
    """Return whether the user may confirm patients and see both IDs."""
    return has_right(user, Right.CONFIRM_PATIENTS) and has_right(user, Right.SEE_IDENTIFIED)


def get_patient_ids(task: Task) -> PatientIds:
    """Return both patient IDs of a held task. Raises DecryptionError."""
    content = encrypted_payload.open_task(task)
    return PatientIds(content.patient_id, content.payload.get(NEW_ID, ""))


def confirm_patient(user: User, task: Task, reason: str) -> None:
    """Confirm that both IDs belong to the same patient, and resume the study.

    The study continues under these two IDs only. In a research project the new ID gets the same
    pseudonym from now on. Raises NotPermitted, InvalidInput, and PseudonymConflict if the new ID
    has another pseudonym there.
    """

    def act(job: Job, row: Task) -> None:
        content = encrypted_payload.open_task(row)
        found = content.payload[NEW_ID]
        if not job.is_as_is:
            _merge_patient(user, row, content.patient_id, found, reason)
        payload = {key: value for key, value in content.payload.items() if key != NEW_ID}
        resealed = _reseal(row, content, {**payload, CONFIRMED_ID: found})
        states.move_task(job, row, TaskState.PENDING, payload=resealed, **_RESET_FIELDS)
        wake_workers_on_commit()

    _apply_decision(user, task, reason, "task.patient_confirmed", act)


def reject_patient(user: User, task: Task, reason: str) -> None:
    """Reject the new ID: the study fails. Raises NotPermitted, InvalidInput."""

    def act(job: Job, row: Task) -> None:
        message = Message("task.patient-not-confirmed", reason=reason.strip())
        states.move_task(job, row, TaskState.FAILURE, message)

    _apply_decision(user, task, reason, "task.patient_refused", act)


_RESET_FIELDS = {key: value for key, value in states.RESET_FIELDS.items() if key != "message"}


def _apply_decision(
    user: User, task: Task, reason: str, action: str, act: Callable[[Job, Task], None]
) -> None:
    """Check permissions, lock, apply and record a decision.

    A task that is decided already is left as it is, without an error.
    """
    require(user, Right.CONFIRM_PATIENTS)
    require(user, Right.SEE_IDENTIFIED)
    reason = validate_reason(reason)
    with transaction.atomic():
        job = states.lock_job(task.job_id)
        if not visibility.may_see(user, job):
            raise NotPermitted("job.not-yours")
        row = Task.objects.select_related("job__project", "job__owner", "source").get(pk=task.pk)
        if row.state != TaskState.HELD:
            return
        assert row.source is not None, "what is fetched has a source"
        details = {"task": row.position, "reason": reason}
        ids = get_patient_ids(row)
        act(job, row)
        for one in (ids.ordered, ids.found):
            who = pseudonyms.seal_patient_of_node(job.project, row.source, one)
            trail.record(action, user=user, about=f"job:{job.pk}", details=details, patient=who)
    task.refresh_from_db()


def _merge_patient(user: User, task: Task, ordered: str, found: str, reason: str) -> None:
    source = task.source
    assert source is not None, "what is fetched has a source"
    patient = pseudonyms.find_patient_at_node(task.job.project, source, ordered)
    if patient is not None:
        patient_merge.merge_confirmed_id(user, patient, source, found, reason)


def _reseal(task: Task, content: encrypted_payload.TaskContent, payload: dict[str, Any]) -> bytes:
    return encrypted_payload.reseal_task(task, replace(content, payload=payload))
