"""Jobs and tasks change state only as the transition tables allow; a job follows its tasks."""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

import adit.jobs
from adit.jobs import states
from adit.jobs.models import Job, JobState, Task, TaskState

pytestmark = pytest.mark.django_db

T, J = TaskState, JobState
Ordering = Callable[..., Job]


@pytest.fixture
def job(order_studies: Ordering) -> Job:
    return order_studies("1", "2", images=1)


def test_a_task_changes_state_only_as_the_table_allows(job: Job) -> None:
    task = job.tasks.get(position=1)
    for now, to in product(TaskState, TaskState):
        Task.objects.filter(pk=task.pk).update(state=now)
        Job.objects.update(state=J.IN_PROGRESS)
        task.refresh_from_db()
        if to in states.TASK_TRANSITIONS[now]:
            states.move_row(task, to)
            assert Task.objects.get(pk=task.pk).state == to == task.state
        else:
            with pytest.raises(states.IllegalTransition):
                states.move_row(task, to)
            assert Task.objects.get(pk=task.pk).state == now


def test_every_state_is_in_its_table_and_every_job_state_can_be_reached() -> None:
    assert set(states.TASK_TRANSITIONS) == set(TaskState)
    assert set(states.JOB_TRANSITIONS) == set(JobState)
    reached = set().union(*states.JOB_TRANSITIONS.values())
    assert reached == set(JobState)


def test_a_stale_attempt_cannot_change_the_state_of_a_task(job: Job) -> None:
    task = job.tasks.get(position=1)
    Task.objects.filter(pk=task.pk).update(attempt=3)
    with pytest.raises(states.StaleRow):
        states.move_row(task, T.IN_PROGRESS)


DERIVED = [
    (J.PENDING, T.IN_PROGRESS, T.PENDING, J.IN_PROGRESS),
    (J.IN_PROGRESS, T.PENDING, T.PENDING, J.PENDING),
    (J.IN_PROGRESS, T.SUCCESS, T.PENDING, J.IN_PROGRESS),
    (J.IN_PROGRESS, T.SUCCESS, T.SUCCESS, J.SUCCESS),
    (J.IN_PROGRESS, T.SUCCESS, T.WARNING, J.WARNING),
    (J.IN_PROGRESS, T.SUCCESS, T.FAILURE, J.WARNING),
    (J.IN_PROGRESS, T.FAILURE, T.FAILURE, J.FAILURE),
    (J.IN_PROGRESS, T.SUCCESS, T.CANCELED, J.WARNING),
    (J.CANCELING, T.SUCCESS, T.IN_PROGRESS, J.CANCELING),
    (J.CANCELING, T.SUCCESS, T.CANCELED, J.CANCELED),
    (J.CANCELING, T.SUCCESS, T.SUCCESS, J.SUCCESS),
    (J.CANCELED, T.PENDING, T.CANCELED, J.IN_PROGRESS),
    (J.WAITING_FOR_APPROVAL, T.PENDING, T.PENDING, J.WAITING_FOR_APPROVAL),
]


def test_the_state_of_a_job_follows_from_its_tasks(job: Job) -> None:
    for now, first, second, then in DERIVED:
        Job.objects.update(state=now, ended_at=None)
        for position, state in enumerate((first, second), start=1):
            Task.objects.filter(position=position).update(state=state)
        states.update_job_state(states.lock_job(job.pk))
        job.refresh_from_db()
        assert job.state == then, (now, first, second)
        assert (job.ended_at is not None) == (then in states.ENDED_JOBS)


def test_a_task_that_broke_a_rule_fails_the_whole_job(job: Job) -> None:
    Job.objects.update(state=J.IN_PROGRESS)
    Task.objects.filter(position=1).update(state=T.SUCCESS)
    Task.objects.filter(position=2).update(state=T.FAILURE, has_broken_rule=True)
    states.update_job_state(states.lock_job(job.pk))
    job.refresh_from_db()
    assert job.state == J.FAILURE


def test_only_states_py_updates_a_state() -> None:
    """Search the source code: all other modules must use states.py."""
    folder = Path(adit.jobs.__file__).parent
    writers = [
        path.name
        for path in folder.rglob("*.py")
        if "state=" in path.read_text() and ".update(state=" in path.read_text().replace("\n", "")
    ]
    assert set(writers) <= {"states.py"}
