"""Prometheus metrics, read from the database, so that they are equal on every machine.

Labels are node names and fixed words, never data of a person. Used by the metrics view.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from django.db.models import Count, Min, Q, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from adit.audit.models import AuditEvent
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState
from adit.monitoring.health import check_readiness
from adit.nodes.gateway import Purpose, get_unavailability
from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NodePaused, NodeStopped
from adit.nodes.models import Lane, Node, NodeDailyUsage, Slot

OUTCOMES = ("delivered", "withheld", "failed", "skipped")


def render_metrics() -> bytes:
    """Return the metrics in the Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_DatabaseCollector())
    return generate_latest(registry)


class _DatabaseCollector:
    def collect(self) -> Iterator[Metric]:
        yield _make_gauge("adit_ready", "1 if this service works", ["part"], _readiness())
        yield _make_gauge("adit_jobs", "Jobs by state", ["state"], _count_by(Job.objects, "state"))
        yield _make_gauge(
            "adit_tasks", "Tasks by kind and state", ["kind", "state"], _count_tasks_by_state()
        )
        yield _make_gauge(
            "adit_tasks_waiting", "Waiting tasks by reason", ["reason"], _waiting_samples()
        )
        yield _make_gauge(
            "adit_oldest_due_seconds",
            "Waiting time of the oldest due task",
            [],
            [([], get_oldest_due_age_s())],
        )
        yield _make_counter("adit_attempts", "Attempts that workers started", [], _count_attempts())
        for name, action, about in (
            ("adit_lease_losses", "task.lost", "Attempts whose worker was lost"),
            ("adit_retries", "task.again", "Failed attempts that are retried"),
        ):
            yield _make_counter(
                name, about, [], [([], AuditEvent.objects.filter(action=action).count())]
            )
        yield from _transfer_metrics()
        yield from _node_metrics()


Samples = Iterable[tuple[list[str], float]]


def _make_gauge(name: str, help_text: str, labels: list[str], rows: Samples) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _make_counter(name: str, help_text: str, labels: list[str], rows: Samples) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _readiness() -> Samples:
    return [([sign.name], float(sign.is_good)) for sign in check_readiness()]


def _count_by(rows: "object", column: str) -> Samples:
    counted = rows.order_by().values_list(column).annotate(Count("pk"))  # type: ignore[attr-defined]
    return [([str(value)], number) for value, number in counted]


def _count_tasks_by_state() -> Samples:
    rows = Task.objects.order_by().values_list("job__kind", "state").annotate(Count("pk"))
    return [([kind, state], number) for kind, state, number in rows]


def _waiting_samples() -> Samples:
    waiting = count_waiting_tasks()
    return [([reason], waiting[reason]) for reason in WAIT_REASONS]


def count_waiting_tasks() -> Counter[str]:
    """Count each waiting task once, under the first reason that delays it."""
    waiting: Counter[str] = Counter()
    now = timezone.now()
    pending = Task.objects.filter(state=TaskState.PENDING).order_by()
    waiting["approval"] = pending.filter(job__state=JobState.WAITING_FOR_APPROVAL).count()
    open_jobs = pending.filter(job__state__in=(JobState.PENDING, JobState.IN_PROGRESS))
    waiting["later"] = open_jobs.filter(not_before__gt=now).count()
    due = open_jobs.filter(Q(not_before=None) | Q(not_before__lte=now))
    nodes = Node.objects.in_bulk()
    ways = due.values_list("source", "job__destination", "job__urgent", "lane")
    for source, destination, urgent, lane, number in ways.annotate(Count("pk")):
        is_search = lane == Lane.SEARCH
        used = [(source, Purpose.SEARCH if is_search else Purpose.RETRIEVE)]
        used += [] if is_search else [(destination, Purpose.STORE)]
        reasons = (_wait_reason(nodes[pk], purpose, urgent) for pk, purpose in used if pk in nodes)
        waiting[next(filter(None, reasons), "worker")] += number
    return waiting


WAIT_REASONS = ("approval", "later", "not_open", "paused", "hours", "connections", "worker")


def _wait_reason(node: Node, purpose: Purpose, urgent: bool) -> str:
    if not node.is_open:
        return "not_open"
    waits = get_unavailability(node, purpose, urgent=urgent)
    if isinstance(waits, (NodePaused, NodeStopped)):
        return "paused"
    if waits is not None:
        return "hours"
    return "" if slots.count_free(node, purpose.lane(urgent)) else "connections"


def get_oldest_due_age_s() -> float:
    """Return the seconds since the order of the oldest due task; 0 if none is due."""
    due = Task.objects.filter(
        state=TaskState.PENDING, job__state__in=(JobState.PENDING, JobState.IN_PROGRESS)
    ).filter(Q(not_before=None) | Q(not_before__lte=timezone.now()))
    first = due.aggregate(first=Min("job__created_at"))["first"]
    return (timezone.now() - first).total_seconds() if first else 0.0


def _count_attempts() -> Samples:
    return [([], Task.objects.aggregate(sum=Sum("attempt"))["sum"] or 0)]


def _transfer_metrics() -> Iterator[Metric]:
    rows = (
        SeriesResult.objects.order_by()
        .values_list("task__source__name", "task__job__destination__name")
        .annotate(*(Sum(name) for name in OUTCOMES), Sum("size_bytes"))
    )
    images: list[tuple[list[str], float]] = []
    sizes: list[tuple[list[str], float]] = []
    for source, destination, *counts, size in rows:
        places = [source or "", destination or ""]
        images += [([*places, name], n or 0) for name, n in zip(OUTCOMES, counts, strict=True)]
        sizes.append((places, size or 0))
    labels = ["source", "destination"]
    yield _make_counter("adit_instances", "Images by outcome", [*labels, "outcome"], images)
    yield _make_counter("adit_delivered_bytes", "Bytes delivered", labels, sizes)


def _node_metrics() -> Iterator[Metric]:
    uses = list(
        NodeDailyUsage.objects.order_by()
        .values_list("node__name", "lane")
        .annotate(Sum("connections"), Sum("images"), Sum("size_bytes"), Sum("seconds"))
    )
    for position, (name, about) in enumerate(
        (
            ("adit_node_connections", "Ended connections in the retention time"),
            ("adit_node_images", "Images in the retention time"),
            ("adit_node_bytes", "Bytes in the retention time"),
            ("adit_node_connection_seconds", "Total duration of connections"),
        ),
        start=2,
    ):
        yield _make_gauge(
            name, about, ["node", "lane"], [([row[0], row[1]], row[position] or 0) for row in uses]
        )
    open_now = (
        Slot.objects.filter(expires_at__gt=timezone.now())
        .order_by()
        .values_list("node__name", "lane")
        .annotate(Sum("weight"))
    )
    yield _make_gauge(
        "adit_node_connections_open",
        "Open associations",
        ["node", "lane"],
        [([node, lane], number) for node, lane, number in open_now],
    )
    yield _make_gauge(
        "adit_node_connections_allowed",
        "Associations allowed now",
        ["node", "lane"],
        [
            ([node.name, lane], slots.get_lane_limit(node, lane, timezone.now()))
            for node in Node.objects.all()
            for lane in (Lane.RETRIEVE, Lane.SEARCH)
        ],
    )
    yield _make_gauge(
        "adit_node_paused",
        "1 if it is paused or stopped",
        ["node"],
        [([node.name], float(node.paused_at is not None)) for node in Node.objects.all()],
    )
