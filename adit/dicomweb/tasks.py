"""Celery task of the scheduler that ends the retrievals of killed processes."""

from celery import shared_task

from adit.dicomweb import retrieval_log


@shared_task(name="adit.dicomweb.end_interrupted")
def end_interrupted() -> None:
    """End the retrievals whose process gives no sign of life any more."""
    retrieval_log.end_interrupted()
