"""Tasks: what Celery calls. Messages are anonymous: what to do stands in the rows."""

import gc
import logging
import os
import socket

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down

from adit.jobs import mail, over, queue, runner
from adit.jobs.attempt import streak
from adit.jobs.attempt.ledger import settle
from adit.jobs.checked import batch
from adit.jobs.files import archives, contents, quota
from adit.jobs.lease import SHUTDOWN
from adit.jobs.preparing import drafts
from adit.jobs.queueing import stuck
from adit.jobs.queueing.bell import MAIL_TASK, WORK_TASK, ring
from adit.nodes import alarm_mail, alarms, lookout, slots, trail_mail, uses

log = logging.getLogger(__name__)


@shared_task(name=WORK_TASK)
def work() -> None:
    """There is work: takes tasks until nothing is due, or this process shall end."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    while not SHUTDOWN.requested:
        contents.write_due()  # before a task is held: no lease runs out meanwhile
        task = queue.claim(name)
        if task is None:
            return
        (streak if streak.is_one(task) else runner).run(task)


@shared_task(name="adit.jobs.sweep")
def sweep() -> None:
    """Finds what dead workers held, and rings for what is due: no lost message delays for long."""
    over.fail_what_waits()
    batch.start_by_themselves()
    waiting = queue.sweep()
    slots.release_expired()
    settle()
    if waiting or contents.due().exists():
        ring()


@shared_task(name=MAIL_TASK)
def send_mail() -> None:
    """Sends the letters that wait."""
    mail.send_waiting()
    alarm_mail.OUTBOX.send()
    trail_mail.OUTBOX.send()


@shared_task(name="adit.jobs.watch")
def watch() -> None:
    """Looks for what somebody should look at, and tells them."""
    stuck.look()
    lookout.look_at_rows()
    alarms.end_old()
    alarm_mail.tell()


@shared_task(name="adit.jobs.clean")
def clean() -> None:
    """Forgets what nobody came back to; once a day the end of the trail leaves the machine."""
    drafts.sweep()
    uses.clean()
    trail_mail.tell()
    archives.remove_expired()
    archives.remove_left()
    archives.forget_gathered()
    quota.look()


def settle_memory() -> None:
    """What is loaded once stays: the collector looks at it no more, which saves a tenth of a search."""
    gc.collect()
    gc.freeze()


@worker_shutting_down.connect
def _end_soon(**kwargs: object) -> None:
    """Runs in the signal's handler: the lease's thread sees it and stops the task in hand."""
    SHUTDOWN.requested = True


@worker_ready.connect
def _look_for_work(**kwargs: object) -> None:
    """A worker that starts does not wait for the next sweep."""
    settle_memory()
    ring(1)


@worker_ready.connect
def _look_around(**kwargs: object) -> None:
    """Each machine tells of its own disks."""
    lookout.begin()
