"""Outlook: about when a job will have ended that is under way, from what its studies took, hours and
the queue.
"""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.core.cache import cache
from django.db.models import Avg, Count, F, QuerySet
from django.utils.translation import gettext as _

from adit.jobs import states
from adit.jobs.ahead import spans
from adit.jobs.models import Job, Task, TaskGroup, TaskState
from adit.jobs.queueing import roads
from adit.jobs.queueing.roads import Route
from adit.nodes.connect import why_waiting
from adit.nodes.models import Node
from adit_engine.errors import WrongInput

SAMPLE = 50
"""So many tasks that ended last tell how long one takes."""
KEPT_S = 15
"""Pages of running jobs ask every few seconds."""


@dataclass(frozen=True, slots=True)
class Outlook:
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


def outlook(job: Job) -> Outlook:
    """Kept for some seconds. A job that does not move by itself has none."""
    if job.state not in states.RUNNABLE_JOBS:
        return Outlook()
    key = f"outlook:{job.pk}"
    kept = cache.get(key)
    if kept is None:
        made = _made(job)
        kept = [made.task_s, made.ends_at and made.ends_at.isoformat()]
        cache.set(key, kept, KEPT_S)
    task_s, ends_at = kept
    return Outlook(task_s, ends_at and datetime.fromisoformat(ends_at), task_s is None)


def _made(job: Job) -> Outlook:
    live = Task.objects.filter(job=job, state__in=states.LIVE_TASKS)
    ends, took = [], _task_s(job)
    for group in TaskGroup.objects.filter(pk__in=live.values("group")).select_related("job"):
        ends.append(None if took is None else _end(group, took))
    if not ends or None in ends:
        return Outlook(took)
    return Outlook(took, max(end for end in ends if end is not None))


def _end(group: TaskGroup, task_s: float) -> datetime | None:
    route = roads.route_of(group)
    nodes = roads.nodes_of(route)
    if any(_waits_for_a_person(node, route) for node in nodes):
        return None
    try:
        return spans.when_done(nodes, route.lane, task_s * _before_end(group), _workers())
    except WrongInput:
        return None


def _waits_for_a_person(node: Node, route: Route) -> bool:
    waits = why_waiting(node, route.purpose, urgent=route.urgent)
    return waits is not None and waits.until is None


def _task_s(job: Job) -> float | None:
    """Of this job's tasks, or, before the first has ended, of the last ones from its sources."""
    ended = Task.objects.filter(state__in=(TaskState.SUCCESS, TaskState.WARNING))
    sources = job.task_groups.values("source")
    return _average(ended.filter(job=job)) or _average(ended.filter(source__in=sources))


def _average(tasks: QuerySet[Task]) -> float | None:
    newest = tasks.exclude(started_at=None).order_by("-id").values("id")[:SAMPLE]
    rows = Task.objects.filter(pk__in=list(newest.values_list("pk", flat=True)))
    took = rows.aggregate(took=Avg(F("ended_at") - F("started_at")))["took"]
    return max(took.total_seconds(), 0.1) if took is not None else None


def _before_end(group: TaskGroup) -> float:
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


def _workers() -> int:
    """On this machine as set up, or as many as hold tasks now."""
    holding = Task.objects.filter(state=TaskState.IN_PROGRESS).values("worker").distinct().count()
    return max(settings.WORKERS, holding, 1)
