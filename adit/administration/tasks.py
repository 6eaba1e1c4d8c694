"""Celery tasks of the scheduler that concern users."""

from celery import shared_task

from adit.administration import directory_check


@shared_task(name="adit.administration.check_directory")
def check_directory() -> None:
    """End the access of people whom the directory has disabled."""
    directory_check.end_access_of_missing_users()
