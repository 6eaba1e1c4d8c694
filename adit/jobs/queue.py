"""Queue: which task is next, and who holds it. The task row is the queue; messages only wake."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.audit.trail import record
from adit.jobs import roads, states
from adit.jobs.light import light
from adit.jobs.models import Job, JobState, Task, TaskState, Turn
from adit.jobs.roads import Candidate, Way
from adit.nodes import breaker, budgets, slots
from adit.nodes.connect import Purpose, hold_of, why_waiting
from adit.nodes.models import Lane, Node
from adit.nodes.waits import NoSlot, OverBudget, Waits
from adit_engine.errors import AditError

Spent = Mapping[int, OverBudget]
"""By owner."""


class LeaseLost(AditError):
    """Another attempt has taken over, or nobody knows: make no effect any more."""


def holder_of(task: Task) -> str:
    """Under which name a task holds its slots."""
    return f"task:{task.pk}"


def claim(worker: str) -> Task | None:
    """The next task, leased to this worker and with a slot at each of its nodes; None: nothing due.

    Ways that are obviously closed are passed by without a lock; they get a sentence that says why.
    """
    looked: dict[Way, bool] = {}
    candidates = list(roads.in_turn())
    spent = _spent(candidates)
    for candidate in candidates:
        way = candidate.way
        if way not in looked:
            looked[way] = _is_open(way, spent)
        if not looked[way] or _is_spent(candidate, spent):
            continue
        try:
            task = _taken(candidate, worker)
        except Waits as wait:
            roads.say(way, str(wait))
            looked[way] = not isinstance(wait, NoSlot)
        else:
            if task is not None:
                return task
    return None


def still_held(task: Task, *related: str) -> Task:
    """Its row, read anew, as the attempt that was claimed: whoever was frozen since the claim must
    not go on under another one's number. Raises LeaseLost.
    """
    mine = Task.objects.filter(pk=task.pk, attempt=task.attempt, state=TaskState.IN_PROGRESS)
    row = mine.select_related(*related).first()
    if row is None:
        raise LeaseLost(_("Another worker has taken over this task."))
    return row


def beat(task: Task) -> datetime:
    """Renews lease and slots; until when. Raises LeaseLost when the attempt is not ours any more."""
    until = timezone.now() + timedelta(seconds=settings.LEASE_S)
    mine = Task.objects.filter(pk=task.pk, attempt=task.attempt, state=TaskState.IN_PROGRESS)
    if mine.update(lease_until=until) != 1:
        raise LeaseLost(_("Another worker has taken over this task."))
    slots.renew(holder_of(task), settings.LEASE_S)
    return until


def beat_more(tasks: Sequence[Task]) -> None:
    """Renews the leases of those that a worker has beside the one that it beats for."""
    until = timezone.now() + timedelta(seconds=settings.LEASE_S)
    for worker in {task.worker for task in tasks}:
        pks = [task.pk for task in tasks if task.worker == worker]
        mine = Task.objects.filter(pk__in=pks, worker=worker, state=TaskState.IN_PROGRESS)
        mine.update(lease_until=until)


def claim_more(job: Job, held: Task, most: int) -> list[Task]:
    """Further tasks on the road of one that is held, for who has locked the job and keeps the slot.

    Leased to the same worker.
    """
    if job.state != JobState.IN_PROGRESS:
        return []
    tasks = roads.due(road=held.road_id).order_by("pk")
    if connection.features.has_select_for_update_skip_locked:
        tasks = tasks.select_for_update(skip_locked=True, of=("self",), no_key=True)
    found = list(tasks[:most])
    until = timezone.now() + timedelta(seconds=settings.LEASE_S)
    states.begin_tasks(job, found, lease_until=until, worker=held.worker, not_before=None)
    return found


def say(task: Task, message: str) -> None:
    """How far a running task is, on pages."""
    mine = Task.objects.filter(pk=task.pk, attempt=task.attempt, state=TaskState.IN_PROGRESS)
    mine.update(message=message)


def give_back(task: Task, why: str, *, failed: bool = False, until: datetime | None = None) -> None:
    """Ends an attempt that is not the end of the task, or, after too many failures, is.

    Only failures are counted; `until` is when a node opens. Raises states.Overtaken.
    """
    with transaction.atomic() if failed else light():
        slots.release(holder_of(task))
        states.locked(task.job_id)
        failures = task.failures + (1 if failed else 0)
        if failed and failures >= settings.MAX_FAILURES:
            text = _("%(why)s Tried %(n)d times.") % {"why": why, "n": failures}
            states.move(task, TaskState.FAILURE, text, failures=failures)
        else:
            not_before = timezone.now() + _pause(failures) if failed else until
            states.move(task, TaskState.PENDING, why, failures=failures, not_before=not_before)
        if failed:
            _record("task.again", task, failures)


def purposes_of(task: Task) -> tuple[tuple[Node, Purpose], ...]:
    """The nodes that a task opens, and for what; the source first."""
    if task.lane == Lane.SEARCH:
        places = [(task.source, Purpose.SEARCH)]
    else:
        places = [(task.source, Purpose.RETRIEVE), (task.job.destination, Purpose.STORE)]
    return tuple((node, purpose) for node, purpose in places if node is not None)


def finish(task: Task, to: TaskState, message: str, *, broke_rule: bool = False) -> None:
    """The end of a task. Raises states.Overtaken."""
    with light():
        slots.release(holder_of(task))
        job = states.locked(task.job_id)
        states.move_task(job, task, to, message[:2000], broke_rule=broke_rule)


def sweep() -> bool:
    """Takes back what dead workers held; whether tasks are due now, for who rings the bell."""
    _shorten_leases()
    expired = Task.objects.filter(state=TaskState.IN_PROGRESS, lease_until__lt=timezone.now())
    for pk in expired.values_list("pk", flat=True):
        _take_back(pk)
    _settle_canceling()
    candidates = list(roads.in_turn())
    spent = _spent(candidates)
    for way in {candidate.way for candidate in candidates}:
        _is_open(way, spent)
    for candidate in candidates:
        _is_spent(candidate, spent)
    return roads.with_work().exists()


def _shorten_leases() -> None:
    """After the clock was put back they would last too long. Who is still there renews its own."""
    longest = timezone.now() + timedelta(seconds=settings.LEASE_S)
    Task.objects.filter(
        state=TaskState.IN_PROGRESS, lease_until__gt=longest + timedelta(seconds=settings.BEAT_S)
    ).update(lease_until=longest)


def _take_back(pk: int) -> None:
    with transaction.atomic():
        task = Task.objects.filter(pk=pk).select_related("source", "job__destination").first()
        if task is None:
            return
        _lock_nodes(task)
        job = states.locked(task.job_id)
        task = Task.objects.select_for_update(no_key=True).get(pk=pk)
        now = timezone.now()
        if task.state != TaskState.IN_PROGRESS or task.lease_until is None:
            return
        if task.lease_until >= now:
            return
        if job.state == JobState.CANCELING or task.stop_asked:
            finish(task, TaskState.CANCELED, _("Canceled."))
        else:
            _after_loss(task)


def _lock_nodes(task: Task) -> None:
    """Before its job: a claim takes them in this order, too."""
    ids = [node.pk for node, _purpose in purposes_of(task)]
    list(
        Node.objects.select_for_update(of=("self",), no_key=True).filter(pk__in=ids).order_by("pk")
    )


def _after_loss(task: Task) -> None:
    """The first loss costs no pause: machines are restarted. Then pauses grow as after errors."""
    failures = task.failures + 1
    why = _("Its worker was lost.")
    if failures >= settings.MAX_FAILURES:
        text = _("Its worker was lost %d times: ask staff to look at the log.") % failures
        finish(task, TaskState.FAILURE, text)
    else:
        not_before = timezone.now() + _pause(failures - 1) if failures > 1 else None
        states.move(task, TaskState.PENDING, why, failures=failures, not_before=not_before)
        slots.release(holder_of(task))
    _record("task.lost", task, failures)


def _record(action: str, task: Task, failures: int) -> None:
    details = {"task": task.position, "attempt": task.attempt, "failures": failures}
    record(action, about=f"job:{task.job_id}", details=details)


def _settle_canceling() -> None:
    """A cancel whose last task ended unseen."""
    for pk in Job.objects.filter(state=JobState.CANCELING).values_list("pk", flat=True):
        with transaction.atomic():
            states.derive(states.locked(pk))


def _spent(candidates: Iterable[Candidate]) -> Spent:
    """Who may fetch nothing more today, and why."""
    fetch = (one for one in candidates if one.way.purpose is Purpose.RETRIEVE)
    return budgets.spent_by({one.owner for one in fetch})


def _is_spent(candidate: Candidate, spent: Spent) -> bool:
    why = spent.get(candidate.owner)
    if why is None or candidate.way.purpose is not Purpose.RETRIEVE:
        return False
    roads.say(candidate.way, str(why), owners=[candidate.owner])
    return True


def _is_open(way: Way, spent: Spent) -> bool:
    """Whether a task may start on this way now, as it seems; says what is in the way."""
    waits = _obstacle(roads.nodes_of(way), way)
    if waits is None:
        fetches = way.purpose is Purpose.RETRIEVE
        roads.say(way, "", but=list(spent) if fetches else ())
    else:
        roads.say(way, str(waits))
    return waits is None


def _obstacle(nodes: Iterable[Node], way: Way) -> Waits | None:
    for node in nodes:
        waits = why_waiting(node, way.purpose, urgent=way.urgent) or breaker.why_resting(node)
        if waits is not None:
            return waits
    return None


def _taken(candidate: Candidate, worker: str) -> Task | None:
    """Nodes are locked before jobs, and jobs before tasks, by all who lock several of them.

    Raises Waits.
    """
    way = candidate.way
    with light():
        nodes = list(roads.nodes_of(way).select_for_update(of=("self",), no_key=True))
        waits = _obstacle(nodes, way)
        if waits is not None:
            raise waits
        job = Job.objects.select_for_update(of=("self",), no_key=True).filter(
            roads=candidate.road, state__in=states.RUNNABLE_JOBS
        )
        for locked in job:
            task = _first(candidate.road)
            if task is None:
                continue
            for node in nodes:
                hold = hold_of(node, way.purposes_at(node.pk), candidate.owner, locked.pk)
                slots.take_locked(node, way.lane, holder_of(task), settings.LEASE_S, hold)
                if hasattr(node, "breaker"):
                    breaker.try_by_one(node, settings.LEASE_S)
            _take_turn(candidate.owner)
            return _leased(locked, task, worker)
    return None


def _first(road: int) -> Task | None:
    tasks = roads.due(road=road).order_by("pk")
    if connection.features.has_select_for_update_skip_locked:
        tasks = tasks.select_for_update(skip_locked=True, of=("self",), no_key=True)
    return tasks.first()


def _take_turn(owner: int) -> None:
    now = timezone.now()
    if not Turn.objects.filter(owner=owner).update(last_at=now):
        Turn.objects.create(owner_id=owner, last_at=now)


def _leased(job: Job, task: Task, worker: str) -> Task:
    states.move_task(
        job,
        task,
        TaskState.IN_PROGRESS,
        attempt=task.attempt + 1,
        lease_until=timezone.now() + timedelta(seconds=settings.LEASE_S),
        worker=worker[:100],
        not_before=None,
    )
    return task


def _pause(failures: int) -> timedelta:
    pauses = settings.RETRY_PAUSES_S
    return timedelta(seconds=pauses[min(max(failures, 1), len(pauses)) - 1] if pauses else 0)
