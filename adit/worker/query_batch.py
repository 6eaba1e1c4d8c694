"""Execute consecutive small searches of one job over one association. Used by tasks.py.

Each search stays a task of its own, with its own state, failures and fence. Shared is what would
cost more than the query itself: the claim, the opened node, and the transaction for the results.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import Error, connection, transaction

from adit.audit.trail import record
from adit.jobs import encrypted_payload, queue, states
from adit.jobs.kinds import get_kind
from adit.jobs.kinds.base import RowMatches, TaskContext
from adit.jobs.lease import SHUTDOWN, Lease
from adit.jobs.models import Task, TaskState
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NodeUnavailable
from adit.nodes.models import Lane
from adit.projects import pseudonyms, services
from adit.results import sheet_rows
from adit.worker import attempt_result
from adit.worker.attempt_result import AttemptResult, BreakerFeedback
from adit_engine.errors import NodeError
from adit_engine.messages import Message
from adit_engine.nodes.base import SupportsSharedAssociation

MAX_DURATION_S = 10.0
"""After this time the node is released for other jobs."""
MAX_TASKS, INITIAL_TASKS = 128, 4
GROW_BELOW_S, SHRINK_ABOVE_S = 0.5, 2.0
"""If a batch took less, the next one has twice as many tasks; if it took more, half as many."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QueryBatchResult:
    """The outcome of a batch: results, errors of tasks that failed for good, and what ended it."""

    answered: dict[Task, list[RowMatches]] = field(default_factory=dict)
    failed: dict[Task, Message] = field(default_factory=dict)
    end: AttemptResult | None = None
    """The result of the tasks that were not reached; the first of them may be its cause."""
    ends_all: bool = False
    """`end` applies to all of them, not only to the first."""


class BatchLease(Lease):
    """A lease of all tasks of a batch; monitors only the first."""

    def __init__(self, batch: Sequence[Task]) -> None:
        super().__init__(batch[0], queue.get_purposes(batch[0]))
        self._others = batch[1:]

    def _renew(self) -> None:
        super()._renew()
        queue.renew_other_leases(self._others)


def can_batch(task: Task) -> bool:
    """Return whether the task can be executed in a batch."""
    return task.lane == Lane.SEARCH and task.job.capabilities.is_batched


def run_batch(task: Task) -> None:
    """Execute a claimed search and those that follow it.

    Raises nothing but the end of the process.
    """
    try:
        with ExitStack() as stack:
            QueryBatch(task, stack).run()
    except (states.StaleRow, queue.LeaseLost):
        log.info("task %d: taken over by another worker", task.pk)
    except Error as error:
        log.warning("task %d: its result could not be stored (%s)", task.pk, type(error).__name__)
        connection.close()


