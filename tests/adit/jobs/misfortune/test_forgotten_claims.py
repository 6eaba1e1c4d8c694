"""Claims after a database was killed, or restored from a backup without the latest claims."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from lab.installed import Installed
from lab.jobs import claimed, shelf
from lab.services import Service, postgresql, postgresql_folder

from adit.jobs import queue, states
from adit.jobs.encrypted_payload import get_cipher
from adit.jobs.models import Job, Task, TaskState
from adit.nodes.models import Node, Slot
from adit.worker import runner
from adit.worker.ledger import Ledger
from adit_engine.errors import AditError
from adit_engine.messages import Message

Ordering = Callable[..., Job]

IMAGES = 5


# Two workers with the same attempt number -----------------------------------------------------------


def forget(task: Task) -> None:
    """Simulate a database that was restored from a backup made before the claim."""
    Slot.objects.all().delete()
    Task.objects.filter(pk=task.pk).update(
        state=TaskState.PENDING, attempt=task.attempt - 1, worker="", lease_until=None
    )


@pytest.fixture
def twice(order_studies: Ordering) -> tuple[Task, Task]:
    """One task held by two workers: the first claim was lost in a restore, the second is current."""
    order_studies("1", images=IMAGES)
    first = claimed()
    forget(first)
    second = queue.claim("another")
    assert second is not None
    assert (second.pk, second.attempt) == (first.pk, first.attempt)
    return first, second


@pytest.mark.django_db(transaction=True)
def test_a_worker_with_a_lost_claim_cannot_affect_the_current_worker(
    twice: tuple[Task, Task], destination: Node
) -> None:
    first, second = twice

    runner.run_task(first)
    for end in (
        lambda: queue.release_task(first, Message("task.database-down"), failed=True),
        lambda: queue.finish(first, TaskState.FAILURE, Message("task.internal-error")),
    ):
        with pytest.raises(states.StaleRow):
            end()

    assert shelf(destination) == {}
    row = Task.objects.get()
    assert (row.state, row.worker, row.failures) == (TaskState.IN_PROGRESS, "another", 0)
    runner.run_task(second)
    row.refresh_from_db()
    assert (row.state, row.attempt) == (TaskState.SUCCESS, 1)
    assert len(shelf(destination)) == IMAGES


@pytest.mark.django_db(transaction=True)
def test_a_worker_with_a_lost_claim_cannot_renew_its_lease_or_write_the_ledger(
    twice: tuple[Task, Task],
) -> None:
    first, second = twice

    for write in (
        lambda: queue.renew_lease(first),
        lambda: queue.require_claim(first),
        lambda: Ledger(first, get_cipher(first.job.project)).flush(),
    ):
        with pytest.raises(AditError):
            write()
    queue.set_progress_message(first, Message("archive.in-progress", percent=1))

    assert Task.objects.get().message is None
    queue.renew_lease(second)
    queue.require_claim(second)
    Ledger(second, get_cipher(second.job.project)).flush()


# A killed database ----------------------------------------------------------------------------------


@contextmanager
def installation_on(base: Service, folder: Path) -> Iterator[Installed]:
    made = Installed(folder / "var", {"DATABASE_URL": base.url})
    made.prepare()
    made.do("fill", "1", str(IMAGES))
    made.do("order")
    yield made


def freeze_the_writer(base: Service) -> None:
    """Stop the WAL writer, so that an asynchronous commit stays in memory."""
    with psycopg.connect(base.url) as connection:
        connection.execute("CHECKPOINT")
        query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
        ((pid,),) = connection.execute(query).fetchall()
    os.kill(pid, signal.SIGSTOP)


def state_of(installation: Installed) -> tuple[str, int]:
    ((state, attempt),) = installation.rows("select state, attempt from jobs_task")
    return state, attempt


@pytest.mark.skipif(postgresql_folder() is None, reason="needs PostgreSQL: apt install postgresql")
def test_a_claim_survives_a_kill_of_the_database(tmp_path: Path) -> None:
    with postgresql() as base, installation_on(base, tmp_path) as installation:
        freeze_the_writer(base)
        worker = installation.begin("claim-and-run", "first")
        assert worker.stdout is not None
        assert worker.stdout.readline().strip() == "1"
        base.kill()
        base.start()
        found = state_of(installation)
        worker.kill()
        worker.communicate()

    assert found == ("in_progress", 1)
