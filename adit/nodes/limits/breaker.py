"""Breaker: a node that does not answer rests, and is asked again by one task at a time.

Else each of a thousand tasks would wait for a dead archive, and hold a worker meanwhile. People's
own searches and tests are not held up: one that gets an answer ends the rest.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _

from adit.nodes import alarms
from adit.nodes.limits.unavailable import NodeUnavailable
from adit.nodes.models import Alarm, CircuitBreaker, Node
from adit_engine.errors import AditError, ConnectionLost, TimedOut, Unreachable

COUNTED_ERRORS = (Unreachable, TimedOut, ConnectionLost)
"""What says that a node is not there, as long as it has answered nothing."""


def record_failure(node: Node, error: AditError) -> None:
    """Counts a conversation that never came about; others and other nodes' errors are passed by."""
    if not isinstance(error, COUNTED_ERRORS) or error.node != node.name:
        return
    with transaction.atomic():
        row, _is_new = CircuitBreaker.objects.select_for_update(no_key=True).get_or_create(
            node=node, defaults={"since": timezone.now()}
        )
        row.failures += 1
        row.tried_until = None
        row.rests_until = timezone.now() + _get_pause(row.failures)
        row.save()
        if row.failures >= settings.BREAKER_FAILURES:
            _raise_alarm(row)


def record_answer(node: Node) -> None:
    """It is there: nobody waits for it any more."""
    with transaction.atomic():
        if CircuitBreaker.objects.filter(node=node).delete()[0]:
            alarms.end_alarm(Alarm.Cause.BREAKER, _alarm_subject(node))


def get_breaker_pause(node: Node) -> NodeUnavailable | None:
    """Why no task may open it now, or None; asked of rows that came with their `breaker`."""
    row: CircuitBreaker | None = getattr(node, "breaker", None)
    if row is None:
        return None
    now = timezone.now()
    if row.rests_until is not None and row.rests_until > now:
        words = {"since": _format_time(row.since), "time": _format_time(row.rests_until)}
        text = _("has not answered since %(since)s and is asked again at %(time)s") % words
        return NodeUnavailable(node.name, text, row.rests_until)
    if row.tried_until is not None and row.tried_until > now:
        text = _("has not answered since %(since)s; one task is trying now")
        return NodeUnavailable(
            node.name, text % {"since": _format_time(row.since)}, row.tried_until
        )
    return None


def claim_trial(node: Node, for_s: float) -> None:
    """Whoever claims a task for a node in doubt is the one who tries; the node's row is locked."""
    until = timezone.now() + timedelta(seconds=for_s)
    CircuitBreaker.objects.filter(node=node).update(tried_until=until)


def _get_pause(failures: int) -> timedelta:
    pauses = settings.BREAKER_PAUSES_S
    return timedelta(seconds=pauses[min(failures, len(pauses)) - 1])


def _raise_alarm(row: CircuitBreaker) -> None:
    words = {"n": row.failures, "since": _format_time(row.since)}
    text = _("No answer since %(since)s, %(n)d times in a row.") % words
    alarms.raise_alarm(Alarm.Cause.BREAKER, _alarm_subject(row.node), text, row.node)


def _alarm_subject(node: Node) -> str:
    return f"node:{node.pk}"


def _format_time(at: datetime) -> str:
    local = timezone.localtime(at)
    is_today = local.date() == timezone.localdate()
    return date_format(local, "H:i" if is_today else "D H:i")
