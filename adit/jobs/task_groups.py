"""Task groups: which tasks may run now, in which order, and why the others wait.

Used by the queue, the estimates and the pages.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from adit.jobs.models import OPEN_TASKS, RUNNABLE_JOBS, Job, Task, TaskGroup, TaskState, TaskType
from adit.nodes.gateway import Purpose
from adit.nodes.models import Lane, Node
from adit_engine.messages import Message


@dataclass(frozen=True, slots=True)
class Route:
    """The nodes that tasks use, and their lane. Tasks with the same route wait together."""

    source: int | None
    destination: int | None
    task_lane: str
    urgent: bool

    @property
    def purpose(self) -> Purpose:
        """The purpose for which the source is used."""
        return Purpose.SEARCH if self.task_lane == Lane.SEARCH else Purpose.RETRIEVE

    @property
    def lane(self) -> Lane:
        return self.purpose.lane(self.urgent)

    def purposes_at(self, node: int) -> list[Purpose]:
        uses = [(self.source, self.purpose)]
        if self.purpose is not Purpose.SEARCH:
            uses.append((self.destination, Purpose.STORE))
        return [purpose for pk, purpose in uses if pk == node]

    @property
    def node_ids(self) -> frozenset[int]:
        used = {self.source} if self.purpose is Purpose.SEARCH else {self.source, self.destination}
        return frozenset(pk for pk in used if pk is not None)


@dataclass(slots=True)
class Candidate:
    """The values of a task group that a claim needs; far cheaper than two model instances."""

    group: int
    job: int
    owner: int
    route: Route
    wait_reason: Message | None


def get_route(group: TaskGroup) -> Route:
    return Route(group.source_id, group.job.destination_id, group.lane, group.job.urgent)


def assign_groups(job: Job) -> None:
    """Assign the tasks of a job to their groups. Safe to repeat."""
    ungrouped = Task.objects.filter(job=job, group=None)
    for source, lane in ungrouped.order_by().values_list("source", "lane").distinct():
        group, _ = TaskGroup.objects.get_or_create(job=job, source_id=source, lane=lane)
        ungrouped.filter(source=source, lane=lane).update(group=group)


def due_tasks() -> QuerySet[Task]:
    """Return the pending tasks that wait only for nodes and workers.

    A task that starts or packs a job also waits for all ordinary tasks of that job.
    """
    now = timezone.now()
    unfinished = Task.objects.filter(
        job=OuterRef("job"), type=TaskType.ORDERED, state__in=OPEN_TASKS
    )
    # Coalesce: with `IS NULL OR <=`, PostgreSQL reads and sorts the whole group to find one task.
    return Task.objects.alias(due_at=Coalesce("not_before", Value(now))).filter(
        Q(type=TaskType.ORDERED) | ~Exists(unfinished), state=TaskState.PENDING, due_at__lte=now
    )


def runnable_groups() -> QuerySet[TaskGroup]:
    """Return the groups with a due task and a runnable job, in the order of claims.

    Urgent jobs come first, then higher priority, then the owner whose last claim is the longest
    ago, then the oldest group.
    """
    # LIMIT 1 keeps PostgreSQL from joining all pending tasks, as it may do for EXISTS.
    due = due_tasks().filter(group=OuterRef("pk")).order_by().values("pk")[:1]
    return (
        TaskGroup.objects.alias(next_task=Subquery(due))
        .filter(job__state__in=RUNNABLE_JOBS, next_task__isnull=False)
        .order_by(
            "-job__urgent",
            "-job__priority",
            F("job__owner__last_claim__at").asc(nulls_first=True),
            "pk",
        )
    )


def candidates() -> list[Candidate]:
    """Return the runnable groups in the order of claims."""
    rows = runnable_groups().values_list(
        *("pk", "job", "job__owner", "wait_reason"),
        *("source", "job__destination", "lane", "job__urgent"),
    )
    return [
        Candidate(group, job, owner, Route(*route), reason)
        for group, job, owner, reason, *route in rows
    ]


def set_wait_reason(candidates: Iterable[Candidate], reason: Message | None) -> None:
    """Store why no task of these groups starts now; None if nothing prevents it."""
    stale = [candidate for candidate in candidates if candidate.wait_reason != reason]
    if stale:
        groups = TaskGroup.objects.filter(pk__in=[candidate.group for candidate in stale])
        groups.update(wait_reason=reason)
    for candidate in stale:
        candidate.wait_reason = reason


def wait_reasons(job: Job) -> list[Message]:
    """Return why the pending tasks of a job do not start, one reason per group."""
    pending = Task.objects.filter(group=OuterRef("pk"), state=TaskState.PENDING)
    groups = TaskGroup.objects.filter(Exists(pending), job=job)
    reasons = groups.values_list("wait_reason", flat=True)
    return [reason for reason in reasons if reason is not None]


def nodes_of(*routes: Route) -> list[Node]:
    """Return the nodes of these routes, each with its breaker."""
    ids = {pk for route in routes for pk in route.node_ids}
    nodes = Node.objects.filter(pk__in=ids)
    return list(nodes.select_related("breaker").order_by("pk"))
