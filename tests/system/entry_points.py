"""Installation that sends studies to folders by selective jobs, without a web server.

Run as a separate process: `entry_points.py make JSON` or `entry_points.py send JSON` (order, work);
prints JSON.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

DATA = Path(os.environ["ADIT_DATA"])


def main(verb: str, argument: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
    from adit_engine.pseudonymize.keys import create_key_file

    create_key_file(DATA / "keys" / "master.key")
    create_key_file(DATA / "keys" / "web.key")
    import django

    django.setup()
    given = json.loads(argument)
    json.dump((make if verb == "make" else send)(**given), sys.stdout)


def make(source: dict[str, Any], folders: list[str], projects: list[str]) -> dict[str, Any]:
    from django.core.management import call_command
    from lab.projects import create_complete_project

    call_command("migrate", verbosity=0)
    call_command("createcachetable", verbosity=0)
    from adit.accounts.models import User
    from adit.nodes.models import Node
    from adit.projects.models import RiskChoice

    root = User.objects.create_superuser("root")
    Node.objects.create(name="PACS", kind="dimse", settings=source, is_open=True)
    for folder in folders:
        Path(folder).mkdir()
        settings = {"path": folder}
        Node.objects.create(name=Path(folder).name, kind="folder", settings=settings, is_open=True)
    for protocol_id in projects:
        create_complete_project(
            root,
            protocol_id,
            protocol_name="Lung of the North",
            sponsor="University",
            site_name="North",
            site_id="N1",
            faces=RiskChoice.ACCEPT,
            faces_reason="nobody lived who looks like this",
            header_word=RiskChoice.ACCEPT,
            header_word_reason="nobody wrote a name into these pixels",
        )
    return {}


def send(
    project: str, studies: list[str], patient_id: str, pseudonym: str, to: str, days: int = 0
) -> dict[str, Any]:
    """Order and run a job; `days` is the offset of the clock in this process."""
    from django.utils import timezone

    real = timezone.now
    timezone.now = lambda: real() + timedelta(days=days)
    from adit.accounts.models import User
    from adit.jobs import queue
    from adit.jobs.kinds.base import OrderRequest
    from adit.jobs.kinds.picked_study import PickedStudy
    from adit.jobs.models import Job
    from adit.nodes.access import may_read
    from adit.nodes.models import Node
    from adit.orders.service import place_order
    from adit.projects.models import Project
    from adit.results.report import build_report
    from adit.worker import runner

    root, source = User.objects.get(), Node.objects.get(name="PACS")
    assert may_read(root, source)
    picks = tuple(
        PickedStudy.by_uid(source.pk, uid, patient_id, pseudonym=pseudonym) for uid in studies
    )
    destination = Node.objects.get(name=to)
    request = OrderRequest(
        "selective",
        picks,
        key=f"{project} {to}",
        destinations=(destination.pk,),
        project=Project.objects.get(protocol_id=project).pk,
    )
    (job,) = place_order(root, request)
    while (task := queue.claim(f"worker {os.getpid()}")) is not None:
        runner.run_task(task)
    job = Job.objects.get(pk=job.pk)
    return {"state": job.state, "message": str(job.message or ""), "report": build_report(job)}


if __name__ == "__main__":
    main(*sys.argv[1:])
