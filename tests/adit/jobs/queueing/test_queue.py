"""The queue: order of tasks, claims and leases, and recovery when a worker is lost."""

import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.conf import settings as conf
from django.db import connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from lab.installed import Installed
from lab.jobs import put_study, work
from pytest_django import Settings

from adit.accounts.models import User
from adit.jobs import queue, task_groups
from adit.jobs.actions import allowed, perform
from adit.jobs.models import Job, JobState, Task, TaskGroup, TaskState
from adit.nodes.limits import slots
from adit.nodes.models import CircuitBreaker, Lane, Node, Slot
from adit_engine.messages import Message
from adit_engine.nodes.memory import MemoryNode

Ordering = Callable[..., Job]


def claimed(worker: str = "test") -> Task:
    task = queue.claim(worker)
    assert task is not None
    return task


@pytest.mark.django_db
def test_a_claim_leases_the_task_and_reserves_a_slot_at_both_nodes(
    order_studies: Ordering, source: Node, destination: Node
) -> None:
    job = order_studies("1")
    task = claimed("here:1")
    assert (task.state, task.attempt, task.worker) == (TaskState.IN_PROGRESS, 1, "here:1")
    assert task.lease_until is not None
    assert task.lease_until > timezone.now()
    held = {(s.node_id, s.holder) for s in Slot.objects.all()}
    assert held == {(source.pk, f"task:{task.pk}"), (destination.pk, f"task:{task.pk}")}
    job.refresh_from_db()
    assert job.state == JobState.IN_PROGRESS


@pytest.mark.django_db
def test_a_job_that_waits_for_approval_or_is_canceled_is_not_claimed(
    order_studies: Ordering, coordinator: User
) -> None:
    job = order_studies("1")
    perform(coordinator, job, "cancel")
    assert queue.claim("test") is None
    Task.objects.update(state=TaskState.PENDING)
    Job.objects.update(state=JobState.WAITING_FOR_APPROVAL)
    assert queue.claim("test") is None


@pytest.mark.django_db
def test_owners_take_turns_in_the_queue(
    order_studies: Ordering, coordinator: User, make_user: Callable[..., User], source: Node
) -> None:
    Node.objects.update(retrieve_limit=20)
    other = make_user("other", "Coordinators")
    order_studies("1", "2", "3", "4", images=1)
    order_studies("5", "6", images=1, user=other)
    owners = [claimed().job.owner for _ in range(5)]
    assert owners == [coordinator, other, coordinator, other, coordinator]


@pytest.mark.django_db
def test_only_the_tasks_of_the_ended_process_are_released(order_studies: Ordering) -> None:
    Node.objects.update(retrieve_limit=20)
    order_studies("1", "2", "3", images=1)
    ended, alive, again = claimed("here:100:1"), claimed("here:200:1"), claimed("here:100:1")
    Task.objects.filter(pk=again.pk).update(worker="here:300:2", attempt=2)

    assert queue.release_tasks_of("here:100:1") == 1
    assert queue.release_tasks_of("here:100:1") == 0

    ended.refresh_from_db()
    assert (ended.state, ended.worker, ended.failures) == (TaskState.PENDING, "", 1)
    assert not Slot.objects.filter(holder=queue.get_holder(ended)).exists()
    running = Task.objects.filter(state=TaskState.IN_PROGRESS)
    assert set(running.values_list("pk", flat=True)) == {alive.pk, again.pk}
    assert claimed("here:400:3").pk == ended.pk


@pytest.mark.django_db
def test_urgent_jobs_are_claimed_first_then_those_of_higher_priority(
    order_studies: Ordering, make_user: Callable[..., User]
) -> None:
    Node.objects.update(retrieve_limit=20)
    first, second, third = (order_studies(n, images=1) for n in "123")
    Job.objects.filter(pk=second.pk).update(priority=5)
    Job.objects.filter(pk=third.pk).update(urgent=True)
    assert [claimed().job for _ in range(3)] == [third, second, first]


@pytest.mark.django_db
def test_the_connection_limit_holds_and_a_waiting_task_shows_the_reason(
    order_studies: Ordering, source: Node
) -> None:
    source.retrieve_limit = 2
    source.save()
    order_studies("1", "2", "3", images=1)
    claimed()
    claimed()
    assert queue.claim("test") is None
    waiting = Task.objects.get(state=TaskState.PENDING)
    assert str(waiting.group.wait_reason) == "PACS1: 2 of 2 connections are in use."


