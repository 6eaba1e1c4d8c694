"""Start of a checked batch transfer by a worker: atomic even if the worker is killed, and only once."""

import os
import signal
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.utils import timezone
from lab.jobs import claimed, put_study, shelf, until, work
from lab.ordering import order_job

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs import queue
from adit.jobs.actions import perform
from adit.jobs.kinds.batch_transfer import BatchTransferRow
from adit.jobs.lease import Lease
from adit.jobs.models import Job, JobState, Task, TaskState, TaskType
from adit.nodes.models import Lane, Node
from adit.orders import batch_start
from adit.orders.batch_start import PreparedStart, StartOptions
from adit.projects.models import Patient, Project
from adit.worker import runner
from adit_engine.transfer.study_lookup import StudyCriteria

ROOT = "1.2.826.0.1.3680043.8.498.77"
pytestmark = pytest.mark.django_db(transaction=True)
STUDIES = 4


def run_all(job: Job) -> Job:
    while work() is not None:
        pass
    return Job.objects.get(pk=job.pk)


@pytest.fixture
def checked(coordinator: User, source: Node, destination: Node, project: Project) -> Job:
    """A batch transfer whose check of four patients' studies is finished."""
    names = [f"PID-{n}" for n in range(STUDIES)]
    for n, patient in enumerate(names):
        put_study(source, f"{n}", images=2, PatientID=patient, AccessionNumber=f"A{n}")
    rows = tuple(
        BatchTransferRow(n + 2, StudyCriteria(patient, study_uid=f"{ROOT}.{n}"))
        for n, patient in enumerate(names)
    )
    return run_all(
        order_job(
            coordinator,
            "batch_transfer",
            rows,
            destination.pk,
            sources=(source.pk,),
            project=project.pk,
        )
    )


def killed(task: Task, room: Any, name: str, time: int) -> None:
    """Run the task in another process and kill it at the given call of the named function."""
    connection.close()
    pid = os.fork()
    if not pid:
        done, calls = getattr(room, name), []

        def again(*args: Any, **more: Any) -> Any:
            calls.append(1)
            if len(calls) == time:
                os.kill(os.getpid(), signal.SIGKILL)
            return done(*args, **more)

        setattr(room, name, again)
        try:
            runner.run_task(task)
        finally:
            os._exit(1)
    _pid, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the start finished before the process could be killed"


@pytest.mark.parametrize(
    ("room", "name", "time"),
    [
        (batch_start, "_make_ready", 2),
        (batch_start.pseudonyms, "register_pseudonym", 2),
        (batch_start.encrypted_payload, "seal_task", 2),
        (batch_start.task_groups, "assign_groups", 1),
        (batch_start.trail, "record", 1),
    ],
    ids=["rows", "pseudonyms", "tasks", "being written", "before it is committed"],
)
def test_a_start_killed_midway_leaves_no_changes_and_is_repeated(
    checked: Job, destination: Node, room: Any, name: str, time: int
) -> None:
    before = list(checked.lines.values("line", "task", "sealed", "notes", "facts"))
    batch_start.request_start(checked.owner, checked, StartOptions(left_out={5}))
    killed(claimed(), room, name, time)

    assert list(checked.lines.values("line", "task", "sealed", "notes", "facts")) == before
    assert not checked.tasks.filter(lane=Lane.RETRIEVE).exists()
    assert AuditEvent.objects.filter(action="job.started").count() == 0
    with time_machine.travel(timezone.now() + timedelta(minutes=5)):
        queue.sweep()
        job = run_all(checked)
    assert job.state == JobState.SUCCESS
    assert job.tasks.filter(lane=Lane.RETRIEVE).count() == STUDIES - 1
    assert len(shelf(destination)) == 2 * (STUDIES - 1)
    assert Patient.objects.count() == STUDIES - 1
    assert AuditEvent.objects.filter(action="job.started").count() == 1


def test_a_start_reports_its_progress_and_can_be_canceled_and_resumed(
    checked: Job, destination: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_start, "PROGRESS_EVERY_S", 0.0)
    said, stops = [], []
    made = batch_start.prepare_start

    def with_lease(task: Task, lease: Lease) -> PreparedStart:
        stops.append(lease.stop)
        return made(task, lease)

    monkeypatch.setattr(batch_start, "prepare_start", with_lease)
    seal = batch_start.encrypted_payload.seal_task

    def looked_at(*args: Any, **more: Any) -> bytes:
        said.append(str(checked.tasks.get(type=TaskType.START).message))
        if len(said) == 2:
            perform(checked.owner, checked, "cancel")
            until(lambda: stops and stops[0].is_set())
        return seal(*args, **more)

    batch_start.request_start(checked.owner, checked, StartOptions())
    monkeypatch.setattr(batch_start.encrypted_payload, "seal_task", looked_at)
    job = run_all(checked)
    assert said == ["Preparing study 1 of 4.", "Preparing study 2 of 4."]
    assert job.state == JobState.CANCELED
    monkeypatch.undo()
    perform(job.owner, job, "resume")
    assert run_all(job).state == JobState.SUCCESS
    assert len(shelf(destination)) == 2 * STUDIES


def test_the_start_task_has_a_reserved_position_outside_the_studies(checked: Job) -> None:
    batch_start.request_start(checked.owner, checked, StartOptions())
    assert checked.tasks.get(type=TaskType.START).position == batch_start.START_POSITION
    job = run_all(checked)
    sent = job.tasks.filter(lane=Lane.RETRIEVE).order_by("position")
    assert list(sent.values_list("position", flat=True)) == [2, 3, 4, 5]


def test_a_transfer_does_not_start_if_its_project_has_expired(
    checked: Job, project: Project
) -> None:
    batch_start.request_start(checked.owner, checked, StartOptions())
    project.expires_on = timezone.localdate() - timedelta(days=1)
    project.save()
    job = run_all(checked)
    assert job.state == JobState.WAITING_FOR_OWNER
    assert str(job.message).startswith("The transfer was not started.")
    assert job.tasks.get(type=TaskType.START).state == TaskState.FAILURE
