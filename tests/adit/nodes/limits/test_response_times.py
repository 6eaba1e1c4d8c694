"""A PACS that answers more slowly than usual: fewer connections, then a pause, and why."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from django.test import Client
from django.utils import timezone
from lab.crowded_archive import Crowded, Manner
from lab.jobs import PATIENT, put_study, work
from lab.lies import Liar, Site, holdings
from lab.ordering import order_job
from lab.ports import free_port
from lab.web import LyingWeb

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs import queue, task_groups
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.models import Job, TaskState
from adit.nodes import echoes
from adit.nodes.gateway import Purpose, get_unavailability, make_slot_request, measure_echo
from adit.nodes.limits import response_times, slots
from adit.nodes.limits.response_times import Measure
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Alarm, Lane, Node, NodeHourlyUsage, Slot
from adit.nodes.usage.daily_usage import ECHO_PREFIX
from adit.nodes.usage.metering import TransferMeter

pytestmark = pytest.mark.django_db

USUAL_S, SLOW_S, VERY_SLOW_S = 1.0, 3.0, 9.0


def answer(node: Node, *seconds: float, measure: Measure = Measure.ECHO) -> None:
    for value in seconds:
        response_times.record_times(node, measure, [value])
    node.refresh_from_db()


@pytest.fixture
def source(source: Node) -> Node:
    source.retrieve_limit = 8
    source.save()
    answer(source, *[USUAL_S] * 6)
    return source


@pytest.fixture
def job(coordinator: User, source: Node, destination: Node) -> Job:
    picks = (PickedStudy.by_uid(source.pk, put_study(source), PATIENT),)
    return order_job(coordinator, "selective", picks, destination.pk, key="1")


@pytest.mark.parametrize("measure", list(Measure))
def test_twice_the_usual_time_is_slow_four_times_pauses_and_usual_answers_end_both(
    source: Node, measure: Measure
) -> None:
    answer(source, *[USUAL_S] * 6, measure=measure)
    answer(source, SLOW_S, measure=measure)
    assert response_times.get_slow_period(source) is None, "one slow answer means nothing"

    answer(source, SLOW_S, measure=measure)
    period = response_times.get_slow_period(source)
    assert period is not None
    assert (period.measure, period.usual_s, period.now_s) == (measure, USUAL_S, SLOW_S)
    assert get_unavailability(source, Purpose.RETRIEVE) is None

    answer(source, VERY_SLOW_S, VERY_SLOW_S, measure=measure)
    waits = get_unavailability(source, Purpose.RETRIEVE)
    assert waits is not None
    assert waits.message.code == "node-unavailable.slow"
    assert waits.until is not None
    assert Alarm.objects.filter(cause=Alarm.Cause.SLOW, node=source, ended_at=None).exists()

    answer(source, USUAL_S, USUAL_S, measure=measure)
    assert response_times.get_slow_period(source) is None
    assert get_unavailability(source, Purpose.RETRIEVE) is None
    assert not Alarm.objects.filter(cause=Alarm.Cause.SLOW, ended_at=None).exists()
    actions = AuditEvent.objects.filter(action__startswith="node.slow").order_by("pk")
    assert [event.action for event in actions] == [
        "node.slow",
        "node.slow_paused",
        "node.slow_ended",
    ]


@pytest.mark.parametrize(
    ("settings", "is_slow", "is_paused"),
    [
        ({"slow_factor": 0, "pause_factor": 0}, False, False),
        ({"slow_factor": 0, "pause_factor": 20.0}, False, False),
        ({"slow_factor": 2.0, "pause_factor": 0}, True, False),
        ({"slow_factor": 10.0, "pause_factor": 4.0}, True, True),
    ],
)
def test_the_settings_say_from_when_a_node_is_slow_and_when_jobs_wait(
    source: Node, settings: dict[str, float], is_slow: bool, is_paused: bool
) -> None:
    source.settings = {**source.settings, **settings}
    source.save()

    answer(source, *[VERY_SLOW_S] * 3)

    assert (response_times.get_slow_period(source) is not None) is is_slow
    assert (response_times.get_slow_error(source) is not None) is is_paused


def test_only_transfers_that_are_not_urgent_wait_for_a_slow_node(source: Node) -> None:
    answer(source, *[VERY_SLOW_S] * 3)

    assert get_unavailability(source, Purpose.STORE) is not None
    assert get_unavailability(source, Purpose.RETRIEVE, urgent=True) is None
    assert get_unavailability(source, Purpose.SEARCH) is None
    assert get_unavailability(source, Purpose.CHECK) is None


def test_tiny_delays_of_a_quick_node_are_not_slow(source: Node) -> None:
    source.response_times = {}
    source.save()
    answer(source, *[0.002] * 6, *[0.15] * 6)

    assert response_times.get_slow_period(source) is None


def test_while_a_node_is_slow_one_study_is_transferred_over_one_connection(source: Node) -> None:
    source.settings = {"retrieve_associations": 4}
    source.save()
    assert make_slot_request(source, [Purpose.RETRIEVE], None).max_associations == 4
    answer(source, *[SLOW_S] * 3)
    hold = make_slot_request(source, [Purpose.RETRIEVE], None)

    first = slots.acquire_slot(source, Lane.RETRIEVE, "task:1", 60, hold)
    with pytest.raises(NoSlot) as refused:
        slots.acquire_slot(source, Lane.RETRIEVE, "task:2", 60, hold)

    assert first.weight == 1
    assert refused.value.message.code == "node-unavailable.slow-one-by-one"
    assert slots.acquire_slot(source, Lane.URGENT, "task:3", 60).is_new
    assert slots.acquire_slot(source, Lane.SEARCH, "search:1", 60).is_new


def test_a_running_transfer_falls_to_one_connection_and_ends_after_its_series(
    source: Node, job: Job
) -> None:
    from adit.nodes.gateway import get_release_reason
    from adit.nodes.limits import learned_limits
    from adit.nodes.limits.unavailable import NodePaused
    from adit.nodes.usage import metering

    slot = slots.acquire_slot(source, Lane.RETRIEVE, "task:1", 60)
    learned = learned_limits.load(source)
    meter = TransferMeter(slot)
    metering.start_metering(meter, None, learned)
    try:
        assert learned.retrieve.apply(4) == 4
        answer(source, *[USUAL_S] * 6, measure=Measure.RETRIEVAL)
        for _ in range(3):
            meter.retrieval_answered(SLOW_S)
        metering.update_meters("task:1")
        metering.update_meters("task:1")
        source.refresh_from_db()
        assert (learned.retrieve.apply(4), learned.store.apply(4)) == (1, 1)
        assert get_release_reason(source, Purpose.RETRIEVE, "task:1") is None

        answer(source, *[VERY_SLOW_S] * 3, measure=Measure.RETRIEVAL)
        assert isinstance(get_release_reason(source, Purpose.RETRIEVE, "task:1"), NodePaused)

        answer(source, *[USUAL_S] * 3, measure=Measure.RETRIEVAL)
        metering.update_meters("task:1")
        assert learned.retrieve.apply(4) == 4
    finally:
        metering.stop_metering(slot)


def test_a_job_says_why_it_waits_for_a_slow_node_and_continues_when_it_is_faster(
    source: Node, job: Job, client: Client, coordinator: User, pacsadmin: User
) -> None:
    answer(source, *[VERY_SLOW_S] * 3)

    assert queue.claim("worker") is None
    (reason,) = task_groups.wait_reasons(job)
    assert reason.code == "node-unavailable.slow"
    client.force_login(coordinator)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "it needs 9.0 s to answer, usually 1.0 s" in page
    client.force_login(pacsadmin)
    page = client.get(f"/nodes/{source.pk}/").content.decode()
    assert "slow, paused" in page
    assert "Slow since" in page

    answer(source, *[USUAL_S] * 3)
    task = work()
    assert task is not None
    assert task.state == TaskState.SUCCESS
    assert "Slow since" not in client.get(f"/nodes/{source.pk}/").content.decode()


def test_a_pause_ends_after_five_minutes_for_a_trial_and_a_slow_answer_prolongs_it(
    source: Node, job: Job
) -> None:
    answer(source, *[VERY_SLOW_S] * 3)
    assert queue.claim("worker") is None

    with time_machine.travel(timezone.now() + response_times.PAUSE + timedelta(seconds=1)):
        answer(source, VERY_SLOW_S)
        assert queue.claim("worker") is None
    with time_machine.travel(timezone.now() + 2 * response_times.PAUSE + timedelta(seconds=9)):
        assert response_times.get_slow_period(source) is not None
        task = queue.claim("worker")
        assert task is not None
        assert Slot.objects.get(node=source).weight == 1


def test_a_node_without_new_times_is_no_longer_called_slow(source: Node) -> None:
    answer(source, *[VERY_SLOW_S] * 3)

    with time_machine.travel(timezone.now() + response_times.VALID_FOR + timedelta(seconds=1)):
        assert response_times.get_slow_period(source) is None
        response_times.end_old_periods()

    assert "slow" not in Node.objects.get(pk=source.pk).response_times
    assert not Alarm.objects.filter(cause=Alarm.Cause.SLOW, ended_at=None).exists()


def test_what_lasts_a_day_or_is_accepted_by_its_manager_becomes_usual(
    source: Node, client: Client, pacsadmin: User, coordinator: User
) -> None:
    answer(source, *[VERY_SLOW_S] * 3)
    client.force_login(coordinator)
    client.post(f"/nodes/{source.pk}/do/adopt-times/")
    source.refresh_from_db()
    assert response_times.get_slow_period(source) is not None
    client.force_login(pacsadmin)
    client.post(f"/nodes/{source.pk}/do/adopt-times/")
    source.refresh_from_db()
    assert response_times.get_slow_period(source) is None
    answer(source, *[VERY_SLOW_S] * 6)
    assert response_times.get_slow_period(source) is None

    answer(source, *[10 * VERY_SLOW_S] * 3)
    begin = timezone.now()
    for minutes in range(20, 24 * 60 + 40, 20):
        with time_machine.travel(begin + timedelta(minutes=minutes)):
            answer(source, 10 * VERY_SLOW_S)
    with time_machine.travel(begin + response_times.ADOPTED_AFTER + timedelta(hours=1)):
        assert response_times.get_slow_period(source) is None


# Echoes -------------------------------------------------------------------------------------------


@pytest.fixture
def make_archive(tmp_path: Path) -> Callable[[str], Liar]:
    def make(kind: str = "dimse") -> Liar:
        held = tmp_path / "held"
        held.mkdir()
        site = Site("PACS", holdings(held))
        if kind == "dicomweb":
            return LyingWeb(site, (), tmp_path)
        return Crowded(site, Manner.SERVE, scratch=tmp_path)

    return make


@pytest.fixture
def pacs(make_node: Callable[..., Node]) -> Node:
    return make_node("PACS9", search_limit=2)


def connect(pacs: Node, port: int, kind: str = "dimse") -> None:
    pacs.kind = kind
    pacs.settings = (
        {"host": "127.0.0.1", "port": port, "called_ae_title": "PACS"}
        if kind == "dimse"
        else {"url": f"http://127.0.0.1:{port}", "allow_local": True}
    )
    pacs.save()


@pytest.mark.parametrize("kind", ["dimse", "dicomweb"])
def test_an_echo_measures_a_node_within_its_limit_and_counts_as_no_use(
    make_archive: Callable[[str], Liar], pacs: Node, kind: str
) -> None:
    with make_archive(kind) as archive:
        connect(pacs, archive.port, kind)
        assert response_times.list_due_nodes() == [pacs]
        measure_echo(pacs)
        slots.acquire_slot(pacs, Lane.SEARCH, "search:1", 60)
        measure_echo(pacs)

    (hour,) = NodeHourlyUsage.objects.filter(node=pacs)
    assert (hour.echo_count, hour.searches) == (1, 0), "the last connection is left to searches"
    assert 0 < hour.echo_max_s == hour.echo_s
    assert not Slot.objects.filter(holder__startswith=ECHO_PREFIX).exists()


def test_a_node_that_was_stopped_before_its_turn_gets_no_echo(
    make_archive: Callable[[str], Liar], pacs: Node
) -> None:
    with make_archive("dimse") as archive:
        connect(pacs, archive.port)
        (due,) = response_times.list_due_nodes()
        Node.objects.update(paused_at=timezone.now(), stopped_at=timezone.now())
        measure_echo(due)

    assert not NodeHourlyUsage.objects.filter(node=pacs).exists()
    assert not Slot.objects.exists()


@pytest.mark.parametrize("kind", ["dimse", "dicomweb"])
def test_a_node_that_cannot_be_reached_is_not_called_slow(pacs: Node, kind: str) -> None:
    connect(pacs, free_port(), kind)
    measure_echo(pacs)

    pacs.refresh_from_db()
    assert pacs.response_times.keys() == {"echo_at"}
    assert not pacs.slots.exists()


def test_echoes_are_due_often_during_transfers_and_never_at_a_closed_node(
    pacs: Node, source: Node
) -> None:
    connect(pacs, 1)
    assert response_times.list_due_nodes() == [pacs]
    response_times.mark_measured(pacs)
    assert response_times.list_due_nodes() == []

    with time_machine.travel(timezone.now() + timedelta(seconds=31)):
        assert response_times.list_due_nodes() == []
        slot = slots.acquire_slot(pacs, Lane.RETRIEVE, "task:1", 60)
        assert response_times.list_due_nodes() == [pacs]
        slots.release_slot(slot)
    with time_machine.travel(timezone.now() + timedelta(seconds=301)):
        assert response_times.list_due_nodes() == [pacs]
        Node.objects.update(paused_at=timezone.now())
        assert response_times.list_due_nodes() == []
        Node.objects.update(paused_at=None, is_open=False)
        assert response_times.list_due_nodes() == []


@pytest.mark.django_db(transaction=True)
def test_the_scheduler_measures_the_nodes_that_are_due(
    make_archive: Callable[[], Liar], pacs: Node
) -> None:
    with make_archive() as archive:
        connect(pacs, archive.port)
        echoes.measure_due_nodes()
        echoes.measure_due_nodes()

    assert NodeHourlyUsage.objects.get().echo_count == 1
