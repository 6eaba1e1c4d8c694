"""Lanes: a search task waits for, reserves and opens only its source."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from lab.jobs import work

from adit.jobs import queue
from adit.jobs.kinds.base import TaskContext, TaskOutput
from adit.jobs.kinds.selective import Selective
from adit.jobs.models import Job, Task, TaskGroup, TaskState
from adit.nodes.calendar.allowed_hours import DAYS
from adit.nodes.models import Lane, Node, Slot

Ordering = Callable[..., Job]


@pytest.fixture
def searching_task(order_studies: Ordering) -> Task:
    task = order_studies("1").tasks.get()
    Task.objects.update(lane=Lane.SEARCH)
    TaskGroup.objects.update(lane=Lane.SEARCH)
    task.refresh_from_db()
    return task


@pytest.mark.django_db
def test_a_search_reserves_one_slot_of_the_search_lane_at_the_source_only(
    searching_task: Task, source: Node
) -> None:
    task = queue.claim("test")

    assert task == searching_task
    held = set(Slot.objects.values_list("node", "lane", "holder"))
    assert held == {(source.pk, Lane.SEARCH, f"task:{task.pk}")}


@pytest.mark.django_db
def test_a_search_ignores_transfer_hours_and_a_closed_destination(
    searching_task: Task, source: Node, destination: Node
) -> None:
    source.windows = [{"days": list(DAYS), "from": "00:00", "to": "00:00", "limit": 0}]
    source.save()
    destination.is_open = False
    destination.save()

    assert queue.claim("test") == searching_task


@pytest.mark.django_db
def test_a_search_runs_while_a_transfer_of_the_same_node_waits(
    searching_task: Task, order_studies: Ordering, source: Node
) -> None:
    waiting = order_studies("2").tasks.get()
    source.retrieve_limit = 0
    source.save()

    assert queue.claim("test") == searching_task
    assert queue.claim("test") is None
    waiting.refresh_from_db()
    assert waiting.state == TaskState.PENDING
    assert waiting.group.wait_reason


@pytest.mark.django_db
def test_a_search_runs_without_a_destination(
    searching_task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, Any]] = []

    def look(
        kind: Selective, payload: Mapping[str, Any], context: TaskContext
    ) -> Iterator[TaskOutput]:
        opened.append((context.source.name, context.destination))
        return iter(())

    monkeypatch.setattr(Selective, "run", look)

    work()

    assert opened == [(searching_task.source.name, None)]
    assert not Slot.objects.exists()
