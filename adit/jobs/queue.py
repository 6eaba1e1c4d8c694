"""Queue: which task is next, and who holds it. The task row is the queue; messages only wake."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Max, Min, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.jobs import states
from adit.jobs.models import Job, JobState, Task, TaskState
from adit.nodes import slots
from adit.nodes.connect import Purpose, hold_of, why_waiting
from adit.nodes.models import Lane, Node
from adit.nodes.waits import Waits
from adit_engine.errors import AditError


class LeaseLost(AditError):
    """Another attempt has taken over, or nobody knows: make no effect any more."""


_ROAD = ("source", "job__destination", "job__urgent", "lane")
"""The columns by which tasks share a road."""


@dataclass(frozen=True, slots=True)
class _Road:
    """Tasks that use the same nodes in the same lane wait for the same things."""

    source: int | None
    destination: int | None
    urgent: bool
    task_lane: str

    @property
    def purpose(self) -> Purpose:
        """For which the source is used."""
        return Purpose.SEARCH if self.task_lane == Lane.SEARCH else Purpose.RETRIEVE

    @property
    def lane(self) -> Lane:
        return self.purpose.lane(self.urgent)

    def purposes_at(self, node: int) -> list[Purpose]:
        places = [(self.source, self.purpose)]
        if self.purpose is not Purpose.SEARCH:
            places.append((self.destination, Purpose.STORE))
        return [purpose for pk, purpose in places if pk == node]

    @property
    def node_ids(self) -> list[int]:
        """In the order in which rows are locked."""
        used = {self.source} if self.purpose is Purpose.SEARCH else {self.source, self.destination}
        return sorted(pk for pk in used if pk is not None)


def holder_of(task: Task) -> str:
    """Under which name a task holds its slots."""
    return f"task:{task.pk}"


def due() -> QuerySet[Task]:
    """What waits for nothing but nodes and workers."""
    now = timezone.now()
    return Task.objects.filter(
        Q(not_before=None) | Q(not_before__lte=now),
        state=TaskState.PENDING,
        job__state__in=states.RUNNABLE_JOBS,
    )


def claim(worker: str) -> Task | None:
    """The next task, leased to this worker and with a slot at each of its nodes; None: nothing due.

    What cannot start now gets a sentence that says why.
    """
    with transaction.atomic():
        roads = _roads()
        nodes = _locked_nodes(roads)
        for road, owner, priority in _turns(roads):
            task = _first(road, owner, priority)
            if task is None or not _reserve(road, nodes, task):
                continue
            return _leased(task, worker)
    return None


def beat(task: Task) -> datetime:
    """Renews lease and slots; until when. Raises LeaseLost when the attempt is not ours any more."""
    until = timezone.now() + timedelta(seconds=settings.LEASE_S)
    mine = Task.objects.filter(pk=task.pk, attempt=task.attempt, state=TaskState.IN_PROGRESS)
    if mine.update(lease_until=until) != 1:
        raise LeaseLost(_("Another worker has taken over this task."))
    slots.renew(holder_of(task), settings.LEASE_S)
    return until


def give_back(task: Task, why: str, *, failed: bool = False, until: datetime | None = None) -> None:
    """Ends an attempt that is not the end of the task, or, after too many failures, is.

    Only failures are counted; `until` is when a node opens. Raises states.Overtaken.
    """
    with transaction.atomic():
        states.locked(task.job_id)
        failures = task.failures + (1 if failed else 0)
        if failed and failures >= settings.MAX_FAILURES:
            text = _("%(why)s Tried %(n)d times.") % {"why": why, "n": failures}
            states.move(task, TaskState.FAILURE, text, failures=failures)
        else:
            not_before = timezone.now() + _pause(failures) if failed else until
            states.move(
                task, TaskState.PENDING, why, failures=failures, not_before=not_before, waits_for=""
            )
        slots.release(holder_of(task))


def purposes_of(task: Task) -> tuple[tuple[Node, Purpose], ...]:
    """The nodes that a task opens, and for what; the source first."""
    if task.lane == Lane.SEARCH:
        places = [(task.source, Purpose.SEARCH)]
    else:
        places = [(task.source, Purpose.RETRIEVE), (task.job.destination, Purpose.STORE)]
    return tuple((node, purpose) for node, purpose in places if node is not None)


def finish(task: Task, to: TaskState, message: str, *, broke_rule: bool = False) -> None:
    """The end of a task. Raises states.Overtaken."""
    with transaction.atomic():
        states.move(task, to, message[:2000], broke_rule=broke_rule)
        slots.release(holder_of(task))


def sweep() -> int:
    """Takes back what dead workers held; how many tasks are due now, for who rings the bell."""
    expired = Task.objects.filter(state=TaskState.IN_PROGRESS, lease_until__lt=timezone.now())
    for pk in expired.values_list("pk", flat=True):
        _take_back(pk)
    _settle_canceling()
    return due().count()


def _take_back(pk: int) -> None:
    with transaction.atomic():
        task = Task.objects.filter(pk=pk).first()
        if task is None:
            return
        job = states.locked(task.job_id)
        task = Task.objects.select_for_update().get(pk=pk)
        now = timezone.now()
        if task.state != TaskState.IN_PROGRESS or task.lease_until is None:
            return
        if task.lease_until >= now:
            return
        if job.state == JobState.CANCELING or task.stop_asked:
            finish(task, TaskState.CANCELED, _("Canceled."))
        else:
            _after_loss(task)


def _after_loss(task: Task) -> None:
    """The first loss costs no pause: machines are restarted. Then pauses grow as after errors."""
    failures = task.failures + 1
    why = _("Its worker was lost.")
    if failures >= settings.MAX_FAILURES:
        text = _("Its worker was lost %d times: ask staff to look at the log.") % failures
        finish(task, TaskState.FAILURE, text)
        return
    not_before = timezone.now() + _pause(failures - 1) if failures > 1 else None
    states.move(task, TaskState.PENDING, why, failures=failures, not_before=not_before)
    slots.release(holder_of(task))


def _settle_canceling() -> None:
    """A cancel whose last task ended unseen."""
    for pk in Job.objects.filter(state=JobState.CANCELING).values_list("pk", flat=True):
        with transaction.atomic():
            states.derive(states.locked(pk))


def _roads() -> list[_Road]:
    return [_Road(*row) for row in due().order_by().values_list(*_ROAD).distinct()]


def _locked_nodes(roads: Iterable[_Road]) -> dict[int, Node]:
    """Locked in id order before anything is counted: two claims never both see one free slot."""
    ids = sorted({pk for road in roads for pk in road.node_ids})
    rows = Node.objects.select_for_update(of=("self",)).filter(pk__in=ids).order_by("pk")
    return {node.pk: node for node in rows}


def _turns(roads: Iterable[_Road]) -> Iterator[tuple[_Road, int, int]]:
    """Roads with owner and priority: higher first, then whose turn it is, then the oldest task."""
    keys = (*_ROAD, "job__owner", "job__priority")
    rows = due().order_by().values(*keys).annotate(first=Min("pk"))
    turns = dict(
        Task.objects.exclude(started_at=None)
        .filter(job__owner__in={row["job__owner"] for row in rows})
        .order_by()
        .values_list("job__owner")
        .annotate(last=Max("started_at"))
    )

    def order(row: dict[str, object]) -> tuple[object, ...]:
        last = turns.get(row["job__owner"])
        return (
            not row["job__urgent"],
            -int(str(row["job__priority"])),
            0.0 if last is None else last.timestamp(),
            row["first"],
        )

    for row in sorted(rows, key=order):
        road = _Road(*(row[name] for name in _ROAD))
        yield road, row["job__owner"], row["job__priority"]


def _on(road: _Road) -> QuerySet[Task]:
    return due().filter(
        source=road.source,
        job__destination=road.destination,
        job__urgent=road.urgent,
        lane=road.task_lane,
    )


def _first(road: _Road, owner: int, priority: int) -> Task | None:
    """Locked, after its job: whoever acts on a job locks it before its tasks, too."""
    tasks = _on(road).filter(job__owner=owner, job__priority=priority).order_by("pk")
    job_id = tasks.values_list("job", flat=True).first()
    if job_id is None:
        return None
    states.locked(job_id)
    tasks = tasks.filter(job=job_id)
    if connection.features.has_select_for_update_skip_locked:
        tasks = tasks.select_for_update(skip_locked=True, of=("self",))
    return tasks.first()


def _reserve(road: _Road, nodes: dict[int, Node], task: Task) -> bool:
    """Takes a slot at each node; where one waits, says so on all tasks of the road."""
    try:
        with transaction.atomic():
            for pk in road.node_ids:
                _require_usable(nodes[pk], road)
                hold = hold_of(nodes[pk], road.purposes_at(pk), task.job.owner_id, task.job_id)
                slots.take(nodes[pk], road.lane, holder_of(task), settings.LEASE_S, hold)
    except Waits as wait:
        sentence = str(wait)[:200]
        _on(road).exclude(waits_for=sentence).update(waits_for=sentence)
        return False
    return True


def _require_usable(node: Node, road: _Road) -> None:
    """Raises Waits: not open, paused, outside its hours."""
    waits = why_waiting(node, road.purpose, urgent=road.urgent)
    if waits is not None:
        raise waits


def _leased(task: Task, worker: str) -> Task:
    states.move(
        task,
        TaskState.IN_PROGRESS,
        attempt=task.attempt + 1,
        lease_until=timezone.now() + timedelta(seconds=settings.LEASE_S),
        worker=worker[:100],
        waits_for="",
        not_before=None,
    )
    return task


def _pause(failures: int) -> timedelta:
    pauses = settings.RETRY_PAUSES_S
    return timedelta(seconds=pauses[min(max(failures, 1), len(pauses)) - 1] if pauses else 0)
