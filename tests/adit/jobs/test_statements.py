"""Statements: each fits the tables as they are, on the database that the tests run on."""

import pytest
from django.conf import settings as conf
from django.db import connection

from adit.jobs import statements as of_jobs
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
