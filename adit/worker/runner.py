"""Execute one claimed task and persist its result. Used by tasks.py."""

import logging
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

from django.db import Error, connection
from structlog.contextvars import bound_contextvars

from adit.jobs import block_check, encrypted_payload, queue, states
from adit.jobs.encrypted_payload import TaskContent
from adit.jobs.kinds import get_kind
from adit.jobs.kinds.base import RowCheck, RowMatches, TaskContext, TaskOutput
from adit.jobs.lease import ClaimLost, Lease
from adit.jobs.models import Task, TaskType
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.models import Lane
from adit.orders import batch_start, transfer_preview
from adit.projects import pseudonyms, services
from adit.results import applied_rules, archives, sheet_rows, storage_quota
from adit.worker import attempt_result, packing
from adit.worker.attempt_result import AttemptResult, BreakerFeedback
from adit.worker.ledger import Ledger, close_ended_tasks
from adit_engine.pseudonymize.parameters import Change, Pseudonymization
from adit_engine.values.outcome import SourceListing

log = logging.getLogger(__name__)


def run_task(task: Task) -> None:
    """Execute a task that was just claimed. Raises nothing but the end of the process."""
    with bound_contextvars(job=task.job_id, task=task.pk, attempt=task.attempt):
        _run_claimed(task)


def _run_claimed(task: Task) -> None:
    try:
        task = queue.require_claim(task, "job__owner", "job__project", "job__destination", "source")
        end = _attempt(task)
        end.persist(task)
        close_ended_tasks()
    except (states.StaleRow, queue.LeaseLost):
        log.info("task %d: taken over by another worker", task.pk)
    except Error as error:
        log.warning("task %d: its result could not be stored (%s)", task.pk, type(error).__name__)
        connection.close()


def _attempt(task: Task) -> AttemptResult:
    with Lease(task, queue.get_purposes(task)) as lease:
        contact = BreakerFeedback(task.source, task.job.destination)
        end = attempt_result.run_guarded(
            lambda: _execute(task, lease, contact), task, lease, contact
        )
        if lease.stop.is_set() and isinstance(lease.stop.reason, ClaimLost):
            return attempt_result.stopped_result(lease)
    return end


def _execute(task: Task, lease: Lease, feedback: BreakerFeedback) -> AttemptResult:
    if task.type == TaskType.START:
        return AttemptResult(batch_start.prepare_start(task, lease).commit)
    if task.type == TaskType.PACK:
        packing.build_archive(task, lease)
        return AttemptResult(packing.finish_packing)
    _transfer(task, lease, feedback)
    return AttemptResult(attempt_result.finish_by_results)


def _transfer(task: Task, lease: Lease, feedback: BreakerFeedback) -> None:
    """Open the nodes, run the kind and store its output.

    Raises the errors of the engine, LeaseLost, NotPermitted, NodeUnavailable.
    """
    job = task.job
    box = encrypted_payload.get_cipher(job.project)
    content = encrypted_payload.open_task(task)
    block_check.require_task_not_blocked(task, content)
    modalities = lease.modalities = block_check.find_modalities(task, content)
    change = _determine_change(task, content)
    if isinstance(change, Pseudonymization):
        applied_rules.record_rules(task)
    ledger = Ledger(task, box)
    with _open_nodes(task, lease) as (source, destination):
        context = TaskContext(
            source, destination, change, ledger.earlier_ledgers, lease.stop, modalities
        )
        try:
            with closing(_stream(job.kind, content, context)) as told_all:
                for told in told_all:
                    lease.touch()
                    feedback.record_output(told)
                    if isinstance(told, SourceListing):  # comes before anything of it is stored
                        block_check.require_task_not_blocked(task, content, modalities)
                    if isinstance(told, RowCheck):
                        told = block_check.refuse_blocked_row(task, told)
                        sheet_rows.write_check(
                            box, task, told, transfer_preview.preview_facts(job, told.studies)
                        )
                    elif not isinstance(told, RowMatches):
                        ledger.record(told)
        finally:
            with suppress(queue.LeaseLost, Error):
                ledger.flush()


def _stream(
    kind: str, content: TaskContent, context: TaskContext
) -> Generator[TaskOutput, None, None]:
    """Wrap the iterator of the kind in a generator, so that it can be closed."""
    yield from get_kind(kind).run(content.payload, context)


@contextmanager
def _open_nodes(task: Task, lease: Lease) -> Iterator[tuple[Any, Any]]:
    """Open the nodes of a task through the gateway.

    The gateway checks permissions again and records the access in the audit trail.
    """
    job, holder = task.job, queue.get_holder(task)
    if task.lane != Lane.SEARCH:
        storage_quota.require_space(job.destination)
    with ExitStack() as stack:
        opened: dict[Purpose, Any] = {}
        for row, purpose in queue.get_purposes(task):
            node = stack.enter_context(
                open_node(job.owner, row, purpose, holder=holder, urgent=job.urgent)
            )
            lease.aborts.append(node.abort)
            opened[purpose] = node
        destination = opened.pop(Purpose.STORE, None)
        if archives.is_archive(job.destination) and destination is not None:
            destination.set_archive_title(archives.archive_title(job))
        yield next(iter(opened.values()), None), destination


def _determine_change(task: Task, content: TaskContent) -> Change | None:
    """Determine the Change for this attempt. Raises NotPermitted.

    It is determined for each attempt, since a project may have ended or a permission been revoked.
    """
    job = task.job
    assert task.source is not None
    if task.lane == Lane.SEARCH:
        project = job.project or services.default_project()
        pseudonyms.require_project(job.owner, project, task.source, job.destination)
        return None
    if job.is_as_is:
        return pseudonyms.allow_identified(
            job.owner, job.project, task.source, job.destination, reason=job.order["reason"]
        )
    return pseudonyms.make_change(
        job.owner,
        job.project,
        task.source,
        job.destination,
        content.patient_id,
        pseudonym=content.pseudonym,
        visit=content.visit,
    )
