"""Metrics: what Prometheus reads, all of it from rows, so that it is the same on every machine.

Labels are names of nodes and words of our own, never of a person.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from django.db.models import Count, Min, Q, Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from adit.audit.models import Event
from adit.jobs.models import Item, Job, JobState, Task, TaskState
from adit.monitoring.health import all_signs
from adit.nodes.gateway import Purpose, why_waiting
from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import Halted, Paused
from adit.nodes.models import Lane, Node, Slot, Use

OUTCOMES = ("delivered", "withheld", "failed", "skipped")


def text() -> bytes:
    """In the format that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rows())
    return generate_latest(registry)


class _Rows:
    def collect(self) -> Iterator[Metric]:
        yield _gauge("adit_ready", "1 while this part answers", ["part"], _ready())
        yield _gauge("adit_jobs", "Jobs by state", ["state"], _by(Job.objects, "state"))
        yield _gauge("adit_tasks", "Parts of jobs by state", ["kind", "state"], _tasks_by_state())
        yield _gauge("adit_tasks_waiting", "Why parts wait", ["reason"], _waiting())
        yield _gauge("adit_oldest_due_seconds", "How long the oldest due part waits", [], _oldest())
        yield _counter("adit_attempts", "Attempts that workers began", [], _attempts())
        for name, action, about in (
            ("adit_lease_losses", "task.lost", "Attempts whose worker vanished"),
            ("adit_retries", "task.again", "Attempts that failed and are made again"),
        ):
            yield _counter(name, about, [], [([], Event.objects.filter(action=action).count())])
        yield from _transferred()
        yield from _nodes()


Rows = Iterable[tuple[list[str], float]]


def _gauge(name: str, about: str, labels: list[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _counter(name: str, about: str, labels: list[str], rows: Rows) -> Metric:
    family = CounterMetricFamily(name, about, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _ready() -> Rows:
    return [([sign.part], float(sign.is_good)) for sign in all_signs()]


def _by(rows: "object", column: str) -> Rows:
    counted = rows.order_by().values_list(column).annotate(Count("pk"))  # type: ignore[attr-defined]
    return [([str(value)], number) for value, number in counted]


def _tasks_by_state() -> Rows:
    rows = Task.objects.order_by().values_list("job__kind", "state").annotate(Count("pk"))
    return [([kind, state], number) for kind, state, number in rows]


def _waiting() -> Rows:
    """Each waiting part once, under the first reason that holds it up."""
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
        reasons = (_reason(nodes[pk], purpose, urgent) for pk, purpose in used if pk in nodes)
        waiting[next(filter(None, reasons), "worker")] += number
    return [([reason], waiting[reason]) for reason in REASONS]


REASONS = ("approval", "later", "not_open", "paused", "hours", "connections", "worker")


def _reason(node: Node, purpose: Purpose, urgent: bool) -> str:
    if not node.is_open:
        return "not_open"
    waits = why_waiting(node, purpose, urgent=urgent)
    if isinstance(waits, (Paused, Halted)):
        return "paused"
    if waits is not None:
        return "hours"
    return "" if slots.free(node, purpose.lane(urgent)) else "connections"


def _oldest() -> Rows:
    due = Task.objects.filter(
        state=TaskState.PENDING, job__state__in=(JobState.PENDING, JobState.IN_PROGRESS)
    ).filter(Q(not_before=None) | Q(not_before__lte=timezone.now()))
    first = due.aggregate(first=Min("job__created_at"))["first"]
    return [([], (timezone.now() - first).total_seconds() if first else 0.0)]


def _attempts() -> Rows:
    return [([], Task.objects.aggregate(sum=Sum("attempt"))["sum"] or 0)]


def _transferred() -> Iterator[Metric]:
    rows = (
        Item.objects.order_by()
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
    yield _counter("adit_instances", "Images by what became of them", [*labels, "outcome"], images)
    yield _counter("adit_delivered_bytes", "Bytes delivered", labels, sizes)


def _nodes() -> Iterator[Metric]:
    uses = list(
        Use.objects.order_by()
        .values_list("node__name", "lane")
        .annotate(Sum("connections"), Sum("images"), Sum("size_bytes"), Sum("seconds"))
    )
    for position, (name, about) in enumerate(
        (
            ("adit_node_connections", "Connections ended in the kept days, by node and lane"),
            ("adit_node_images", "Images in the kept days, by node and lane"),
            ("adit_node_bytes", "Bytes in the kept days, by node and lane"),
            ("adit_node_connection_seconds", "For how long connections were held"),
        ),
        start=2,
    ):
        yield _gauge(
            name, about, ["node", "lane"], [([row[0], row[1]], row[position] or 0) for row in uses]
        )
    open_now = (
        Slot.objects.filter(expires_at__gt=timezone.now())
        .order_by()
        .values_list("node__name", "lane")
        .annotate(Sum("weight"))
    )
    yield _gauge(
        "adit_node_connections_open",
        "Associations counted as open now",
        ["node", "lane"],
        [([node, lane], number) for node, lane, number in open_now],
    )
    yield _gauge(
        "adit_node_connections_allowed",
        "Associations allowed now",
        ["node", "lane"],
        [
            ([node.name, lane], slots.allowed(node, lane, timezone.now()))
            for node in Node.objects.all()
            for lane in (Lane.RETRIEVE, Lane.SEARCH)
        ],
    )
    yield _gauge(
        "adit_node_paused",
        "1 while somebody has paused or stopped it",
        ["node"],
        [([node.name], float(node.paused_at is not None)) for node in Node.objects.all()],
    )
