"""Audit an installation: compare its ledger with the source and the destination folders.

Run as a separate process with ADIT_DATA: `audit_data.py SHELF KEPT` (folders with the files of the
source, and of the PACS that is a destination); prints JSON.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))


def main(shelf: str, kept_by_pacs: str) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "adit.config.settings"
    import django

    django.setup()
    json.dump(audited(Path(shelf), Path(kept_by_pacs)), sys.stdout)


def audited(shelf: Path, kept_by_pacs: Path) -> dict[str, Any]:
    """Result of the auditor over all projects, with counts of ended tasks."""
    from lab.auditor import Auditor
    from lab.orders import kept

    from adit.audit import trail
    from adit.audit.models import AuditEvent
    from adit.jobs.models import Job, Task
    from adit.nodes.models import Node, Slot
    from adit.projects.models import Project
    from adit_engine.dicom_file import part10

    source = [part10.read_file(path) for path in sorted(shelf.iterdir())]
    auditor = Auditor()
    for project in Project.objects.filter(is_default=False):
        path = Node.objects.get(name=project.protocol_id).settings.get("path")
        folder = kept_by_pacs if path is None else Path(path)
        truth, ledger = _truth(project, source), _ledger(project)
        auditor.audit(truth, ledger, [kept(folder)])
    ended = Counter(AuditEvent.objects.filter(action="task.ended").values_list("about", flat=True))
    return {
        "violations": dict(auditor.violations),
        "found": auditor.found[:10],
        "complete": auditor.complete,
        "delivered": auditor.delivered,
        "jobs": dict(Counter(Job.objects.values_list("state", flat=True))),
        "tasks": Task.objects.count(),
        "ended": sum(ended.values()),
        "ended_twice": [about for about, count in ended.items() if count > 1],
        "attempts": sum(Task.objects.values_list("attempt", flat=True)),
        "lost": AuditEvent.objects.filter(action="task.lost").count(),
        "slots": Slot.objects.filter(holder__startswith="task:").count(),
        "trail": trail.verify_chain() is None,
    }


def _truth(project: Any, source: list[Any]) -> dict[str, Any]:
    """Expected output of the jobs of a project."""
    from lab.auditor import expectations

    from adit.jobs import encrypted_payload
    from adit.jobs.models import Job
    from adit.projects import pseudonyms
    from adit_engine.values.references import StudyRef

    truth: dict[str, Any] = {}
    for job in Job.objects.filter(project=project).select_related("owner", "destination"):
        for task in job.tasks.select_related("source"):
            content = encrypted_payload.open_task(task)
            change = pseudonyms.make_change(
                job.owner,
                project,
                task.source,
                job.destination,
                content.patient_id,
                pseudonym=content.pseudonym,
            )
            study = StudyRef(content.payload["study_uid"])
            truth.update(expectations(source, study, change))
    return truth


def _ledger(project: Any) -> Any:
    from lab.auditor import Ledger

    from adit.jobs import encrypted_payload
    from adit.jobs.models import SeriesResult
    from adit_engine.values.outcome import SeriesOutcome, SourceListing

    ledger = Ledger()
    ledger.begin()
    for item in SeriesResult.objects.filter(task__job__project=project).select_related(
        "task__job__project"
    ):
        manifest = encrypted_payload.open_series(item).manifest
        uid = manifest.ref.series_uid
        ledger.attempts[-1] += [
            SourceListing(manifest.ref, manifest.expected),
            SeriesOutcome.from_ledger(manifest),
        ]
        ledger.manifests[uid] = manifest
        ledger.delivered_then[(0, uid)] = frozenset(manifest.delivered_entries())
    return ledger


if __name__ == "__main__":
    main(*sys.argv[1:])
