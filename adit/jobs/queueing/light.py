"""Light: a transaction that a power cut may undo, for what is found again without it.

Databases wait for the disk at the end of each transaction, which takes most of a claim's time. What
is undone was the last that happened, in its order: so a claim is as lasting as the first thing that
its worker writes down, which is that it opens a node; before that nothing has left. Whatever a
person relies on (ledger, mapping, trail, ends of tasks with their line in the trail) stays with
the full wait.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import connection, transaction

from adit.statement import Asked, Statement

NOT_AWAITED = Statement("SET LOCAL synchronous_commit TO off")
"""PostgreSQL's words for it."""


@contextmanager
def light() -> Iterator[Sequence[Asked]]:
    """What it yields goes along with the first question of the transaction.

    Within another transaction it is that one's part, and as lasting as that one.
    """
    is_light = not connection.in_atomic_block
    if not is_light or connection.vendor != "sqlite":
        with transaction.atomic():
            yield [NOT_AWAITED.of()] if is_light else []
        return
    _set("NORMAL")
    try:
        with transaction.atomic():
            yield []
    finally:
        if connection.connection is not None:
            _set("FULL")


def _set(level: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA synchronous={level}")
