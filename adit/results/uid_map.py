"""Export which new UID replaces which original, for the key holder of a research project.

Used by the UID map page.
"""

from collections.abc import Iterator

from django.utils.translation import gettext as _

from adit.accounts.permissions import AnyUser
from adit.audit.trail import record
from adit.jobs import encrypted_payload
from adit.jobs.models import SeriesResult, Task
from adit.projects import services
from adit.projects.models import ProfileVersion, Project
from adit.projects.profile_versions import parse_rules as rules_in
from adit.projects.validators import validate_reason
from adit.results.applied_rules import get_rules
from adit.vault.cipher import DecryptionError
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.profile import RETAIN_UIDS

HEADING = ("level", "id_old", "id_new", "pseudonym", "generation")
UidMapRow = tuple[str, str, str, str, int]


def export_uid_map(user: AnyUser, project: Project, reason: str) -> list[UidMapRow]:
    """Return each study, series and image delivered for the project, once.

    Deliveries of deleted jobs are not included. Raises NotPermitted, InvalidInput.
    """
    services.require_reidentify(user, project)
    reason = validate_reason(reason)
    services.require_key(project)
    rows = list(
        dict.fromkeys(
            row for task in _delivered_tasks(project) for row in _task_rows(project, task)
        )
    )
    details = {"reason": reason, "uids": len(rows)}
    record(
        "project.uids_exported", user=user, about=services.audit_subject(project), details=details
    )
    return rows


def _delivered_tasks(project: Project) -> Iterator[Task]:
    tasks = Task.objects.filter(job__project=project, items__delivered__gt=0).distinct()
    for task in tasks.select_related("job__project").order_by("pk"):
        if not task.job.is_as_is and get_rules(task):
            yield task


def _task_rows(project: Project, task: Task) -> Iterator[UidMapRow]:
    """All entries of the ledger belong to the last generation."""
    used = get_rules(task)[-1]
    profile = ProfileVersion.objects.filter(pk=used.profile).first()
    keeps = profile is not None and RETAIN_UIDS in rules_in(profile).options
    key = None if keeps else services.get_project_key(project, used.generation)
    try:
        name = encrypted_payload.open_task(task).pseudonym
        for item in SeriesResult.objects.filter(task=task, delivered__gt=0):
            for level, uid in _original_uids(item):
                yield level, uid, _new_uid(key, uid), name, used.generation
    except DecryptionError:
        return


def _original_uids(item: SeriesResult) -> Iterator[tuple[str, str]]:
    manifest = encrypted_payload.open_series(item).manifest
    yield _("study"), manifest.ref.study_uid
    yield _("series"), manifest.ref.series_uid
    for uid in sorted(manifest.delivered_entries()):
        yield _("image"), uid


def _new_uid(key: ProjectKey | None, uid: str) -> str:
    return uid if key is None else key.uid(uid)
