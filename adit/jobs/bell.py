"""Bell: tells the workers that there is work; a lost ring costs seconds, the sweep rings too."""

import logging

from celery import current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

WORK_QUEUE = "work"
WORK_TASK = "adit.jobs.work"

log = logging.getLogger(__name__)


def ring_on_commit() -> None:
    """Rings when the transaction has ended well; outside of one, at once."""
    transaction.on_commit(ring, robust=True)


def ring(times: int | None = None) -> None:
    """Sends anonymous messages: one for each worker and one more, since a busy one may hold one.

    A broker that is away is no error here: the rows are the truth and the sweep rings again.
    """
    try:
        for _ in range(settings.WORKERS + 1 if times is None else times):
            current_app.send_task(WORK_TASK, queue=WORK_QUEUE, ignore_result=True)
    except (OperationalError, OSError) as error:
        log.warning("The broker could not be told of new work (%s); the sweep will.", type(error))
