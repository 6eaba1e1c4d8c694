"""How fast a node answers, compared with its usual time: when it is slow, and when jobs wait.

The times are those of an echo, and from a request for images until the first of them. Used by the
gateway, slots, the scheduler and the pages of nodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from statistics import median
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from adit.accounts.permissions import AnyUser, Right, require
from adit.audit.trail import record
from adit.dates import format_datetime
from adit.nodes import alarms
from adit.nodes.limits.unavailable import NodeSlow
from adit.nodes.models import Alarm, Node
from adit.nodes.usage import hourly_usage
from adit_engine.messages import Message

USUAL_OF, MIN_USUAL = 40, 5
"""How many earlier times define what is usual, and how many are needed for that."""

JUDGED = 3
"""The median of so many last times is compared: one slow answer alone means nothing."""

PAUSE = timedelta(minutes=5)
"""How long jobs wait after an answer that was far too slow. Each further one prolongs it."""

VALID_FOR = timedelta(minutes=30)
"""A node without a new time for so long is no longer known to be slow."""

ADOPTED_AFTER = timedelta(days=1)
"""A node that was slow for so long has become slower: this is usual from now on."""

_DEFAULT_SLOW, _DEFAULT_PAUSE = 2.0, 4.0


class Measure(StrEnum):
    ECHO = "echo"
    RETRIEVAL = "retrieval"


_MIN_DELAY_S: Mapping[Measure, float] = {Measure.ECHO: 0.2, Measure.RETRIEVAL: 0.5}
"""A shorter delay than this is never called slow, whatever is usual."""


@dataclass(frozen=True, slots=True)
class SlowPeriod:
    """Since when a node is slow, by which measure, and what is usual."""

    since: datetime
    measure: Measure
    usual_s: float
    now_s: float
    measured_at: datetime
    paused_until: datetime | None

    @property
    def values(self) -> dict[str, str]:
        """The values of the messages about it."""
        return {
            "since": format_datetime(self.since),
            "now": format_seconds(self.now_s),
            "usual": format_seconds(self.usual_s),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "SlowPeriod":
        until = kept["until"]
        return cls(
            datetime.fromisoformat(kept["since"]),
            Measure(kept["by"]),
            kept["usual_s"],
            kept["now_s"],
            datetime.fromisoformat(kept["at"]),
            None if until is None else datetime.fromisoformat(until),
        )

    def to_json(self) -> dict[str, Any]:
        until = self.paused_until
        return {
            "since": self.since.isoformat(),
            "by": self.measure.value,
            "usual_s": self.usual_s,
            "now_s": self.now_s,
            "at": self.measured_at.isoformat(),
            "until": None if until is None else until.isoformat(),
        }


def format_seconds(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2f}"


def get_slow_period(node: Node) -> SlowPeriod | None:
    """Return since when the node is slow; None if it is not, or not known to be."""
    kept = node.response_times.get("slow")
    if kept is None:
        return None
    period = SlowPeriod.from_json(kept)
    return period if period.measured_at + VALID_FOR > timezone.now() else None


def get_slow_error(node: Node) -> NodeSlow | None:
    """Return why jobs wait for the node now, or None."""
    period = get_slow_period(node)
    if period is None or period.paused_until is None or period.paused_until <= timezone.now():
        return None
    until = period.paused_until
    time = format_datetime(until)
    return NodeSlow(node.name, "node-unavailable.slow", until, time=time, **period.values)


def describe_slowness(node: Node) -> Message | None:
    """Return a sentence about a node that is slow now, and what ADIT does, for its page."""
    period = get_slow_period(node)
    if period is None:
        return None
    waits = get_slow_error(node)
    if waits is not None:
        return waits.message
    return Message("node-slow.described", node=node.name, **period.values)


def record_times(node: Node, measure: Measure, times_s: Sequence[float]) -> None:
    """Record how long the node took to answer, and judge after each answer whether it is slow."""
    if not times_s:
        return
    with transaction.atomic():
        row = Node.objects.select_for_update(no_key=True).filter(pk=node.pk).first()
        if row is None:
            return
        # Before the audit trail: ends of tasks lock these rows in the same order.
        hourly_usage.record_answers(row, measure.value, times_s)
        for seconds in times_s:
            _add_time(row, measure, seconds)
        row.save(update_fields=["response_times"])


def _add_time(row: Node, measure: Measure, seconds: float) -> None:
    times = row.response_times.get(measure, {})
    last = [*times.get("last", ()), seconds][-JUDGED:]
    usual = list(times.get("usual", ()))
    period = _judge(row, measure, usual, last)
    if not _is_slow_time(row, measure, usual, seconds):
        usual = [*usual, seconds][-USUAL_OF:]
    before = get_slow_period(row)
    if period is not None and before is not None and _has_become_slower(before):
        period, usual = None, last
    row.response_times[measure] = {"last": last, "usual": usual}
    _keep_period(row, measure, before, period)


def end_old_periods() -> None:
    """End slow periods of nodes that have not been measured any more, with their alarms."""
    with transaction.atomic():
        found = Node.objects.filter(response_times__has_key="slow").order_by("pk")
        for node in found.select_for_update(no_key=True):
            if get_slow_period(node) is None:
                _end_period(node)


def adopt_times(user: AnyUser, node: Node) -> None:
    """Take the present times of a slow node as its usual ones. Raise NotPermitted."""
    require(user, Right.MANAGE_NODES)
    with transaction.atomic():
        row = Node.objects.select_for_update(no_key=True).get(pk=node.pk)
        for measure in Measure:
            if times := row.response_times.get(measure):
                row.response_times[measure] = {"last": times["last"], "usual": times["last"]}
        _end_period(row)
        details = {"node": row.name}
        record("node.times_adopted", user=user, about=_audit_subject(row), details=details)
    node.refresh_from_db()


def list_due_nodes() -> list[Node]:
    """Return the nodes whose echo is due: often while they are used or slow, else rarely."""
    now = timezone.now()
    rows = Node.objects.filter(is_open=True, paused_at=None).defer("secrets")
    used = set(
        Node.objects.filter(slots__expires_at__gt=now, slots__lane__in=("retrieve", "urgent"))
        .order_by()
        .values_list("pk", flat=True)
    )
    found = []
    for node in rows:
        if not node.capabilities.answers_echo:
            continue
        interval_s = settings.ECHO_S
        if node.pk in used or node.response_times.get("slow") or _is_last_slow(node):
            interval_s = settings.ECHO_IN_USE_S
        at = node.response_times.get("echo_at")
        if interval_s and (
            at is None or datetime.fromisoformat(at) + timedelta(seconds=interval_s) <= now
        ):
            found.append(node)
    return found


def mark_measured(node: Node) -> None:
    """Note that an echo was tried, so that the next one is not due at once."""
    with transaction.atomic():
        row = Node.objects.select_for_update(no_key=True).filter(pk=node.pk).first()
        if row is not None:
            row.response_times["echo_at"] = timezone.now().isoformat()
            row.save(update_fields=["response_times"])


# Judging ------------------------------------------------------------------------------------------


def _factor(node: Node, name: str, default: float) -> float:
    value = node.settings.get(name)
    return default if value is None else float(value)


def _exceeds(measure: Measure, usual: list[float], seconds: float, factor: float) -> bool:
    if not factor or len(usual) < MIN_USUAL:
        return False
    usual_s = median(usual)
    return seconds > factor * usual_s and seconds > usual_s + _MIN_DELAY_S[measure]


def _least_factor(node: Node) -> float:
    """The factor from which anything happens; 0 if nothing does."""
    factors = (
        _factor(node, "slow_factor", _DEFAULT_SLOW),
        _factor(node, "pause_factor", _DEFAULT_PAUSE),
    )
    return min(filter(None, factors), default=0)


def _is_slow_time(node: Node, measure: Measure, usual: list[float], seconds: float) -> bool:
    return _exceeds(measure, usual, seconds, _least_factor(node))


def _is_last_slow(node: Node) -> bool:
    times = node.response_times.get(Measure.ECHO)
    return bool(times) and _is_slow_time(node, Measure.ECHO, times["usual"], times["last"][-1])


def _judge(
    node: Node, measure: Measure, usual: list[float], last: list[float]
) -> SlowPeriod | None:
    """Return the state of the node by this measure alone; None if it is not slow."""
    if len(last) < JUDGED:
        return None
    now_s, now = median(last), timezone.now()
    if not _is_slow_time(node, measure, usual, now_s):
        return None
    is_far = _exceeds(measure, usual, now_s, _factor(node, "pause_factor", _DEFAULT_PAUSE))
    until = now + PAUSE if is_far else None
    return SlowPeriod(now, measure, median(usual), now_s, now, until)


def _has_become_slower(period: SlowPeriod) -> bool:
    return period.since + ADOPTED_AFTER <= timezone.now()


def _keep_period(
    node: Node, measure: Measure, before: SlowPeriod | None, period: SlowPeriod | None
) -> None:
    """Update the slow period of the row; the caller saves it. Another measure may hold it."""
    if period is None:
        if before is not None and before.measure is measure:
            _end_period(node, save=False)
        return
    if before is not None:
        if before.measure is not measure and (before.paused_until and not period.paused_until):
            return  # the other measure says more
        period = SlowPeriod(
            before.since,
            measure,
            period.usual_s,
            period.now_s,
            period.measured_at,
            period.paused_until,
        )
    node.response_times["slow"] = period.to_json()
    was_paused = before is not None and before.paused_until is not None
    if before is None:
        _record_slow("node.slow", node, period)
    if period.paused_until is not None:
        text = Message("alarm.slow", **period.values)
        alarms.raise_alarm(Alarm.Cause.SLOW, _audit_subject(node), text, node)
        if not was_paused:
            _record_slow("node.slow_paused", node, period)
    else:
        alarms.end_alarm(Alarm.Cause.SLOW, _audit_subject(node))


def _end_period(node: Node, *, save: bool = True) -> None:
    if node.response_times.pop("slow", None) is not None:
        alarms.end_alarm(Alarm.Cause.SLOW, _audit_subject(node))
        record("node.slow_ended", about=_audit_subject(node), details={"node": node.name})
    if save:
        node.save(update_fields=["response_times"])


def _record_slow(action: str, node: Node, period: SlowPeriod) -> None:
    details = {
        "node": node.name,
        "measure": period.measure.value,
        "usual_s": round(period.usual_s, 3),
        "now_s": round(period.now_s, 3),
    }
    record(action, about=_audit_subject(node), details=details)


def _audit_subject(node: Node) -> str:
    return f"node:{node.pk}"
