"""Progress: how far jobs are and what came of them, in counts, for pages that ask often."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum
from django.utils.translation import gettext as _

from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState, TaskType
from adit.nodes.models import Lane

ENDED_JOB_STATES = frozenset(
    {JobState.CANCELED, JobState.SUCCESS, JobState.WARNING, JobState.FAILURE}
)
ENDED_TASK_STATES = frozenset(
    {TaskState.CANCELED, TaskState.SUCCESS, TaskState.WARNING, TaskState.FAILURE}
)
MAX_REASON_ROWS = 5000
"""Reasons are added up over so many series; beyond them the rarest may be missing."""


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """Images of a job or task. `unlisted` series have no list to be compared with."""

    series: int = 0
    listed: int = 0
    """How many images the sources listed, in those series that have a list to trust."""
    stored: int = 0
    """On the way: taken by the destination, not yet proven kept."""
    delivered: int = 0
    withheld: int = 0
    failed: int = 0
    skipped: int = 0
    size_bytes: int = 0
    unlisted: int = 0

    @property
    def expected(self) -> int | None:
        """None as long as a series has no list, or no series is known."""
        return self.listed if self.is_proven else None

    @property
    def done(self) -> int:
        return self.delivered + self.withheld + self.failed + self.skipped

    @property
    def is_empty(self) -> bool:
        """All that there was has been held back; of what ended as ordered."""
        return not self.delivered and bool(self.withheld + self.skipped)

    @property
    def is_proven(self) -> bool:
        """Whether there is something, and all of it can be compared with the source's list."""
        return self.series > 0 and self.unlisted == 0


@dataclass(frozen=True, slots=True)
class Progress:
    tasks: int
    tasks_over: int
    counts: ImageCounts = field(default_factory=ImageCounts)
    asks: bool = False
    """All of its tasks are questions, as those of a query, or of a check before the start."""

    @property
    def percent(self) -> int:
        """By tasks, and within them by images as far as those are known."""
        if not self.tasks:
            return 0
        by_tasks = 100 * self.tasks_over / self.tasks
        if self.tasks_over == self.tasks or not self.counts.expected:
            return int(by_tasks)
        sent = self.counts.done + self.counts.stored
        by_images = 100 * min(1.0, sent / self.counts.expected)
        return int(min(by_images, 99.0)) if self.tasks == 1 else int(max(by_tasks, 0))


def count_tasks(jobs: Iterable[int]) -> dict[int, Progress]:
    """How many tasks of each job are over; images are not looked at. One query.

    Once a job has studies to send, its check counts no more.
    """
    asked, sent = Q(lane=Lane.SEARCH), ~Q(lane=Lane.SEARCH)
    over = Q(state__in=ENDED_TASK_STATES)
    rows = (
        Task.objects.filter(job_id__in=list(jobs), work=TaskType.KIND)
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


def transfer_tasks(job: Job) -> QuerySet[Task]:
    """Its tasks that send something: neither questions, nor the packing of an archive."""
    return Task.objects.filter(job=job, work=TaskType.KIND).exclude(lane=Lane.SEARCH)


def get_progress(job: Job) -> Progress:
    """Tasks and images of one job. Two queries."""
    tasks = count_tasks([job.pk]).get(job.pk, Progress(0, 0))
    return replace(tasks, counts=count_images(SeriesResult.objects.filter(task__job=job)))


def count_images(items: QuerySet[SeriesResult]) -> ImageCounts:
    """Adds up. Series that were left out on purpose count neither as series nor as unlisted."""
    return _row_to_counts(items.filter(left_out="").aggregate(**_SUMS))


def count_images_by_task(tasks: Iterable[Task]) -> dict[int, ImageCounts]:
    rows = (
        SeriesResult.objects.filter(task__in=list(tasks), left_out="")
        .order_by()
        .values("task_id")
        .annotate(**_SUMS)
    )
    return {row["task_id"]: _row_to_counts(dict(row)) for row in rows}


def set_delivered_nothing(jobs: Iterable[Job]) -> None:
    """Asks of all of them at once which came_empty. One query, where any is a success."""
    ended = [job for job in jobs if job.state == JobState.SUCCESS]
    if not ended:
        return
    items = SeriesResult.objects.filter(task__job=OuterRef("pk"), left_out="")
    empty = Job.objects.filter(
        ~Exists(items.filter(delivered__gt=0)),
        Exists(items.exclude(withheld=0, skipped=0)),
        pk__in=[job.pk for job in ended],
    )
    found = set(empty.order_by().values_list("pk", flat=True))
    for job in ended:
        job.delivered_nothing = job.pk in found


def count_reasons(items: QuerySet[SeriesResult]) -> list[tuple[str, int]]:
    """Sentences why images were withheld or failed, the most frequent first."""
    totals: Counter[str] = Counter()
    rows = items.exclude(reasons=[]).order_by().values_list("reasons", flat=True)
    for reasons in rows[:MAX_REASON_ROWS]:
        for _code, sentence, count in reasons:
            totals[sentence] += count
    return totals.most_common()


def count_left_out(items: QuerySet[SeriesResult]) -> list[tuple[str, int]]:
    """Why whole series stayed behind on purpose, with the number of series."""
    rows = items.exclude(left_out="").order_by().values("left_out").annotate(n=Count("id"))
    return sorted(((row["left_out"], row["n"]) for row in rows), key=lambda row: -row[1])


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
