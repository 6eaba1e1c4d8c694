"""Circuit breaker of a node: pause a node that does not answer. Used by queue and worker.

After the pause one task at a time tries the node again. Without the breaker each of a thousand
tasks would wait for a dead archive and occupy a worker. Interactive searches and tests are not
blocked: one that gets an answer closes the breaker.
"""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from adit.dates import format_datetime
from adit.nodes import alarms
from adit.nodes.limits.unavailable import NodeUnavailable
from adit.nodes.models import Alarm, CircuitBreaker, Node
from adit_engine.errors import AditError, ConnectionLost, TimedOut, Unreachable
from adit_engine.messages import Message

COUNTED_ERRORS = (Unreachable, TimedOut, ConnectionLost)
"""Errors that mean the node is down, if it has not answered anything before."""


def record_failure(node: Node, error: AditError) -> None:
    """Count a connection that could not be established; pause the node and raise an alarm.

    Other errors, and errors of other nodes, are ignored.
    """
    if not isinstance(error, COUNTED_ERRORS) or error.node != node.name:
        return
    with transaction.atomic():
        row, _is_new = CircuitBreaker.objects.select_for_update(no_key=True).get_or_create(
            node=node, defaults={"since": timezone.now()}
        )
        row.failures += 1
        row.trial_until = None
        row.paused_until = timezone.now() + _get_pause(row.failures)
        row.save()
        if row.failures >= settings.BREAKER_FAILURES:
            _raise_alarm(row)


def record_answer(node: Node) -> None:
    """Close the breaker and end its alarm: the node has answered."""
    with transaction.atomic():
        if CircuitBreaker.objects.filter(node=node).delete()[0]:
            alarms.end_alarm(Alarm.Cause.BREAKER, _alarm_subject(node))


def get_breaker_pause(node: Node) -> NodeUnavailable | None:
    """Return why no task may open the node now, or None.

    Select the nodes with `select_related("breaker")` to avoid one query for each.
    """
    row: CircuitBreaker | None = getattr(node, "breaker", None)
    if row is None:
        return None
    now = timezone.now()
    if row.paused_until is not None and row.paused_until > now:
        return NodeUnavailable(
            node.name,
            "node-unavailable.no-answer",
            row.paused_until,
            since=format_datetime(row.since),
            time=format_datetime(row.paused_until),
        )
    if row.trial_until is not None and row.trial_until > now:
        return NodeUnavailable(
            node.name,
            "node-unavailable.retried-now",
            row.trial_until,
            since=format_datetime(row.since),
        )
    return None


def claim_trial(node: Node, for_s: float) -> None:
    """Let one task try the node for `for_s` seconds. The caller has locked the row of the node."""
    until = timezone.now() + timedelta(seconds=for_s)
    CircuitBreaker.objects.filter(node=node).update(trial_until=until)


def _get_pause(failures: int) -> timedelta:
    pauses = settings.BREAKER_PAUSES_S
    return timedelta(seconds=pauses[min(failures, len(pauses)) - 1])


def _raise_alarm(row: CircuitBreaker) -> None:
    text = Message("alarm.no-answer", since=format_datetime(row.since), failures=row.failures)
    alarms.raise_alarm(Alarm.Cause.BREAKER, _alarm_subject(row.node), text, row.node)


def _alarm_subject(node: Node) -> str:
    return f"node:{node.pk}"
