"""Create an installation for transfers from a PACS, place orders, and read their results.

Run as a separate process with ADIT_DATA: `moves.py make JSON`, `order JSON` or `told`; prints JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

DATA = Path(os.environ["ADIT_DATA"])
TRIALS = ("LUNG", "HEART")
AT_A_TIME = 4


def main(verb: str, argument: str = "{}") -> None:
    from adit import cli

    if verb == "make":
        cli.prepare()
    else:
        os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
        import django

        django.setup()
    told = {"make": make, "order": order, "told": told_of}[verb](**json.loads(argument))
    json.dump(told, sys.stdout)


def make(
    limit: int = AT_A_TIME,
    rate_kb_s: int | None = None,
    heart: dict[str, dict[str, Any]] | None = None,
    **settings: Any,
) -> None:
    """Create the PACS, a folder for each research project, and one coordinator.

    `heart` has the settings of another `source` and of a PACS as `destination` for that project.
    """
    from django.contrib.auth.models import Group
    from lab.projects import create_complete_project

    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS
    from adit.nodes.models import Node, NodeAccess

    group = Group.objects.get(name=COORDINATORS)
    User.objects.create_user("coordinator", is_staff=True).groups.add(group)
    root = User.objects.create_superuser("root")
    source = Node.objects.create(
        name="PACS",
        kind="dimse",
        settings=settings,
        is_open=True,
        retrieve_limit=limit,
        rate_kb_s=rate_kb_s,
    )
    NodeAccess.objects.create(group=group, node=source, may_read=True)
    for name in TRIALS:
        if heart is not None and name == "HEART":
            source, destination = (
                Node.objects.create(
                    name=node_name,
                    kind="dimse",
                    settings=heart[role],
                    is_open=True,
                    retrieve_limit=limit,
                )
                for role, node_name in (("source", f"PACS for {name}"), ("destination", name))
            )
            NodeAccess.objects.create(group=group, node=source, may_read=True)
        else:
            path = DATA / "folders" / name
            path.mkdir(parents=True)
            destination = Node.objects.create(
                name=name, kind="folder", settings={"path": str(path)}, is_open=True
            )
        NodeAccess.objects.create(group=group, node=destination, may_write=True)
        create_complete_project(
            root, name, protocol_name=name, members=[group], nodes=[source, destination]
        )


def order(pairs: list[tuple[str, str]], patient: str) -> None:
    """Place one job for each pair of study and project."""
    from adit.accounts.models import User
    from adit.jobs.kinds.base import OrderRequest
    from adit.jobs.kinds.picked_study import PickedStudy
    from adit.nodes.models import Node
    from adit.orders.service import place_order
    from adit.projects.models import Project

    user = User.objects.get(username="coordinator")
    sources = dict(Node.objects.values_list("name", "pk"))
    for study, protocol_id in pairs:
        source = sources.get(f"PACS for {protocol_id}", sources["PACS"])
        project = Project.objects.get(protocol_id=protocol_id)
        destination = Node.objects.get(name=protocol_id).pk
        pick = PickedStudy.by_uid(source, study, patient)
        place_order(
            user,
            OrderRequest(
                "selective",
                (pick,),
                key=f"{study[-30:]}-{protocol_id}",
                destinations=(destination,),
                project=project.pk,
            ),
        )


def told_of() -> list[dict[str, Any]]:
    """State of each job and its delivered images (source UID to output UID)."""
    from adit.jobs import encrypted_payload
    from adit.jobs.models import Job, SeriesResult
    from adit.projects import services

    found = []
    for job in Job.objects.order_by("pk"):
        items = SeriesResult.objects.filter(task__job=job).select_related("task__job__project")
        manifests = [encrypted_payload.open_series(item).manifest for item in items]
        delivered = [uid for one in manifests for uid in one.delivered_entries()]
        assert job.project is not None
        key = services.get_project_key(job.project)
        found.append(
            {
                "state": job.state,
                "message": str(job.message or ""),
                "project": job.project.protocol_id,
                "attempts": list(job.tasks.values_list("attempt", flat=True)),
                "delivered": {uid: key.uid(uid) for uid in delivered},
            }
        )
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
