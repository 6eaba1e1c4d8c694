"""Runner: runs one claimed task to its end, and writes down what came of it."""

import logging
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import Error, connection, transaction
from django.utils.translation import gettext as _

from adit.accounts.rights import Refused
from adit.audit.trail import record
from adit.jobs import appraisal, deliveries, lines, queue, rules, sealed, states, verdict
from adit.jobs.kinds import kind_of
from adit.jobs.kinds.base import Checked, Context, Found, Yielded
from adit.jobs.lease import Canceled, Interrupted, Lease, Lost, Over, Stalled
from adit.jobs.ledger import Ledger, settle
from adit.jobs.models import Item, ResultLine, Task, TaskState
from adit.jobs.ordering import AS_IS
from adit.jobs.progress import counts_of
from adit.jobs.sealed import TaskContent
from adit.nodes.connect import Purpose, open_node
from adit.nodes.models import Lane
from adit.nodes.waits import Waits
from adit.profiles import mapping, trials
from adit.vault.box import SealBroken
from adit_engine.errors import AditError, RuleBroken
from adit_engine.pseudonymize.change import Change, Pseudonymized

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended; carried out under the fence."""

    carry_out: Callable[[Task], None]


def run(task: Task) -> None:
    """Runs a task that was claimed just now. Raises nothing but the end of the process."""
    task = Task.objects.select_related(
        "job__owner", "job__trial", "job__destination", "source"
    ).get(pk=task.pk)
    end = _attempted(task)
    try:
        end.carry_out(task)
        settle()
    except (states.Overtaken, queue.LeaseLost):
        log.info("task %d: somebody else has it now", task.pk)
    except Error as error:
        log.warning("task %d: its end could not be written (%s)", task.pk, type(error).__name__)
        connection.close()


def _attempted(task: Task) -> End:
    with Lease(task, queue.purposes_of(task)) as lease:
        try:
            _transfer(task, lease)
        except queue.LeaseLost:
            return _given_back(_("The task was taken away."))
        except Error as error:
            log.warning("task %d: database away (%s)", task.pk, type(error).__name__)
            connection.close()
            return _given_back(_("The database did not answer."), failed=True)
        except AditError as error:
            return _after(error, lease)
        except SealBroken:
            return _failed(_("What this task is about cannot be read: its key is gone."))
        except Exception as error:  # noqa: BLE001 - the one place that catches all, by house rule
            if lease.stop.is_set():
                return _stopped(lease)
            log.error("task %d: internal error\n%s", task.pk, _told(error))
            return _failed(_("Internal error: ask staff to look at the log, then retry."))
        if lease.stop.is_set() and isinstance(lease.stop.reason, Lost):
            return _stopped(lease)
    return End(_judged)


def _transfer(task: Task, lease: Lease) -> None:
    """Opens, runs, writes down. Raises the engine's errors, LeaseLost, Refused, Waits."""
    job = task.job
    box = sealed.box_of(job.trial)
    content = sealed.open_task(task)
    change = _change(task, content)
    if isinstance(change, Pseudonymized):
        rules.note(task)
    ledger = Ledger(task, box)
    with _opened(task, lease) as (source, destination):
        modalities = job.trial.allowed_modalities if job.trial is not None else ()
        context = Context(source, destination, change, ledger.held, lease.stop, modalities)
        try:
            with closing(_stream(job.kind, content, context)) as told_all:
                for told in told_all:
                    lease.progress()
                    if isinstance(told, Checked):
                        lines.answer(box, task, told, appraisal.facts_of(job, told.studies))
                    elif not isinstance(told, Found):
                        ledger.take(told)
        finally:
            with suppress(queue.LeaseLost, Error):
                ledger.write()


def _stream(kind: str, content: TaskContent, context: Context) -> Generator[Yielded, None, None]:
    """A generator in any case, so that it can be closed."""
    yield from kind_of(kind).run(content.payload, context)