@pytest.mark.django_db
def test_a_claim_without_a_slot_at_the_destination_keeps_none_at_the_source(
    order_studies: Ordering, source: Node, destination: Node
) -> None:
    order_studies("1", images=1)
    Node.objects.filter(pk=destination.pk).update(retrieve_limit=1)
    slots.acquire_slot(Node.objects.get(pk=destination.pk), Lane.RETRIEVE, "somebody", 60)
    assert queue.claim("test") is None
    assert not Slot.objects.filter(node=source).exists()


@pytest.mark.django_db
def test_only_urgent_jobs_start_outside_the_allowed_hours(
    order_studies: Ordering, source: Node
) -> None:
    now = timezone.localtime()
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[(now.weekday() + 2) % 7]
    source.windows = [{"days": [day], "from": "20:00", "to": "06:00"}]
    source.save()
    job = order_studies("1", images=1)
    assert queue.claim("test") is None
    assert TaskGroup.objects.get().wait_reason.code == "node-unavailable.outside-hours"
    assert "20:00" in str(TaskGroup.objects.get().wait_reason)
    Job.objects.filter(pk=job.pk).update(urgent=True)
    assert queue.claim("test") is not None


@pytest.mark.django_db
def test_a_closed_node_does_not_block_tasks_of_other_nodes(
    order_studies: Ordering, source: Node, make_node: Callable[..., Node]
) -> None:
    other = make_node("Other folder", writes=("Coordinators",))
    order_studies("1", images=1)
    free = order_studies("2", images=1, to=other)
    Node.objects.filter(name="Research PACS").update(is_open=False)
    assert claimed().job == free
    assert queue.claim("test") is None


@pytest.mark.django_db
def test_only_the_current_attempt_can_renew_its_lease_and_slots(
    order_studies: Ordering, settings: Settings
) -> None:
    order_studies("1", images=1)
    task = claimed()
    before = Task.objects.get().lease_until
    settings.LEASE_S = 600
    queue.renew_lease(task)
    assert Task.objects.get().lease_until > before + timedelta(seconds=500)
    assert Slot.objects.first().expires_at > before + timedelta(seconds=500)
    Task.objects.update(attempt=2)
    with pytest.raises(queue.LeaseLost):
        queue.renew_lease(task)


@pytest.mark.django_db
def test_the_sweep_releases_the_task_and_slots_of_a_lost_worker(order_studies: Ordering) -> None:
    order_studies("1", images=1)
    task = claimed()
    assert queue.sweep() == 0
    assert Task.objects.get().state == TaskState.IN_PROGRESS, "the lease has not expired"
    Task.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert queue.sweep() == 1
    task.refresh_from_db()
    assert (task.state, task.failures, task.not_before) == (TaskState.PENDING, 1, None)
    assert not Slot.objects.exists()


@pytest.mark.django_db
def test_a_task_interrupted_by_the_end_of_the_hours_starts_soon_after_they_are_changed(
    order_studies: Ordering, source: Node
) -> None:
    order_studies("1", images=1)
    now = timezone.now()
    with time_machine.travel(now, tick=False) as traveller:
        task = claimed()
        source.windows = [
            {"days": [f"{now + timedelta(days=2):%a}".lower()], "from": "00:00", "to": "12:00"}
        ]
        source.save()
        opens = now + timedelta(days=2)
        queue.release_task(task, Message("task.database-down"), until=opens)
        traveller.shift(timedelta(minutes=2))
        assert queue.claim("test") is None, "claimed outside the allowed hours"

        source.windows = []
        source.save()

        assert claimed().pk == task.pk


@pytest.mark.django_db
def test_a_task_that_kills_its_workers_fails_after_growing_pauses(
    order_studies: Ordering, settings: Settings
) -> None:
    settings.MAX_FAILURES, settings.RETRY_PAUSES_S = 4, [60, 300]
    job = order_studies("1", images=1)
    pauses = []
    for _ in range(4):
        Task.objects.update(not_before=None)
        claimed()
        Task.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        queue.sweep()
        not_before = Task.objects.get().not_before
        pauses.append(not_before and round((not_before - timezone.now()).total_seconds(), -1))
    assert pauses[:3] == [None, 60, 300]
    task = Task.objects.get()
    assert task.state == TaskState.FAILURE
    assert "stopped unexpectedly 4 times" in str(task.message)
    job.refresh_from_db()
    assert job.state == JobState.FAILURE


