"""An installation with jobs in several states, for the dumps, and what is checked after an upgrade.

Run in a process of its own, with ADIT_DATA: `installation.py make` or `finish`; `finish` prints JSON.
All patients are made up.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

DATA = Path(os.environ["ADIT_DATA"])
SOURCE, DESTINATION = DATA / "folders" / "source", DATA / "folders" / "research"
PATIENT_ID = "PID-4711-0815"
STUDIES = ("1", "2", "3", "4")
IMAGES = 3


def main(verb: str) -> None:
    _write_source()
    if verb == "make":
        from adit import cli

        cli.prepare()
        _make()
    else:
        os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
        import django

        django.setup()
        json.dump(_finish(), sys.stdout)


def _write_source() -> None:
    """Write three images of each study; one of each study says that text is burned in."""
    from lab import samples

    SOURCE.mkdir(parents=True, exist_ok=True)
    DESTINATION.mkdir(parents=True, exist_ok=True)
    for study in STUDIES:
        for number in range(1, IMAGES + 1):
            changes = {"BurnedInAnnotation": "YES"} if number == IMAGES else {}
            content = samples.file_bytes(
                samples.ct(number, study=study, PatientID=PATIENT_ID, SliceThickness="5", **changes)
            )
            (SOURCE / f"{study}-{number}.dcm").write_bytes(content)


def _make() -> None:
    """Create a finished, a running and a waiting transfer, and a finished and a waiting query."""
    from django.contrib.auth.models import Group
    from lab import samples
    from lab.ordering import order_job
    from lab.projects import create_complete_project

    from adit.accounts.models import User
    from adit.accounts.permissions import COORDINATORS
    from adit.jobs import queue
    from adit.jobs.kinds.picked_study import PickedStudy
    from adit.nodes.models import Node, NodeAccess
    from adit.worker import runner

    group = Group.objects.get(name=COORDINATORS)
    user = User.objects.create_user("coordinator", email="coordinator@hospital.example")
    user.groups.add(group)
    root = User.objects.create_superuser("root")
    source = Node.objects.create(
        name="Source", kind="folder", settings={"path": str(SOURCE)}, is_open=True
    )
    destination = Node.objects.create(
        name="Research", kind="folder", settings={"path": str(DESTINATION)}, is_open=True
    )
    NodeAccess.objects.create(group=group, node=source, may_read=True)
    NodeAccess.objects.create(group=group, node=destination, may_write=True)
    project = create_complete_project(root, "LUNG", protocol_name="Lung study", members=[group])

    def transfer(*studies: str) -> None:
        picked = [
            PickedStudy.by_uid(source.pk, f"{samples.ROOT}.{study}", PATIENT_ID)
            for study in studies
        ]
        key = f"transfer {studies}"
        order_job(user, "selective", picked, destination.pk, key=key, project=project.pk)

    def query(line: int) -> None:
        options: dict[str, Any] = {"sources": (source.pk,), "own_headers": ("Key",)}
        order_job(user, "batch_query", [_query_row(line)], key=f"query {line}", **options)

    def run_next() -> None:
        task = queue.claim("worker")
        assert task is not None
        runner.run_task(task)

    transfer("1")
    run_next()
    query(1)
    run_next()
    transfer("2", "3")
    run_next()
    assert queue.claim("worker") is not None
    transfer("4")
    query(2)


def _query_row(line: int) -> Any:
    from adit.jobs.kinds.base import SheetRow
    from adit.jobs.kinds.batch_query import BatchQueryRow
    from adit_engine.patient_search.search import PatientQuery, PersonCriteria

    return BatchQueryRow(
        SheetRow(line, (f"key {line}",), f"P{line}", {"PatientID": PATIENT_ID}),
        PatientQuery(PersonCriteria(patient_id=PATIENT_ID)),
    )


def _finish() -> dict[str, Any]:
    """Return the states after the upgrade, open all pages, run what is left, and return the end."""
    from django.test import Client
    from django.utils import timezone

    from adit.accounts.models import User
    from adit.audit import kept_head, trail
    from adit.jobs import encrypted_payload, queue
    from adit.jobs.models import Job, SeriesResult, Task, TaskState
    from adit.nodes.models import Node
    from adit.projects.models import Project
    from adit.worker import runner

    for name, path in (("Source", SOURCE), ("Research", DESTINATION)):
        node = Node.objects.get(name=name)
        node.settings = {"path": str(path)}
        node.save()
    upgraded = [job.state for job in Job.objects.order_by("pk")]
    Task.objects.filter(state=TaskState.IN_PROGRESS).update(lease_until=timezone.now())
    while queue.sweep() and (task := queue.claim("worker")) is not None:
        runner.run_task(task)

    browser = Client(headers={"host": "127.0.0.1"})
    browser.force_login(User.objects.get(username="root"))
    pages = ["/", "/jobs/", "/projects/", "/nodes/", "/profiles/", "/trail/", "/jobs/withheld/"]
    for job in Job.objects.order_by("pk"):
        pages.append(f"/jobs/{job.pk}/")
        pages += [f"/jobs/{job.pk}/{task.position}/" for task in job.tasks.all()]
        pages.append(
            f"/jobs/{job.pk}/results/" if job.lines.exists() else f"/jobs/{job.pk}/report/"
        )
    limits = Project.objects.get(protocol_id="LUNG")
    kept = kept_head.read_kept_head()
    results = SeriesResult.objects.order_by("pk")
    ledgers = [encrypted_payload.open_series(result) for result in results]
    return {
        "upgraded": upgraded,
        "finished": [job.state for job in Job.objects.order_by("pk")],
        "messages": [str(task.message) for task in Task.objects.order_by("pk")],
        "pages": {page: browser.get(page).status_code for page in pages},
        "delivered": sorted(result.delivered for result in results),
        "ledgers": len(ledgers),
        "all_modalities": limits.all_modalities,
        "sources": sorted(limits.sources.values_list("name", flat=True)),
        "destinations": sorted(limits.destinations.values_list("name", flat=True)),
        "is_trail_intact": trail.verify_chain() is None,
        "kept_events": kept.count if kept else 0,
    }


if __name__ == "__main__":
    main(sys.argv[1])
