"""The command `adit manage audit verify`: verify the audit trail and print its head.

Administrators keep the head outside this machine.
"""

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.audit import trail
from adit.audit.trail import get_head, verify_chain

_HASH = re.compile("[0-9a-f]{64}")


class Command(BaseCommand):
    help = "Verify the audit trail."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["verify"])
        parser.add_argument(
            "--head",
            nargs=2,
            metavar=("COUNT", "HASH"),
            help="state of the audit trail from a mail or log, to compare with",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        broken = verify_chain()
        if broken is not None:
            where = "At the end" if broken.row is None else f"At event {broken.row}"
            raise CommandError(f"The audit trail is not intact. {where}: {broken.reason}")
        if options["head"] is not None:
            self._compare(*options["head"])
        count, last = get_head()
        self.stdout.write(
            f"The audit trail is intact: {count} events, hash of the last event {last}."
        )

    def _compare(self, count: str, last: str) -> None:
        if not count.isdecimal() or not _HASH.fullmatch(last):
            raise CommandError(
                "--head: enter the number of events and the complete hash (64 hex digits) from "
                "the mail or log."
            )
        if not trail.contains_head(int(count), last):
            raise CommandError(
                f"The audit trail does not match its state with {count} events: earlier events "
                "were rewritten, or an older backup was restored."
            )
