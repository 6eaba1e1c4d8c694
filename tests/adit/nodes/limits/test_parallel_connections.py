"""Several connections of one transfer: within the limit of the node, and as many as it serves."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone
from lab import crowded_archive, samples
from lab.api import make_api_client
from lab.counting_proxy import AssociationCounts, CountingProxy
from lab.crowded_archive import Crowded, Manner
from lab.dicomweb_api import Program
from lab.jobs import PATIENT, in_thread, work
from lab.lies import Site, holdings
from lab.ordering import order_job
from lab.peers import wait_until

from adit.accounts.models import User
from adit.api_tokens.tokens import Scope
from adit.jobs import lease, queue
from adit.jobs.kinds.picked_study import PickedStudy
from adit.jobs.lease import Lease
from adit.jobs.models import Task, TaskState
from adit.nodes import diagnostics, pause, services
from adit.nodes.gateway import Purpose, make_slot_request, measure_echo, open_node
from adit.nodes.limits import learned_limits, response_times, slots
from adit.nodes.models import Node, NodeHourlyUsage, Slot
from adit.nodes.usage import metering
from adit.worker import runner
from adit_engine.nodes.diagnostics import parallel_probe
from adit_engine.nodes.dimse.association_limits import AssociationLimits
from adit_engine.values.query import Query
from adit_engine.values.references import StudyRef

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

IMAGES, LIMIT, SEARCHES = 60, 5, 1
FOUR = {"retrieve": "get", "retrieve_associations": 4, "store_associations": 4}


@contextmanager
def crowded(
    folder: Path, manner: Manner, limit: int = 8, images: int = IMAGES, series: int = 1
) -> Iterator[Crowded]:
    held = folder / "held"
    held.mkdir()
    for study in ("1", "2", "3"):
        for image in range(1, images * series + 1):
            made = samples.ct(image, study=study, series=str(1 + (image - 1) // images))
            (held / f"{study}-{image}.dcm").write_bytes(samples.file_bytes(made))
    with Crowded(Site("PACS", holdings(held)), manner, limit, scratch=folder) as archive:
        yield archive


def connect(source: Node, port: int) -> None:
    source.kind = "dimse"
    source.settings = {"host": "127.0.0.1", "port": port, "called_ae_title": "PACS", **FOUR}
    source.retrieve_limit, source.search_limit = LIMIT, SEARCHES
    source.save()


@pytest.fixture
def order(coordinator: User, source: Node, destination: Node) -> Callable[[str], None]:
    destination.retrieve_limit = 20
    destination.save()

    def make(study: str) -> None:
        picks = (PickedStudy.by_uid(source.pk, f"{samples.ROOT}.{study}", PATIENT),)
        order_job(coordinator, "selective", picks, destination.pk, key=study)

    return make


def test_jobs_and_searches_together_stay_within_the_limits_of_the_node(
    tmp_path: Path, source: Node, coordinator: User, order: Callable[[str], None]
) -> None:
    counts, ending = AssociationCounts(), threading.Event()

    def search() -> None:
        try:
            while not ending.is_set():
                with open_node(coordinator, source, Purpose.SEARCH, holder="search:1") as node:
                    list(node.find(Query.study(StudyRef(f"{samples.ROOT}.1"))))
        finally:
            connection.close()

    with crowded(tmp_path, Manner.SERVE) as archive, CountingProxy(archive.port, counts) as proxy:
        connect(source, proxy.port)
        for study in ("1", "2", "3"):
            order(study)
        tasks = [task for n in range(3) if (task := queue.claim(f"worker {n}")) is not None]
        threads = [threading.Thread(target=search)]
        threads[0].start()
        threads += [in_thread(task) for task in tasks]
        for thread in threads[1:]:
            thread.join(60)
        ending.set()
        threads[0].join(60)
        last = work()

    assert len(tasks) == 2, "four and one connections leave none for the third task"
    assert last is not None
    assert {task.state for task in Task.objects.all()} == {TaskState.SUCCESS}
    assert 4 < counts.most <= LIMIT + SEARCHES
    assert archive.most <= LIMIT


def test_jobs_programs_searches_and_echoes_together_stay_within_the_limits_of_the_node(
    tmp_path: Path, source: Node, coordinator: User, order: Callable[[str], None]
) -> None:
    counts, ending = AssociationCounts(), threading.Event()
    coordinator.user_permissions.add(Permission.objects.get(codename="transfer_identified"))
    answered: Counter[str] = Counter()

    def repeat(name: str, call: Callable[[], bool]) -> threading.Thread:
        def run() -> None:
            try:
                while not ending.is_set():
                    answered[name] += call()
            finally:
                connection.close()

        return threading.Thread(target=run)

    with crowded(tmp_path, Manner.SERVE) as archive, CountingProxy(archive.port, counts) as proxy:
        connect(source, proxy.port)
        api = make_api_client(coordinator, [*Scope.values])
        program = Program(f"/api/dicom-web/{source.api_ae_title}", api.token)

        def retrieve() -> bool:
            answer = program.get(f"wadors/studies/{samples.ROOT}.3")
            return answer.status_code == 200 and len(b"".join(answer)) > 0

        def search() -> bool:
            body = {"node": source.name, "query": {"PatientID": PATIENT}}
            return bool(api.post("searches", body).status_code == 200)

        def echo() -> bool:
            measure_echo(source)
            return True

        for study in ("1", "2"):
            order(study)
        callers = [
            repeat("retrieval", retrieve),
            repeat("search", search),
            repeat("echo", echo),
        ]
        for thread in callers:
            thread.start()
        done = []
        while len(done) < 2:
            task = work()
            done += [task] if task is not None else []
        wait_until(
            lambda: min(answered[n] for n in ("retrieval", "search", "echo")) > 0, "all", 150
        )
        ending.set()
        for thread in callers:
            thread.join(60)

    assert {task.state for task in Task.objects.all()} == {TaskState.SUCCESS}
    assert 1 < counts.most <= LIMIT + SEARCHES
    peaks = NodeHourlyUsage.objects.filter(node=source).values_list("peak_connections", flat=True)
    assert 1 <= max(peaks) <= LIMIT


def stop(user: User, node: Node) -> None:
    pause.stop_node(user, node, "fire")


def start_pause(user: User, node: Node) -> None:
    pause.pause_node(user, node, "moving")


def end_hours(user: User, node: Node) -> None:
    days = [(timezone.localdate() + timedelta(days=n)).isoformat() for n in range(2)]
    closed = {"from": days[0], "to": days[1], "as": "closed", "why": "migration"}
    Node.objects.filter(pk=node.pk).update(special_days=[closed])


def answer_after(seconds: float) -> Callable[[User, Node], None]:
    def answer(user: User, node: Node) -> None:
        for value in [1.0] * 6 + [seconds] * 3:
            response_times.record_times(node, response_times.Measure.ECHO, [value])

    return answer


def open_again(user: User, node: Node) -> None:
    node.refresh_from_db()
    pause.reopen_node(user, node)
    for _ in range(3):
        response_times.record_times(node, response_times.Measure.ECHO, [1.0])


@pytest.mark.parametrize(
    ("role", "interrupt", "reason"),
    [
        ("source", stop, "node-unavailable.stopped-by"),
        ("source", start_pause, "node-unavailable.paused-by"),
        ("source", end_hours, "node-unavailable.outside-hours"),
        ("source", answer_after(9.0), "node-unavailable.slow"),
        ("source", answer_after(3.0), None),
        ("destination", stop, "node-unavailable.stopped-by"),
        ("destination", answer_after(9.0), "node-unavailable.slow"),
        ("destination", answer_after(3.0), None),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_interruption_with_four_connections_leaves_none_open_and_loses_no_image(
    tmp_path: Path,
    source: Node,
    destination: Node,
    pacsadmin: User,
    order: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    interrupt: Callable[[User, Node], None],
    reason: str | None,
) -> None:
    begun, going_on = threading.Event(), threading.Event()
    counts, kept = AssociationCounts(), tmp_path / "kept"
    leases: list[Lease] = []
    at_once: list[int] = []
    kept.mkdir()
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    monkeypatch.setattr(lease, "NODE_POLL_S", 0.05)

    class Kept(Lease):
        def __post_init__(self) -> None:
            super().__post_init__()
            leases.append(self)

    monkeypatch.setattr(runner, "Lease", Kept)

    def is_noticed() -> bool:
        if reason is None:
            meters = tuple(metering._meters.values())
            slow = [meter.learned for meter in meters if meter.slot.node_id == node.pk]
            return any(one is not None and one.store.is_slow for one in slow)
        return leases[0].stop.is_set() or leases[0].stop.is_set_after_series

    def wait_at_the_gate(archive: Crowded) -> Callable[[], None]:
        def take_time() -> None:
            at_once.append(archive._present)
            done = len(archive.log.sent) + len(archive.log.stored)
            if done > IMAGES // 3 and counts.most > 2:
                begun.set()
                going_on.wait(60)

        return take_time

    with (
        crowded(tmp_path, Manner.SERVE, series=2) as archive,
        Crowded(Site("PACS", holdings(kept)), Manner.SERVE, scratch=tmp_path) as keeper,
        CountingProxy(archive.port, counts) as proxy,
        CountingProxy(keeper.port, counts) as keeper_proxy,
    ):
        connect(source, proxy.port)
        connect(destination, keeper_proxy.port)
        gated, node = (archive, source) if role == "source" else (keeper, destination)
        monkeypatch.setattr(gated, "_take_time", wait_at_the_gate(gated))
        order("1")
        task = queue.claim("worker")
        assert task is not None
        thread = in_thread(task)
        assert begun.wait(60), "never three associations"

        interrupt(pacsadmin, node)
        wait_until(is_noticed, "the worker has noticed it", 150)
        going_on.set()
        thread.join(60)

        task.refresh_from_db()
        assert counts.open == 0
        assert not Slot.objects.exists()
        if reason is not None:
            assert (task.state, task.failures) == (TaskState.PENDING, 0)
            assert task.message is not None
            assert task.message.code == reason
            assert work() is None
            open_again(pacsadmin, node)
            with time_machine.travel(timezone.now() + timedelta(days=2), tick=True):
                task = work()
        assert task is not None
        assert task.state == TaskState.SUCCESS
        assert counts.open == 0

    stored = Counter(one.instance_uid for one in keeper.log.stored)
    assert len(stored) == sum(one.is_file() for one in kept.rglob("*")) == 2 * IMAGES
    if reason is None or "stopped" not in reason:
        assert set(stored.values()) == {1}
    if reason is None:
        assert max(at_once) > 1
        assert at_once[-1] == 1


def test_what_an_archive_does_not_serve_is_remembered_and_shown(
    tmp_path: Path, source: Node, order: Callable[[str], None], client, pacsadmin: User
) -> None:
    with crowded(tmp_path, Manner.REJECT, 1) as archive:
        connect(source, archive.port)
        order("1")
        first = work()
        archive.most = 0
        order("2")
        second = work()

    assert first is not None
    assert second is not None
    assert {first.state, second.state} == {TaskState.SUCCESS}
    assert archive.most == 1
    source.refresh_from_db()
    assert learned_limits.load(source).retrieve.most == 1
    assert make_slot_request(source, [Purpose.RETRIEVE], None).max_associations == 1
    client.force_login(pacsadmin)
    page = client.get(f"/nodes/{source.pk}/").content.decode()
    assert "1 instead of 4 since" in page
    assert "refused a further connection" in page


def test_a_learned_limit_ends_after_a_week_or_with_a_change_of_the_settings(
    source: Node, pacsadmin: User
) -> None:
    connect(source, 1)
    learned = AssociationLimits()
    learned.retrieve.lower(2, "association-limit.slower")
    learned_limits.save(source, learned)
    source.refresh_from_db()
    assert learned_limits.load(source).retrieve.most == 2

    old = timezone.now() - learned_limits.KEPT_FOR - timedelta(minutes=1)
    kept = {**source.learned_limits["retrieve"], "at": old.isoformat()}
    assert learned_limits.load(Node(learned_limits={"retrieve": kept})).retrieve.most is None

    source.settings = {**source.settings, "retrieve_associations": 3}
    services.save_node(pacsadmin, source)
    source.refresh_from_db()
    assert source.learned_limits == {}


def test_connections_that_turned_out_to_be_faster_are_used_at_once_by_the_next_study(
    tmp_path: Path, source: Node, order: Callable[[str], None]
) -> None:
    with crowded(tmp_path, Manner.SERVE) as archive:
        connect(source, archive.port)
        order("1")
        work()
    source.refresh_from_db()

    assert learned_limits.load(source).retrieve.single_images_left == 0
    assert learned_limits.load(source).store.single_images_left > 0, "nothing was sent to it"


def test_what_another_worker_has_found_meanwhile_is_not_undone(source: Node) -> None:
    connect(source, 1)
    lowered, proven, late = AssociationLimits(), AssociationLimits(), AssociationLimits()
    lowered.retrieve.lower(1, "association-limit.busy")
    proven.retrieve.is_proven = True
    late.retrieve.lower(2, "association-limit.lost")
    for found in (lowered, proven, late):
        learned_limits.save(source, found)

    source.refresh_from_db()
    assert learned_limits.load(source).retrieve.most == 1
    Node.objects.all().delete()
    learned_limits.save(source, late)


@pytest.mark.parametrize(
    ("purposes", "values", "free", "weight", "fetching", "sending"),
    [
        ((Purpose.RETRIEVE,), {}, 5, 4, 4, 4),
        ((Purpose.RETRIEVE,), {}, 3, 3, 3, 3),
        ((Purpose.RETRIEVE,), {"retrieve": "move"}, 7, 7, 3, 7),
        ((Purpose.STORE,), {}, 2, 2, 2, 2),
        ((Purpose.RETRIEVE, Purpose.STORE), {}, 9, 2, 1, 1),
        ((Purpose.SEARCH,), {}, 9, 1, 1, 1),
    ],
)
def test_a_transfer_opens_no_more_connections_than_its_slot_counts(
    source: Node,
    root: User,
    settings: Any,
    values: dict[str, Any],
    purposes: tuple[Purpose, ...],
    free: int,
    weight: int,
    fetching: int,
    sending: int,
) -> None:
    settings.RECEIVER_PORT = 11112
    connect(source, 1)
    source.settings = {**source.settings, **values}
    source.retrieve_limit = source.search_limit = free
    source.save()
    hold = make_slot_request(source, purposes, None)
    lane = purposes[0].lane(urgent=False)
    slot = slots.acquire_slot(source, lane, "task:1", 60, hold)

    with open_node(root, source, purposes[0], holder="task:1") as node:
        assert Slot.objects.get().pk == slot.pk
        assert slot.weight == weight
        assert node.settings.retrieve_associations == min(fetching, 4)
        assert node.settings.store_associations == min(sending, 4)


def test_the_test_measures_within_the_limit_and_its_proposal_can_be_adopted(
    tmp_path: Path, source: Node, pacsadmin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowded_archive, "IMAGE_S", 0.05)
    count = 3 * parallel_probe.IMAGES_EACH
    with crowded(tmp_path, Manner.SERVE, images=count) as archive:
        connect(source, archive.port)
        source.settings = {**source.settings, "retrieve_associations": 1}
        source.retrieve_limit = 3  # the C-MOVE that fails counts one for late images
        source.save()
        findings = diagnostics.try_fetching(pacsadmin, source, None)

    assert archive.most == 2, findings
    (told,) = [one for one in findings if one.what.code == "test.connections"]
    (proposal,) = told.proposals
    assert (proposal.setting, proposal.value) == ("retrieve_associations", 2)
    diagnostics.adopt_proposal(pacsadmin, source, proposal.setting, str(proposal.value))
    source.refresh_from_db()
    assert source.settings["retrieve_associations"] == 2
    assert not Slot.objects.filter(holder__startswith="measure:").exists()


def test_sending_is_measured_within_the_limit_and_never_at_a_clinical_pacs(
    tmp_path: Path, source: Node, pacsadmin: User, client: Client
) -> None:
    client.force_login(pacsadmin)
    with crowded(tmp_path, Manner.SERVE, images=1) as archive:
        connect(source, archive.port)
        source.retrieve_limit = 2
        source.save()
        for is_clinical, takes_images in ((True, True), (False, False)):
            Node.objects.update(is_clinical=is_clinical, takes_images=takes_images)
            page = client.get(f"/nodes/{source.pk}/").content.decode()
            assert 'name="measure"' not in page
            client.post(f"/nodes/{source.pk}/test/write/", {"measure": "1"})
            assert archive.log.stored == []
        Node.objects.update(is_clinical=False, takes_images=True)
        assert 'name="measure"' in client.get(f"/nodes/{source.pk}/").content.decode()
        client.post(f"/nodes/{source.pk}/test/write/", {"measure": "1"})

    assert len(archive.log.stored) == 2 * parallel_probe.IMAGES_EACH
    assert archive.most <= 2
    (report,) = diagnostics.get_last_reports(source, manages=True)
    (line,) = report.lines
    ((_label, proposal),) = line.proposals or [("", line.finding.proposals[0])]
    assert proposal.setting == "store_associations"
    assert not Slot.objects.filter(holder__startswith="measure:").exists()