@contextmanager
def _opened(task: Task, lease: Lease) -> Iterator[tuple[Any, Any]]:
    """Its nodes, by the gate: rights are asked again, and what is opened stands in the trail."""
    job, holder = task.job, queue.holder_of(task)
    with ExitStack() as stack:
        opened: dict[Purpose, Any] = {}
        for row, purpose in queue.purposes_of(task):
            node = stack.enter_context(
                open_node(job.owner, row, purpose, holder=holder, urgent=job.urgent)
            )
            lease.aborts.append(node.abort)
            opened[purpose] = node
        destination = opened.pop(Purpose.STORE, None)
        yield next(iter(opened.values()), None), destination


def _change(task: Task, content: TaskContent) -> Change | None:
    """Asked anew for each attempt: a trial may have ended, a right may be gone. Raises Refused."""
    job = task.job
    assert task.source is not None
    if task.lane == Lane.SEARCH:
        trial = job.trial or trials.default_trial()
        mapping.require_trial(job.owner, trial, task.source, job.destination)
        return None
    if job.order["change"] == AS_IS:
        return mapping.as_is_for(
            job.owner, job.trial, task.source, job.destination, reason=job.order["reason"]
        )
    return mapping.change_for(
        job.owner,
        job.trial,
        task.source,
        job.destination,
        content.patient_id,
        pseudonym=content.pseudonym,
    )


def _told(error: Exception) -> str:
    """Where it happened and of which kind it is; its text may quote a patient's data, so it stays."""
    place = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    return f"{place}{type(error).__name__}"


# Ends ---------------------------------------------------------------------------------------------


def _after(error: AditError, lease: Lease) -> End:
    """A stop makes nodes fail in odd ways, so it is looked at first."""
    if lease.stop.is_set():
        return _stopped(lease)
    if isinstance(error, Waits):
        return _given_back(str(error), until=error.until)
    if isinstance(error, RuleBroken):
        return _failed(str(error), broke_rule=True)
    if isinstance(error, Refused) or not error.again:
        return _failed(str(error))
    return _given_back(str(error), failed=True)


def _stopped(lease: Lease) -> End:
    reason = lease.stop.reason
    if isinstance(reason, Canceled):
        return End(lambda task: _finish(task, TaskState.CANCELED, str(reason)))
    if isinstance(reason, Over):
        return _failed(str(reason))
    if isinstance(reason, Stalled):
        return _given_back(str(reason), failed=True)
    return _given_back(str(reason), until=lease.until if isinstance(reason, Interrupted) else None)


def _given_back(why: str, *, failed: bool = False, until: datetime | None = None) -> End:
    return End(lambda task: queue.give_back(task, why, failed=failed, until=until))


def _failed(message: str, *, broke_rule: bool = False) -> End:
    return End(lambda task: _finish(task, TaskState.FAILURE, message, broke_rule=broke_rule))


def _judged(task: Task) -> None:
    """The attempt went through: the items, or the lines of a search, say how it ended."""
    if task.lane == Lane.SEARCH:
        judged = verdict.of_search(ResultLine.objects.filter(task=task))
    else:
        judged = verdict.of_task(Item.objects.filter(task=task), task.job.order["announced"])
    _finish(task, judged.state, judged.message)


def _finish(task: Task, to: TaskState, message: str, *, broke_rule: bool = False) -> None:
    counts = counts_of(Item.objects.filter(task=task))
    with transaction.atomic():
        queue.finish(task, to, message, broke_rule=broke_rule)
        if to in (TaskState.SUCCESS, TaskState.WARNING):
            deliveries.note(task)
        record(
            "task.ended",
            user=task.job.owner,
            about=f"job:{task.job_id}",
            details={
                "task": task.position,
                "attempt": task.attempt,
                "state": to.value,
                "expected": counts.expected,
                "delivered": counts.delivered,
                "withheld": counts.withheld,
                "failed": counts.failed,
                "skipped": counts.skipped,
            },
        )
