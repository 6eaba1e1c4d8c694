"""Circuit breaker: tasks of an unreachable node wait, one retries at a time, other nodes are unaffected."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from django.utils import timezone
from lab.installed import Installed
from lab.jobs import until, work
from lab.ports import free_port

from adit.jobs import queue
from adit.jobs.models import Job, Task, TaskGroup, TaskState
from adit.nodes.limits import breaker
from adit.nodes.models import Alarm, CircuitBreaker, Node
from adit.nodes.presentation import get_status
from adit_engine.errors import NotFound, Unreachable
from adit_engine.messages import Message

Ordering = Callable[..., Job]

SECONDS = 60
DEAD_TASKS = 500


@pytest.fixture
def dead(source: Node) -> Node:
    """The source at a closed port."""
    port = free_port()
    source.kind = "dimse"
    source.settings = {"host": "127.0.0.1", "port": port, "called_ae_title": "DEAD"}
    source.save()
    return source


def fail(node: Node, times: int = 1) -> None:
    for _ in range(times):
        breaker.record_failure(node, Unreachable(node.name, "no connection"))


def rested(node: Node) -> Node:
    """End the pause of the node's circuit breaker and reload the node."""
    CircuitBreaker.objects.filter(node=node).update(paused_until=timezone.now())
    return Node.objects.select_related("breaker").get(pk=node.pk)


@pytest.mark.django_db(transaction=True)
def test_after_one_failure_the_other_tasks_wait_and_show_the_reason(
    order_studies: Ordering, dead: Node
) -> None:
    order_studies("1", "2", "3", images=1)
    assert work() is not None
    assert queue.claim("test") is None
    assert Task.objects.filter(attempt=1).count() == 1, "more than one task was attempted"
    said = str(TaskGroup.objects.get().wait_reason)
    assert said.startswith("PACS1 has not answered since ")
    assert "The next attempt is at" in said
    status = get_status(Node.objects.select_related("breaker").get(pk=dead.pk))
    assert (status.state, "has not answered" in str(status.reason)) == ("resting", True)


@pytest.mark.django_db(transaction=True)
def test_after_the_pause_one_task_retries_and_a_success_resumes_the_others(
    order_studies: Ordering, source: Node
) -> None:
    order_studies("1", "2", "3", images=1)
    fail(source, 3)
    assert Alarm.objects.filter(node=source, ended_at=None).count() == 1
    assert work() is None
    rested(source)
    trying = queue.claim("test")
    assert trying is not None
    assert queue.claim("another") is None
    assert TaskGroup.objects.get().wait_reason.code == "node-unavailable.retried-now"
    queue.release_task(trying, Message("task.queued"))
    rested(source)
    CircuitBreaker.objects.update(trial_until=None)
    assert work() is not None
    assert not CircuitBreaker.objects.exists()
    assert not Alarm.objects.filter(ended_at=None).exists()
    assert {work().state, work().state} == {TaskState.SUCCESS}  # type: ignore[union-attr]


@pytest.mark.django_db
def test_pauses_grow_and_only_the_nodes_own_unreachable_errors_count(source: Node) -> None:
    rests = []
    for _ in range(6):
        fail(source)
        row = CircuitBreaker.objects.get()
        assert row.paused_until is not None
        rests.append(round((row.paused_until - timezone.now()).total_seconds()))
    assert rests == [15, 60, 120, 300, 600, 600]
    CircuitBreaker.objects.all().delete()
    breaker.record_failure(source, NotFound("it is not there"))
    breaker.record_failure(source, Unreachable("another node", "no connection"))
    assert not CircuitBreaker.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_connection_lost_during_a_fetch_does_not_open_the_circuit_breaker(
    order_studies: Ordering, source: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adit_engine.errors import ConnectionLost
    from adit_engine.nodes.memory import MemoryNode

    def fetch(self: MemoryNode, *args: object, **values: object) -> object:
        raise ConnectionLost(self.name, "the connection broke off")

    order_studies("1", images=1)
    monkeypatch.setattr(MemoryNode, "fetch", fetch)
    work()
    assert not CircuitBreaker.objects.exists()


@pytest.mark.timeout(900)
def test_500_tasks_of_a_dead_node_leave_80_percent_throughput_for_others(tmp_path: Path) -> None:
    """Run two installations at the same time, so that other load on the machine affects both."""
    houses = [Installed(tmp_path / name) for name in ("alone", "beside")]
    for installation in houses:
        installation.prepare()
        installation.do("limit", "20")
        installation.do("fill-studies", "200")
    houses[1].do("order-dead", str(DEAD_TASKS))
    for installation in houses:
        installation.do("order", "200", "living")
    workers = {
        installation.data.name: [installation.begin("work", str(SECONDS)) for _ in range(2)]
        for installation in houses
    }
    for installation in houses:
        until(
            lambda installation=installation: len(list(installation.data.glob("ready-*"))) == 2, 60
        )  # type: ignore[misc]
    for installation in houses:
        (installation.data / "go").touch()
    done = dict.fromkeys(workers, 0)
    for name, processes in workers.items():
        for process in processes:
            out, err = process.communicate(timeout=SECONDS + 100)
            assert process.returncode == 0, err
            done[name] += json.loads(out)
    tried = houses[1].rows("select count(*) from jobs_task where failures > 0")[0][0]
    assert 1 <= tried <= 3, "expected one to three tasks to try the dead node"
    assert done["alone"] > 20, "too few tasks to compare throughput"
    assert done["beside"] >= 0.8 * done["alone"], done
