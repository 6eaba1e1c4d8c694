"""Check tasks and rows of sheets against the block list and the consent list.

Used by the worker and its lease.
"""

from dataclasses import replace

from adit.audit.trail import record
from adit.blocklist import blocking
from adit.consent import checking
from adit.jobs import encrypted_payload
from adit.jobs.encrypted_payload import TaskContent
from adit.jobs.kinds.base import RowCheck, RowNote
from adit.jobs.kinds.picked_study import get_modalities
from adit.jobs.models import Job, Task, TaskType
from adit.nodes.access import get_domain
from adit.nodes.models import Lane
from adit_engine.messages import Message


def find_block_of_task(
    task: Task, content: TaskContent | None = None, started_with: tuple[str, ...] | None = None
) -> Message | None:
    """Return why the study of a task must not be transferred; None if allowed.

    `started_with` are the modalities of a running transfer, which ends if others are allowed now.
    An ID that a user has confirmed for the patient counts as well. Raises DecryptionError.
    """
    if task.lane == Lane.SEARCH or task.type != TaskType.ORDERED or task.source is None:
        return None
    if task.recalled_at is not None:
        return Message("recall.study-recalled")
    if not blocking.has_entries() and not checking.has_list(task.job.project):
        return None
    content = content or encrypted_payload.open_task(task)
    domain, modalities = get_domain(task.source), get_modalities(content.payload)
    for patient_id in get_patient_ids(content):
        why = blocking.explain_refusal(task.job.project, domain, patient_id, modalities)
        if why is not None:
            return why
    if started_with is not None and find_modalities(task, content) != started_with:
        return Message("consent.scope-changed")
    return None


def find_modalities(task: Task, content: TaskContent) -> tuple[str, ...]:
    """Return the modalities that a task may transfer; empty = all. Raises DecryptionError."""
    assert task.source is not None
    if task.lane == Lane.SEARCH:
        return task.job.project.allowed_modalities if task.job.project is not None else ()
    return blocking.find_modalities(task.job.project, get_domain(task.source), content.patient_id)


def is_on_block_list(task: Task) -> bool:
    """Return whether the patient of a task is on the block list. Raises DecryptionError."""
    if task.lane == Lane.SEARCH or task.type != TaskType.ORDERED or task.source is None:
        return False
    domain, content = get_domain(task.source), encrypted_payload.open_task(task)
    return any(
        blocking.is_blocked(task.job.project, domain, one) for one in get_patient_ids(content)
    )


def get_patient_ids(content: TaskContent) -> set[str]:
    """The patient ID of the order, and one that a user has confirmed for the patient."""
    renamed = content.payload.get("renamed", "")
    return {content.patient_id, renamed} if renamed else {content.patient_id}


def require_task_not_blocked(
    task: Task, content: TaskContent, started_with: tuple[str, ...] | None = None
) -> None:
    """Raise PatientBlocked if `find_block_of_task` gives a reason."""
    why = find_block_of_task(task, content, started_with)
    if why is not None:
        raise blocking.PatientBlocked(why.code, **why.values)


def find_block_of_delivered(job: Job) -> Message | None:
    """Return why delivered images of the job must not leave in a 7-Zip file now; None if they may.

    Recalled images do not count. Raises DecryptionError.
    """
    delivered = (
        job.tasks.filter(items__delivered__gt=0, recalled_at=None)
        .distinct()
        .select_related("source")
    )
    for task in delivered.iterator(chunk_size=100):
        task.job = job
        why = find_block_of_task(task)
        if why is not None:
            return why
    return None


def refuse_blocked_row(task: Task, checked: RowCheck) -> RowCheck:
    """Return the result of a row; without studies, and recorded, if a patient is blocked."""
    assert task.source is not None, "a check queries a source"
    domain = get_domain(task.source)
    for study in checked.studies:
        found = study.record
        reason = blocking.explain_refusal(
            task.job.project, domain, found.patient_id, found.modalities
        )
        if reason is not None:
            details = {"task": task.position, "reason": reason.code}
            record("rows.blocked", user=task.job.owner, about=f"job:{task.job_id}", details=details)
            return replace(checked, studies=(), notes=(RowNote.BLOCKED,), reason=reason)
    return checked
