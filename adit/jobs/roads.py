"""Roads: which tasks wait for the same nodes, whose turn it is, and what keeps them waiting."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from django.db.models import Exists, F, Min, OuterRef, Q, QuerySet
from django.utils import timezone

from adit.jobs import states
from adit.jobs.models import Job, Road, Task, TaskState, Work
from adit.nodes.connect import Purpose
from adit.nodes.models import Lane, Node

_WAY = ("source", "job__destination", "job__urgent", "lane")


@dataclass(frozen=True, slots=True)
class Way:
    """The nodes that tasks use, and how: who shares it waits for the same things."""

    source: int | None
    destination: int | None
    urgent: bool
    task_lane: str

    @property
    def purpose(self) -> Purpose:
        """For which the source is used."""
        return Purpose.SEARCH if self.task_lane == Lane.SEARCH else Purpose.RETRIEVE

    @property
    def lane(self) -> Lane:
        return self.purpose.lane(self.urgent)

    def purposes_at(self, node: int) -> list[Purpose]:
        places = [(self.source, self.purpose)]
        if self.purpose is not Purpose.SEARCH:
            places.append((self.destination, Purpose.STORE))
        return [purpose for pk, purpose in places if pk == node]

    @property
    def node_ids(self) -> list[int]:
        """In the order in which rows are locked."""
        used = {self.source} if self.purpose is Purpose.SEARCH else {self.source, self.destination}
        return sorted(pk for pk in used if pk is not None)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One person's oldest road on one way, with a task that is due."""

    way: Way
    owner: int
    road: int


def lay(job: Job) -> None:
    """Puts the tasks of a job on their roads. Safe to repeat."""
    loose = Task.objects.filter(job=job, road=None)
    for source, lane in loose.order_by().values_list("source", "lane").distinct():
        road, _ = Road.objects.get_or_create(job=job, source_id=source, lane=lane)
        loose.filter(source=source, lane=lane).update(road=road)


def due(**which: object) -> QuerySet[Task]:
    """What waits for nothing but nodes and workers; packing also waits for the rest of its job."""
    now = timezone.now()
    others = Task.objects.filter(
        job=OuterRef("job"), work=Work.KIND, state__in=list(states.OPEN_TASKS)
    )
    return Task.objects.filter(
        Q(work=Work.KIND) | ~Exists(others),
        Q(not_before=None) | Q(not_before__lte=now),
        state=TaskState.PENDING,
        **which,
    )


def with_work() -> QuerySet[Road]:
    """Roads on which a task is due."""
    return Road.objects.filter(
        Exists(due(road=OuterRef("pk"))), job__state__in=states.RUNNABLE_JOBS
    )


def in_turn() -> Iterator[Candidate]:
    """Urgent before higher priority before whose turn it is before the oldest. One query."""
    rows = (
        with_work()
        .order_by()
        .values(*_WAY, "job__owner", "job__priority")
        .annotate(road=Min("pk"))
        .order_by(
            "-job__urgent",
            "-job__priority",
            F("job__owner__turn__last_at").asc(nulls_first=True),
            "road",
        )
    )
    for row in rows:
        yield Candidate(Way(*(row[name] for name in _WAY)), row["job__owner"], row["road"])


def on(way: Way) -> QuerySet[Road]:
    return with_work().filter(
        source=way.source,
        job__destination=way.destination,
        job__urgent=way.urgent,
        lane=way.task_lane,
    )


def say(
    way: Way, sentence: str, *, owners: Collection[int] | None = None, but: Collection[int] = ()
) -> None:
    """Why nothing starts on it now, of these owners or of all but some; empty when nothing is in
    the way.
    """
    said = sentence[:200]
    stale = on(way).exclude(waits_for=said).exclude(job__owner__in=but)
    if owners is not None:
        stale = stale.filter(job__owner__in=owners)
    pks = list(stale.values_list("pk", flat=True))
    if pks:
        Road.objects.filter(pk__in=pks).update(waits_for=said)


def sentences(job: Job) -> list[str]:
    """Why its waiting tasks do not start, one for each road that has some."""
    waiting = Task.objects.filter(road=OuterRef("pk"), state=TaskState.PENDING)
    said = Road.objects.filter(Exists(waiting), job=job).exclude(waits_for="")
    return list(said.values_list("waits_for", flat=True))


def nodes_of(way: Way) -> QuerySet[Node]:
    """In the order in which they are locked."""
    rows = Node.objects.filter(pk__in=way.node_ids).order_by("pk")
    return rows.select_related("paused_by", "breaker")
