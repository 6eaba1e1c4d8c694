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
    help = "Verifies the audit trail."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["verify"])
        parser.add_argument(
            "--head",
            nargs=2,
            metavar=("COUNT", "HASH"),
            help="one that left the machine: the trail has to hold it still",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        broken = verify_chain()
        if broken is not None:
            where = "At the end" if broken.row is None else f"At event {broken.row}"
            raise CommandError(f"The trail is broken. {where}: {broken.why}.")
        if options["head"] is not None:
            self._compare(*options["head"])
        count, last = get_head()
        self.stdout.write(f"The trail is whole: {count} events, the last one {last}.")

    def _compare(self, count: str, last: str) -> None:
        if not count.isdecimal() or not _HASH.fullmatch(last):
            raise CommandError(
                "--head: write the number of events first, then the whole hash: 64 digits and "
                "letters from a to f, as the mail or the log has them."
            )
        if not trail.contains_head(int(count), last):
            raise CommandError(
                f"The trail is not the one that had {count} events then: what came before that "
                "head was written anew, or an older backup was restored."
            )
