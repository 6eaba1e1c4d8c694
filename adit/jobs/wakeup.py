"""Wake up workers by anonymous Celery messages.

Used wherever tasks or mails are created. A lost message costs only seconds: the periodic sweep
sends one, too.
"""

import logging

from celery import current_app
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError

WORK_QUEUE = "work"
WORK_TASK = "adit.jobs.work"
MAINTENANCE_QUEUE_NAME = "upkeep"
MAIL_TASK = "adit.jobs.notifications"
WEBHOOK_TASK = "adit.webhooks.send"

log = logging.getLogger(__name__)


def wake_workers_on_commit() -> None:
    """Wake up workers after the commit; outside a transaction at once."""
    transaction.on_commit(wake_workers, robust=True)


def send_mail_on_commit() -> None:
    """Start sending mails after the commit. The scheduler also starts it periodically."""
    transaction.on_commit(lambda: _send_task(MAIL_TASK, MAINTENANCE_QUEUE_NAME), robust=True)


def send_webhooks_on_commit() -> None:
    """Start calling webhooks after the commit. The scheduler also starts it periodically."""
    transaction.on_commit(lambda: _send_task(WEBHOOK_TASK, MAINTENANCE_QUEUE_NAME), robust=True)


def wake_workers(times: int | None = None) -> None:
    """Send anonymous wake-up messages, by default one per worker and one more.

    One more, since a busy worker may hold a message. A broker that is down is not an error: the
    tasks are in the database, and the next sweep wakes up the workers.
    """
    _send_task(WORK_TASK, WORK_QUEUE, settings.WORKERS + 1 if times is None else times)


def _send_task(task: str, queue: str, times: int = 1) -> None:
    try:
        for _ in range(times):
            current_app.send_task(task, queue=queue, ignore_result=True)
    except (OperationalError, OSError) as error:
        log.warning("No wake-up message was sent (%s); the next sweep sends one.", type(error))
