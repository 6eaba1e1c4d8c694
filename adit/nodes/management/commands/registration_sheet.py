"""The command `adit manage registration_sheet`: print the registration sheet of a node."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from adit.nodes.models import Node
from adit.nodes.registration_sheet import make_registration_sheet
from adit_engine.errors import InvalidInput
from adit_engine.registration_sheet import format_sheet


class Command(BaseCommand):
    help = "Print the registration sheet for the administrator of a PACS or folder."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("node", help="name of the PACS or folder, as shown on the pages")

    def handle(self, *args: Any, **options: Any) -> None:
        node = Node.objects.filter(name=options["node"]).first()
        if node is None:
            names = ", ".join(Node.objects.values_list("name", flat=True)) or "none"
            raise CommandError(
                f"There is no PACS or folder named {options['node']}. Existing names: {names}."
            )
        try:
            title = f"Registration of ADIT at {node.name}"
            self.stdout.write(format_sheet(title, make_registration_sheet(node)))
        except InvalidInput as error:
            raise CommandError(str(error)) from None
