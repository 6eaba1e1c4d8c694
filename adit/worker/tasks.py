"""Tasks: what Celery calls. Messages are anonymous: what to do stands in the rows."""

import gc
import logging
import os
import socket

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down

from adit.jobs import maintenance, notifications, queue
from adit.jobs.lease import SHUTDOWN
from adit.jobs.wakeup import MAIL_TASK, WORK_TASK, wake_workers
from adit.nodes import alarms, host_checks
from adit.nodes import notifications as nodes_notifications
from adit.nodes.limits import slots
from adit.nodes.usage import daily_usage
from adit.orders import batch_start, drafts
from adit.results import archives, deliveries, storage_quota
from adit.worker import query_batch, runner
from adit.worker.ledger import close_ended_tasks

log = logging.getLogger(__name__)


@shared_task(name=WORK_TASK)
def work() -> None:
    """There is work: takes tasks until nothing is due, or this process shall end."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    while not SHUTDOWN.requested:
        deliveries.write_due_lists()  # before a task is held: no lease runs out meanwhile
        task = queue.claim(name)
        if task is None:
            return
        run = query_batch.run_batch if query_batch.can_batch(task) else runner.run_task
        run(task)


@shared_task(name="adit.jobs.sweep")
def sweep() -> None:
    """Finds what dead workers held, and rings for what is due: no lost message delays for long."""
    maintenance.fail_tasks_of_ended_projects()
    batch_start.start_automatically()
    waiting = queue.sweep()
    slots.release_expired()
    close_ended_tasks()
    if waiting or deliveries.jobs_due().exists():
        wake_workers()


@shared_task(name=MAIL_TASK)
def send_mail() -> None:
    """Sends the letters that wait."""
    notifications.send_due_mails()
    nodes_notifications.ALARM_OUTBOX.send()
    nodes_notifications.AUDIT_HEAD_OUTBOX.send()


@shared_task(name="adit.jobs.watch")
def check_alarms() -> None:
    """Looks for what somebody should look at, and tells them."""
    maintenance.update_stalled_alarms()
    host_checks.check_node_rows()
    alarms.end_old_alarms()
    nodes_notifications.mail_alarms()


@shared_task(name="adit.jobs.clean")
def clean_up() -> None:
    """Forgets what nobody came back to; once a day the end of the trail leaves the machine."""
    drafts.delete_expired_drafts()
    daily_usage.delete_old_usage()
    nodes_notifications.mail_audit_head()
    archives.remove_expired()
    archives.remove_unlisted_of_idle_jobs()
    archives.delete_staged_images()
    storage_quota.update_quota_alarms()


def freeze_heap() -> None:
    """What is loaded once stays: the collector looks at it no more, which saves a tenth of a search."""
    gc.collect()
    gc.freeze()


@worker_shutting_down.connect
def _request_shutdown(**kwargs: object) -> None:
    """Runs in the signal's handler: the lease's thread sees it and stops the task in hand."""
    SHUTDOWN.requested = True


@worker_ready.connect
def _wake_at_start(**kwargs: object) -> None:
    """A worker that starts does not wait for the next sweep."""
    freeze_heap()
    wake_workers(1)


@worker_ready.connect
def _begin_host_checks(**kwargs: object) -> None:
    """Each machine tells of its own disks."""
    host_checks.start_host_checks()
