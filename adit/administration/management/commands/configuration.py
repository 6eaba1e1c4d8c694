"""Management command: export the configuration as a file, or import one."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.accounts.models import User
from adit.administration.configuration.document import MAX_BYTES, read_document
from adit.administration.configuration.importing import (
    EntryState,
    ImportPlan,
    export_configuration,
    plan_import,
    run_import,
)
from adit.administration.configuration.kinds import KINDS
from adit_engine.errors import AditError


class Command(BaseCommand):
    help = "Export nodes, calendars, groups, profiles and projects as a file, or import one."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        export = actions.add_parser("export", help="write a new file, without secrets")
        export.add_argument(
            "--kinds",
            nargs="+",
            choices=[kind.key for kind in KINDS],
            default=[kind.key for kind in KINDS],
            help="what to export (default: all)",
        )
        read = actions.add_parser("import", help="show what the file would change")
        read.add_argument("--confirm", action="store_true", help="import it, all or nothing")
        for action in (export, read):
            action.add_argument("file", type=Path)
            action.add_argument(
                "--user",
                required=True,
                help="the user whose permissions apply; recorded in the audit trail",
            )

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            raise CommandError("There is no active user with this name.")
        try:
            if options["action"] == "export":
                self._export(user, options["file"], options["kinds"])
            else:
                self._import(user, options["file"], is_confirmed=options["confirm"])
        except AditError as error:
            raise CommandError(str(error)) from None
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from None

    def _export(self, user: User, path: Path, kinds: list[str]) -> None:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(export_configuration(user, kinds))
            except AditError:
                path.unlink()
                raise
        self.stdout.write(f"The configuration is saved in {path}. It contains no secrets.")

    def _import(self, user: User, path: Path, *, is_confirmed: bool) -> None:
        with path.open("rb") as file:
            document = read_document(file.read(MAX_BYTES + 1))
        plan = plan_import(user, document)
        self._print_plan(plan)
        if plan.conflicts:
            raise CommandError("Nothing was imported. Fix what cannot be imported first.")
        if not plan.is_possible:
            self.stdout.write("There is nothing to import.")
        elif not is_confirmed:
            self.stdout.write("Nothing was imported. Add --confirm to import exactly this.")
        elif run_import(user, document, plan.digest)[1]:
            self.stdout.write("Imported.")
        else:
            raise CommandError("Something changed meanwhile. Nothing was imported. Try again.")

    def _print_plan(self, plan: ImportPlan) -> None:
        for entry in plan.entries:
            if entry.state is EntryState.UNCHANGED and not entry.missing_secrets:
                continue
            self.stdout.write(f"{entry.state}: {entry.kind}, {entry.name}")
            for change in entry.changes:
                self.stdout.write(f"    {change.label}: {change.before} -> {change.after}")
            for line in (*entry.remarks, entry.problem):
                if line:
                    self.stdout.write(f"    {line}")
            if entry.missing_secrets:
                self.stdout.write(f"    Secrets to enter: {', '.join(entry.missing_secrets)}")
        for sentence, lines in plan.newly_allowed:
            self.stdout.write(sentence)
            for line in lines:
                self.stdout.write(f"    {line}")
