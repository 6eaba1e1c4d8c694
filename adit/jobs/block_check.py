"""Check tasks and rows of sheets against the block list. Used by the worker and its lease."""

from dataclasses import replace

from adit.blocklist import blocking
from adit.jobs import encrypted_payload
from adit.jobs.encrypted_payload import TaskContent
from adit.jobs.kinds.base import RowCheck, RowNote
from adit.jobs.models import Job, Task, TaskType
from adit.nodes.access import get_domain
from adit.nodes.models import Lane
from adit_engine.messages import Message


def find_block_of_task(task: Task, content: TaskContent | None = None) -> Message | None:
    """Return why the patient of a task must not be transferred; None if allowed.

    An ID that a user has confirmed for the patient counts as well. Raises DecryptionError.
    """
    if task.lane == Lane.SEARCH or task.type != TaskType.ORDERED or task.source is None:
        return None
    if not blocking.has_entries():
        return None
    content = content or encrypted_payload.open_task(task)
    domain = get_domain(task.source)
    for patient_id in {content.patient_id, content.payload.get("renamed", "")}:
        entry = blocking.find_block(task.job.project, domain, patient_id)
        if entry is not None:
            return blocking.describe_block(entry)
    return None


def require_task_not_blocked(task: Task, content: TaskContent) -> None:
    """Raise PatientBlocked if the patient of the task is on the block list."""
    why = find_block_of_task(task, content)
    if why is not None:
        raise blocking.PatientBlocked(why.code, **why.values)


def require_delivered_not_blocked(job: Job) -> None:
    """Raise PatientBlocked if the job has images of a patient who was blocked since.

    Called before a 7-Zip file is created from them. Raises DecryptionError.
    """
    delivered = job.tasks.filter(items__delivered__gt=0).distinct().select_related("source")
    for task in delivered.iterator(chunk_size=100):
        task.job = job
        why = find_block_of_task(task)
        if why is not None:
            raise blocking.PatientBlocked("blocklist.archive-not-created", reason=why)


def mark_blocked_row(task: Task, checked: RowCheck) -> RowCheck:
    """Return the result of a row, without studies if one of its patients is blocked."""
    assert task.source is not None, "a check queries a source"
    domain = get_domain(task.source)
    for study in checked.studies:
        entry = blocking.find_block(task.job.project, domain, study.record.patient_id)
        if entry is not None:
            reason = blocking.describe_block(entry)
            return replace(checked, studies=(), notes=(RowNote.BLOCKED,), reason=reason)
    return checked
