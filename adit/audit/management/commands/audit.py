"""The command `adit manage audit`: verify the audit trail, accept its end after a restore.

Administrators keep the head, which `verify` prints, outside this machine.
"""

import re
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.audit import trail
from adit.audit.trail import get_head, verify_chain

_HASH = re.compile("[0-9a-f]{64}")


class Command(BaseCommand):
    help = "Verify the audit trail (verify), or accept its end after a restore (accept-restore)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["verify", "accept-restore"])
        parser.add_argument(
            "--head",
            nargs=2,
            metavar=("COUNT", "HASH"),
            help="state of the audit trail from a mail or log, to compare with",
        )

        parser.add_argument(
            "--reason",
            default="",
            help="accept-restore: why events at the end are missing; it is recorded",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "accept-restore":
            self._accept(options["reason"].strip())
            return
        _require_intact(verify_chain())
        if options["head"] is not None:
            self._compare(*options["head"])
        count, last = get_head()
        self.stdout.write(
            f"The audit trail is intact: {count} events, hash of the last event {last}."
        )

    def _accept(self, reason: str) -> None:
        if not reason:
            raise CommandError('Enter the reason: --reason "restored the backup of …"')
        try:
            _require_intact(trail.accept_end(reason))
        except trail.NothingToAccept:
            raise CommandError("The audit trail is intact: there is nothing to accept.") from None
        count, last = get_head()
        self.stdout.write(
            f"Accepted and recorded: {count} events, hash of the last event {last}. Run this "
            "command on each machine whose check fails."
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


def _require_intact(broken: trail.ChainBreak | None) -> None:
    if broken is not None:
        where = "At the end" if broken.row is None else f"At event {broken.row}"
        raise CommandError(f"The audit trail is not intact. {where}: {broken.reason}")
