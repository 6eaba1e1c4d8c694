"""Pulse: a file that a process touches while it does its work, for whoever watches from outside."""

import threading
from pathlib import Path

from celery.signals import task_postrun, worker_ready
from django.conf import settings

EVERY_S = 20.0


def keep(name: str, *, by_tasks: bool) -> None:
    """From now on: after each task, where tasks come all the time, else by a thread.

    A worker may be busy with one task for hours; that it gets on is the lease's matter.
    """
    path = settings.DATA_DIR / "pulse" / name
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def touch(**_kwargs: object) -> None:
        path.touch()

    worker_ready.connect(touch, weak=False)
    if by_tasks:
        task_postrun.connect(touch, weak=False)
    else:
        threading.Thread(target=_beat, args=(path,), name="pulse", daemon=True).start()


def _beat(path: Path) -> None:
    while True:
        path.touch()
        threading.Event().wait(EVERY_S)