@pytest.mark.django_db
def test_the_sweep_completes_a_cancel_when_the_worker_was_lost(
    order_studies: Ordering, coordinator: User
) -> None:
    job = order_studies("1", images=1)
    claimed()
    perform(coordinator, job, "cancel")
    assert job.state == JobState.CANCELING
    Task.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    queue.sweep()
    job.refresh_from_db()
    assert (job.state, Task.objects.get().state) == (JobState.CANCELED, TaskState.CANCELED)


@pytest.mark.django_db
def test_a_task_fails_after_the_maximum_of_failures_with_growing_pauses(
    order_studies: Ordering, settings: Settings
) -> None:
    settings.MAX_FAILURES, settings.RETRY_PAUSES_S = 3, [60, 300]
    order_studies("1", images=1)
    waits = []
    for _ in range(2):
        Task.objects.update(not_before=None)
        queue.release_task(claimed(), Message("task.database-down"), failed=True)
        waits.append(round((Task.objects.get().not_before - timezone.now()).total_seconds()))
        assert queue.claim("test") is None, "claimed before the end of the pause"
    assert waits == [60, 300]
    Task.objects.update(not_before=None)
    queue.release_task(claimed(), Message("task.database-down"), failed=True)
    task = Task.objects.get()
    assert task.state == TaskState.FAILURE
    assert str(task.message) == "The database did not respond. Tried 3 times."


@pytest.mark.django_db(transaction=True)
def test_a_retry_of_a_failed_job_resets_the_number_of_failures(
    order_studies: Ordering, source: Node, coordinator: User
) -> None:
    job = order_studies("1", images=1)
    MemoryNode.shelves[source.name].clear()
    work()
    job.refresh_from_db()
    assert "retry" in allowed(coordinator, job)
    put_study(source, "1", images=1)
    perform(coordinator, job, "retry")
    task = work()
    assert task is not None
    assert (task.state, task.failures) == (TaskState.SUCCESS, 0)


def test_concurrent_submits_with_the_same_key_create_one_job(tmp_path: Path) -> None:
    installation = Installed(tmp_path / "var")
    installation.prepare()
    told = set()
    for submit in [installation.begin("order", "20", "the same key") for _ in range(4)]:
        out, err = submit.communicate(timeout=250)
        assert submit.returncode == 0, err
        told.add(out)
    assert len(told) == 1
    assert installation.rows("select count(*) from jobs_job") == [(1,)]
    assert installation.rows("select count(*) from jobs_task") == [(20,)]


def test_eight_processes_claim_each_task_once_within_the_connection_limit(
    tmp_path: Path,
) -> None:
    installation = Installed(tmp_path / "var")
    installation.prepare()
    installation.do("order", "60")
    installation.do("limit", "3")
    claimers = [installation.begin("claim-all", f"process {n}") for n in range(8)]
    lines: list[str] = []
    try:
        for claimer in claimers:
            out, err = claimer.communicate(timeout=250)
            assert "locked" not in err
            assert claimer.returncode == 0, err
            lines += out.splitlines()
    finally:
        for claimer in claimers:
            claimer.kill()
    claims = [json.loads(line) for line in lines]
    assert len(claims) == 60
    assert set(Counter(task for task, *_ in claims).values()) == {1}
    assert {attempt for _, attempt, *_ in claims} == {1}
    edges = sorted([(t[2], 1) for t in claims] + [(t[3], -1) for t in claims])
    running = most = 0
    for _, step in edges:
        running += step
        most = max(most, running)
    assert 2 <= most <= 3, "wrong number of concurrent tasks"
    assert installation.rows("select state, count(*) from jobs_task group by state") == [
        ("success", 60)
    ]


# Queries and locks of a claim -----------------------------------------------------------------------


def plan_of(rows: QuerySet[Any]) -> list[str]:
    """Return the steps of the query plan."""
    return [step.strip() for step in rows.explain().splitlines()]


