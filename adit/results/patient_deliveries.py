"""What was delivered of a blocked patient, and where it is: the basis of a recall.

Read from the ledgers of all jobs. Used by the pages of the block list.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db.models import Q
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, require
from adit.audit.trail import record
from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.dates import format_datetime
from adit.jobs import encrypted_payload
from adit.jobs.models import ArchiveFile, SeriesResult, Task, TaskType
from adit.nodes.access import get_domain
from adit.projects.models import Project
from adit.projects.validators import validate_reason
from adit.results.deliveries import get_uid_mapper
from adit.vault.cipher import DecryptionError
from adit_engine.values.outcome import InstanceState, LedgerEntry

HEADING = (
    "destination",
    "kind",
    "job",
    "ordered_by",
    "delivered_at",
    "archive_files",
    "path",
    "study_uid",
    "series_uid",
    "image_uid",
    "confirmed",
    "sha256",
)
_AT_DESTINATION = frozenset({InstanceState.STORED, InstanceState.DELIVERED})
"""Images that the destination accepted without a confirmation may be there as well."""


@dataclass(slots=True)
class PatientDeliveries:
    """The tasks that delivered images of a patient."""

    tasks: list[Task] = field(default_factory=list)
    unreadable: int = 0
    """Tasks that cannot be checked, because the key of their project is destroyed."""


def find_deliveries(entry: BlockedPatient) -> PatientDeliveries:
    """Return the tasks that delivered images of the patient of an entry, newest first.

    For an entry of one project only those of the project. Merged patient IDs count. Decrypts every
    task with a delivery: expect a minute for a hundred thousand tasks.
    """
    found = PatientDeliveries()
    delivered = SeriesResult.objects.filter(Q(delivered__gt=0) | Q(stored__gt=0))
    tasks = Task.objects.filter(type=TaskType.ORDERED, pk__in=delivered.values("task"))
    if entry.project is not None:
        tasks = tasks.filter(job__project=entry.project)
    related = tasks.select_related("source", "job__project", "job__destination", "job__owner")
    is_match: dict[tuple[Project | None, str, str], bool] = {}
    for task in related.order_by("-pk").iterator(chunk_size=500):
        if task.source is None:
            continue
        try:
            content = encrypted_payload.open_task(task)
            who = (task.job.project, get_domain(task.source), content.patient_id)
            if who not in is_match:
                is_match[who] = blocking.is_patient_of(entry, *who)
        except DecryptionError:
            found.unreadable += 1
            continue
        if is_match[who]:
            found.tasks.append(task)
    return found


def count_images(task: Task) -> int:
    """Return the number of images of a task that are, or may be, at the destination."""
    counts = task.items.values_list("delivered", "stored")
    return sum(delivered + stored for delivered, stored in counts)


def export_deliveries(user: User, entry: BlockedPatient, reason: str) -> list[tuple[object, ...]]:
    """Return one row per image that is, or may be, at a destination, under its delivered UIDs.

    The rows show where the images of the patient are, so they link the patient to the pseudonym.
    Recorded in the audit trail. Raises NotPermitted, InvalidInput.
    """
    require(user, Right.MANAGE_BLOCK_LIST)
    reason = validate_reason(reason)
    rows = [row for task in find_deliveries(entry).tasks for row in _image_rows(task)]
    record(
        "blocklist.deliveries_exported",
        user=user,
        details={"entry": entry.pk, "reason": reason, "images": len(rows)},
        patient=(entry.domain, entry.patient_id),
    )
    return rows


def _image_rows(task: Task) -> Iterator[tuple[object, ...]]:
    job, uid_of = task.job, get_uid_mapper(task)
    destination = job.destination
    files = ArchiveFile.objects.filter(job=job)
    names = [one.name if one.removed_at is None else _("(deleted)") for one in files]
    for item in SeriesResult.objects.filter(task=task):
        ledger = encrypted_payload.open_series(item).manifest
        for uid, image in _present(ledger.entries):
            yield (
                destination.name if destination else "",
                destination.kind if destination else "",
                job.pk,
                job.owner.username,
                format_datetime(task.ended_at) if task.ended_at else "",
                ", ".join(names),
                image.path,
                uid_of(ledger.ref.study_uid),
                uid_of(ledger.ref.series_uid),
                uid_of(uid),
                "yes" if image.state is InstanceState.DELIVERED else "no",
                image.sha256,
            )


def _present(entries: dict[str, LedgerEntry]) -> list[tuple[str, LedgerEntry]]:
    return [(uid, image) for uid, image in entries.items() if image.state in _AT_DESTINATION]
