"""adit manage trial export-key: the key file with which the command line gives the same UIDs."""

import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.accounts.models import User
from adit.accounts.rights import Refused
from adit.profiles.models import Trial
from adit.profiles.trials import export_key


class Command(BaseCommand):
    help = "Exports the key of a research project to a new file that only its owner can read."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["export-key"])
        parser.add_argument("trial", help="the project id")
        parser.add_argument("file", type=Path)
        parser.add_argument("--user", required=True, help="who exports it; stands in the trail")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"]).first()
        trial = Trial.objects.filter(protocol_id=options["trial"]).first()
        if user is None or trial is None:
            raise CommandError("There is no such user or no such research project.")
        try:
            # Made before the export is recorded, so that a wrong path records nothing.
            descriptor = os.open(options["file"], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from None
        with os.fdopen(descriptor, "w") as file:
            try:
                file.write(export_key(user, trial))
            except Refused as error:
                options["file"].unlink()
                raise CommandError(str(error)) from None
        self.stdout.write(f"The key of {trial.protocol_id} is in {options['file']}. Keep it safe.")
