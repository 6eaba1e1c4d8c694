"""How an attempt at a task ends: success, failure, release or stop, written under its fence.

Also the feedback to the circuit breakers of the nodes. Used by the runner and query batches.
"""

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from django.db import Error, connection, transaction

from adit.accounts.permissions import NotPermitted
from adit.audit.trail import SealedPatient, record
from adit.jobs import encrypted_payload, end_state, patient_id_changes, queue, states
from adit.jobs.kinds.base import TaskOutput
from adit.jobs.lease import (
    Canceled,
    Interrupted,
    Lease,
    PatientNowBlocked,
    ProjectEnded,
    Stalled,
)
from adit.jobs.models import ResultLine, SeriesResult, Task, TaskState
from adit.jobs.progress import count_images
from adit.nodes.limits import breaker
from adit.nodes.limits.unavailable import NodeUnavailable
from adit.nodes.models import Lane, Node
from adit.orders import next_source, pseudonym_conflicts
from adit.projects.pseudonyms import seal_patient_of_node
from adit.results import deliveries
from adit.vault.cipher import DecryptionError
from adit_engine.errors import AditError, PatientChanged, RuleViolation
from adit_engine.messages import Message
from adit_engine.values.outcome import InstanceEvent, InstanceState

_STORED_STATES = (InstanceState.STORED, InstanceState.DELIVERED)


@dataclass
class BreakerFeedback:
    """Tells the breakers which nodes of a task have answered in this attempt.

    Any output proves that the source answers; only a stored instance proves it for the destination.
    """

    source: Node | None
    destination: Node | None
    _answering: set[int] = field(default_factory=set)

    def record_source_answer(self) -> None:
        """Record that the source has answered."""
        self._record_answer(self.source)

    def record_output(self, output: TaskOutput) -> None:
        """Record the answers that an output of the task proves."""
        self.record_source_answer()
        if isinstance(output, InstanceEvent) and output.state in _STORED_STATES:
            self._record_answer(self.destination)

    def record_error(self, error: AditError) -> None:
        """Record a failure of the nodes that have not answered; they may be the reason."""
        for node in (self.source, self.destination):
            if node is not None and node.pk not in self._answering:
                with suppress(Error):  # without a database nothing is counted
                    breaker.record_failure(node, error)

    def _record_answer(self, node: Node | None) -> None:
        if node is not None and node.pk not in self._answering:
            self._answering.add(node.pk)
            breaker.record_answer(node)


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended. `persist` stores it under the fence."""

    persist: Callable[[Task], None]


T = TypeVar("T")


def run_guarded(
    work: Callable[[], T], task: Task, lease: Lease, feedback: BreakerFeedback
) -> T | AttemptResult:
    """Return the result of `work`, or the AttemptResult of its error.

    This is the only place that catches all exceptions.
    """
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the task must end on any error
        if isinstance(error, AditError) and not lease.stop.is_set():
            feedback.record_error(error)
        return _result_of_error(error, task, lease)


def _result_of_error(error: Exception, task: Task, lease: Lease) -> AttemptResult:
    """Map an exception to a result. Unexpected exceptions are logged here, once."""
    if isinstance(error, queue.LeaseLost):
        return released_result(Message("task.taken-over"))
    if isinstance(error, Error):
        log.warning("task %d: database unavailable (%s)", task.pk, type(error).__name__)
        connection.close()
        return released_result(Message("task.database-down"), failed=True)
    if isinstance(error, AditError):
        return result_of_engine_error(error, lease)
    if isinstance(error, DecryptionError):
        return failed_result(Message("task.key-missing"))
    if lease.stop.is_set():
        return stopped_result(lease)
    log.error("task %d: internal error\n%s", task.pk, _format_error(error))
    return failed_result(Message("task.internal-error"))


def _format_error(error: Exception) -> str:
    """Format traceback and type; the text of the exception may contain patient data."""
    place = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    return f"{place}{type(error).__name__}"


def result_of_engine_error(error: AditError, lease: Lease) -> AttemptResult:
    """Return the result of an engine error.

    The stop is checked first, since a stop causes various errors of nodes.
    """
    if lease.stop.is_set():
        return stopped_result(lease)
    if isinstance(error, NodeUnavailable):
        return released_result(error.message, until=error.until)
    if isinstance(error, PatientChanged):
        return AttemptResult(lambda task: patient_id_changes.hold_task(task, error))
    if isinstance(error, RuleViolation):
        return failed_result(error.message, has_broken_rule=True)
    if isinstance(error, NotPermitted) or not error.is_transient:
        return failed_result(error.message)
    return released_result(error.message, failed=True)


def stopped_result(lease: Lease) -> AttemptResult:
    """Return the result of an attempt that was stopped, by the reason of the stop."""
    reason = lease.stop.reason
    assert reason is not None, "the stop is set"
    if isinstance(reason, Canceled):
        return AttemptResult(lambda task: _finish_task(task, TaskState.CANCELED, reason))
    if isinstance(reason, ProjectEnded | PatientNowBlocked):
        return failed_result(reason)
    if isinstance(reason, Stalled):
        return released_result(reason, failed=True)
    return released_result(
        reason, until=lease.expires_at if isinstance(reason, Interrupted) else None
    )


def released_result(
    reason: Message, *, failed: bool = False, until: datetime | None = None
) -> AttemptResult:
    return AttemptResult(lambda task: queue.release_task(task, reason, failed=failed, until=until))


def failed_result(message: Message, *, has_broken_rule: bool = False) -> AttemptResult:
    return AttemptResult(
        lambda task: _finish_task(task, TaskState.FAILURE, message, has_broken_rule=has_broken_rule)
    )


def finish_by_results(task: Task) -> None:
    """Finish a task with the end state that its results determine."""
    if task.lane == Lane.SEARCH:
        judged = end_state.evaluate_search(ResultLine.objects.filter(task=task))
    else:
        judged = end_state.evaluate_task(
            SeriesResult.objects.filter(task=task), task.job.order["announced"]
        )
    _finish_task(task, judged.state, judged.message)


def _finish_task(
    task: Task, to: TaskState, message: Message | None, *, has_broken_rule: bool = False
) -> None:
    counts = count_images(SeriesResult.objects.filter(task=task))
    with transaction.atomic():
        if to == TaskState.SUCCESS and next_source.get_next_source(task) is not None:
            states.lock_job(task.job_id)
            next_source.insert_check_at_next_source(task)
        pseudonym_conflicts.note_conflicts_after_check(task)
        queue.finish(task, to, message, has_broken_rule=has_broken_rule)
        if to in (TaskState.SUCCESS, TaskState.WARNING):
            deliveries.record_deliveries(task)
        record(
            "task.ended",
            user=task.job.owner,
            about=f"job:{task.job_id}",
            details={
                "task": task.position,
                "attempt": task.attempt,
                "state": to.value,
                "reason": message.code if message is not None else "",
                "expected": counts.expected,
                "delivered": counts.delivered,
                "withheld": counts.withheld,
                "failed": counts.failed,
                "skipped": counts.skipped,
            },
            patient=_seal_patient(task),
        )


def _seal_patient(task: Task) -> SealedPatient | None:
    """Encrypt the patient under the key of the project, so that deliveries can be found by it."""
    if task.source is None:
        return None
    try:
        patient_id = encrypted_payload.open_task(task).patient_id
        return (
            seal_patient_of_node(task.job.project, task.source, patient_id) if patient_id else None
        )
    except DecryptionError:  # the key of the project was destroyed
        return None
