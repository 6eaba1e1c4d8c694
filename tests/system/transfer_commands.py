"""Create an installation for transfers between two archives, and read its ledger.

Run: `transfer_commands.py make '{"Source PACS": {…}, …}'`, `transfer_commands.py ledger JOB`,
`transfer_commands.py order '["PATIENT", "PROJECT"]'` or `transfer_commands.py pace KB_S`; prints JSON.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

DATA = Path(os.environ["ADIT_DATA"])
PASSWORD = "a long enough password"
SOURCE, DESTINATION, SILENT = "Source PACS", "Research PACS", "Silent PACS"
SEVEN_ZIP = "Encrypted 7-Zip file"
TRIALS = ("LUNG-JS", "LUNG-PLAIN", "LUNG-KILL", "LUNG-SHOT", "LUNG-BASE", "LUNG-FLUSH")


def main(verb: str, argument: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
    from adit_engine.pseudonymize.keys import create_key_file

    create_key_file(DATA / "keys" / "master.key")
    create_key_file(DATA / "keys" / "web.key")
    import django

    django.setup()
    given = json.loads(argument)
    verbs = {
        "make": make,
        "ledger": ledger,
        "order": lambda words: order(*words),
        "pace": pace,
    }
    json.dump(verbs[verb](given), sys.stdout)


def make(nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    from django.contrib.auth.models import Group
    from django.core.management import call_command
    from lab.projects import create_complete_project

    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS, create_standard_groups
    from adit.nodes.models import Node, NodeAccess

    group = create_standard_groups()[COORDINATORS]
    lonely = Group.objects.create(name="Those who search the silent one")
    lonely.permissions.set(group.permissions.all())
    User.objects.create_user("coordinator", password=PASSWORD).groups.add(group)
    User.objects.create_user("lonely", password=PASSWORD).groups.add(lonely)
    root = User.objects.create_superuser("root", password=PASSWORD)
    for name, settings in nodes.items():
        limits = {"retrieve_limit": settings.pop("retrieve_limit", 2)}
        node = Node.objects.create(
            name=name, kind="dimse", settings=settings, is_open=True, **limits
        )
        NodeAccess.objects.create(
            group=lonely if name == SILENT else group,
            node=node,
            may_read=name in (SOURCE, SILENT),
            may_write=name == DESTINATION,
        )
    archive = Node.objects.create(name=SEVEN_ZIP, kind="archive", settings={}, is_open=True)
    NodeAccess.objects.create(group=group, node=archive, may_write=True)
    for protocol_id in TRIALS:
        create_complete_project(root, protocol_id, protocol_name=protocol_id, members=[group])
    return {}


def pace(kb_s: int) -> None:
    """Set the rate limit of source and destination in kB/s; 0 removes it."""
    from adit.nodes.models import Node

    Node.objects.filter(name__in=(SOURCE, DESTINATION)).update(rate_kb_s=kb_s or None)


def order(patient: str, protocol_id: str) -> dict[str, Any]:
    """Order the only study of a patient, without the web pages."""
    from adit.accounts.models import User
    from adit.jobs.kinds.base import OrderRequest
    from adit.jobs.kinds.picked_study import PickedStudy
    from adit.nodes import search
    from adit.nodes.models import Node
    from adit.orders.service import place_order
    from adit.projects.models import Project
    from adit_engine.values.query import Query
    from adit_engine.values.references import QueryLevel

    user = User.objects.get(username="coordinator")
    source, destination = (Node.objects.get(name=name) for name in (SOURCE, DESTINATION))
    (found,) = search.search_studies(
        user, source, Query(QueryLevel.STUDY, {"PatientID": patient})
    ).records
    project = Project.objects.get(protocol_id=protocol_id)
    pick = PickedStudy(source.pk, found)
    request = OrderRequest(
        "selective",
        (pick,),
        key=f"{patient} {protocol_id}",
        destinations=(destination.pk,),
        project=project.pk,
    )
    (job,) = place_order(user, request)
    return {"job": job.pk}


def ledger(job_id: int) -> dict[str, Any]:
    """State, manifests per series, output UIDs and attempts of a job."""
    from adit.jobs import encrypted_payload
    from adit.jobs.models import Job, SeriesResult
    from adit.projects import services

    job = Job.objects.get(pk=job_id)
    items = SeriesResult.objects.filter(task__job=job).select_related("task__job__project")
    manifests = [
        encrypted_payload.open_series(item).manifest.to_json()
        for item in items
        if not item.skip_reason
    ]
    uids = {uid for manifest in manifests for uid in manifest["instances"]}
    assert job.project is not None
    key = services.get_project_key(job.project)
    return {
        "state": job.state,
        "message": str(job.message or ""),
        "manifests": manifests,
        "out": {uid: key.uid(uid) for uid in uids},
        "attempts": list(job.tasks.values_list("attempt", flat=True)),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
