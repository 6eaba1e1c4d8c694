"""A stage for jobs: studies on a memory node's shelf, a source that stops when told, a worker."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import connection

from adit.jobs import queue
from adit.jobs.models import Task
from adit.nodes.models import Node
from adit.worker import runner
from adit_engine.errors import ConnectionLost
from adit_engine.nodes.base import FindResults
from adit_engine.nodes.memory import MemoryNode
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import Ref
from lab import samples

PATIENT = "PID-4711-0815"


class GatedNode(MemoryNode):
    """A memory node that hands out as many images as it was allowed to, then waits."""

    gate = threading.Semaphore(0)
    aborted = threading.Event()

    @classmethod
    def close_gate(cls) -> None:
        cls.gate = threading.Semaphore(0)
        cls.aborted = threading.Event()

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        for ref in self._load_index().find_instances(refs):
            while not self.gate.acquire(timeout=0.05):
                if self.aborted.is_set():
                    raise ConnectionLost(self.name, "the connection was cut")
            yield from super().fetch([ref], patient_id=patient_id)

    def abort(self) -> None:
        self.aborted.set()


class BrokenNode(MemoryNode):
    """A fault of the program that quotes a patient."""

    def find(self, query: Query) -> FindResults:
        name = "Mustermann^Änne"
        raise ZeroDivisionError(f"cannot divide {name}")


def put_study(
    node: Node, study: str = "1", images: int = 3, series: int = 1, **changes: Any
) -> str:
    """Lays a study on a memory node's shelf; its UID."""
    held = MemoryNode.shelves.setdefault(node.name, {})
    for number in range(1, series + 1):
        for image in range(1, images + 1):
            made = samples.instance(samples.ct(image, study=study, series=str(number), **changes))
            held[made.instance_uid] = made
    return f"{samples.ROOT}.{study}"


def shelf(node: Node) -> dict[str, Instance]:
    return MemoryNode.shelves.get(node.name, {})


def work(worker: str = "test") -> Task | None:
    """Claims and runs one task, as a worker does; the task as it stands afterwards."""
    task = queue.claim(worker)
    if task is None:
        return None
    runner.run_task(task)
    return Task.objects.get(pk=task.pk)


def claimed() -> Task:
    task = queue.claim("test")
    assert task is not None
    return task


def in_thread(task: Task) -> threading.Thread:
    """A worker that runs the task while the test goes on."""

    def run() -> None:
        try:
            runner.run_task(task)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(condition: Callable[[], object], deadline_s: float = 20.0) -> None:
    """Waits until it holds; fails at the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.05)
