"""The task queue: claim, lease, release and finish tasks; take back tasks of lost workers.

Used by the worker and the scheduler. The task rows are the queue; Celery messages only wake up
workers.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from adit.audit.trail import record
from adit.jobs import states, task_groups
from adit.jobs.models import Job, JobState, LastClaim, Task, TaskState
from adit.jobs.task_groups import Candidate, Route
from adit.nodes.gateway import Purpose, get_unavailability, make_slot_request
from adit.nodes.limits import breaker, budgets, slots
from adit.nodes.limits.unavailable import NodeUnavailable
from adit.nodes.models import Lane, Node
from adit_engine.errors import AditError
from adit_engine.messages import Message, join_messages

_RECHECK = timedelta(minutes=1)


class LeaseLost(AditError):
    """The lease is lost or cannot be confirmed: this attempt must write nothing any more."""


def get_holder(task: Task) -> str:
    """Return the name under which a task holds its slots."""
    return f"task:{task.pk}"


def claim(worker: str) -> Task | None:
    """Lease the next task to this worker; None if nothing is due.

    Takes a slot at each node of the task. Groups whose nodes are closed are skipped without a
    lock. The reason is stored with each group that has to wait.
    """
    candidates = task_groups.candidates()
    blocked = _store_blocks(candidates)
    unblocked = [candidate for candidate in candidates if candidate.group not in blocked]
    full: set[Route] = set()
    for candidate in unblocked:
        if candidate.route in full:
            continue
        same_route = [other for other in unblocked if other.route == candidate.route]
        try:
            task = _claim_from(candidate, worker)
        except NodeUnavailable as waits:
            full.add(candidate.route)
            task_groups.set_wait_reason(same_route, waits.message)
            continue
        task_groups.set_wait_reason(same_route, None)
        if task is not None:
            return task
    return None


@transaction.atomic
def _claim_from(candidate: Candidate, worker: str) -> Task | None:
    """Claim the next due task of a group; None if another worker was faster.

    Raises NodeUnavailable. Locks are taken in the order that all code uses: nodes by ID, job, task.
    """
    route = candidate.route
    nodes = _lock_nodes(route.node_ids)
    _require_open(nodes, route)
    runnable = Job.objects.filter(pk=candidate.job, state__in=states.RUNNABLE_JOBS)
    job = runnable.select_for_update(of=("self",), no_key=True).first()
    task = next(iter(_lock_due(candidate.group, 1)), None)
    if job is None or task is None:
        return None
    for node in nodes:
        hold = make_slot_request(node, route.purposes_at(node.pk), job.owner_id, job.pk)
        slots.reserve(node, route.lane, get_holder(task), settings.LEASE_S, hold)
        if hasattr(node, "breaker"):
            breaker.claim_trial(node, settings.LEASE_S)
    states.move_task(
        job,
        task,
        TaskState.IN_PROGRESS,
        attempt=task.attempt + 1,
        worker=worker[:100],
        lease_until=_lease_end(),
        not_before=None,
    )
    LastClaim.objects.bulk_create(
        [LastClaim(owner_id=job.owner_id, at=timezone.now())],
        update_conflicts=True,
        unique_fields=["owner"],
        update_fields=["at"],
    )
    return task


def _lock_nodes(ids: Iterable[int]) -> list[Node]:
    """Lock the rows of nodes in the order of their IDs.

    Breakers and slots are read by separate queries: rows of a join would be older than the lock.
    """
    nodes = Node.objects.filter(pk__in=ids).order_by("pk")
    return list(nodes.select_for_update(no_key=True).prefetch_related("breaker", "slots"))


def _lock_due(group_id: int, limit: int) -> list[Task]:
    due = task_groups.due_tasks().filter(group=group_id).order_by("pk")
    return list(due.select_for_update(of=("self",), no_key=True, skip_locked=True)[:limit])


def _lease_end() -> datetime:
    return timezone.now() + timedelta(seconds=settings.LEASE_S)


def require_claim(task: Task, *related: str) -> Task:
    """Return the row of a claimed task, read again. Raises LeaseLost.

    A process that was frozen since the claim must not continue under the number of another attempt.
    """
    mine = task.current_attempt()
    row = mine.select_related(*related).first()
    if row is None:
        raise LeaseLost("task.taken-over")
    return row


def renew_lease(task: Task) -> datetime:
    """Renew the lease and the slots of a task; return until when they last.

    Raises LeaseLost if another attempt took over.
    """
    until = _lease_end()
    mine = task.current_attempt()
    if mine.update(lease_until=until) != 1:
        raise LeaseLost("task.taken-over")
    slots.renew_slots(get_holder(task), settings.LEASE_S)
    return until


def renew_other_leases(tasks: Sequence[Task]) -> None:
    """Renew the leases of tasks claimed in addition to the one that holds the slot."""
    until = _lease_end()
    for worker in {task.worker for task in tasks}:
        pks = [task.pk for task in tasks if task.worker == worker]
        mine = Task.objects.filter(pk__in=pks, worker=worker, state=TaskState.IN_PROGRESS)
        mine.update(lease_until=until)


def claim_more(job: Job, claimed: Task, limit: int) -> list[Task]:
    """Lease up to `most` further tasks of the same group to the same worker.

    The caller has locked the job and keeps the slot of the claimed task.
    """
    if job.state != JobState.IN_PROGRESS:
        return []
    assert claimed.group_id is not None, "a claimed task has a group"
    tasks = _lock_due(claimed.group_id, limit)
    states.begin_tasks(job, tasks, lease_until=_lease_end(), worker=claimed.worker, not_before=None)
    return tasks


def set_progress_message(task: Task, message: Message) -> None:
    """Store the progress of a running task, for pages."""
    task.current_attempt().update(message=message)


@transaction.atomic
def release_task(
    task: Task, reason: Message, *, failed: bool = False, until: datetime | None = None
) -> None:
    """End an attempt; the task becomes pending, or fails after too many failures.

    Only failures are counted. `until` is the time when a node opens; the node is asked again within
    a minute, since its hours may be changed meanwhile. Raises StaleRow.
    """
    failures = task.failures + (1 if failed else 0)
    if failed and failures >= settings.MAX_FAILURES:
        message = join_messages((reason, Message("task.tried", count=failures)))
        states.move_row(task, TaskState.FAILURE, message, failures=failures)
    else:
        now = timezone.now()
        not_before = now + _pause(failures) if failed else until and min(until, now + _RECHECK)
        states.move_row(task, TaskState.PENDING, reason, failures=failures, not_before=not_before)
    slots.release_slots(get_holder(task))
    if failed:
        _record("task.again", task, failures)


def get_purposes(task: Task) -> tuple[tuple[Node, Purpose], ...]:
    """Return the nodes that a task opens, and for what; the source first."""
    if task.lane == Lane.SEARCH:
        places = [(task.source, Purpose.SEARCH)]
    else:
        places = [(task.source, Purpose.RETRIEVE), (task.job.destination, Purpose.STORE)]
    return tuple((node, purpose) for node, purpose in places if node is not None)


@transaction.atomic
def finish(
    task: Task, to: TaskState, message: Message | None, *, has_broken_rule: bool = False
) -> None:
    """End a task and release its slots. Raises StaleRow."""
    job = states.lock_job(task.job_id)
    states.move_task(job, task, to, message, has_broken_rule=has_broken_rule)
    slots.release_slots(get_holder(task))


def sweep() -> bool:
    """Take back tasks of lost workers; return whether tasks are due now."""
    _shorten_leases()
    expired = Task.objects.filter(state=TaskState.IN_PROGRESS, lease_until__lt=timezone.now())
    for pk in expired.values_list("pk", flat=True):
        _reclaim(pk)
    _settle_canceling()
    candidates = task_groups.candidates()
    blocked = _store_blocks(candidates)
    task_groups.set_wait_reason([one for one in candidates if one.group not in blocked], None)
    return bool(candidates)


def release_tasks_of(worker: str) -> int:
    """Take back the tasks of a worker whose process has ended for certain; return how many.

    Unlike `sweep`, this does not wait until the leases expire.
    """
    held = Task.objects.filter(state=TaskState.IN_PROGRESS, worker=worker)
    return sum(_reclaim(pk, (worker, attempt)) for pk, attempt in held.values_list("pk", "attempt"))


def _store_blocks(candidates: Sequence[Candidate]) -> set[int]:
    """Store why groups cannot start now, except for used connections; return their IDs."""
    reasons = _block_reasons(candidates)
    for reason in set(reasons.values()):
        task_groups.set_wait_reason(
            [c for c in candidates if reasons.get(c.group) == reason], reason
        )
    return set(reasons)


def _block_reasons(candidates: Sequence[Candidate]) -> Mapping[int, Message]:
    """The reasons by group. A used-up budget comes first: it lasts longer than a closed node."""
    fetching = [c for c in candidates if c.route.purpose is Purpose.RETRIEVE]
    owners = {candidate.owner for candidate in fetching}
    over_budget = budgets.find_over_budget(owners) if owners else {}
    closed = _closed_routes({candidate.route for candidate in candidates})
    reasons = {c.group: closed[c.route] for c in candidates if c.route in closed}
    reasons |= {c.group: over_budget[c.owner].message for c in fetching if c.owner in over_budget}
    return reasons


def _closed_routes(routes: Collection[Route]) -> Mapping[Route, Message]:
    """Return the routes on which no task may start now, each with the reason."""
    nodes = {node.pk: node for node in task_groups.nodes_of(*routes)}
    closed = {}
    for route in routes:
        try:
            _require_open([nodes[pk] for pk in sorted(route.node_ids) if pk in nodes], route)
        except NodeUnavailable as waits:
            closed[route] = waits.message
    return closed


def _shorten_leases() -> None:
    """Limit leases that would last too long after the clock was set back.

    Workers that are still alive renew their own.
    """
    longest = timezone.now() + timedelta(seconds=settings.LEASE_S)
    Task.objects.filter(
        state=TaskState.IN_PROGRESS, lease_until__gt=longest + timedelta(seconds=settings.BEAT_S)
    ).update(lease_until=longest)


def _reclaim(pk: int, ended: tuple[str, int] | None = None) -> bool:
    """Take back a task whose lease has expired, or that this ended worker and attempt holds."""
    with transaction.atomic():
        task = Task.objects.filter(pk=pk).select_related("source", "job__destination").first()
        if task is None:
            return False
        _lock_nodes(node.pk for node, _purpose in get_purposes(task))
        job = states.lock_job(task.job_id)
        task = Task.objects.select_for_update(no_key=True).get(pk=pk)
        if task.state != TaskState.IN_PROGRESS or task.lease_until is None:
            return False
        if task.lease_until >= timezone.now() and (task.worker, task.attempt) != ended:
            return False
        if task.lane != Lane.SEARCH:
            states.mark_stored(job.pk)  # what the lost attempt stored last is in no ledger
        if job.state == JobState.CANCELING or task.stop_requested:
            finish(task, TaskState.CANCELED, Message("task.canceled"))
        else:
            _after_loss(task)
    return True


def _after_loss(task: Task) -> None:
    """Decide what happens to a task after its worker was lost.

    The first loss causes no pause, since machines are restarted. Then pauses grow as after errors.
    """
    failures = task.failures + 1
    if failures >= settings.MAX_FAILURES:
        finish(task, TaskState.FAILURE, Message("task.worker-lost-often", count=failures))
    else:
        not_before = timezone.now() + _pause(failures - 1) if failures > 1 else None
        states.move_row(
            task,
            TaskState.PENDING,
            Message("task.worker-lost"),
            failures=failures,
            not_before=not_before,
        )
        slots.release_slots(get_holder(task))
    _record("task.lost", task, failures)


def _record(action: str, task: Task, failures: int) -> None:
    details = {"task": task.position, "attempt": task.attempt, "failures": failures}
    record(action, about=f"job:{task.job_id}", details=details)


def _settle_canceling() -> None:
    """Finish canceling jobs whose last task ended without an update of the job."""
    for pk in Job.objects.filter(state=JobState.CANCELING).values_list("pk", flat=True):
        with transaction.atomic():
            states.update_job_state(states.lock_job(pk))


def _require_open(nodes: Iterable[Node], route: Route) -> None:
    """Raise NodeUnavailable if no task may start on this route now."""
    for node in nodes:
        waits = get_unavailability(
            node, route.purpose, urgent=route.urgent
        ) or breaker.get_breaker_pause(node)
        if waits is not None:
            raise waits


def _pause(failures: int) -> timedelta:
    pauses = settings.RETRY_PAUSES_S
    return timedelta(seconds=pauses[min(max(failures, 1), len(pauses)) - 1] if pauses else 0)
