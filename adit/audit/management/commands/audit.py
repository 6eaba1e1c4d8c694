"""adit manage audit verify: is the trail as it was written? Says its head, to be kept elsewhere."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.audit.trail import head, verify


class Command(BaseCommand):
    help = "Verifies the audit trail."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["verify"])

    def handle(self, *args: Any, **options: Any) -> None:
        broken = verify()
        if broken is not None:
            where = "At the end" if broken.row is None else f"At event {broken.row}"
            raise CommandError(f"The trail is broken. {where}: {broken.why}.")
        count, last = head()
        self.stdout.write(f"The trail is whole: {count} events, the last one {last}.")
