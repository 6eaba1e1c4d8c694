"""Record what a project has delivered, and list the images of a job.

Series that were delivered completely are not sent again. The list of an ended job, under the output
UIDs, is written to its folder. Used by orders, the worker and reports.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from adit.accounts.permissions import NotPermitted
from adit.jobs import encrypted_payload, states
from adit.jobs.models import AS_IS, DeliveredSeries, Job, SeriesResult, Task, TaskState, TaskType
from adit.nodes import destination_folders
from adit.nodes.gateway import Purpose, open_node
from adit.projects import services
from adit.projects.models import ProfileVersion
from adit.projects.profile_versions import parse_rules as rules_in
from adit.results import archives
from adit.results.applied_rules import AppliedRules, get_rules
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.dicom_file.delivery_list import DeliveryListLine
from adit_engine.errors import AditError
from adit_engine.nodes.base import ArchiveRequest, StagedImage
from adit_engine.pseudonymize.profile import RETAIN_UIDS
from adit_engine.values.outcome import InstanceState, SeriesLedger
from adit_engine.values.references import InstanceRef


def record_deliveries(task: Task) -> None:
    """Record the series that an ended task delivered completely, or as announced.

    The content of a 7-Zip file does not count as delivered for the next one, which may have another
    recipient.
    """
    job = task.job
    if job.destination is None or job.project is None or archives.is_archive(job.destination):
        return
    box = encrypted_payload.get_cipher(job.project)
    items = SeriesResult.objects.filter(task=task, is_final=True, skip_reason__isnull=True)
    rows = []
    for item in items.filter(delivered__gt=0):
        if item.expected is None:
            continue
        if task.state != TaskState.SUCCESS and item.delivered < item.expected:
            continue
        uid = encrypted_payload.open_series(item, box).manifest.ref.series_uid
        rows.append(
            DeliveredSeries(
                project=job.project,
                destination=job.destination,
                index=_series_index(box, job, uid),
                images=item.expected,
                job=job,
            )
        )
    DeliveredSeries.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["project", "destination", "index"],
        update_fields=["images", "job", "at"],
    )


def find_delivered(job: Job, series_uids: Iterable[str]) -> dict[str, DeliveredSeries]:
    """Return the deliveries of series that this project already sent to this destination."""
    if job.destination is None:
        return {}
    project = job.project or services.default_project()
    box = encrypted_payload.get_cipher(project)
    by_index = {_series_index(box, job, uid): uid for uid in series_uids}
    rows = DeliveredSeries.objects.filter(
        project=project, destination=job.destination, index__in=list(by_index)
    )
    return {by_index[row.index]: row for row in rows}


def _series_index(cipher: ValueCipher, job: Job, series_uid: str) -> str:
    """In another generation the same series has other UIDs and is another delivery."""
    project = job.project or services.default_project()
    how = AS_IS if job.is_as_is else f"generation {project.generation}"
    return cipher.index(f"{how}\0{series_uid}", "delivered")


def forget_deliveries(task: Task) -> None:
    """Let later jobs send the series of a task again: they are no longer at the destination."""
    job = task.job
    if job.destination is None or job.project is None:
        return
    box = encrypted_payload.get_cipher(job.project)
    items = SeriesResult.objects.filter(task=task)
    uids = {encrypted_payload.open_series(item, box).manifest.ref.series_uid for item in items}
    indexes = [_series_index(box, job, uid) for uid in uids]
    DeliveredSeries.objects.filter(
        project=job.project, destination=job.destination, index__in=indexes
    ).delete()


def make_bundle(
    job: Job, name: str, each: Iterable[StagedImage], images: int = 0, size_bytes: int = 0
) -> ArchiveRequest:
    """Return the data for a delivery list or a 7-Zip file."""
    has_project = job.project is not None and not job.project.is_default
    about: dict[str, str | int] = {
        "job": job.pk,
        "project": job.project.protocol_id if job.project is not None and has_project else "",
        "made_at": timezone.now().isoformat(timespec="seconds"),
    }
    return ArchiveRequest(name, images, size_bytes, each, undelivered_lines(job), about)


def delivered_files(job: Job) -> Iterator[StagedImage]:
    """Yield every delivered image that is stored as a file, in the order of tasks.

    Recalled images are left out. One series is decrypted at a time. Raises DecryptionError.
    """
    for uid_of, manifest in _manifests(job):
        series = manifest.ref
        for original, entry in manifest.delivered_entries().items():
            if entry.path:
                ref = InstanceRef(
                    uid_of(series.study_uid), uid_of(series.series_uid), uid_of(original)
                )
                yield StagedImage(ref, entry.path, entry.sha256, entry.size_bytes)


def undelivered_lines(job: Job) -> Iterator[DeliveryListLine]:
    """Yield what was not delivered and why, under the UIDs of the outputs."""
    for uid_of, manifest in _manifests(job):
        series = manifest.ref
        for original, entry in manifest.entries.items():
            if entry.state is not InstanceState.DELIVERED:
                uids = (uid_of(series.study_uid), uid_of(series.series_uid), uid_of(original))
                reason = str(entry.reason or "")
                yield DeliveryListLine(*uids, entry.state.value, reason)


def _manifests(job: Job) -> Iterator[tuple[Callable[[str], str], SeriesLedger]]:
    tasks = Task.objects.filter(job=job, type=TaskType.ORDERED, recalled_at=None)
    tasks = tasks.select_related("job__project")
    box = encrypted_payload.get_cipher(job.project)
    for task in tasks.order_by("position"):
        uid_of = get_uid_mapper(task)
        for item in SeriesResult.objects.filter(task=task).iterator(chunk_size=16):
            yield uid_of, encrypted_payload.open_series(item, box).manifest


def get_uid_mapper(task: Task) -> Callable[[str], str]:
    """Return a function from an original UID to the output UID.

    It returns the same UID where UIDs were kept. Raises DecryptionError.
    """
    used = get_rules(task)
    if not used or task.job.is_as_is or keeps_uids(used):
        return str
    return services.get_project_key(
        task.job.project or services.default_project(), used[-1].generation
    ).uid


def keeps_uids(used: list[AppliedRules]) -> bool:
    profiles = ProfileVersion.objects.filter(pk__in={rules.profile for rules in used})
    return any(RETAIN_UIDS in rules_in(profile).options for profile in profiles)


LOCK_FOR = timedelta(minutes=30)
"""A process that writes a list has it to itself for this time."""
RETRY_AFTER = timedelta(minutes=5)
GIVE_UP_AFTER = timedelta(days=2)

log = logging.getLogger(__name__)


def jobs_due() -> QuerySet[Job]:
    """Return ended jobs whose delivery list has not been written yet."""
    kinds = destination_folders.delivery_list_kinds()
    ended = Job.objects.filter(state__in=list(states.ENDED_JOBS), destination__kind__in=kinds)
    return ended.filter(delivery_list_due_at__lte=timezone.now())


def write_due_lists() -> int:
    """Write the lists that are due; return how many.

    Failures are retried for two days.
    """
    return sum(_try_write(pk) for pk in list(jobs_due().values_list("pk", flat=True)))


def _try_write(pk: int) -> bool:
    now = timezone.now()
    mine = Job.objects.filter(pk=pk, delivery_list_due_at__lte=now)
    if mine.update(delivery_list_due_at=now + LOCK_FOR) != 1:
        return False
    job = Job.objects.select_related("owner", "project", "destination").get(pk=pk)
    again = None
    try:
        _write_list(job)
    except (NotPermitted, DecryptionError) as error:
        log.info("job %d: no list of its images (%s)", pk, type(error).__name__)
    except AditError as error:
        log.warning("job %d: its list of images is not written (%s)", pk, type(error).__name__)
        is_old = job.ended_at is None or job.ended_at < now - GIVE_UP_AFTER
        again = None if is_old else timezone.now() + RETRY_AFTER
    Job.objects.filter(pk=pk, delivery_list_due_at=now + LOCK_FOR).update(
        delivery_list_due_at=again
    )
    return again is None


def _write_list(job: Job) -> None:
    """Without delivered images there is nothing to list."""
    assert job.destination is not None, "what is due has a folder"
    if next(delivered_files(job), None) is None:
        return
    holder = f"contents:{job.pk}"
    place = open_node(job.owner, job.destination, Purpose.STORE, holder=holder, urgent=job.urgent)
    with place as node:
        node.write_delivery_list(make_bundle(job, f"job-{job.pk}", delivered_files(job)))
