"""Roads: which tasks wait for the same nodes, whose turn it is, and what keeps them waiting."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Exists, OuterRef
from django.utils import timezone

from adit.jobs.models import Job, JobState, Road, Task, TaskState
from adit.jobs.queueing import statements
from adit.nodes.connect import Purpose
from adit.nodes.models import Lane, Node
from adit.nodes.statements import look_at, places
from adit.statement import Asked, ask


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


@dataclass(slots=True)
class Candidate:
    """A road with a task that is due, and whose it is."""

    way: Way
    owner: int
    job: int
    road: int
    said: str
    """Why nothing starts on it, as it was found last."""
    is_limited: bool
    """Its owner is in a group with a budget."""


def lay(job: Job) -> None:
    """Puts the tasks of a job on their roads. Safe to repeat."""
    loose = Task.objects.filter(job=job, road=None)
    for source, lane in loose.order_by().values_list("source", "lane").distinct():
        road, _ = Road.objects.get_or_create(job=job, source_id=source, lane=lane)
        loose.filter(source=source, lane=lane).update(road=road)


def in_turn() -> list[Candidate]:
    """Urgent before higher priority before whose turn it is before the oldest."""
    rows = statements.IN_TURN.rows(timezone.now())
    return [
        Candidate(
            Way(source, destination, bool(urgent), lane), owner, job, road, said, bool(limited)
        )
        for source, destination, urgent, lane, owner, job, road, said, limited, due in rows
        if due is not None
    ]


def first_due(job: int, road: int, most: int) -> Asked:
    """Locks the next tasks of a road, together with their job where it may run; see `due`."""
    return statements.FIRST_DUE.of(job, road, timezone.now(), most)


def due(asked: Asked) -> list[tuple[JobState, Task]]:
    """Each with the state of its job."""
    return [(JobState(state), statements.TASK.read(task)) for state, *task in asked.rows]


def say(candidates: Iterable[Candidate], sentence: str) -> None:
    """Why nothing starts on them now; empty when nothing is in the way."""
    said = sentence[:200]
    stale = [one for one in candidates if one.said != said]
    if stale:
        Road.objects.filter(pk__in=[one.road for one in stale]).update(waits_for=said)
    for one in stale:
        one.said = said


def sentences(job: Job) -> list[str]:
    """Why its waiting tasks do not start, one for each road that has some."""
    waiting = Task.objects.filter(road=OuterRef("pk"), state=TaskState.PENDING)
    said = Road.objects.filter(Exists(waiting), job=job).exclude(waits_for="")
    return list(said.values_list("waits_for", flat=True))


def nodes_of(way: Way) -> list[Node]:
    if not way.node_ids:
        return []
    looked = look_at(way.node_ids)
    ask(looked)
    return places(looked)
