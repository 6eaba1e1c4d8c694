"""Requests of one test that do not see what earlier ones wrote."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction


@contextmanager
def undone() -> Iterator[None]:
    """Take back what a request wrote."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
