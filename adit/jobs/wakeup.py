"""Bell: tells the workers that there is work; a lost ring costs seconds, the sweep rings too."""

import logging

from celery import current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

WORK_QUEUE = "work"
WORK_TASK = "adit.jobs.work"
UPKEEP_QUEUE = "upkeep"
MAIL_TASK = "adit.jobs.notifications"

log = logging.getLogger(__name__)


def wake_workers_on_commit() -> None:
    """Rings when the transaction has ended well; outside of one, at once."""
    transaction.on_commit(wake_workers, robust=True)


def send_mail_on_commit() -> None:
    """When the transaction has ended well: there is mail to send. The clock calls, too."""
    transaction.on_commit(lambda: _send_task(MAIL_TASK, UPKEEP_QUEUE), robust=True)


def wake_workers(times: int | None = None) -> None:
    """Sends anonymous messages: one for each worker and one more, since a busy one may hold one.

    A broker that is away is no error here: the rows are the truth and the sweep rings again.
    """
    _send_task(WORK_TASK, WORK_QUEUE, settings.WORKERS + 1 if times is None else times)


def _send_task(task: str, queue: str, times: int = 1) -> None:
    try:
        for _ in range(times):
            current_app.send_task(task, queue=queue, ignore_result=True)
    except (OperationalError, OSError) as error:
        log.warning("The broker could not be told of new work (%s); the sweep will.", type(error))
