"""The command `adit manage release_tasks`: take back the tasks of a worker that has ended.

The supervisor of `adit up` runs it when a worker has crashed.
"""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from adit.jobs import queue
from adit.jobs.wakeup import wake_workers


class Command(BaseCommand):
    help = "Take back the tasks of a worker that has ended, before their leases expire."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("worker", help="name of the process, as in its tasks")

    def handle(self, *args: Any, **options: Any) -> None:
        if queue.release_tasks_of(options["worker"]):
            wake_workers()
