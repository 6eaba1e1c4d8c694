"""What the tests of the pages of jobs share: orders as rows, and images that never were anyone's."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from adit.accounts.models import User
from adit.jobs import encrypted_payload, task_groups
from adit.jobs.kinds.base import TaskPlan
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState
from adit.nodes.models import Node
from adit.projects import services
from adit_engine.values.outcome import InstanceState, LedgerEntry, SeriesLedger
from adit_engine.values.references import SeriesRef

ROOT = "1.2.826.0.1.3680043.8.498.66"


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns where there is none."""
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def as_user() -> Callable[[User | None], Client]:
    """A browser in which this person is signed in; None for nobody."""

    def client_of(user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return client_of


@pytest.fixture
def make_job(source: Node, destination: Node) -> Callable[..., Job]:
    """A job as rows: make_job(owner, state=…, tasks=2, labels={"patient_name": …})."""

    def make(
        owner: User,
        *,
        state: JobState = JobState.SUCCESS,
        tasks: int = 1,
        labels: dict[str, str] | None = None,
        **values: Any,
    ) -> Job:
        project = values.pop("project", None) or services.default_project()
        job = Job.objects.create(
            kind="selective",
            owner=owner,
            destination=destination,
            project=project,
            state=state,
            order={"version": 1, "change": "pseudonymized", "reason": "", "announced": []},
            idempotency_key=f"made-{Job.objects.count()}",
            **values,
        )
        for position in range(1, tasks + 1):
            plan = TaskPlan(
                source.pk,
                {"study_uid": f"{ROOT}.{position}", "labels": labels or {}},
                patient_id="PID-0815",
            )
            Task.objects.create(
                job=job,
                position=position,
                source=source,
                payload=encrypted_payload.seal_task(project, job, position, plan, "LUNG-0001"),
                state=TaskState(state) if state in TaskState.values else TaskState.PENDING,
            )
        task_groups.assign_groups(job)
        return job

    return make


@pytest.fixture
def make_item() -> Callable[..., SeriesResult]:
    """One series of a task, with a ledger: make_item(task, expected=3, delivered=2, …)."""

    def make(task: Task, *, description: str = "", why: str = "", **values: Any) -> SeriesResult:
        number = SeriesResult.objects.filter(task=task).count() + 1
        ref = SeriesRef(f"{ROOT}.1", f"{ROOT}.1.{number}")
        manifest = SeriesLedger(
            ref, entries={f"{ROOT}.1.{number}.1": LedgerEntry(InstanceState.DELIVERED)}
        )
        box = encrypted_payload.get_box(task.job.project)
        return SeriesResult.objects.create(
            task=task,
            attempt=1,
            index=encrypted_payload.series_index(box, task, ref.series_uid),
            sealed=encrypted_payload.seal_series(
                box, task, encrypted_payload.SeriesContent(manifest, description, why)
            ),
            number=number,
            is_final=True,
            **{"modality": "CT", **values},
        )

    return make
