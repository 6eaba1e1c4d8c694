"""A worker continues after the database closed its connections."""

from collections.abc import Callable

import pytest
from django.conf import settings as django_settings
from django.db import connection
from lab.jobs import until

from adit.jobs import queue
from adit.jobs.lease import Lease
from adit.jobs.models import Job, Task

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(django_settings.EMBEDDED, reason="SQLite has no connections to cut"),
]


def cut_all_others() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def test_a_lease_is_renewed_on_a_new_database_connection(
    order_studies: Callable[..., Job], settings: object
) -> None:
    settings.BEAT_S = 1  # type: ignore[attr-defined]
    order_studies("1")
    task = queue.claim("test")
    assert task is not None

    def lease_until() -> object:
        return Task.objects.get(pk=task.pk).lease_until

    first = lease_until()
    with Lease(task, ()) as lease:
        until(lambda: lease_until() != first)
        assert cut_all_others() >= 1
        after = lease_until()
        until(lambda: lease_until() != after)
        assert not lease.stop.is_set()


def test_a_worker_claims_again_after_its_database_connection_was_closed(
    order_studies: Callable[..., Job],
) -> None:
    """Simulate the next Celery message: close the broken connection and open a new one."""
    from django.db import OperationalError, close_old_connections, connections

    order_studies("1")
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    finally:
        other.close()
    with pytest.raises(OperationalError):
        queue.claim("test")
    close_old_connections()
    assert queue.claim("test") is not None
