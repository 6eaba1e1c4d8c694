"""Encrypt and decrypt identifying data of tasks and series results with the project's key.

Used by orders, the worker and the pages.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from adit.jobs.kinds.base import TaskPlan
from adit.jobs.models import Job, SeriesResult, Task
from adit.projects import services
from adit.projects.models import Project
from adit.vault.cipher import ValueCipher
from adit_engine.messages import Message
from adit_engine.pseudonymize.visit import TrialVisit
from adit_engine.values.outcome import SeriesLedger


@dataclass(frozen=True, slots=True)
class TaskContent:
    """The decrypted content of a task.

    `patient_id` is that of the source. `title` is shown only to users who may see it.
    """

    title: str = field(repr=False)
    patient_id: str = field(repr=False)
    pseudonym: str
    payload: dict[str, Any] = field(repr=False)
    is_given: bool = False
    """The pseudonym was given in the order."""

    @property
    def visit(self) -> TrialVisit | None:
        """The visit that is written to the images; None if the order names none."""
        values = self.payload.get("visit")
        return None if values is None else TrialVisit(**values)


@dataclass(frozen=True, slots=True)
class SeriesContent:
    """The decrypted content of a series result: its ledger and its description at the source."""

    manifest: SeriesLedger = field(repr=False)
    description: str = field(default="", repr=False)
    reason_without_list: Message | None = None
    """Why the list of the source is not reliable; None if it is."""


def seal_task(
    project: Project,
    job: Job,
    position: int,
    plan: TaskPlan,
    pseudonym: str,
    *,
    cipher: ValueCipher | None = None,
) -> bytes:
    """Encrypt the content of a new task. Pass the project's `box` to encrypt many."""
    content = {
        "title": plan.title,
        "patient_id": plan.patient_id,
        "pseudonym": pseudonym,
        "payload": dict(plan.payload),
        "is_given": bool(pseudonym) and pseudonym == plan.pseudonym,
    }
    return (cipher or get_cipher(project)).seal(content, _task_context(job.pk, position))


def reseal_task(task: Task, content: TaskContent) -> bytes:
    """Encrypt the content of a task again after a change."""
    return get_cipher(task.job.project).seal(
        asdict(content), _task_context(task.job_id, task.position)
    )


def open_task(task: Task, cipher: ValueCipher | None = None) -> TaskContent:
    """Decrypt the content of a task. Pass the project's `box` to decrypt many.

    Raises DecryptionError.
    """
    content = (cipher or get_cipher(task.job.project)).open(
        task.payload, _task_context(task.job_id, task.position)
    )
    return TaskContent(**content)


def series_index(cipher: ValueCipher, task: Task, series_uid: str) -> str:
    """Return the index by which the result of a series is found again.

    It differs from task to task, so that rows cannot be linked.
    """
    return cipher.index(series_uid, f"item {task.pk}")


def seal_series(cipher: ValueCipher, task: Task, content: SeriesContent) -> bytes:
    values = {
        "manifest": content.manifest.to_json(),
        "description": content.description,
        "why": None
        if content.reason_without_list is None
        else content.reason_without_list.to_json(),
    }
    return cipher.seal(values, _series_context(task.pk))


def open_series(item: SeriesResult, cipher: ValueCipher | None = None) -> SeriesContent:
    """Decrypt the content of a series result.

    Pass the project's `box` to decrypt many. Raises DecryptionError.
    """
    content = (cipher or get_cipher(item.task.job.project)).open(
        item.sealed, _series_context(item.task_id)
    )
    why = None if content["why"] is None else Message.from_json(content["why"])
    return SeriesContent(SeriesLedger.from_json(content["manifest"]), content["description"], why)


def get_cipher(project: Project | None) -> ValueCipher:
    """Return the cipher of a project, or that of the default project if it is None."""
    return services.get_project_cipher(project or services.default_project())


def _task_context(job_id: int, position: int) -> str:
    return f"job {job_id} task {position}"


def _series_context(task_id: int) -> str:
    return f"task {task_id} item"
