"""Archives: the encrypted 7-Zip files that jobs end in: ordered with a password, kept for a while.
Files: what pages say of a finished 7-Zip file, and whether this person may have it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.contrib.auth.password_validation import CommonPasswordValidator
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.permissions import Right, may, require
from adit.audit import trail
from adit.jobs import encrypted_payload, visibility
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
from adit_engine.errors import InvalidInput, StorageError
from adit_engine.values.archive_password import validate_password

ACTIONS_NEEDING_PASSWORD = frozenset({"resume", "retry", "retry_withheld", "restart", "reset"})
"""What a person does with an ended job after which a file is built again."""


def is_archive(node: Node | None) -> bool:
    return node is not None and node.kind == destination_folders.ARCHIVE_KIND


def allowed_destinations(user: User) -> list[Node]:
    """Where this person may send, 7-Zip files only with the right to order them."""
    nodes = access.writable_nodes(user)
    return list(
        nodes
        if may(user, Right.USE_ARCHIVES)
        else nodes.exclude(kind=destination_folders.ARCHIVE_KIND)
    )


def archive_title(job: Job) -> str:
    """Under which its images are gathered."""
    return f"job-{job.pk}"


def lacks_password(job: Job, verb: str) -> bool:
    """Whether a new one has to be given first: the old one is never kept beyond the job's end."""
    asks = verb in ACTIONS_NEEDING_PASSWORD and is_archive(job.destination)
    return asks and not job.archive_password


def validate_archive_password(password: str) -> str:
    """Raises WrongInput."""
    if not password:
        raise InvalidInput(_("Give the password of the 7-Zip file: it opens with nothing else."))
    try:
        CommonPasswordValidator().validate(password)
    except ValidationError:
        raise InvalidInput(_("The password is one of those that everybody tries first.")) from None
    return validate_password(password)


def password_not_saved() -> InvalidInput:
    return InvalidInput(_("Write the password down first, then tick that you have it."))


def insert_packing_task(job: Job) -> None:
    """The last task of a job that ends in a 7-Zip file, once it is known what all goes in."""
    tasks = Task.objects.filter(job=job)
    if not is_archive(job.destination) or job.stage or tasks.filter(work=TaskType.PACK).exists():
        return
    last = (tasks.aggregate(last=Max("position"))["last"] or 0) + 1
    plan = TaskPlan(source=0, payload={}, title=_("Encrypted 7-Zip file"))
    payload = encrypted_payload.seal_task(
        job.project or services.default_project(), job, last, plan, ""
    )
    Task.objects.create(job=job, position=last, work=TaskType.PACK, payload=payload)


def save_password(user: User, job: Job, password: str) -> None:
    """For the next file of an ended job; sealed, until that is built. Raises NotPermitted, WrongInput."""
    require(user, Right.USE_ARCHIVES)
    job.archive_password = validate_archive_password(password)
    Job.objects.filter(pk=job.pk).update(archive_password=job.archive_password)


def retention_period() -> timedelta:
    return timedelta(days=settings.ARCHIVE_DAYS)


# Downloads ----------------------------------------------------------------------------------------


def visible_archives(user: User) -> QuerySet[ArchiveFile]:
    """Files that are still there, of jobs that this person sees; newest first."""
    files = ArchiveFile.objects.filter(job__in=visibility.visible_jobs(user), removed_at=None)
    return files.select_related("job__destination", "job__owner", "job__project")


def explain_no_download(user: User, archive: ArchiveFile) -> str:
    """Empty when the person may have the file."""
    if not may(user, Right.DOWNLOAD):
        return _("You may not download files in the browser. Ask whoever manages users and groups.")
    if archive.job.is_as_is and not may(user, Right.TRANSFER_IDENTIFIED):
        return _("This file holds identified images, which you may not transfer.")
    return ""


# The end of a file --------------------------------------------------------------------------------


def remove_files(files: Iterable[ArchiveFile], why: str, user: User | None = None) -> int:
    """Deletes files for good and writes it down; how many. What cannot be deleted stays listed."""
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
            details = {"file": one.name, "why": why}
            trail.record("archive.removed", user=user, about=f"job:{one.job_id}", details=details)
        count += 1
    return count


def remove_unlisted(job: Job) -> int:
    """Files that were shown by somebody who was killed before they were listed; how many.

    For who packs, or when nobody does. What cannot be deleted stays noted. Raises nothing.
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
    """The same for jobs in which nobody packs any more, such as canceled ones."""
    at_work = Task.objects.filter(
        work=TaskType.PACK, state__in=(TaskState.PENDING, TaskState.IN_PROGRESS)
    )
    left = Job.objects.filter(showings__isnull=False).exclude(pk__in=at_work.values("job"))
    return sum(remove_unlisted(job) for job in left.distinct().select_related("destination"))


def remove_expired() -> int:
    """The scheduler's hourly work."""
    over = ArchiveFile.objects.filter(removed_at=None, expires_at__lte=timezone.now())
    return remove_files(over.select_related("job__destination"), "expired")


def delete_staged_images() -> int:
    """Images laid apart for jobs that ended long ago, or whose files are all built; how many jobs.

    As a rule nothing is left of the latter; a worker that was killed in between leaves some.
    """
    now = timezone.now()
    seen_before = now - retention_period() - timedelta(days=2)
    ended = Job.objects.filter(
        destination__kind=destination_folders.ARCHIVE_KIND, ended_at__gt=seen_before
    )
    count = 0
    for job in ended.select_related("destination"):
        is_old = job.ended_at is not None and job.ended_at < now - retention_period()
        if job.destination is not None and (job.state == JobState.SUCCESS or is_old):
            destination_folders.delete_staged_images(job.destination, archive_title(job))
            count += 1
    return count


def delete_job_files(job: Job) -> None:
    """With the job, or when it starts from nothing: files and what was gathered go, on commit."""
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
    """Whether the file of a locked job has to be built again, since a part of it runs again."""
    tasks = Task.objects.filter(job=job)
    live = tasks.filter(work=TaskType.KIND, state__in=(TaskState.PENDING, TaskState.IN_PROGRESS))
    ended = tasks.filter(work=TaskType.PACK).exclude(
        state__in=(TaskState.PENDING, TaskState.IN_PROGRESS)
    )
    return live.exists() and ended.exists()


@dataclass(frozen=True, slots=True)
class ArchiveFileRow:
    file: ArchiveFile
    why_not: str
    """Why this person may not download it; empty when so."""
    place: str
    """Where users find it without a browser."""


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
