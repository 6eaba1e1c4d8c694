"""Celery: carries the word that there is work. What work, and whose, stands in the database alone."""

import os
import sys
import warnings
from pathlib import Path
from typing import Any

from celery import Celery
from celery.beat import EmbeddedService, Scheduler
from celery.platforms import SecurityWarning
from celery.signals import worker_ready
from django.conf import settings

from adit.config import heartbeat

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "adit.config.settings")

WORK_QUEUE = "work"
UPKEEP_QUEUE = "upkeep"
"""Sweep, mail and cleaning have a worker of their own, so that full ones never starve them."""

app = Celery("adit")
app.set_default()


def _setup() -> dict[str, Any]:
    """Called when first needed: settings are read after this package was imported."""
    in_folder = settings.BROKER_URL.startswith("filesystem:")
    embedded = {
        "broker_url": "filesystem://localhost",
        "broker_transport": "adit.config.broker_transport:Transport",
        "broker_transport_options": {"folder": str(settings.BROKER_DIR), "polling_interval": 0.1},
    }
    return {
        **(embedded if in_folder else {"broker_url": settings.BROKER_URL}),
        "imports": ("adit.worker.tasks",),
        # Messages are anonymous and may get lost: no result, no late acknowledgement, no hoarding.
        "task_ignore_result": True,
        "task_acks_late": False,
        "worker_prefetch_multiplier": 1,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_default_queue": WORK_QUEUE,
        "task_send_sent_event": False,
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        # A worker that runs a task for hours answers no heartbeat meanwhile.
        "broker_heartbeat": 0,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Who orders does not wait for a broker that is away: the sweep rings again.
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
                "options": {"queue": UPKEEP_QUEUE, "expires": 4 * settings.SWEEP_S},
            },
            "mail": {
                "task": "adit.jobs.notifications",
                "schedule": 60.0,
                "options": {"queue": UPKEEP_QUEUE, "expires": 60},
            },
            "watch": {
                "task": "adit.jobs.watch",
                "schedule": 300.0,
                "options": {"queue": UPKEEP_QUEUE, "expires": 300},
            },
            "clean": {
                "task": "adit.jobs.clean",
                "schedule": 3600.0,
                "options": {"queue": UPKEEP_QUEUE, "expires": 3600},
            },
        },
    }


app.add_defaults(_setup)


def run_worker(queue: str) -> int:
    """Takes messages of one queue until SIGTERM; one process, one task at a time."""
    options = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=WARNING"]
    heartbeat.keep(queue, by_tasks=queue == UPKEEP_QUEUE)
    if queue == UPKEEP_QUEUE:
        worker_ready.connect(_start_clock, weak=False)
    name = f"--hostname={queue}-{os.getpid()}@%h"
    # Celery's banner and its farewell are for people who know Celery; our words go to stderr.
    sys.stdout = sys.__stdout__ = Path(os.devnull).open("w")  # type: ignore[misc] # noqa: SIM115
    warnings.filterwarnings("ignore", category=SecurityWarning)
    os.environ["CELERY_SKIP_CHECKS"] = "1"  # they import every page, which no worker needs
    app.worker_main(["worker", "--pool=solo", f"--queues={queue}", name, *options])
    return 0


def _start_clock(**kwargs: object) -> None:
    """Celery beat as a thread of the worker that does what it asks for: nobody else needs it."""
    EmbeddedService(app, thread=True, scheduler_cls=Scheduler).start()
