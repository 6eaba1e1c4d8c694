"""Build and test the encrypted 7-Zip files of a job: its last task. Used by the runner."""

import time
from collections.abc import Iterator
from hashlib import sha256

from django.db import transaction
from django.utils import timezone

from adit.accounts.permissions import NotPermitted
from adit.audit.trail import record
from adit.blocklist.blocking import PatientBlocked
from adit.jobs import block_check, queue, states
from adit.jobs.lease import Lease
from adit.jobs.models import ArchiveFile, Job, PendingArchiveFile, Task, TaskState, TaskType
from adit.nodes.gateway import Purpose, open_node
from adit.results import archives, deliveries
from adit_engine.errors import AditError
from adit_engine.messages import Message
from adit_engine.nodes import base
from adit_engine.nodes.base import ArchiveRequest, FinishedArchive, StagedImage

PROGRESS_EVERY_S = 3.0
_OPEN_STATES = tuple(states.OPEN_TASKS)


class NothingToPack(AditError):
    """No image was delivered, so there is nothing to pack."""


def build_archive(task: Task, lease: Lease) -> None:
    """Build the files of all images delivered since the last round; record them.

    Recording is fenced. Raises the errors of the engine, LeaseLost, NotPermitted, NodeUnavailable,
    DecryptionError.
    """
    job, destination = task.job, task.job.destination
    assert destination is not None, "packing has a place where the file goes"
    if not job.archive_password:
        raise NotPermitted("archive.no-password")
    why = block_check.find_block_of_delivered(job)
    if why is not None:
        raise PatientBlocked("blocklist.archive-not-created", reason=why)
    holder, before = queue.get_holder(task), _packed_marks(job)
    place = open_node(job.owner, destination, Purpose.STORE, holder=holder, urgent=job.urgent)
    with place as node:
        lease.aborts.append(node.abort)
        node.set_archive_title(archives.archive_title(job))
        bundle = _make_bundle(job, before)
        archives.remove_unlisted(job)
        if bundle.images:
            report = _progress(task, lease, bundle)
            packed = node.pack(bundle, job.archive_password, lease.stop, report)
            _record_files(task, bundle, packed, before)
        elif not before:
            raise NothingToPack("archive.no-images")
        if not _has_open_tasks(job):
            lease.stop.check()
            node.discard_staged()


def finish_packing(task: Task) -> None:
    """Finish the packing task, or release it if tasks were restarted meanwhile.

    Raises StaleRow.
    """
    with transaction.atomic():
        job = states.lock_job(task.job_id)
        if _has_open_tasks(job):
            queue.release_task(task, Message("archive.more-images"))
            return
        built = ArchiveFile.objects.filter(job=job)
        images = sum(one.images for one in built)
        message = Message("archive.built", images=images, count=built.count())
        queue.finish(task, TaskState.SUCCESS, message)


def _has_open_tasks(job: Job) -> bool:
    return Task.objects.filter(job=job, type=TaskType.ORDERED, state__in=_OPEN_STATES).exists()


# Images to pack -----------------------------------------------------------------------------------


def _make_bundle(job: Job, before: frozenset[bytes]) -> ArchiveRequest:
    images = size_bytes = 0
    for one in _unpacked_images(job, before):
        images += 1
        size_bytes += one.size_bytes
    rounds = ArchiveFile.objects.filter(job=job).values_list("round", flat=True)
    number = max(rounds, default=-1) + 1
    name = archives.archive_title(job) + (f"-supplement-{number}" if number else "")
    return deliveries.make_bundle(job, name, _unpacked_images(job, before), images, size_bytes)


def _unpacked_images(job: Job, before: frozenset[bytes]) -> Iterator[StagedImage]:
    """Each file once, even if two tasks of the job have delivered it."""
    seen: set[bytes] = set()
    for one in deliveries.delivered_files(job):
        mark = _image_mark(one)
        if mark not in before and mark not in seen:
            seen.add(mark)
            yield one


def _image_mark(one: StagedImage) -> bytes:
    """A hash that identifies the image and reveals nothing else."""
    return sha256(f"{one.path}\0{one.sha256}".encode()).digest()[:16]


def _packed_marks(job: Job) -> frozenset[bytes]:
    rows = ArchiveFile.objects.filter(job=job).values_list("marks", flat=True)
    return frozenset(bytes(m[i : i + 16]) for m in map(bytes, rows) for i in range(0, len(m), 16))


# Finished files ----------------------------------------------------------------------------------


def _progress(task: Task, lease: Lease, bundle: ArchiveRequest) -> base.Report:
    """Keep the lease alive and show the progress while files are built."""
    done, told_at = 0, time.monotonic()

    def report(event: base.PackingProgress | base.ArchivesTested) -> None:
        nonlocal done, told_at
        lease.touch()
        if isinstance(event, base.ArchivesTested):
            _record_pending_files(task, event.names)
            return
        done += event.size_bytes
        if time.monotonic() - told_at > PROGRESS_EVERY_S:
            told_at = time.monotonic()
            percent = min(99, 50 * done // max(bundle.size_bytes, 1))
            queue.set_progress_message(task, Message("archive.in-progress", percent=percent))

    return report


def _record_pending_files(task: Task, names: tuple[str, ...]) -> None:
    """Record file names before the files become visible, so that unlisted files can be found.

    Raises LeaseLost.
    """
    with transaction.atomic():
        _require_claim(task)
        for name in names:
            PendingArchiveFile.objects.get_or_create(job=task.job, name=name)


def _require_claim(task: Task) -> None:
    if task.current_attempt().update(attempt=task.attempt) != 1:
        raise queue.LeaseLost("task.taken-over")


def _record_files(
    task: Task, bundle: ArchiveRequest, made: list[FinishedArchive], before: frozenset[bytes]
) -> None:
    """Record finished files in one transaction with the fence. Raises LeaseLost."""
    job, now = task.job, timezone.now()
    marks = b"".join(_image_mark(one) for one in _unpacked_images(job, before))
    with transaction.atomic():
        _require_claim(task)
        PendingArchiveFile.objects.filter(job=job).delete()
        rounds = ArchiveFile.objects.filter(job=job).values_list("round", flat=True)
        number = max(rounds, default=-1) + 1
        for index, one in enumerate(made):
            ArchiveFile.objects.create(
                job=job,
                round=number,
                name=one.name,
                size_bytes=one.size_bytes,
                images=one.images,
                built_at=now,
                expires_at=now + archives.retention_period(),
                marks=marks if index == 0 else b"",
            )
        record(
            "archive.built",
            user=job.owner,
            about=f"job:{job.pk}",
            details={
                "files": [one.name for one in made],
                "images": bundle.images,
                "size_bytes": sum(one.size_bytes for one in made),
            },
        )
