"""Create an installation for clients of the API: two PACS, a project, tokens.

Run as a separate process: `sdk_data.py make '{"Source PACS": {…}, …}'` prints the tokens by name as
JSON; `sdk_data.py correct-title '"RESEARCH"'` corrects the AE title of the wrongly entered PACS.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from transfer_commands import DATA, DESTINATION
from transfer_commands import make as make_nodes

MISSPELT = "Misspelt PACS"
SCOPES = ("query", "retrieve", "store", "jobs:read", "jobs:write")


def main(verb: str, argument: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
    from adit_engine.pseudonymize.keys import create_key_file

    for name in ("master.key", "web.key"):
        if not (DATA / "keys" / name).exists():
            create_key_file(DATA / "keys" / name)
    import django

    django.setup()
    json.dump(
        {"make": make, "correct-title": correct_title}[verb](json.loads(argument)), sys.stdout
    )


def make(nodes: dict[str, dict[str, Any]]) -> dict[str, str]:
    make_nodes(nodes)
    from django.contrib.auth.models import Group
    from django.utils import timezone
    from lab.projects import create_complete_project

    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS
    from adit.api_tokens import tokens
    from adit.nodes.models import NodeAccess

    user = User.objects.get(username="coordinator")
    group = Group.objects.get(name=COORDINATORS)
    NodeAccess.objects.filter(node__name=DESTINATION).update(may_read=True)
    NodeAccess.objects.filter(node__name=MISSPELT).update(may_write=True)
    create_complete_project(
        User.objects.get(username="root"), "LUNG", protocol_name="Lung study", members=[group]
    )

    def create(name: str, scopes: tuple[str, ...] = SCOPES) -> tuple[Any, str]:
        return tokens.create_token(None, user, name, scopes, days=7, nodes=None)

    expired, expired_text = create("expired")
    expired.expires_at = timezone.now() - timedelta(minutes=1)
    expired.save()
    return {
        "script": create("script")[1],
        "narrow": create("narrow", ("query",))[1],
        "expired": expired_text,
    }


def correct_title(title: str) -> None:
    from adit.nodes.models import Node

    node = Node.objects.get(name=MISSPELT)
    node.settings["called_ae_title"] = title
    node.save()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(*sys.argv[1:])
