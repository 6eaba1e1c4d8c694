"""Create an installation with three orders for one patient: to a PACS, a folder and a 7-Zip file.

Run as a separate process: `recall_data.py '{"source": {…}, "archive": {…}, "folder": "…"}'`;
prints the number of the job by destination as JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

PASSWORD = "a long enough password"
STUDY = "1.2.826.0.1.3680043.8.498.55.41"
OTHER_STUDY = "1.2.826.0.1.3680043.8.498.55.42"
PATIENT, OTHER = "PID-RECALL-1", "PID-RECALL-2"


def main(argument: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
    from adit_engine.pseudonymize.keys import create_key_file

    data = Path(os.environ["ADIT_DATA"])
    create_key_file(data / "keys" / "master.key")
    create_key_file(data / "keys" / "web.key")
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    json.dump(make(json.loads(argument)), sys.stdout)


def make(places: dict[str, Any]) -> dict[str, int]:
    from lab.projects import create_complete_project

    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS, DATA_PROTECTION, create_standard_groups
    from adit.jobs.kinds.base import OrderRequest
    from adit.jobs.kinds.picked_study import PickedStudy
    from adit.nodes.models import Node, NodeAccess
    from adit.orders.service import place_order

    groups = create_standard_groups()
    coordinators = groups[COORDINATORS]
    coordinator = User.objects.create_user("coordinator", password=PASSWORD)
    coordinator.groups.add(coordinators)
    User.objects.create_user("dpo", password=PASSWORD).groups.add(groups[DATA_PROTECTION])
    root = User.objects.create_superuser("root", password=PASSWORD)
    source = Node.objects.create(
        name="Source PACS", kind="dimse", settings=places["source"], is_open=True
    )
    NodeAccess.objects.create(group=coordinators, node=source, may_read=True)
    rows = {
        "Research PACS": ("dimse", places["archive"]),
        "Research folder": ("folder", {"path": places["folder"]}),
        "7-Zip": ("archive", {}),
    }
    nodes = {
        name: Node.objects.create(name=name, kind=kind, settings=settings, is_open=True)
        for name, (kind, settings) in rows.items()
    }
    project = create_complete_project(
        root, "LUNG", protocol_name="Lung study", members=[coordinators]
    )
    jobs = {}
    for name, node in nodes.items():
        NodeAccess.objects.create(group=coordinators, node=node, may_write=True)
        picks = [PickedStudy.by_uid(source.pk, STUDY, PATIENT)]
        if node.kind == "folder":
            picks.append(PickedStudy.by_uid(source.pk, OTHER_STUDY, OTHER))
        request = OrderRequest(
            "selective",
            tuple(picks),
            key=name,
            destinations=(node.pk,),
            project=project.pk,
            archive_password="Four#Words&1-Sign" if node.kind == "archive" else "",
        )
        (job,) = place_order(coordinator, request)
        jobs[name] = job.pk
    return jobs


if __name__ == "__main__":
    main(sys.argv[1])