def copy_tasks(times: int) -> None:
    """Copy each task without updating the statistics of the database."""
    kept = [f.column for f in Task._meta.concrete_fields if f.name not in ("id", "position")]
    columns = ", ".join(f'"{column}"' for column in kept)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE copies(n) AS (SELECT 10 UNION ALL SELECT n + 1 FROM copies WHERE n < %s) "
            f"INSERT INTO jobs_task (position, {columns}) SELECT n, {columns} FROM jobs_task, copies",
            [9 + times],
        )


def forget_statistics() -> None:
    """Remove what earlier tests left in the table of tasks, and what PostgreSQL knows of it."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE jobs_task CASCADE")
        cursor.execute("DELETE FROM pg_statistic WHERE starelid = 'jobs_task'::regclass")


@pytest.mark.django_db
@pytest.mark.parametrize("is_analyzed", [False, True])
def test_a_claim_finds_due_tasks_with_an_index(order_studies: Ordering, is_analyzed: bool) -> None:
    """Also right after a large order, when PostgreSQL has no statistics for its tasks yet."""
    if not conf.EMBEDDED:
        forget_statistics()
    jobs = [order_studies(f"{number}", images=1) for number in range(10)]
    group = jobs[0].task_groups.get()
    copy_tasks(2_000)
    if is_analyzed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE jobs_task")

    plans = [
        plan_of(task_groups.runnable_groups()),
        plan_of(task_groups.due_tasks().filter(group=group).order_by("pk")[:1]),
    ]

    for plan in plans:
        steps = "\n".join(plan)
        if conf.EMBEDDED:
            assert "(group_id=? AND state=?)" in steps, steps
            assert not re.search(r"SCAN (jobs_task|V0)\b", steps), steps
        else:
            assert "Index Scan using due_tasks_of_group on jobs_task" in steps, steps
            assert not re.search(r"(Seq|Heap) Scan on jobs_task( v0)?  ", steps), steps


@pytest.mark.django_db
@pytest.mark.skipif(conf.EMBEDDED, reason="SQLite locks the whole database")
def test_a_claim_locks_nodes_job_and_task_in_order_before_it_counts_slots(
    order_studies: Ordering,
) -> None:
    order_studies("1", images=1)

    with CaptureQueriesContext(connection) as captured:
        claimed()

    locks = [q["sql"] for q in captured if "FOR NO KEY UPDATE" in q["sql"]]
    tables = [sql.split(' FROM "')[1].split('"')[0] for sql in locks]
    assert tables == ["nodes_node", "jobs_job", "jobs_task"]
    assert locks[0].endswith('ORDER BY "nodes_node"."id" ASC FOR NO KEY UPDATE')
    assert locks[2].endswith("SKIP LOCKED")
    queries = [q["sql"] for q in captured]
    counts = [n for n, sql in enumerate(queries) if ' FROM "nodes_slot"' in sql]
    assert counts[0] > queries.index(locks[0])


@pytest.mark.django_db(transaction=True)
def test_only_one_of_two_concurrent_claims_retries_an_unreachable_node(
    order_studies: Ordering, source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_studies("1", "2", images=1)
    past = timezone.now() - timedelta(minutes=1)
    CircuitBreaker.objects.create(node=source, failures=1, since=past, paused_until=past)
    found: list[Task | None] = []
    first_has_begun, second_waits = threading.Event(), threading.Event()
    lock_nodes, reserve = queue._lock_nodes, slots.reserve

    def second_claim() -> None:
        first_has_begun.wait(30)
        found.append(queue.claim("second"))
        connection.close()

    def lock(ids: Iterable[int]) -> list[Node]:
        if threading.current_thread() is thread:
            second_waits.set()
        return lock_nodes(ids)

    def reserve_late(*arguments: Any) -> Slot:
        if threading.current_thread() is not thread:
            first_has_begun.set()
            second_waits.wait(2)
            time.sleep(0.3)
        return reserve(*arguments)

    monkeypatch.setattr(queue, "_lock_nodes", lock)
    monkeypatch.setattr(slots, "reserve", reserve_late)
    thread = threading.Thread(target=second_claim)
    thread.start()
    found.append(queue.claim("first"))
    thread.join(20)

    assert len(found) == 2
    assert found.count(None) == 1
