"""Estimates of image sizes, risks and end times of transfers.

Used by the order pages and by the pages of running jobs. Before the start a transfer is estimated
by its size (estimate_transfer_end); once it runs, by the durations of its own tasks, the allowed
hours and the queue (estimate_job).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.core.cache import cache
from django.db.models import Avg, Count, F, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.jobs import states, task_groups
from adit.jobs.models import Job, SeriesResult, Task, TaskGroup, TaskState
from adit.jobs.task_groups import Route
from adit.nodes.calendar import allowed_hours
from adit.nodes.gateway import Purpose, get_unavailability
from adit.nodes.limits import budgets
from adit.nodes.limits.breaker import get_breaker_pause
from adit.nodes.models import Lane, Node
from adit.projects.risks import HEADER_WORD
from adit_engine.errors import InvalidInput
from adit_engine.pseudonymize import admission
from adit_engine.pseudonymize.face_risk import FaceRisk, SeriesTexts, assess_face_risk
from adit_engine.values.record import Record

TYPICAL_BYTES = {
    "CT": 530_000,
    "MR": 300_000,
    "PT": 70_000,
    "NM": 1_000_000,
    "CR": 8_000_000,
    "DX": 15_000_000,
    "MG": 27_000_000,
    "XA": 20_000_000,
    "RF": 8_000_000,
    "US": 1_500_000,
    "SC": 1_500_000,
    "RTDOSE": 10_000_000,
    "RTSTRUCT": 3_000_000,
    "SEG": 5_000_000,
}
DEFAULT_BYTES = 1_000_000
"""Typical sizes of one image in bytes: a query does not return sizes."""


def typical_image_bytes(modalities: Iterable[str]) -> int:
    """Return the largest typical image size of the modalities, in bytes."""
    sizes = [TYPICAL_BYTES.get(modality, DEFAULT_BYTES) for modality in modalities]
    return max(sizes, default=DEFAULT_BYTES)


def estimate_face_risk(risk: str, study: Record, series: Record | None, modality: str) -> FaceRisk:
    """Return how likely a series has a risk of risks.py.

    `series` is None if the source does not list its series.
    """
    if risk == HEADER_WORD.name:
        return FaceRisk.LIKELY if admission.needs_risk_decision(modality) else FaceRisk.NONE
    of_study = (study.study_description,)
    if series is None:
        return assess_face_risk(modality, SeriesTexts(study_texts=of_study))
    named = SeriesTexts(series.series_description, series.texts("BodyPartExamined"), of_study)
    return assess_face_risk(modality, named, images=series.instance_count)


HORIZON = timedelta(days=60)


def find_end_time(nodes: Sequence[Node], lane: str, work_s: float, at_once: int) -> datetime | None:
    """Return when `work_s` seconds of work are done, within the allowed hours.

    At most `at_once` tasks run in parallel, and never more than all nodes allow at that time.
    Returns None if the end is beyond HORIZON. Raises InvalidInput if the allowed hours are invalid.
    """
    for begin, end in _constant_intervals(nodes, lane):
        most = min([at_once, *(allowed_hours.get_limit_at(node, lane, begin) for node in nodes)])
        lasts_s = (end - begin).total_seconds()
        if most and work_s / most <= lasts_s:
            return begin + timedelta(seconds=work_s / most)
        work_s -= most * lasts_s
    return None


def _constant_intervals(nodes: Sequence[Node], lane: str) -> Iterator[tuple[datetime, datetime]]:
    begin = timezone.now()
    last = begin + HORIZON
    while begin < last:
        edges = (
            next(allowed_hours.NodeCalendar.from_node(node).edges(lane, begin), last)
            for node in nodes
        )
        end = min([*edges, last])
        yield begin, end
        begin = end


DEFAULT_BYTES_S = 5_000_000
"""The rate of a source from which nothing was fetched yet: a cautious assumption."""
STUDY_S = 2.0
RATE_SAMPLE = 50


def estimate_transfer_end(
    source: Node, destination: Node, size_bytes: int, studies: int, *, urgent: bool = False
) -> datetime | None:
    """Return when a transfer would end if it started now.

    None if a node stays closed. Jobs of other users are not considered.
    """
    seconds = size_bytes / measure_rate(source) + STUDY_S * studies
    return find_sequential_end_time(
        (source, destination), Lane.URGENT if urgent else Lane.RETRIEVE, seconds
    )


def measure_rate(source: Node) -> float:
    """Return the bytes per second of the latest studies fetched, per connection."""
    ended = Task.objects.filter(
        source=source, lane=Lane.RETRIEVE, state=TaskState.SUCCESS, started_at__isnull=False
    ).order_by("-id")[:RATE_SAMPLE]
    spans = {
        task.pk: task.ended_at - task.started_at
        for task in ended
        if task.ended_at and task.started_at
    }
    seconds = sum((span.total_seconds() for span in spans.values()), 0.0)
    size = (
        SeriesResult.objects.filter(task__in=list(spans)).aggregate(n=Sum("size_bytes"))["n"] or 0
    )
    return max(size / seconds, 1.0) if seconds > 0 and size else DEFAULT_BYTES_S


def find_sequential_end_time(nodes: Sequence[Node], lane: str, seconds: float) -> datetime | None:
    """Return when `seconds` of work are done, one study after the other."""
    return find_end_time(nodes, lane, seconds, at_once=1)


DURATION_SAMPLE = 50
"""Number of most recent tasks that are averaged for the duration of one task."""
CACHE_S = 15
"""Pages of running jobs refresh every few seconds."""


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """The estimate of a job. `ends_at` is None if it is unknown.

    It is unknown if nothing was measured yet, or if a node waits for a manual action.
    """

    task_s: float | None = None
    """The average duration of a task in seconds."""
    ends_at: datetime | None = None
    is_unknown: bool = False
    """Nothing was measured yet."""

    @property
    def task_duration_text(self) -> str:
        if self.task_s is None:
            return ""
        if self.task_s < 90:
            return _("%d s") % max(1, round(self.task_s))
        return _("%d min") % round(self.task_s / 60)


def estimate_job(job: Job) -> JobEstimate:
    """Return the estimate of a job, cached for CACHE_S.

    A job that is not runnable has an empty estimate.
    """
    if job.state not in states.RUNNABLE_JOBS:
        return JobEstimate()
    key = f"outlook:{job.pk}"
    kept = cache.get(key)
    if kept is None:
        made = _compute_estimate(job)
        kept = [made.task_s, made.ends_at and made.ends_at.isoformat()]
        cache.set(key, kept, CACHE_S)
    task_s, ends_at = kept
    return JobEstimate(task_s, ends_at and datetime.fromisoformat(ends_at), task_s is None)


def _compute_estimate(job: Job) -> JobEstimate:
    live = Task.objects.filter(job=job, state__in=states.LIVE_TASKS)
    ends, took = [], _average_task_s(job)
    for group in TaskGroup.objects.filter(pk__in=live.values("group")).select_related("job"):
        ends.append(None if took is None else _group_end_time(group, took))
    if not ends or None in ends:
        return JobEstimate(took)
    return JobEstimate(took, max(end for end in ends if end is not None))


def _group_end_time(group: TaskGroup, task_s: float) -> datetime | None:
    route = task_groups.get_route(group)
    nodes = task_groups.nodes_of(route)
    if any(_needs_manual_action(node, route) for node in nodes):
        return None
    try:
        return find_end_time(nodes, route.lane, task_s * _tasks_before_end(group), _worker_count())
    except InvalidInput:
        return None


def _needs_manual_action(node: Node, route: Route) -> bool:
    waits = get_unavailability(node, route.purpose, urgent=route.urgent)
    return waits is not None and waits.until is None


def _average_task_s(job: Job) -> float | None:
    """The average duration of this job's tasks, or else of the latest ones from its sources."""
    ended = Task.objects.filter(state__in=(TaskState.SUCCESS, TaskState.WARNING))
    sources = job.task_groups.values("source")
    return _average_duration_s(ended.filter(job=job)) or _average_duration_s(
        ended.filter(source__in=sources)
    )


