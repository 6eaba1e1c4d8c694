"""Light: a transaction that a power cut may undo, for what is found again without it.

SQLite waits for the disk at the end of each transaction, which takes most of a claim's time. A
claim that is undone leaves a waiting task, and who held it is gone with the machine. Whatever a
person relies on (ledger, mapping, trail, ends of tasks with their line in the trail) stays with
the full wait, and so does PostgreSQL.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def light() -> Iterator[None]:
    """Within another transaction it is that one's part, and as lasting as that one."""
    is_light = connection.vendor == "sqlite" and not connection.in_atomic_block
    if not is_light:
        with transaction.atomic():
            yield
        return
    _set("NORMAL")
    try:
        with transaction.atomic():
            yield
    finally:
        if connection.connection is not None:
            _set("FULL")


def _set(level: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA synchronous={level}")
