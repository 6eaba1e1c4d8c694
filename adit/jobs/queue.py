"""Queue: which task is next, and who holds it. The task row is the queue; messages only wake."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.audit.trail import record
from adit.jobs import states
from adit.jobs.models import Job, JobState, Task, TaskState
from adit.jobs.queueing import roads, statements
from adit.jobs.queueing.light import light
from adit.jobs.queueing.roads import Candidate, Way
from adit.nodes import breaker, budgets, slots
from adit.nodes.connect import Purpose, hold_of, why_waiting
from adit.nodes.models import Lane, Node
from adit.nodes.statements import look_at, places
from adit.nodes.waits import OverBudget, Waits
from adit.statement import Asked, ask
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
    line = roads.in_turn()
    spent = _spent(line)
    closed: set[Way] = set()
    for candidate in line:
        way = candidate.way
        if way in closed or _is_spent(candidate, spent):
            continue
        try:
            task = _taken(candidate, worker)
        except Waits as waits:
            closed.add(way)
            roads.say(_on(line, way, spent), str(waits))
            continue
        roads.say(_on(line, way, spent), "")
        if task is not None:
            return task
    return None


def _on(line: Iterable[Candidate], way: Way, spent: Spent) -> list[Candidate]:
    """Who waits for what this way waits for, rather than for midnight."""
    is_fetch = way.purpose is Purpose.RETRIEVE
    return [one for one in line if one.way == way and not (is_fetch and one.owner in spent)]


def still_held(task: Task, *related: str) -> Task:
    """Its row, read anew, as the attempt that was claimed: whoever was frozen since the claim must
    not go on under another one's number. Raises LeaseLost.
    """
    mine = task.as_claimed()
    row = mine.select_related(*related).first()
    if row is None:
        raise LeaseLost(_("Another worker has taken over this task."))
    return row


def beat(task: Task) -> datetime:
    """Renews lease and slots; until when. Raises LeaseLost when the attempt is not ours any more."""
    until = timezone.now() + timedelta(seconds=settings.LEASE_S)
    mine = task.as_claimed()
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
    assert held.road_id is not None, "what was claimed stood on a road"
    due = roads.first_due(job.pk, held.road_id, most)
    ask(due)
    found = [task for _state, task in roads.due(due)]
    until = timezone.now() + timedelta(seconds=settings.LEASE_S)
    states.begin_tasks(job, found, lease_until=until, worker=held.worker, not_before=None)
    return found


def say(task: Task, message: str) -> None:
    """How far a running task is, on pages."""
    mine = task.as_claimed()
    mine.update(message=message)


def give_back(task: Task, why: str, *, failed: bool = False, until: datetime | None = None) -> None:
    """Ends an attempt that is not the end of the task, or, after too many failures, is.

    Only failures are counted; `until` is when a node opens. Raises states.Overtaken.
    """
    with transaction.atomic() if failed else light():
        failures = task.failures + (1 if failed else 0)
        if failed and failures >= settings.MAX_FAILURES:
            text = _("%(why)s Tried %(n)d times.") % {"why": why, "n": failures}
            states.move(task, TaskState.FAILURE, text, failures=failures)
        else:
            not_before = timezone.now() + _pause(failures) if failed else until
            states.move(task, TaskState.PENDING, why, failures=failures, not_before=not_before)
        slots.release(holder_of(task))
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
    with light() as lightly:
        gone = slots.give_up(holder_of(task))
        beside = [*lightly, gone]
        states.end(task, to, message[:2000], broke_rule=broke_rule, beside=beside)
        slots.end(gone)


def sweep() -> bool:
    """Takes back what dead workers held; whether tasks are due now, for who rings the bell."""
    _shorten_leases()
    expired = Task.objects.filter(state=TaskState.IN_PROGRESS, lease_until__lt=timezone.now())
    for pk in expired.values_list("pk", flat=True):
        _take_back(pk)
    _settle_canceling()
    line = roads.in_turn()
    spent = _spent(line)
    for way in {candidate.way for candidate in line}:
        roads.say(_on(line, way, spent), _why_closed(way))
    for candidate in line:
        _is_spent(candidate, spent)
    return bool(line)


def _why_closed(way: Way) -> str:
    """Connections in use aside; empty when nothing is in the way."""
    try:
        _require_open(roads.nodes_of(way), way)
    except Waits as waits:
        return str(waits)
    return ""


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
    limited = (one for one in candidates if one.is_limited and one.way.purpose is Purpose.RETRIEVE)
    owners = {one.owner for one in limited}
    return budgets.spent_by(owners) if owners else {}


def _is_spent(candidate: Candidate, spent: Spent) -> bool:
    why = spent.get(candidate.owner)
    if why is None or candidate.way.purpose is not Purpose.RETRIEVE:
        return False
    roads.say([candidate], str(why))
    return True


def _require_open(nodes: Iterable[Node], way: Way) -> None:
    """Raises Waits where no task may start on this way now."""
    for node in nodes:
        waits = why_waiting(node, way.purpose, urgent=way.urgent) or breaker.why_resting(node)
        if waits is not None:
            raise waits


def _taken(candidate: Candidate, worker: str) -> Task | None:
    """Nodes are locked before jobs, and jobs before tasks, by all who lock several of them.

    Raises Waits; at first without a lock.
    """
    way = candidate.way
    _require_open(roads.nodes_of(way), way)
    with light() as lightly:
        due = roads.first_due(candidate.job, candidate.road, 1)
        nodes, counted = _locked(way.node_ids, due, lightly)
        _require_open(nodes, way)
        for job_state, task in roads.due(due):
            wanted = [
                (node, hold_of(node, way.purposes_at(node.pk), candidate.owner, candidate.job))
                for node in nodes
            ]
            holder = holder_of(task)
            taken = (
                slots.plan(wanted, way.lane, holder, settings.LEASE_S, counted) if wanted else []
            )
            _try_by_one(nodes)
            now = timezone.now()
            until = now + timedelta(seconds=settings.LEASE_S)
            turn = statements.TAKE_TURN.of(candidate.owner, now)
            beside = [*slots.save(taken), turn]
            states.begin(job_state, task, worker=worker[:100], lease_until=until, beside=beside)
            return task
    return None


def _locked(pks: Sequence[int], due: Asked, first: Sequence[Asked]) -> tuple[list[Node], Asked]:
    """The nodes and their slots; `due` is asked between them."""
    if not pks:
        ask(*first, due)
        return [], due
    looked, counted = look_at(pks, locked=True), slots.count_at(pks)
    ask(*first, looked, due, counted)
    return places(looked), counted


def _try_by_one(nodes: Iterable[Node]) -> None:
    for node in nodes:
        if hasattr(node, "breaker"):
            breaker.try_by_one(node, settings.LEASE_S)


def _pause(failures: int) -> timedelta:
    pauses = settings.RETRY_PAUSES_S
    return timedelta(seconds=pauses[min(max(failures, 1), len(pauses)) - 1] if pauses else 0)