def _average_duration_s(tasks: QuerySet[Task]) -> float | None:
    newest = tasks.exclude(started_at=None).order_by("-id").values("id")[:DURATION_SAMPLE]
    rows = Task.objects.filter(pk__in=list(newest.values_list("pk", flat=True)))
    took = rows.aggregate(took=Avg(F("ended_at") - F("started_at")))["took"]
    return max(took.total_seconds(), 0.1) if took is not None else None


def _tasks_before_end(group: TaskGroup) -> float:
    """The number of tasks that run before the group ends, as users take turns.

    These are the tasks of the same owner up to this group, and of each other user at most as many.
    """
    shared = Task.objects.filter(
        group__source=group.source_id,
        group__lane=group.lane,
        state__in=states.LIVE_TASKS,
        job__state__in=states.RUNNABLE_JOBS,
    )
    owner = group.job.owner_id
    mine = shared.filter(job__owner=owner, group__lte=group.pk).count()
    others = (
        shared.exclude(job__owner=owner).order_by().values("job__owner").annotate(n=Count("id"))
    )
    return mine + sum(min(row["n"], mine) for row in others)


def _worker_count() -> int:
    """The configured workers of this machine, or the number that hold tasks now, if larger."""
    holding = Task.objects.filter(state=TaskState.IN_PROGRESS).values("worker").distinct().count()
    return max(settings.WORKERS, holding, 1)


def describe_start(
    nodes: Iterable[Node], *, is_urgent: bool, owner: int, studies: int
) -> list[str]:
    """Return one sentence per node or budget that delays the start.

    If nothing delays it, one sentence says so.
    """
    obstacles = [sentence for node in nodes if (sentence := _describe_obstacle(node, is_urgent))]
    now = [] if obstacles else [_("Now, as soon as a worker is available.")]
    warnings = [str(warning) for warning in budgets.list_budget_warnings(owner, studies)]
    return obstacles + (warnings or now)


def _describe_obstacle(node: Node, is_urgent: bool) -> str:
    try:
        waits = get_unavailability(node, Purpose.RETRIEVE, urgent=is_urgent) or get_breaker_pause(
            node
        )
    except InvalidInput as error:
        return f"{node}: {error}"
    return str(waits) if waits else ""
