"""Estimated end of a job, from the duration of its studies, allowed hours, connections and the queue."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import time_machine
from django.core.cache import cache
from django.utils import timezone
from pytest_django import Settings

from adit.accounts.models import User
from adit.jobs.estimates import JobEstimate, estimate_job
from adit.jobs.models import Job, Task, TaskState
from adit.nodes.models import Node

pytestmark = pytest.mark.django_db

Ordering = Callable[..., Job]

NIGHTS = [
    {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "20:00", "to": "06:00"}
]
NOON = datetime.fromisoformat("2026-03-02T12:00:00+01:00")
"""A Monday in Berlin, winter time."""


@pytest.fixture
def noon(settings: Settings) -> object:
    settings.WORKERS, settings.MAX_STUDIES_PER_JOB = 2, 100
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def job(noon: object, order_studies: Ordering) -> Job:
    """A job of twelve studies, two of them finished in one minute each."""
    job = order_studies(*(str(n) for n in range(12)), images=1)
    for task in job.tasks.all()[:2]:
        task.state, task.ended_at = TaskState.SUCCESS, timezone.now()
        task.started_at = task.ended_at - timedelta(seconds=60)
        task.save()
    return job


def minutes(job: Job) -> float:
    cache.clear()
    ends_at = estimate_job(job).ends_at
    assert ends_at is not None
    return (ends_at - NOON).total_seconds() / 60


def test_the_estimate_divides_remaining_studies_by_available_connections(
    job: Job, source: Node
) -> None:
    assert minutes(job) == 5
    Node.objects.filter(pk=source.pk).update(retrieve_limit=1)
    assert minutes(job) == 10
    assert estimate_job(job).task_duration_text == "60 s"


def test_the_estimate_respects_allowed_hours(job: Job, source: Node) -> None:
    Node.objects.filter(pk=source.pk).update(windows=NIGHTS)
    assert minutes(job) == 8 * 60 + 5
    Task.objects.filter(state=TaskState.SUCCESS).update(
        started_at=timezone.now() - timedelta(hours=3)
    )
    assert minutes(job) == (8 + 10 + 14 + 5) * 60, "15 hours with two connections need two nights"


def test_a_longer_job_of_another_owner_only_doubles_the_remaining_time(
    job: Job, order_studies: Ordering, make_user: Callable[..., User]
) -> None:
    other = make_user("other", "Coordinators")
    order_studies(*(str(n) for n in range(100, 130)), images=1, user=other)
    assert minutes(job) == 10


def test_no_estimate_is_given_for_a_paused_node_or_before_a_study_has_finished(
    job: Job, source: Node
) -> None:
    Node.objects.filter(pk=source.pk).update(paused_at=timezone.now())
    assert estimate_job(job).ends_at is None
    Node.objects.filter(pk=source.pk).update(paused_at=None)
    Task.objects.update(state=TaskState.PENDING, started_at=None, ended_at=None)
    cache.clear()
    assert estimate_job(job) == JobEstimate(is_unknown=True)


def test_a_finished_job_has_no_estimate(job: Job) -> None:
    job.state = "success"
    assert estimate_job(job) == JobEstimate()
