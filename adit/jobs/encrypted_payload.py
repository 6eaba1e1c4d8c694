"""Sealed: what identifies a person in tasks and items, kept under the project's key alone."""

from dataclasses import asdict, dataclass, field
from typing import Any

from adit.jobs.kinds.base import TaskPlan
from adit.jobs.models import Job, SeriesResult, Task
from adit.projects import services
from adit.projects.models import Project
from adit.vault.cipher import ValueCipher
from adit_engine.values.outcome import SeriesLedger


@dataclass(frozen=True, slots=True)
class TaskContent:
    """What a task is about. `patient_id` is the source's; `title` is for those who may see it."""

    title: str = field(repr=False)
    patient_id: str = field(repr=False)
    pseudonym: str
    payload: dict[str, Any] = field(repr=False)
    is_given: bool = False
    """The order itself gave the pseudonym."""


@dataclass(frozen=True, slots=True)
class SeriesContent:
    """One series: its ledger, and what the source calls it."""

    manifest: SeriesLedger = field(repr=False)
    description: str = field(default="", repr=False)
    why: str = ""
    """Why the source's list cannot be trusted; empty when it can."""


def seal_task(
    project: Project,
    job: Job,
    position: int,
    plan: TaskPlan,
    pseudonym: str,
    *,
    box: ValueCipher | None = None,
) -> bytes:
    """Pass the project's box when sealing many."""
    content = {
        "title": plan.title,
        "patient_id": plan.patient_id,
        "pseudonym": pseudonym,
        "payload": dict(plan.payload),
        "is_given": bool(pseudonym) and pseudonym == plan.pseudonym,
    }
    return (box or get_box(project)).seal(content, _task_context(job.pk, position))


def reseal_task(task: Task, content: TaskContent) -> bytes:
    """What has become known of it since it was ordered."""
    return get_box(task.job.project).seal(
        asdict(content), _task_context(task.job_id, task.position)
    )


def open_task(task: Task, box: ValueCipher | None = None) -> TaskContent:
    """Raises DecryptionError. Pass the project's box when opening many."""
    content = (box or get_box(task.job.project)).open(
        task.payload, _task_context(task.job_id, task.position)
    )
    return TaskContent(**content)


def series_index(box: ValueCipher, task: Task, series_uid: str) -> str:
    """Finds the item of a series again; differs from task to task, so that rows do not link."""
    return box.index(series_uid, f"item {task.pk}")


def seal_series(box: ValueCipher, task: Task, content: SeriesContent) -> bytes:
    values = {
        "manifest": content.manifest.to_json(),
        "description": content.description,
        "why": content.why,
    }
    return box.seal(values, _series_context(task.pk))


def open_series(item: SeriesResult, box: ValueCipher | None = None) -> SeriesContent:
    """Raises DecryptionError. Pass the project's box when opening many."""
    content = (box or get_box(item.task.job.project)).open(
        item.sealed, _series_context(item.task_id)
    )
    return SeriesContent(
        SeriesLedger.from_json(content["manifest"]), content["description"], content["why"]
    )


def get_box(project: Project | None) -> ValueCipher:
    """Payloads of a job without a project of its own lie under the site's."""
    return services.get_project_cipher(project or services.default_project())


def _task_context(job_id: int, position: int) -> str:
    return f"job {job_id} task {position}"


def _series_context(task_id: int) -> str:
    return f"task {task_id} item"
