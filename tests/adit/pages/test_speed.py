"""What pages read from a database with 20,000 tasks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.db.models.signals import post_init
from django.test import Client
from django.test.utils import CaptureQueriesContext

from adit.accounts.models import User
from adit.jobs import task_groups
from adit.jobs.models import Job, JobState, Task, TaskGroup, TaskState
from adit.nodes.models import Node
from adit.projects import services
from adit_engine.messages import Message

JOBS, TASKS_EACH = 200, 100
MOST = (60, 200, 300)
"""Queries, objects, and thousands of steps of SQLite; one query for each task needs more."""


@pytest.fixture
def many_tasks(coordinator: User, destination: Node) -> None:
    project = services.default_project()
    states = [JobState.SUCCESS, JobState.WARNING, JobState.PENDING, JobState.IN_PROGRESS]
    jobs = Job.objects.bulk_create(
        Job(
            kind="selective",
            owner=coordinator,
            destination=destination,
            project=project,
            state=states[n % 4],
            idempotency_key=str(n),
        )
        for n in range(JOBS)
    )
    Task.objects.bulk_create(
        (
            Task(job=job, position=n, payload=b"", state=TaskState.PENDING)
            for job in jobs
            for n in range(TASKS_EACH)
        ),
        batch_size=2000,
    )
    for job in jobs:
        task_groups.assign_groups(job)
    TaskGroup.objects.update(
        wait_reason=Message("node-unavailable.outside-hours", node="PACS1", time="20:00")
    )


@contextmanager
def counted_objects() -> Iterator[list[int]]:
    """Count the model objects that are created, most of which are rows of the database."""
    count = [0]

    def count_one(**_: object) -> None:
        count[0] += 1

    post_init.connect(count_one)
    try:
        yield count
    finally:
        post_init.disconnect(count_one)


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """Count the steps of SQLite in thousands. They depend on the data and the query plan only."""
    count = [0]

    def count_thousand() -> None:
        count[0] += 1

    if connection.vendor != "sqlite":
        yield count
        return
    connection.ensure_connection()
    connection.connection.set_progress_handler(count_thousand, 1000)
    try:
        yield count
    finally:
        connection.connection.set_progress_handler(None, 0)


def test_pages_read_few_rows_of_20_000_tasks(
    many_tasks: None, coordinator: User, as_user: Callable[[User], Client]
) -> None:
    client = as_user(coordinator)
    costly = {}
    for path in ("/", "/home/live", "/jobs/", "/nodes/", "/help/"):
        client.get(path)
        with (
            CaptureQueriesContext(connection) as queries,
            counted_objects() as objects,
            counted_steps() as steps,
        ):
            assert client.get(path).status_code == 200
        cost = (len(queries), objects[0], steps[0])
        if any(used > most for used, most in zip(cost, MOST, strict=True)):
            costly[path] = cost

    assert costly == {}
