"""The command `adit manage retention`: show what is due, delete it, verify the ledgers."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.retention import cleaning, ledgers
from adit.retention.periods import DataKind, get_cutoff


class Command(BaseCommand):
    help = "Show what is due (preview), delete it (clean), verify the ledgers of deleted jobs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["preview", "clean", "verify"])

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "verify":
            self._verify()
            return
        if options["action"] == "clean":
            for kind in cleaning.CLEANERS:
                cleaning.clean_kind(kind, time.monotonic() + 3600)
        for kind in DataKind:
            found = cleaning.preview_kind(kind, get_cutoff(kind))
            self.stdout.write(f"{kind.label}: {found.count} due")

    def _verify(self) -> None:
        faults = list(ledgers.verify_ledgers())
        if faults:
            raise CommandError("\n".join(str(fault.reason) for fault in faults))
        self.stdout.write("All ledgers are intact.")