class QueryBatch:
    """A series of batches on one node; the stack keeps the node open."""

    def __init__(self, first: Task, stack: ExitStack) -> None:
        self._first = queue.require_claim(first, "job__owner", "job__project", "source")
        self._job = self._first.job
        self._feedback = BreakerFeedback(self._first.source, None)
        self._cipher = encrypted_payload.get_cipher(self._job.project)
        self._stack = stack
        self._node: Any = None
        self._size = INITIAL_TASKS
        self._ends_at = time.monotonic() + MAX_DURATION_S

    def run(self) -> None:
        lot = [self._first]
        while lot:
            began = time.monotonic()
            with BatchLease(lot) as lease:
                asked = self._query_tasks(lot, lease)
            self._adjust_size(time.monotonic() - began, len(lot))
            lot = self._write_results(lot, asked)

    def _query_tasks(self, batch: Sequence[Task], lease: Lease) -> QueryBatchResult:
        asked = QueryBatchResult()
        for task in batch:
            ask = partial(self._query_task, task, lease, asked)
            end = attempt_result.run_guarded(ask, task, lease, self._feedback)
            if end is not None:
                return QueryBatchResult(asked.answered, asked.failed, end, lease.stop.is_set())
            lease.touch()
        return asked

    def _query_task(self, task: Task, lease: Lease, asked: QueryBatchResult) -> None:
        """Execute one search. An error that concerns only this row is stored as its failure.

        Other errors are raised as in `_answers`.
        """
        try:
            lease.stop.check_after_series()
            asked.answered[task] = self._find_matches(task, lease)
            self._feedback.record_source_answer()
        except NodeError as error:
            if not _concerns_one_row(error, lease):
                raise
            asked.failed[task] = error.message

    def _find_matches(self, task: Task, lease: Lease) -> list[RowMatches]:
        """Return the matches of one task.

        Raises the errors of the engine, NotPermitted, NodeUnavailable, DecryptionError.
        """
        node = self._open_source()
        if node.abort not in lease.aborts:
            lease.aborts.append(node.abort)
        payload = encrypted_payload.open_task(task, self._cipher).payload
        context = TaskContext(node, None, None, {}, lease.stop)
        told = get_kind(self._job.kind).run(payload, context)
        return [one for one in told if isinstance(one, RowMatches)]

    def _open_source(self) -> Any:
        """Open the node through the gateway, which checks permissions again for each run."""
        if self._node is None:
            job, source = self._job, self._first.source
            assert source is not None
            pseudonyms.require_project(
                job.owner, job.project or services.default_project(), source, None
            )
            holder = queue.get_holder(self._first)
            node = self._stack.enter_context(
                open_node(job.owner, source, Purpose.SEARCH, holder=holder)
            )
            if isinstance(node, SupportsSharedAssociation):
                self._stack.enter_context(node.share_association())
            self._node = node
        return self._node

    def _adjust_size(self, seconds: float, tasks: int) -> None:
        if seconds < GROW_BELOW_S and tasks >= self._size // 2:
            self._size = min(2 * self._size, MAX_TASKS)
        elif seconds > SHRINK_ABOVE_S:
            self._size = max(self._size // 2, 1)

    def _write_results(self, batch: Sequence[Task], asked: QueryBatchResult) -> list[Task]:
        """Store the results and claim the next batch in one transaction.

        Returns the next batch, empty at the end. Raises StaleRow.
        """
        with transaction.atomic():
            job = states.lock_job(self._job.pk)
            sheet_rows.write_matches(self._cipher, asked.answered)
            states.end_tasks(job, _group_by_end(asked))
            self._record(asked)
            more = [] if self._is_over(asked) else queue.claim_more(job, batch[0], self._size)
            holder = queue.get_holder(batch[0])
            if more:
                slots.change_holder(holder, queue.get_holder(more[0]))
            else:
                slots.release_slots(holder)
        self._finish_unreached(batch, asked)
        for task in more:
            task.job, task.source = self._job, self._first.source
        return more

    def _is_over(self, asked: QueryBatchResult) -> bool:
        is_late = time.monotonic() > self._ends_at
        return asked.end is not None or is_late or SHUTDOWN.requested

    def _finish_unreached(self, batch: Sequence[Task], asked: QueryBatchResult) -> None:
        """Persist the end of the tasks that were not reached: only the first can have failed."""
        rest = [task for task in batch if task not in asked.answered and task not in asked.failed]
        for number, task in enumerate(rest):
            assert asked.end is not None, "all were reached"
            end = asked.end
            if number and not asked.ends_all:
                end = attempt_result.released_result(Message("task.queued"))
            end.persist(task)

    def _record(self, asked: QueryBatchResult) -> None:
        if not asked.answered and not asked.failed:
            return
        rows = [found for told in asked.answered.values() for found in told]
        record(
            "rows.answered",
            user=self._job.owner,
            about=f"job:{self._job.pk}",
            details={
                "node": self._first.source.name if self._first.source else "",
                "rows": len(rows),
                "found": sum(len(found.records) for found in rows),
                "failed": len(asked.failed),
            },
        )


def _concerns_one_row(error: NodeError, lease: Lease) -> bool:
    """Whether the node refused only this query for good, and may answer the next one."""
    return not (lease.stop.is_set() or isinstance(error, NodeUnavailable) or error.is_transient)


def _group_by_end(asked: QueryBatchResult) -> Mapping[tuple[TaskState, Message], list[Task]]:
    grouped: dict[tuple[TaskState, Message], list[Task]] = defaultdict(list)
    for task, told in asked.answered.items():
        grouped[TaskState.SUCCESS, _describe_matches(told)].append(task)
    for task, why in asked.failed.items():
        grouped[TaskState.FAILURE, why].append(task)
    return grouped


def _describe_matches(told: Sequence[RowMatches]) -> Message:
    if len(told) > 1:
        matched = sum(bool(found.records) for found in told)
        return Message("query.rows-matched", matched=matched, count=len(told))
    return Message("query.matched" if told and told[0].records else "query.no-match")
