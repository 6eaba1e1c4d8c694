"""Carry out recalls: delete files, look for them again, ask destinations, record the proof.

Called by workers. Every step may be repeated, so a killed worker is no harm: what it had claimed is
due again later.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.jobs.models import ArchiveFile, Task, TaskState, TaskType
from adit.nodes import destination_folders
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.models import Node
from adit.recall import quarantined, recalls
from adit.recall.models import DONE_STATES, Recall, RecalledDelivery, RecallState
from adit.recall.patient_deliveries import DeliveredImage, iter_images, iter_sealed_images
from adit.results import archives, deliveries
from adit.retention import ledgers
from adit.vault.cipher import DecryptionError
from adit_engine.dicom_file.delivered_files import DeliveredFile, FileState
from adit_engine.errors import AditError, NodeError, NodeRefused, NotSupported
from adit_engine.messages import Message
from adit_engine.nodes.base import Searchable
from adit_engine.values.query import Query
from adit_engine.values.references import SeriesRef

LOCK_FOR = timedelta(minutes=30)
"""A process that claimed a delivery has it to itself for this time."""
RETRY_AFTER = timedelta(minutes=10)
WAIT_FOR_TASK = timedelta(seconds=30)
ASK_AGAIN_AFTER = timedelta(days=1)
SEARCH_QUARANTINE_EVERY = timedelta(hours=1)

log = logging.getLogger(__name__)


def is_due() -> bool:
    now = timezone.now()
    due = RecalledDelivery.objects.filter(due_at__lte=now)
    return due.exists() or _due_in_quarantine().exists()


def carry_out_due() -> int:
    """Carry out the deliveries that are due, by recall and destination; return how many.

    The quarantine is searched before.
    """
    for recall in _due_in_quarantine():
        _clear_quarantine(recall)
    due = RecalledDelivery.objects.filter(due_at__lte=timezone.now()).order_by()
    pairs = due.values_list("recall", "destination").distinct()
    return sum(_carry_out(*pair) for pair in sorted(pairs))


def _due_in_quarantine() -> QuerySet[Recall]:
    return Recall.objects.filter(ended_at=None, quarantine_due_at__lte=timezone.now())


def _clear_quarantine(recall: Recall) -> None:
    """Delete the recalled images from the quarantine, every hour until the recall ends."""
    mine = Recall.objects.filter(pk=recall.pk, quarantine_due_at=recall.quarantine_due_at)
    if not mine.update(quarantine_due_at=timezone.now() + SEARCH_QUARANTINE_EVERY):
        return
    subject = recall.entry or recall.job
    try:
        require(recall.continued_by, Right.MANAGE_BLOCK_LIST)
        deleted = quarantined.delete_images(subject) if subject is not None else 0
    except (NotPermitted, DecryptionError, OSError) as error:
        log.info("recall %d: quarantine not searched (%s)", recall.pk, type(error).__name__)
        return
    with transaction.atomic():
        Recall.objects.filter(pk=recall.pk).update(
            quarantine_deleted=F("quarantine_deleted") + deleted,
            quarantine_checked_at=timezone.now(),
        )
        if deleted:
            details = {"images": deleted}
            record("recall.quarantine_deleted", about=f"recall:{recall.pk}", details=details)
        recalls.end_if_done(recall.pk)


def _carry_out(recall_pk: int, destination_pk: int) -> int:
    """Open a destination once for all its deliveries, so that a folder is read only once."""
    claimed = [
        one
        for one in RecalledDelivery.objects.filter(
            recall=recall_pk, destination=destination_pk, due_at__lte=timezone.now()
        ).select_related("recall__continued_by", "destination")
        if _claim(one)
    ]
    ready = [one for one in claimed if not _waits(one)]
    if not ready:
        return len(claimed)
    recall, destination = ready[0].recall, ready[0].place
    try:
        with _open(recall, destination) as node:
            if destination.capabilities.has_delivery_list:
                _update_lists(ready, node)
            gone: set[DeliveredFile] = set()
            for one in ready:
                _carry_out_one(one, node, gone)
    except (AditError, DecryptionError) as error:
        log.info("recall %d: not carried out (%s)", recall_pk, type(error).__name__)
        for one in ready:
            _postpone(one, _explain(error, destination))
    with transaction.atomic():
        recalls.end_if_done(recall_pk)
    return len(claimed)


@contextmanager
def _open(recall: Recall, destination: Node) -> Iterator[Any]:
    holder = f"recall:{recall.pk}:{destination.pk}"
    with open_node(recall.continued_by, destination, Purpose.RECALL, holder=holder) as node:
        yield node


def _claim(delivery: RecalledDelivery) -> bool:
    now = timezone.now()
    mine = RecalledDelivery.objects.filter(pk=delivery.pk, due_at=delivery.due_at)
    delivery.due_at = now + LOCK_FOR
    return mine.update(due_at=delivery.due_at) == 1


def _waits(delivery: RecalledDelivery) -> bool:
    """Postpone a delivery whose task or 7-Zip file is still being worked on."""
    task = delivery.task
    if task is None:
        if ledgers.find_part(delivery.job_number, delivery.position) is not None:
            return False
        _finish(delivery, RecallState.TO_DELETE, Message("recall.job-deleted"))
        return True
    working = Q(pk=task.pk) | Q(job=task.job_id, type=TaskType.PACK)
    if Task.objects.filter(working, state=TaskState.IN_PROGRESS).exists():
        _postpone(delivery, Message("recall.job-running"), WAIT_FOR_TASK)
        return True
    return False


def _explain(error: Exception, destination: Node) -> Message:
    if isinstance(error, NotPermitted):
        return Message("recall.permission-lost")
    if isinstance(error, DecryptionError):
        return Message("recall.key-destroyed")
    assert isinstance(error, AditError)
    return Message("recall.destination-away", destination=destination.name, reason=error.message)


def _carry_out_one(delivery: RecalledDelivery, node: Any, gone: set[DeliveredFile]) -> None:
    """Add to `gone` the deleted files, which another job may have delivered as well."""
    rows = Task.objects.select_related("job__project", "job__destination")
    task = rows.get(pk=delivery.task.pk) if delivery.task is not None else None
    images = list(iter_images(task)) if task is not None else _load_sealed_images(delivery)
    delivery.images = len(images)
    if delivery.place.capabilities.is_archive:
        outcome = (
            _Outcome(RecallState.TO_DELETE, Message("recall.job-deleted"))
            if task is None
            else _delete_from_archive(delivery, task, images, node, gone)
        )
    elif delivery.place.capabilities.has_delivery_list:
        outcome = _delete_from_folder(delivery, images, node, gone)
    else:
        outcome = _ask_destination(images, node)
    delivery.deleted, delivery.present = outcome.deleted, outcome.present
    if task is not None and outcome.state in DONE_STATES:
        deliveries.forget_deliveries(task)
    _finish(delivery, outcome.state, outcome.message)


def _load_sealed_images(delivery: RecalledDelivery) -> list[DeliveredImage]:
    """Return what a task of a deleted job delivered. Raises DecryptionError."""
    part = ledgers.find_part(delivery.job_number, delivery.position)
    assert part is not None, "looked for before"
    return list(iter_sealed_images(ledgers.open_part(part)))


@dataclass(frozen=True, slots=True)
class _Outcome:
    state: RecallState
    message: Message | None = None
    deleted: int = 0
    present: int = 0


def _delete_files(
    delivery: RecalledDelivery,
    images: Iterable[DeliveredImage],
    node: Any,
    gone: set[DeliveredFile],
) -> int:
    """Delete the files of images that have one; return how many were changed, and so are left."""
    files = [DeliveredFile(image.path, image.sha256) for image in images if image.path]
    changed = 0
    for file, state in node.delete_files(files):
        if state is FileState.DELETED or file in gone:
            gone.add(file)
            delivery.deleted = min(delivery.deleted + 1, len(files))
            delivery.found = max(delivery.found, delivery.deleted)
            RecalledDelivery.objects.filter(pk=delivery.pk).update(
                deleted=delivery.deleted, found=delivery.found
            )
        changed += state is FileState.CHANGED
    delivery.found = max(delivery.found, delivery.deleted + changed)
    return changed


def _delete_from_folder(
    delivery: RecalledDelivery, images: list[DeliveredImage], node: Any, gone: set[DeliveredFile]
) -> _Outcome:
    """Delete the files, then search the whole folder for copies of the images."""
    changed = _delete_files(delivery, images, node, gone)
    present = len(_find_present(images, node))
    deleted, place = delivery.deleted, delivery.place.name
    if changed:
        message = Message("recall.files-changed", count=changed, destination=place)
        return _Outcome(RecallState.INCOMPLETE, message, deleted, present)
    if present:
        message = Message("recall.copies-found", count=present, destination=place)
        return _Outcome(RecallState.INCOMPLETE, message, deleted, present)
    if delivery.found < len(images):
        return _Outcome(RecallState.TO_DELETE, _describe_missing(delivery), deleted)
    return _Outcome(RecallState.DELETED, None, deleted)


def _describe_missing(delivery: RecalledDelivery) -> Message:
    missing = delivery.images - delivery.found
    return Message("recall.files-missing", count=missing, destination=delivery.place.name)


def _delete_from_archive(
    delivery: RecalledDelivery,
    task: Task,
    images: list[DeliveredImage],
    node: Any,
    gone: set[DeliveredFile],
) -> _Outcome:
    """Delete the staged images and the 7-Zip files. Files cannot be rebuilt without the password."""
    job = task.job
    node.set_archive_title(archives.archive_title(job))
    changed = _delete_files(delivery, images, node, gone)
    if changed:
        message = Message("recall.files-changed", count=changed, destination=delivery.place.name)
        return _Outcome(RecallState.INCOMPLETE, message, delivery.deleted)
    files = ArchiveFile.objects.filter(job=job, removed_at=None).select_related("job__destination")
    recalled_later = Q(recalled_at=None) | Q(recalled_at__gt=delivery.recall.created_at)
    others = Task.objects.filter(recalled_later, job=job, items__delivered__gt=0)
    if files.exists() and others.exists() and not delivery.recall.deletes_shared_archives:
        return _Outcome(RecallState.TO_DELETE, Message("recall.shared-archive"), 0, len(images))
    there = [one for one in files if _has_archive(delivery.place, one.name)]
    is_missing = len(there) < len(files)
    archives.remove_files(there, "recall", delivery.recall.continued_by)
    archives.remove_unlisted(job)
    names = list(ArchiveFile.objects.filter(job=job).values_list("name", flat=True))
    if any(_has_archive(delivery.place, name) for name in names):
        message = Message("recall.archive-not-deleted", destination=delivery.place.name)
        return _Outcome(RecallState.INCOMPLETE, message, 0, len(images))
    if is_missing:
        message = Message("recall.archive-missing", destination=delivery.place.name)
        return _Outcome(RecallState.TO_DELETE, message)
    if not names and delivery.found < len(images):
        return _Outcome(RecallState.TO_DELETE, _describe_missing(delivery), delivery.deleted)
    return _Outcome(RecallState.DELETED, None, len(images))


def _has_archive(place: Node, name: str) -> bool:
    file = destination_folders.open_archive_file(place, name)
    if file is not None:
        file.close()
    return file is not None


def _ask_destination(images: list[DeliveredImage], node: Any) -> _Outcome:
    """Ask a PACS whether it still has the images. ADIT deletes nothing there."""
    to_delete = Message("recall.pacs-deletes")
    if not isinstance(node, Searchable):
        return _Outcome(RecallState.TO_DELETE, to_delete)
    try:
        present = len(_find_present(images, node))
    except (NodeRefused, NotSupported):
        return _Outcome(RecallState.TO_DELETE, to_delete)
    if present:
        return _Outcome(RecallState.PRESENT, to_delete, len(images) - present, present)
    return _Outcome(RecallState.GONE, None, len(images))


class _ListIncomplete(NodeError):
    """The destination does not list all its images, so nothing is known of the others."""


def _find_present(images: Iterable[DeliveredImage], node: Searchable) -> set[str]:
    """Return the instance UIDs that a search still finds. Raises NodeError."""
    wanted: dict[SeriesRef, set[str]] = {}
    for image in images:
        series = SeriesRef(image.ref.study_uid, image.ref.series_uid)
        wanted.setdefault(series, set()).add(image.ref.instance_uid)
    found: set[str] = set()
    for series, uids in wanted.items():
        records = node.find(Query.uids_of(series))
        found |= {record.instance_uid for record in records} & uids
        if records.is_capped and uids - found:
            raise _ListIncomplete(node.name, "recall.list-incomplete")
    return found


def _update_lists(ready: Iterable[RecalledDelivery], node: Any) -> None:
    """Write the delivery lists of the jobs anew, without what is recalled, or delete them.

    This comes first: an error leaves everything to be repeated.
    """
    by_job = {one.task.job: one.task for one in ready if one.task is not None}
    for job, task in by_job.items():
        name = archives.archive_title(job)
        if next(deliveries.delivered_files(job), None) is not None:
            files = deliveries.delivered_files(job)
            node.write_delivery_list(deliveries.make_bundle(job, name, files))
            continue
        path = next((image.path for image in iter_images(task) if image.path), None)
        if path is not None:
            node.delete_delivery_list(name, path)


def _postpone(delivery: RecalledDelivery, message: Message, after: timedelta = RETRY_AFTER) -> None:
    """Try again later. What was found out before stays."""
    mine = RecalledDelivery.objects.filter(pk=delivery.pk, due_at=delivery.due_at)
    mine.update(message=message, due_at=timezone.now() + after)


def _finish(delivery: RecalledDelivery, state: RecallState, message: Message | None) -> None:
    """Record the result in the trail and for the page. Present images are asked for again."""
    now = timezone.now()
    again = state == RecallState.PRESENT
    with transaction.atomic():
        RecalledDelivery.objects.filter(pk=delivery.pk).update(
            state=state,
            images=delivery.images,
            found=delivery.found,
            deleted=delivery.deleted,
            present=delivery.present,
            message=message,
            checked_at=now,
            due_at=now + ASK_AGAIN_AFTER if again else None,
        )
        details = {
            "recall": delivery.recall_id,
            "destination": delivery.place.name,
            "state": str(state),
            "images": delivery.images,
            "deleted": delivery.deleted,
            "present": delivery.present,
        }
        record("recall.checked", about=f"job:{delivery.job_number}", details=details)
