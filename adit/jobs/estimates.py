"""Guess: what a search lets one expect of a series: its size, and the risks that it may bear.
Spans: the hours ahead, in each of which nothing opens or closes; when work is done in them.
Forecast: about when a transfer would have ended that is not started yet, by its size.

Of one that is under way outlook.py tells more, from what its own studies took.
Outlook: about when a job will have ended that is under way, from what its studies took, hours and
the queue.
When: the sentences that say when an order will run."""

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
"""Usual sizes of one image in bytes: a query does not tell sizes."""


def typical_image_bytes(modalities: Iterable[str]) -> int:
    """Of one image, for an estimate."""
    sizes = [TYPICAL_BYTES.get(modality, DEFAULT_BYTES) for modality in modalities]
    return max(sizes, default=DEFAULT_BYTES)


def estimate_face_risk(risk: str, study: Record, series: Record | None, modality: str) -> FaceRisk:
    """Whether a series bears a risk of risks.py; `series` is None where the source tells none."""
    if risk == HEADER_WORD.name:
        return FaceRisk.LIKELY if admission.needs_risk_decision(modality) else FaceRisk.NONE
    of_study = (study.study_description,)
    if series is None:
        return assess_face_risk(modality, SeriesTexts(study=of_study))
    named = SeriesTexts(series.series_description, series.texts("BodyPartExamined"), of_study)
    return assess_face_risk(modality, named, images=series.instance_count)


HORIZON = timedelta(days=60)


def find_end_time(nodes: Sequence[Node], lane: str, work_s: float, at_once: int) -> datetime | None:
    """When so many seconds of work are done, by as many at once as all nodes allow just then.

    None where that is beyond all that is looked at. Raises WrongInput for hours that cannot be read.
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
            next(allowed_hours.NodeCalendar.of(node).edges(lane, begin), last) for node in nodes
        )
        end = min([*edges, last])
        yield begin, end
        begin = end


DEFAULT_BYTES_S = 5_000_000
"""Of a source from which nothing was fetched yet: a guess on the careful side."""
STUDY_S = 2.0
RATE_SAMPLE = 50


def estimate_transfer_end(
    source: Node, destination: Node, size_bytes: int, studies: int, *, urgent: bool = False
) -> datetime | None:
    """None when a node is closed for good. Other people's jobs are not considered."""
    seconds = size_bytes / measure_rate(source) + STUDY_S * studies
    return find_sequential_end_time(
        (source, destination), Lane.URGENT if urgent else Lane.RETRIEVE, seconds
    )


def measure_rate(source: Node) -> float:
    """Bytes a second of the latest studies fetched from there, one connection."""
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
    """When so many seconds of work are done, one study after the other."""
    return find_end_time(nodes, lane, seconds, at_once=1)


DURATION_SAMPLE = 50
"""So many tasks that ended last tell how long one takes."""
CACHE_S = 15
"""Pages of running jobs ask every few seconds."""


@dataclass(frozen=True, slots=True)
class JobEstimate:
    """`ends_at` is None where nobody can know: nothing was measured, or a node waits for a person."""

    task_s: float | None = None
    """How long a task takes on average."""
    ends_at: datetime | None = None
    is_unknown: bool = False
    """Nothing was measured yet."""

    @property
    def task_words(self) -> str:
        if self.task_s is None:
            return ""
        if self.task_s < 90:
            return _("%d s") % max(1, round(self.task_s))
        return _("%d min") % round(self.task_s / 60)


def estimate_job(job: Job) -> JobEstimate:
    """Kept for some seconds. A job that does not move by itself has none."""
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
    route = task_groups.route_of(group)
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
    """Of this job's tasks, or, before the first has ended, of the last ones from its sources."""
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
    """How many tasks are done by then, as people take turns: own ones up to this group, and of each
    other person no more than that.
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
    """On this machine as set up, or as many as hold tasks now."""
    holding = Task.objects.filter(state=TaskState.IN_PROGRESS).values("worker").distinct().count()
    return max(settings.WORKERS, holding, 1)


def describe_start(
    nodes: Iterable[Node], *, is_urgent: bool, owner: int, studies: int
) -> list[str]:
    """One sentence for each node or budget that must be waited for; one for now when there is none."""
    obstacles = [sentence for node in nodes if (sentence := _describe_obstacle(node, is_urgent))]
    now = [] if obstacles else [_("Now, as soon as a worker is free.")]
    return obstacles + (budgets.list_budget_warnings(owner, studies) or now)


def _describe_obstacle(node: Node, is_urgent: bool) -> str:
    try:
        waits = get_unavailability(node, Purpose.RETRIEVE, urgent=is_urgent) or get_breaker_pause(
            node
        )
    except InvalidInput as error:
        return f"{node}: {error}"
    return str(waits) if waits else ""
