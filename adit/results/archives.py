"""Encrypted 7-Zip files of jobs: passwords, packing tasks, download permissions and deletion.

Used by orders, the worker, and the pages of jobs.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial, wraps
from typing import Any

from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right, require
from adit.audit import trail
from adit.jobs import block_check, encrypted_payload, states, visibility
from adit.jobs.actions import ActionRequest, Execute
from adit.jobs.kinds.base import TaskPlan
from adit.jobs.models import (
    ArchiveFile,
    Job,
    JobState,
    PendingArchiveFile,
    Task,
    TaskState,
    TaskType,
)
from adit.nodes import access, destination_folders
from adit.nodes.models import Node
from adit.projects import services
from adit.retention import periods
from adit.retention.periods import DataKind
from adit.vault.cipher import DecryptionError
from adit_engine.errors import InvalidInput, StorageError
from adit_engine.messages import Message
from adit_engine.values.archive_password import validate_password


def is_archive(node: Node | None) -> bool:
    return node is not None and node.capabilities.is_archive


def allowed_destinations(user: User) -> list[Node]:
    """Return the nodes to which the user may send.

    7-Zip destinations require the permission to order them.
    """
    nodes = access.writable_nodes(user)
    return list(
        nodes
        if has_right(user, Right.USE_ARCHIVES)
        else nodes.exclude(kind__in=destination_folders.archive_kinds())
    )


def archive_title(job: Job) -> str:
    """Return the name under which the images of the job are staged."""
    return f"job-{job.pk}"


def lacks_password(job: Job) -> bool:
    """Return whether a new file requires a new password.

    The old one is never kept after the end of the job.
    """
    return is_archive(job.destination) and not job.archive_password


def creates_archive_again(execute: Execute) -> Execute:
    """Wrap the execution of an action after which the 7-Zip file is created again.

    Images that are fetched again go into a new file. It raises InvalidInput without a password.
    """

    @wraps(execute)
    def execute_and_reset_packing(request: ActionRequest) -> Mapping[str, Any] | None:
        job = request.job
        if lacks_password(job):
            raise InvalidInput("archive-file.new-password-needed")
        details = execute(request)
        if is_archive(job.destination):
            job.refresh_from_db()
            if reset_packing(job):
                tasks = job.tasks.filter(type=TaskType.PACK)
                states.move_tasks(job, tasks, TaskState.PENDING, **states.RESET_FIELDS)
        return details

    return execute_and_reset_packing


def validate_archive_password(password: str) -> str:
    """Return the password; raise InvalidInput if it is too common or invalid."""
    if not password:
        raise InvalidInput("archive-file.password-missing")
    try:
        CommonPasswordValidator().validate(password)
    except ValidationError:
        raise InvalidInput("archive-file.password-too-common") from None
    return validate_password(password)


def password_not_saved() -> InvalidInput:
    return InvalidInput("archive-file.password-not-saved")


def insert_packing_task(job: Job) -> None:
    """Insert the last task of a job that creates a 7-Zip file.

    It is inserted when all other tasks are known.
    """
    tasks = Task.objects.filter(job=job)
    if not is_archive(job.destination) or job.stage or tasks.filter(type=TaskType.PACK).exists():
        return
    last = (tasks.aggregate(last=Max("position"))["last"] or 0) + 1
    plan = TaskPlan(source=0, payload={}, title=_("Encrypted 7-Zip file"))
    payload = encrypted_payload.seal_task(
        job.project or services.default_project(), job, last, plan, ""
    )
    Task.objects.create(job=job, position=last, type=TaskType.PACK, payload=payload)


def save_password(user: User, job: Job, password: str) -> None:
    """Save the password of the next file of an ended job.

    It is encrypted, and kept until that file is created. Raises NotPermitted, InvalidInput.
    """
    require(user, Right.USE_ARCHIVES)
    job.archive_password = validate_archive_password(password)
    Job.objects.filter(pk=job.pk).update(archive_password=job.archive_password)


def retention_days() -> int:
    days = periods.get_days(DataKind.ARCHIVES)
    assert days is not None, "7-Zip files are never kept for ever"
    return days


def retention_period() -> timedelta:
    return timedelta(days=retention_days())


# Downloads ----------------------------------------------------------------------------------------


def visible_archives(user: User) -> QuerySet[ArchiveFile]:
    """Return the existing files of jobs that the user may see, newest first."""
    files = ArchiveFile.objects.filter(job__in=visibility.visible_jobs(user), removed_at=None)
    return files.select_related("job__destination", "job__owner", "job__project")


def explain_no_download(user: User, archive: ArchiveFile) -> Message | None:
    """Return why the user may not download the file; None if it is allowed."""
    if not has_right(user, Right.DOWNLOAD):
        return Message("archive-file.download-not-permitted")
    if archive.job.tasks.filter(recalled_at__gt=archive.built_at).exists():
        return Message("archive-file.recalled")
    if archive.job.is_as_is and not has_right(user, Right.TRANSFER_IDENTIFIED):
        return Message("archive-file.identified")
    return None


def find_block(archive: ArchiveFile) -> Message | None:
    """Return why the images in the file must not leave now; None if they may.

    Decrypts each task of the job, so it is asked at the download, not in lists.
    """
    try:
        why = block_check.find_block_of_delivered(archive.job)
    except DecryptionError:
        return Message("archive-file.key-destroyed")
    return None if why is None else Message("archive-file.blocked", reason=why)


# The end of a file --------------------------------------------------------------------------------


def remove_files(files: Iterable[ArchiveFile], reason: str, user: User | None = None) -> int:
    """Delete files and record it in the audit trail; return how many.

    Files that cannot be deleted remain listed.
    """
    count = 0
    for one in files:
        node = one.job.destination
        try:
            if node is not None:
                destination_folders.remove_archive_file(node, one.name)
        except StorageError:
            continue
        with transaction.atomic():
            ArchiveFile.objects.filter(pk=one.pk).update(removed_at=timezone.now())
            details = {"file": one.name, "why": reason}
            trail.record("archive.removed", user=user, about=f"job:{one.job_id}", details=details)
        count += 1
    return count


def remove_unlisted(job: Job) -> int:
    """Delete files that were published but not listed, because a process was killed.

    Returns their number. Called by the task that packs the job, or when no packing task is active.
    Names of files that cannot be deleted remain in the database. Raises nothing.
    """
    listed = ArchiveFile.objects.filter(job=job, removed_at=None).values_list("name", flat=True)
    count = 0
    for one in PendingArchiveFile.objects.filter(job=job):
        if one.name not in listed and job.destination is not None:
            try:
                destination_folders.remove_archive_file(job.destination, one.name)
            except StorageError:
                continue
            count += 1
        one.delete()
    return count


def remove_unlisted_of_idle_jobs() -> int:
    """Call `remove_unlisted` for jobs without an active packing task.

    Canceled jobs are an example.
    """
    at_work = Task.objects.filter(
        type=TaskType.PACK, state__in=(TaskState.PENDING, TaskState.IN_PROGRESS)
    )
    left = Job.objects.filter(pending_archive_files__isnull=False).exclude(
        pk__in=at_work.values("job")
    )
    return sum(remove_unlisted(job) for job in left.distinct().select_related("destination"))


def delete_staged_images() -> int:
    """Delete staged images of jobs that ended long ago or succeeded.

    Returns the number of jobs. Successful jobs usually have none left, except when a worker was
    killed.
    """
    now = timezone.now()
    seen_before = now - retention_period() - timedelta(days=2)
    ended = Job.objects.filter(
        destination__kind__in=destination_folders.archive_kinds(), ended_at__gt=seen_before
    )
    count = 0
    for job in ended.select_related("destination"):
        is_old = job.ended_at is not None and job.ended_at < now - retention_period()
        if job.destination is not None and (job.state == JobState.SUCCESS or is_old):
            destination_folders.delete_staged_images(job.destination, archive_title(job))
            count += 1
    return count


def delete_job_files(job: Job) -> None:
    """Delete the files and staged images of a job, on commit.

    Called when the job is deleted, or when it starts again from the beginning.
    """
    node = job.destination
    if node is None or not is_archive(node):
        return
    listed = ArchiveFile.objects.filter(job=job, removed_at=None).values_list("name", flat=True)
    names = {*listed, *PendingArchiveFile.objects.filter(job=job).values_list("name", flat=True)}
    ArchiveFile.objects.filter(job=job).delete()
    PendingArchiveFile.objects.filter(job=job).delete()
    title = archive_title(job)
    for name in names:
        transaction.on_commit(
            partial(destination_folders.remove_archive_file, node, name), robust=True
        )
    transaction.on_commit(
        partial(destination_folders.delete_staged_images, node, title), robust=True
    )


def reset_packing(job: Job) -> bool:
    """Return whether the file of a locked job has to be created again.

    This is the case if a part of the job runs again.
    """
    tasks = Task.objects.filter(job=job)
    live = tasks.filter(type=TaskType.ORDERED, state__in=(TaskState.PENDING, TaskState.IN_PROGRESS))
    ended = tasks.filter(type=TaskType.PACK).exclude(
        state__in=(TaskState.PENDING, TaskState.IN_PROGRESS)
    )
    return live.exists() and ended.exists()


@dataclass(frozen=True, slots=True)
class ArchiveFileRow:
    file: ArchiveFile
    reason: Message | None
    """Why the user may not download the file; None if it is allowed."""
    path: str
    """The path where users find the file without a browser."""


def make_file_rows(user: User, files: Iterable[ArchiveFile]) -> list[ArchiveFileRow]:
    return [
        ArchiveFileRow(
            one,
            explain_no_download(user, one),
            destination_folders.get_user_path(one.job.destination, one.name)
            if one.job.destination
            else "",
        )
        for one in files
    ]
