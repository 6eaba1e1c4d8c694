"""Create an installation for batch transfers, and read the result of each row.

Run as a separate process with ADIT_DATA: `batch_commands.py VERB JSON`, where VERB is `make`,
`pace`, `told`, `renamed` or `register`; prints JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

DATA = Path(os.environ["ADIT_DATA"])
PASSWORD = "a long enough password"
SOURCE, PACS, FOLDER = "Source PACS", "Research PACS", "Research folder"
SEVEN_ZIP = "Encrypted 7-Zip file"
TRIALS = (
    "LISTS-JS",
    "LISTS-PLAIN",
    "LISTS-CALM",
    "LISTS-KILL",
    "LISTS-LOOK",
    "CHAIN-JS",
    "CHAIN-PLAIN",
    "SIXTY-XLSX",
    "SIXTY-CSV",
    "SIXTY-JS",
    "SIXTY-PLAIN",
)


def main(verb: str, argument: str = "{}") -> None:
    from adit import cli

    if verb == "make":
        cli.prepare()
    else:
        os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
        import django

        django.setup()
    told = {"make": make, "pace": pace, "told": told_of, "renamed": renamed, "register": register}[
        verb
    ](**json.loads(argument))
    json.dump(told, sys.stdout)


def make(**nodes: dict[str, Any]) -> None:
    """Create users, nodes and projects; `source` and `pacs` are the settings of two archives."""
    from django.contrib.auth.models import Group
    from lab.projects import create_complete_project

    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS, PACS_ADMINISTRATORS
    from adit.nodes.models import Node, NodeAccess

    group = Group.objects.get(name=COORDINATORS)
    User.objects.create_user("coordinator", password=PASSWORD).groups.add(group)
    approver = User.objects.create_user("approver", password=PASSWORD)
    approver.groups.add(Group.objects.get(name=PACS_ADMINISTRATORS))
    root = User.objects.create_superuser("root", password=PASSWORD)
    folder = DATA / "folders" / "research"
    folder.mkdir(parents=True)
    place = {"path": str(folder), "shown_path": r"\\server\research"}
    for name, kind, settings in (
        (SOURCE, "dimse", nodes["source"]),
        (PACS, "dimse", nodes["pacs"]),
        (FOLDER, "folder", place),
        (SEVEN_ZIP, "archive", {}),
    ):
        node = Node.objects.create(name=name, kind=kind, settings=settings, is_open=True)
        reads = name == SOURCE
        NodeAccess.objects.create(group=group, node=node, may_read=reads, may_write=not reads)
    for protocol_id in TRIALS:
        create_complete_project(root, protocol_id, protocol_name=protocol_id, members=[group])


def pace(kb_s: int) -> None:
    """Set the rate limit of the source in kB/s; 0 removes it."""
    from adit.nodes.models import Node

    Node.objects.filter(name=SOURCE).update(rate_kb_s=kb_s or None)


def told_of(job: int) -> dict[str, Any]:
    """State of the job, and output UIDs of the delivered images by line."""
    from adit.jobs import encrypted_payload
    from adit.jobs.models import Job, SeriesResult
    from adit.projects import services
    from adit.results import sheet_rows

    row = Job.objects.get(pk=job)
    assert row.project is not None
    box, key = encrypted_payload.get_cipher(row.project), services.get_project_key(row.project)
    found: dict[int, list[str]] = {}
    for line in row.lines.select_related("task"):
        content = sheet_rows.open_row(box, line)
        wanted = content.requested.get("SeriesInstanceUID", "")
        manifests = [
            encrypted_payload.open_series(item, box).manifest
            for item in SeriesResult.objects.filter(task=line.task)
        ]
        found[line.line] = sorted(
            key.uid(uid)
            for one in manifests
            if wanted in ("", one.ref.series_uid)
            for uid in one.delivered_entries()
        )
    return {
        "state": row.state,
        "message": str(row.message or ""),
        "lines": found,
        "attempts": list(row.tasks.values_list("attempt", flat=True)),
    }


def renamed(project: str, uids: list[str]) -> dict[str, str]:
    """Output UIDs under the project's key, independent of any delivery."""
    from adit.projects import services
    from adit.projects.models import Project

    key = services.get_project_key(Project.objects.get(protocol_id=project))
    return {uid: key.uid(uid) for uid in uids}


def register(project: str, pseudonyms: dict[str, str]) -> None:
    """Register the pseudonyms of patients of the source, by patient ID."""
    from adit.accounts.models import User
    from adit.nodes.access import get_domain
    from adit.nodes.models import Node
    from adit.projects.models import Project
    from adit.projects.pseudonyms import get_or_create_pseudonym

    domain, root = get_domain(Node.objects.get(name=SOURCE)), User.objects.get(username="root")
    row = Project.objects.get(protocol_id=project)
    for patient_id, pseudonym in pseudonyms.items():
        get_or_create_pseudonym(row, domain, patient_id, given=pseudonym, user=root)


if __name__ == "__main__":
    main(*sys.argv[1:])
