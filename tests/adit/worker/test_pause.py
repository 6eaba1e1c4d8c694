"""Pause and stop of a node while a task runs, and the end of a single connection."""

from collections.abc import Callable

import pytest
from lab.jobs import GatedNode, claimed, in_thread, shelf, until, work
from pytest_django import Settings

from adit.accounts.models import User
from adit.jobs import lease
from adit.jobs.lease import Lease
from adit.jobs.models import Job, Task, TaskState
from adit.nodes import pause
from adit.nodes.models import Node, Slot
from adit.worker import runner

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> list[Lease]:
    """The leases taken by the worker, so that a test can observe their stop requests."""
    made: list[Lease] = []

    class Kept(Lease):
        def __post_init__(self) -> None:
            super().__post_init__()
            made.append(self)

    monkeypatch.setattr(runner, "Lease", Kept)
    return made


def test_a_pause_lets_the_current_series_finish_and_starts_nothing_new(
    order_studies: Ordering,
    gated: type[GatedNode],
    source: Node,
    destination: Node,
    pacsadmin: User,
    leases: list[Lease],
) -> None:
    order_studies("1", images=3, series=2)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)

    pause.pause_node(pacsadmin, source, "moving")
    until(lambda: leases[0].stop.is_set_after_series)
    assert not leases[0].stop.is_set()
    for _ in range(5):
        gated.gate.release()
    thread.join(60)

    task = Task.objects.get()
    assert (task.state, task.failures) == (TaskState.PENDING, 0)
    assert len(shelf(destination)) == 3, "expected the images of the current series only"
    assert work() is None
    task.refresh_from_db()
    assert str(task.group.wait_reason) == "PACS1 was paused by pacsadmin (reason: moving)."


def test_a_series_that_exceeds_the_grace_period_of_a_pause_is_stopped(
    order_studies: Ordering,
    gated: type[GatedNode],
    source: Node,
    destination: Node,
    pacsadmin: User,
    settings: Settings,
) -> None:
    settings.PAUSE_GRACE_S = 1
    order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)

    pause.pause_node(pacsadmin, source, "moving")

    thread.join(60)
    task = Task.objects.get()
    assert (task.state, task.failures) == (TaskState.PENDING, 0)


def test_a_node_reopened_before_the_series_ends_does_not_stop_the_task(
    order_studies: Ordering,
    gated: type[GatedNode],
    source: Node,
    destination: Node,
    pacsadmin: User,
    leases: list[Lease],
) -> None:
    order_studies("1", images=2, series=2)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    pause.pause_node(pacsadmin, source, "moving")
    until(lambda: leases[0].stop.is_set_after_series)
    pause.reopen_node(pacsadmin, source)
    until(lambda: not leases[0].stop.is_set_after_series)
    for _ in range(3):
        gated.gate.release()

    thread.join(60)

    assert Task.objects.get().state == TaskState.SUCCESS
    assert len(shelf(destination)) == 4


def test_a_worker_notices_a_stop_and_aborts_the_connections_within_10_s() -> None:
    assert lease.NODE_POLL_S + lease.POLL_S + lease.ABORT_AFTER_S < 10


@pytest.mark.parametrize("which", ["source", "destination"])
def test_a_stopped_node_ends_the_task_and_it_resumes_later(
    which: str,
    order_studies: Ordering,
    gated: type[GatedNode],
    source: Node,
    destination: Node,
    pacsadmin: User,
) -> None:
    order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    node = source if which == "source" else destination

    pause.stop_node(pacsadmin, node, "fire")

    thread.join(60)
    assert not thread.is_alive()
    task = Task.objects.get()
    assert (task.state, task.failures) == (TaskState.PENDING, 0)
    assert str(task.message) == f"{node.name} was stopped by pacsadmin (reason: fire)."
    assert not Slot.objects.exists()
    assert work() is None
    pause.reopen_node(pacsadmin, node)
    gated.close_gate()
    for _ in range(2):
        gated.gate.release()
    again = work()
    assert again is not None
    assert again.state == TaskState.SUCCESS
    assert len(shelf(destination)) == 3


def test_ending_a_connection_cancels_its_task_and_no_other(
    order_studies: Ordering,
    gated: type[GatedNode],
    source: Node,
    destination: Node,
    pacsadmin: User,
) -> None:
    order_studies("1", "2", images=2)
    task = claimed()
    thread = in_thread(task)
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)

    pause.end_connection(pacsadmin, source, source.slots.get().pk)

    thread.join(60)
    task.refresh_from_db()
    assert task.state == TaskState.CANCELED
    assert str(task.message) == "pacsadmin ended this connection with PACS1."
    gated.close_gate()
    for _ in range(2):
        gated.gate.release()
    other = work()
    assert other is not None
    assert other.state == TaskState.SUCCESS
