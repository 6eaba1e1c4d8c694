"""Create an installation with two ordered studies that contain ultrasound clips.

Run as a separate process: `withheld_data.py '{"source": {…}, "archive": {…}, "folder": "…"}'`;
prints the jobs by project as JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

PASSWORD = "a long enough password"
STUDIES = {
    "LUNG-JS": "1.2.826.0.1.3680043.8.498.55.31",
    "LUNG-PLAIN": "1.2.826.0.1.3680043.8.498.55.32",
}
PATIENTS = {"LUNG-JS": "PID-US-1", "LUNG-PLAIN": "PID-US-2"}


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
    from django.contrib.auth.models import Group, Permission
    from lab.projects import create_complete_project

    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS, create_standard_groups
    from adit.jobs.kinds.base import OrderRequest
    from adit.jobs.kinds.picked_study import PickedStudy
    from adit.nodes.models import Node, NodeAccess
    from adit.orders.service import place_order

    coordinators = create_standard_groups()[COORDINATORS]
    reviewers = Group.objects.create(name="Image reviewers")
    rights = ("review_withheld", "see_identified", "see_all_jobs")
    reviewers.permissions.set(Permission.objects.filter(codename__in=rights))
    coordinator = User.objects.create_user("coordinator", password=PASSWORD)
    coordinator.groups.add(coordinators)
    User.objects.create_user("reviewer", password=PASSWORD).groups.add(reviewers)
    root = User.objects.create_superuser("root", password=PASSWORD)
    source = Node.objects.create(
        name="Source PACS", kind="dimse", settings=places["source"], is_open=True
    )
    archive = Node.objects.create(
        name="Research PACS", kind="dimse", settings=places["archive"], is_open=True
    )
    folder = Node.objects.create(
        name="Research folder", kind="folder", settings={"path": places["folder"]}, is_open=True
    )
    for group in (coordinators, reviewers):
        NodeAccess.objects.create(group=group, node=source, may_read=True)
    for node in (archive, folder):
        NodeAccess.objects.create(group=coordinators, node=node, may_write=True)
    jobs = {}
    for protocol_id, destination in (("LUNG-JS", archive), ("LUNG-PLAIN", folder)):
        project = create_complete_project(
            root, protocol_id, protocol_name=protocol_id, members=[coordinators]
        )
        pick = PickedStudy.by_uid(source.pk, STUDIES[protocol_id], PATIENTS[protocol_id])
        request = OrderRequest(
            "selective",
            (pick,),
            key=protocol_id,
            destinations=(destination.pk,),
            project=project.pk,
        )
        (job,) = place_order(coordinator, request)
        jobs[protocol_id] = job.pk
    return jobs


if __name__ == "__main__":
    main(sys.argv[1])
