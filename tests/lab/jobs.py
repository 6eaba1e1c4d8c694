"""Fixtures for jobs: studies in a memory node, a source that pauses, a worker."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.db import connection

from adit.jobs import queue
from adit.jobs.models import Task
from adit.nodes.models import Node
from adit.worker import runner
from adit_engine.dicom_file.header_index import find_instances
from adit_engine.errors import ConnectionLost
from adit_engine.nodes.base import FindResults
from adit_engine.nodes.memory import MemoryNode
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import Ref
from lab import samples

PATIENT = "PID-4711-0815"


class GatedNode(MemoryNode):
    """A memory node that returns the permitted number of images, then waits."""

    gate = threading.Semaphore(0)
    waiting = threading.Event()
    aborted = threading.Event()

    @classmethod
    def close_gate(cls) -> None:
        cls.gate = threading.Semaphore(0)
        cls.waiting = threading.Event()
        cls.aborted = threading.Event()

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        for ref in find_instances(self._entries(), refs):
            while not self.gate.acquire(timeout=0.05):
                self.waiting.set()
                if self.aborted.is_set():
                    raise ConnectionLost(self.name, "the connection was cut")
            yield from super().fetch([ref], patient_id=patient_id)

    def abort(self) -> None:
        self.aborted.set()


class BrokenNode(MemoryNode):
    """A node with a programming error whose message contains a patient name."""

    def find(self, query: Query) -> FindResults:
        name = "Mustermann^Änne"
        raise ZeroDivisionError(f"cannot divide {name}")


def put_study(
    node: Node, study: str = "1", images: int = 3, series: int = 1, **changes: Any
) -> str:
    """Add a study to a memory node and return its UID."""
    held = MemoryNode.shelves.setdefault(node.name, {})
    for number in range(1, series + 1):
        for image in range(1, images + 1):
            made = samples.instance(samples.ct(image, study=study, series=str(number), **changes))
            held[made.instance_uid] = made
    return f"{samples.ROOT}.{study}"


def shelf(node: Node) -> dict[str, Instance]:
    return MemoryNode.shelves.get(node.name, {})


def work(worker: str = "test") -> Task | None:
    """Claim and execute one task as a worker does; return the updated task."""
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
    """Execute the task in a thread while the test continues."""

    def run() -> None:
        try:
            runner.run_task(task)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def until(condition: Callable[[], object], deadline_s: float = 30.0) -> None:
    """Wait until the condition holds; fail at the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not hold before the deadline"
        time.sleep(0.05)
