"""Progress of jobs and counts of their results, for pages that refresh often."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.utils.translation import gettext as _

from adit.jobs.kinds.base import RowNote
from adit.jobs.models import (
    DeliveredCounts,
    Job,
    JobStage,
    JobState,
    SeriesResult,
    Task,
    TaskState,
    TaskType,
)
from adit.messages import MessageCount
from adit.nodes.models import Lane
from adit_engine.messages import Message

ENDED_JOB_STATES = frozenset(
    {JobState.CANCELED, JobState.SUCCESS, JobState.WARNING, JobState.FAILURE}
)
ENDED_TASK_STATES = frozenset(
    {TaskState.CANCELED, TaskState.SUCCESS, TaskState.WARNING, TaskState.FAILURE}
)
MAX_REASON_ROWS = 5000
"""Maximum number of series over which reasons are summed. Beyond it rare ones may be missing."""


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """Image counts of a job or task. `unlisted` series have no list to compare with."""

    series: int = 0
    listed: int = 0
    """Images listed by the sources, in the series that have a reliable list."""
    stored: int = 0
    """Accepted by the destination, but not yet confirmed as kept."""
    delivered: int = 0
    withheld: int = 0
    failed: int = 0
    skipped: int = 0
    size_bytes: int = 0
    unlisted: int = 0

    @property
    def expected(self) -> int | None:
        """The number of expected images; None if a series has no list or none is known."""
        return self.listed if self.is_verified else None

    @property
    def done(self) -> int:
        return self.delivered + self.withheld + self.failed + self.skipped

    @property
    def at_end(self) -> DeliveredCounts:
        """For the label of a task or job that succeeded."""
        return DeliveredCounts(self.delivered, self.withheld, self.skipped)

    @property
    def is_verified(self) -> bool:
        """Whether there are series, and all of them have a list to compare with."""
        return self.series > 0 and self.unlisted == 0


@dataclass(frozen=True, slots=True)
class Progress:
    tasks: int
    tasks_ended: int
    counts: ImageCounts = field(default_factory=ImageCounts)
    asks: bool = False
    """All tasks are searches, as in a query or in a check before the start."""

    @property
    def percent(self) -> int:
        """The progress by tasks; for a single task by images as far as these are known."""
        if not self.tasks:
            return 0
        by_tasks = 100 * self.tasks_ended / self.tasks
        if self.tasks_ended == self.tasks or not self.counts.expected:
            return int(by_tasks)
        sent = self.counts.done + self.counts.stored
        by_images = 100 * min(1.0, sent / self.counts.expected)
        return int(min(by_images, 99.0)) if self.tasks == 1 else int(max(by_tasks, 0))


def count_tasks(jobs: Iterable[int]) -> dict[int, Progress]:
    """Count the finished tasks of each job, without images. One query.

    Once a job has studies to send, the tasks of its check are not counted.
    """
    asked, sent = Q(lane=Lane.SEARCH), ~Q(lane=Lane.SEARCH)
    over = Q(state__in=ENDED_TASK_STATES)
    rows = (
        Task.objects.filter(job_id__in=list(jobs), type=TaskType.ORDERED)
        .order_by()
        .values("job_id")
        .annotate(
            asked=Count("id", filter=asked),
            asked_over=Count("id", filter=asked & over),
            sent=Count("id", filter=sent),
            sent_over=Count("id", filter=sent & over),
        )
    )
    return {row["job_id"]: _row_to_progress(row) for row in rows}


def _row_to_progress(row: Mapping[str, Any]) -> Progress:
    if row["sent"]:
        return Progress(row["sent"], row["sent_over"])
    return Progress(row["asked"], row["asked_over"], asks=True)


@dataclass(frozen=True, slots=True)
class SheetRowCounts:
    """The rows of a batch transfer by outcome.

    `delivered` includes rows that were delivered before. `withheld` are rows of studies of which all
    images were withheld. `not_transferred` are found rows that were not started, and rows whose
    transfer failed.
    """

    rows: int
    delivered: int
    withheld: int
    invalid: int
    excluded: int
    not_found: int

    @property
    def not_transferred(self) -> int:
        others = self.withheld + self.invalid + self.excluded + self.not_found
        return self.rows - self.delivered - others


def count_sheet_rows(job: Job) -> SheetRowCounts:
    """Count the rows of a batch transfer by outcome. One query, without decryption."""
    sent = Q(task__state__in=(TaskState.SUCCESS, TaskState.WARNING), task__lane=Lane.RETRIEVE)
    has_images = Exists(SeriesResult.objects.filter(task=OuterRef("task"), delivered__gt=0))
    not_found = Q(task__lane=Lane.SEARCH, is_asked=True, is_found=False)
    delivered = (sent & Q(has_images=True)) | Q(notes=[RowNote.DELIVERED.value])
    return SheetRowCounts(
        **job.lines.annotate(has_images=has_images).aggregate(
            rows=Count("id"),
            delivered=Count("id", filter=delivered),
            withheld=Count("id", filter=sent & Q(has_images=False)),
            invalid=Count("id", filter=Q(notes=[RowNote.INVALID.value])),
            excluded=Count("id", filter=Q(notes=[RowNote.LEFT_OUT.value])),
            not_found=Count("id", filter=not_found & ~Q(notes=[RowNote.LEFT_OUT.value])),
        )
    )


def count_unanswered_rows(job: Job) -> int:
    """Count the rows of a batch transfer for which the source reported an error."""
    rows = job.lines.filter(is_asked=True, is_found=False)
    return sum(RowNote.NO_ANSWER in notes for notes in rows.values_list("notes", flat=True))


def transfer_tasks(job: Job) -> QuerySet[Task]:
    """Return the tasks that transfer images: neither searches nor packing."""
    return Task.objects.filter(job=job, type=TaskType.ORDERED).exclude(lane=Lane.SEARCH)


def retryable_tasks(job: Job) -> QuerySet[Task]:
    """Return the tasks that can be retried.

    Excluded are the start task, the check once the transfer has started, and studies whose images
    were recalled.
    """
    begins_with = job.capabilities.stage
    tasks = job.tasks.exclude(type=TaskType.START).filter(recalled_at=None)
    if begins_with != JobStage.CHECK or job.stage == JobStage.CHECK:
        return tasks
    return tasks.exclude(lane=Lane.SEARCH)


def count_recalled(job: Job) -> int:
    """Return the number of studies whose images were recalled."""
    return job.tasks.filter(recalled_at__isnull=False).count()


def get_progress(job: Job) -> Progress:
    """Return the progress of one job by tasks and images. Two queries."""
    tasks = count_tasks([job.pk]).get(job.pk, Progress(0, 0))
    return replace(tasks, counts=count_images(SeriesResult.objects.filter(task__job=job)))


def count_images(items: QuerySet[SeriesResult]) -> ImageCounts:
    """Sum the image counts. Series excluded on purpose are not counted at all."""
    return _row_to_counts(items.filter(skip_reason__isnull=True).aggregate(**_SUMS))


def count_images_by_task(tasks: Iterable[Task]) -> dict[int, ImageCounts]:
    rows = (
        SeriesResult.objects.filter(task__in=list(tasks), skip_reason__isnull=True)
        .order_by()
        .values("task_id")
        .annotate(**_SUMS)
    )
    return {row["task_id"]: _row_to_counts(dict(row)) for row in rows}


def count_images_by_job(jobs: Iterable[Job]) -> dict[int, ImageCounts]:
    """Sum the image counts of each job that has series. One query."""
    rows = (
        SeriesResult.objects.filter(task__job__in=list(jobs), skip_reason__isnull=True)
        .order_by()
        .values("task__job")
        .annotate(**_SUMS)
    )
    return {row["task__job"]: _row_to_counts(dict(row)) for row in rows}


def set_delivered_counts(jobs: Iterable[Job]) -> None:
    """Set `delivered_counts` of many jobs. One query if any of them is a success."""
    ended = [job for job in jobs if job.state == JobState.SUCCESS]
    if not ended:
        return
    rows = (
        SeriesResult.objects.filter(task__job__in=ended, skip_reason__isnull=True)
        .order_by()
        .values("task__job")
        .values_list("task__job", Sum("delivered"), Sum("withheld"), Sum("skipped"))
    )
    found = {job: DeliveredCounts(*sums) for job, *sums in rows}
    for job in ended:
        job.delivered_counts = found.get(job.pk, DeliveredCounts())


def count_reasons(items: QuerySet[SeriesResult]) -> list[MessageCount]:
    """Return the reasons why images were withheld or failed, most frequent first."""
    totals: Counter[Message] = Counter()
    rows = items.exclude(reasons=[]).order_by().values_list("reasons", flat=True)
    for reasons in rows[:MAX_REASON_ROWS]:
        for reason, count in reasons:
            totals[reason] += count
    return totals.most_common()


def count_left_out(items: QuerySet[SeriesResult]) -> list[MessageCount]:
    """Return why whole series were excluded on purpose, with the number of series."""
    excluded = items.filter(skip_reason__isnull=False).order_by()
    reasons: Counter[Message] = Counter()
    for reason, n in excluded.values_list("skip_reason").annotate(n=Count("id")):
        if reason is not None:
            reasons[reason] += n
    return reasons.most_common()


def format_size(size_bytes: int) -> str:
    for unit, size in (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000)):
        if size_bytes >= size:
            return f"{size_bytes / size:.1f} {unit}"
    return _("%(size)d bytes") % {"size": size_bytes}


_SUMS: dict[str, Any] = {
    "series": Count("id"),
    "with_list": Count("expected"),
    "expected_sum": Sum("expected"),
    "stored_sum": Sum("stored"),
    "delivered_sum": Sum("delivered"),
    "withheld_sum": Sum("withheld"),
    "failed_sum": Sum("failed"),
    "skipped_sum": Sum("skipped"),
    "bytes_sum": Sum("size_bytes"),
}


def _row_to_counts(row: dict[str, Any]) -> ImageCounts:
    return ImageCounts(
        series=row["series"],
        listed=row["expected_sum"] or 0,
        stored=row["stored_sum"] or 0,
        delivered=row["delivered_sum"] or 0,
        withheld=row["withheld_sum"] or 0,
        failed=row["failed_sum"] or 0,
        skipped=row["skipped_sum"] or 0,
        size_bytes=row["bytes_sum"] or 0,
        unlisted=row["series"] - row["with_list"],
    )
