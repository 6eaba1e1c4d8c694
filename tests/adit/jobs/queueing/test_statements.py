"""Statements: each fits the tables as they are, on the database that the tests run on."""

from collections.abc import Callable

import pytest
from django.conf import settings as conf
from django.db import connection
from django.utils import timezone

from adit.jobs.models import Job, Task
from adit.jobs.queueing import statements as of_jobs
from adit.nodes import statements as of_nodes
from adit.statement import Statement

ALL = {
    f"{room.__name__}.{name}": found
    for room in (of_nodes, of_jobs)
    for name, found in vars(room).items()
    if isinstance(found, Statement)
}


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(ALL))
def test_each_statement_fits_the_tables(name: str) -> None:
    sql = ALL[name].sql
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", [None] * sql.count("%s"))
        assert cursor.fetchall()


@pytest.mark.django_db
@pytest.mark.skipif(conf.EMBEDDED, reason="SQLite's transactions are alone from their beginning")
@pytest.mark.parametrize(
    ("statement", "locks"),
    [(of_nodes.LOCK, "n"), (of_jobs.FIRST_DUE, "t SKIP LOCKED"), (of_jobs.LOCK_JOB, "")],
)
def test_what_is_decided_on_is_locked(statement: Statement, locks: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {statement.sql}", [None] * statement.sql.count("%s"))
        plan = [row[0].strip() for row in cursor.fetchall()]
    assert any(step.startswith(("LockRows", "->  LockRows")) for step in plan), plan
    assert "FOR NO KEY UPDATE" in statement.sql
    assert statement.sql.strip().endswith(locks)


@pytest.mark.django_db
@pytest.mark.skipif(conf.EMBEDDED, reason="test_queue.py asks SQLite for its plan")
def test_before_anything_was_counted_postgresql_looks_up_the_first_due_task_of_a_road(
    order_studies: Callable[..., Job],
) -> None:
    """Just after a large order, when the server knows nothing of its tables yet."""
    order_studies("1", images=1)
    kept = [f.column for f in Task._meta.concrete_fields if f.name not in ("id", "position")]
    columns = ", ".join(f'"{column}"' for column in kept)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO jobs_task (position, {columns}) SELECT n, {columns}"
            " FROM jobs_task, generate_series(10, 200000) n"
        )
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {of_jobs.IN_TURN.sql}", [timezone.now()])
        plan = [row[0] for row in cursor.fetchall()]
    assert any("Index Scan using jobs_task_road_id" in step for step in plan), plan
    assert not any("Seq Scan on jobs_task" in step for step in plan), plan
    assert not any("Bitmap Heap Scan on jobs_task t" in step for step in plan), plan
