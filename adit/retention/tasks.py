"""Celery task of the scheduler that deletes data after its period."""

from celery import shared_task

from adit.retention import cleaning


@shared_task(name="adit.retention.clean")
def clean() -> None:
    """Delete what is due. What does not fit into one cleaning follows in the next."""
    cleaning.clean_all()
