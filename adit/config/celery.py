"""The Celery application, its schedule, and the heartbeat files of processes.

Messages only say that there is work; which work, and for whom, is in the database. Used by workers,
the scheduler and everything that wakes them.
"""

import os
import sys
import threading
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import EmbeddedService, Scheduler
from celery.platforms import SecurityWarning
from celery.signals import task_postrun, worker_ready
from django.conf import settings

HEARTBEAT_INTERVAL_S = 20.0


def start_heartbeat(name: str, *, by_tasks: bool) -> None:
    """Touch a file regularly, for monitoring from outside.

    With `by_tasks` it is touched after each task, for processes that always have tasks; otherwise
    by a thread. A worker may be busy with one task for hours; its progress is checked by the lease.
    """
    path = settings.DATA_DIR / "pulse" / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def touch(**_kwargs: object) -> None:
        path.touch()

    worker_ready.connect(touch, weak=False)
    if by_tasks:
        task_postrun.connect(touch, weak=False)
    else:
        threading.Thread(target=_touch_forever, args=(path,), name="pulse", daemon=True).start()


def _touch_forever(path: Path) -> None:
    while True:
        path.touch()
        threading.Event().wait(HEARTBEAT_INTERVAL_S)


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")

WORK_QUEUE = "work"
MAINTENANCE_QUEUE = "upkeep"
"""Sweep, mail and cleaning have a worker of their own, so that busy workers do not delay them."""

app = Celery("adit")
app.set_default()


def _load_defaults() -> dict[str, Any]:
    """Return the configuration; lazy, because settings are read after this module is imported."""
    in_folder = settings.BROKER_URL.startswith("filesystem:")
    embedded = {
        "broker_url": "filesystem://localhost",
        "broker_transport": "adit.config.broker_transport:Transport",
        "broker_transport_options": {"folder": str(settings.BROKER_DIR), "polling_interval": 0.1},
    }
    return {
        **(embedded if in_folder else {"broker_url": settings.BROKER_URL}),
        "imports": (
            "adit.worker.tasks",
            "adit.administration.tasks",
            "adit.dicomweb.tasks",
            "adit.retention.tasks",
        ),
        # Messages are anonymous and may be lost: no result, no late acknowledgement, no
        # prefetching.
        "task_ignore_result": True,
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": WORK_QUEUE,
        "task_send_sent_event": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        # A worker that runs a task for hours does not answer heartbeats.
        "broker_heartbeat": 0,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # An order does not wait for an unavailable broker: the sweep sends the wake-up again.
        "broker_connection_timeout": 2,
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_max": 0.2},
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "enable_utc": True,
        "beat_schedule": {
            "sweep": {
                "task": "adit.jobs.sweep",
                "schedule": settings.SWEEP_S,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 4 * settings.SWEEP_S},
            },
            "response times": {
                "task": "adit.nodes.measure",
                "schedule": 10.0,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 10},
            },
            "mail": {
                "task": "adit.jobs.notifications",
                "schedule": 60.0,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 60},
            },
            "webhooks": {
                "task": "adit.webhooks.send",
                "schedule": 30.0,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 30},
            },
            "watch": {
                "task": "adit.jobs.watch",
                "schedule": 300.0,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 300},
            },
            "directory": {
                "task": "adit.administration.check_directory",
                "schedule": 300.0,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 300},
            },
            "retrievals": {
                "task": "adit.dicomweb.end_interrupted",
                "schedule": 60.0,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 60},
            },
            "clean": {
                "task": "adit.jobs.clean",
                "schedule": 3600.0,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 3600},
            },
            "retention": {
                "task": "adit.retention.clean",
                "schedule": 900.0,
                "options": {"queue": MAINTENANCE_QUEUE, "expires": 900},
            },
        },
    }


app.add_defaults(_load_defaults)


def _start_signs(queue: str, **_kwargs: object) -> None:
    from adit.monitoring import process_signs  # its models need the set-up of Django
    from adit.monitoring.models import ProcessRole

    is_scheduler = queue == MAINTENANCE_QUEUE
    process_signs.start_signs(ProcessRole.SCHEDULER if is_scheduler else ProcessRole.WORKER)


def run_worker(queue: str) -> int:
    """Process messages of one queue until SIGTERM; one process, one task at a time."""
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    start_heartbeat(queue, by_tasks=queue == MAINTENANCE_QUEUE)
    if queue == MAINTENANCE_QUEUE:
        worker_ready.connect(_start_beat, weak=False)
    worker_ready.connect(partial(_start_signs, queue), weak=False)
    name = f"--hostname={queue}-{os.getpid()}@%h"
    # Celery's banner and closing messages are of no use to our users; we log to stderr.
    sys.stdout = sys.__stdout__ = Path(os.devnull).open("w")  # type: ignore[misc] # noqa: SIM115
    warnings.filterwarnings("ignore", category=SecurityWarning)
    os.environ["CELERY_SKIP_CHECKS"] = "1"  # the checks import every page, which no worker needs
    app.worker_main(["worker", "--pool=solo", f"--queues={queue}", name, *options])
    return 0


def _start_beat(**kwargs: object) -> None:
    """Run Celery beat as a thread of the scheduler, the only process that needs it."""
    EmbeddedService(app, thread=True, scheduler_cls=Scheduler).start()
