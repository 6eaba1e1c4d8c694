"""Management command: export the key of a project, or compact the database.

Compaction removes the remains of a destroyed key.
"""

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.projects.key_destruction import compact_database
from adit.projects.models import Project
from adit.projects.services import export_key


class Command(BaseCommand):
    help = "Export the key of a research project, or remove traces of destroyed keys."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        export = actions.add_parser(
            "export-key", help="export the key to a new file that only its owner can read"
        )
        export.add_argument("project", help="the project ID")
        export.add_argument("file", type=Path)
        export.add_argument(
            "--user",
            required=True,
            help="the user who exports the key; recorded in the audit trail",
        )
        actions.add_parser(
            "compact", help="remove traces of destroyed keys from the database files"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        {"export-key": self._export, "compact": self._compact}[options["action"]](options)

    def _compact(self, options: dict[str, Any]) -> None:
        if not compact_database():
            raise CommandError("The database is in use. Stop ADIT, then run the command again.")
        self.stdout.write("The database is compacted.")

    def _export(self, options: dict[str, Any]) -> None:
        user = User.objects.filter(username=options["user"]).first()
        project = Project.objects.filter(protocol_id=options["project"]).first()
        if user is None or project is None:
            raise CommandError("The user or the research project does not exist.")
        try:
            # Open the file before the export is recorded, so that a wrong path records nothing.
            descriptor = os.open(options["file"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from None
        with os.fdopen(descriptor, "w") as file:
            try:
                file.write(export_key(user, project))
            except NotPermitted as error:
                options["file"].unlink()
                raise CommandError(str(error)) from None
        self.stdout.write(
            f"The key of {project.protocol_id} is saved in {options['file']}. Store it securely."
        )
