"""Celery tasks of the worker and of the scheduler.

Messages are anonymous wake-ups: what to do is in the database.
"""

import gc
import logging
import os

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down

from adit.audit import trail
from adit.jobs import maintenance, notifications, queue
from adit.jobs.lease import SHUTDOWN
from adit.jobs.wakeup import MAIL_TASK, WEBHOOK_TASK, WORK_TASK, wake_workers
from adit.nodes import alarms, echoes, host_checks
from adit.nodes import notifications as nodes_notifications
from adit.nodes.limits import slots
from adit.notifications.services import NOTIFICATION_OUTBOX
from adit.orders import batch_start
from adit.processes import get_process_name
from adit.projects import end_warnings
from adit.recall import execution, recalls
from adit.results import deliveries, storage_quota
from adit.webhooks import sending
from adit.worker import query_batch, runner
from adit.worker.ledger import close_ended_tasks

log = logging.getLogger(__name__)


@shared_task(name=WORK_TASK)
def work() -> None:
    """Claim and execute tasks until none is due or the process has to end."""
    name = get_process_name(os.getpid())
    while not SHUTDOWN.requested:
        execution.carry_out_due()
        deliveries.write_due_lists()  # before the claim: no lease expires meanwhile
        task = queue.claim(name)
        if task is None:
            return
        run = query_batch.run_batch if query_batch.can_batch(task) else runner.run_task
        run(task)


@shared_task(name="adit.jobs.sweep")
def sweep() -> None:
    """Take back tasks of lost workers, and wake up workers if tasks are due.

    A lost message thus never delays a task for long.
    """
    maintenance.fail_tasks_of_ended_projects()
    batch_start.start_automatically()
    waiting = queue.sweep()
    slots.release_expired()
    close_ended_tasks()
    if waiting or deliveries.jobs_due().exists() or execution.is_due():
        wake_workers()


@shared_task(name=MAIL_TASK)
def send_mail() -> None:
    """Send the pending mails."""
    notifications.send_due_mails()
    nodes_notifications.ALARM_OUTBOX.send()
    nodes_notifications.AUDIT_HEAD_OUTBOX.send()
    NOTIFICATION_OUTBOX.send()


@shared_task(name=WEBHOOK_TASK)
def send_webhooks() -> None:
    """Send the pending requests of webhooks."""
    sending.send_due()


@shared_task(name="adit.nodes.measure")
def measure_nodes() -> None:
    """Measure how fast nodes answer, without making other work of the scheduler wait."""
    echoes.start_measuring()


@shared_task(name="adit.jobs.watch")
def check_alarms() -> None:
    """Check for conditions that need attention, raise alarms and mail them."""
    maintenance.update_stalled_alarms()
    host_checks.check_node_rows()
    alarms.end_old_alarms()
    nodes_notifications.mail_alarms()


@shared_task(name="adit.jobs.clean")
def check_hourly() -> None:
    """Check the end of the audit trail and the quotas; warn of projects that end.

    The end of the audit trail is compared with the file in the data folder. Once a day its head is
    logged and mailed, so that it leaves the machine.
    """
    trail.check_and_keep_head()
    end_warnings.warn_of_project_ends()
    recalls.warn_of_overdue_recalls()
    nodes_notifications.mail_audit_head()
    storage_quota.update_quota_alarms()


def freeze_heap() -> None:
    """Exclude loaded objects from garbage collection, which saves a tenth of a search."""
    gc.collect()
    gc.freeze()


@worker_shutting_down.connect
def _request_shutdown(**kwargs: object) -> None:
    """Runs in the signal handler; the lease thread sees the flag and stops the current task."""
    SHUTDOWN.requested = True


@worker_ready.connect
def _wake_at_start(**kwargs: object) -> None:
    """Start working at once instead of at the next sweep."""
    freeze_heap()
    wake_workers(1)


@worker_ready.connect
def _begin_host_checks(**kwargs: object) -> None:
    """Each machine checks its own disks."""
    host_checks.start_host_checks()
