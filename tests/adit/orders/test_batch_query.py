"""Batch query: each row is answered once and independently of the other rows."""

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from django.db import transaction
from django.utils import timezone
from lab.jobs import put_study
from lab.ordering import order_job

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.audit.models import AuditEvent
from adit.jobs import encrypted_payload, queue
from adit.jobs.actions import perform
from adit.jobs.kinds.base import SheetRow
from adit.jobs.kinds.batch_query import BatchQueryRow
from adit.jobs.models import Job, JobState, ResultLine, Task, TaskState
from adit.nodes.models import Lane, Node, Slot
from adit.results import sheet_rows
from adit.worker import query_batch
from adit.worker.tasks import work
from adit_engine.errors import InvalidInput, NodeRefused, Unreachable
from adit_engine.nodes.base import FindResults
from adit_engine.nodes.memory import MemoryNode
from adit_engine.patient_search.search import PatientQuery, PersonCriteria
from adit_engine.values.query import Query

pytestmark = pytest.mark.django_db(transaction=True)


def by_id(line: int, patient_id: str, **more: object) -> BatchQueryRow:
    own = (f"key {line}",)
    return BatchQueryRow(
        SheetRow(line, own, f"P{line}", {"PatientID": patient_id}),
        PatientQuery(PersonCriteria(patient_id=patient_id), **more),  # type: ignore[arg-type]
    )


@pytest.fixture
def shelf(source: Node) -> Node:
    """Ten patients with one study each; the first patient has two."""
    for number in range(10):
        put_study(source, str(number), 1, PatientID=f"ID{number}", PatientName=f"Fam{number}^A")
    put_study(
        source,
        "100",
        1,
        2,
        PatientID="ID0",
        PatientName="Fam0^A",
        StudyDate="20200101",
        Modality="MR",
    )
    return source


@pytest.fixture
def order_rows(coordinator: User, shelf: Node) -> Callable[..., Job]:
    def order(*rows: BatchQueryRow, user: User | None = None, **more: object) -> Job:
        more = {"sources": (shelf.pk,), "own_headers": ("Key",), **more}
        return order_job(user or coordinator, "batch_query", rows, key=str(len(rows)), **more)

    return order


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The patient IDs queried at the source. REFUSED and AWAY make the query fail."""
    heard: list[str] = []
    plain = MemoryNode.find

    def find(self: MemoryNode, query: Query) -> FindResults:
        name = str(query.keys.get("PatientID", ""))
        heard.append(name)
        if name == "REFUSED":
            raise NodeRefused(self.name, "test.refused")
        if name == "AWAY":
            raise Unreachable(self.name, "test.unreachable")
        return plain(self, query)

    monkeypatch.setattr(MemoryNode, "find", find)
    return heard


def found(job: Job) -> dict[int, list[str]]:
    """Return the patient IDs of the matches of each line."""
    box = encrypted_payload.get_cipher(job.project)
    answers: dict[int, list[str]] = {}
    for line in ResultLine.objects.filter(job=job):
        study = sheet_rows.open_row(box, line).study
        answers.setdefault(line.line, []).extend([study.record.patient_id] if study else [])
    return answers


def states(job: Job) -> list[str]:
    return list(job.tasks.order_by("position").values_list("state", flat=True))


def test_each_row_gets_its_matches_and_keeps_its_own_columns(
    order_rows: Callable[..., Job],
) -> None:
    job = order_rows(by_id(2, "ID3"), by_id(3, "ID0"), by_id(5, "NOBODY"))
    assert found(job) == {2: [], 3: [], 5: []}

    work()

    job.refresh_from_db()
    assert found(job) == {2: ["ID3"], 3: ["ID0", "ID0"], 5: []}
    assert job.state == JobState.SUCCESS
    assert str(job.message) == "Matches found for 2 of 3 rows."
    box = encrypted_payload.get_cipher(job.project)
    own = [sheet_rows.open_row(box, line).user_cells for line in ResultLine.objects.filter(job=job)]
    assert own == [("key 2",), ("key 3",), ("key 3",), ("key 5",)]
    assert list(ResultLine.objects.filter(line=5).values_list("notes", "is_asked")) == [
        (["nothing"], True)
    ]


def test_the_source_is_queried_once_for_rows_of_the_same_patient(
    order_rows: Callable[..., Job], asked: list[str]
) -> None:
    job = order_rows(
        by_id(2, "ID0"), by_id(3, "ID1"), by_id(4, "ID0", modalities=("MR",)), by_id(5, "ID0")
    )

    work()

    assert asked == ["ID0", "ID1"]
    assert found(job) == {2: ["ID0", "ID0"], 3: ["ID1"], 4: ["ID0"], 5: ["ID0", "ID0"]}


def test_rows_with_different_dates_are_queried_separately(
    order_rows: Callable[..., Job], asked: list[str]
) -> None:
    job = order_rows(by_id(2, "ID0", last_day=date(2022, 1, 1)), by_id(3, "ID0"))

    work()

    assert asked == ["ID0", "ID0"]
    assert [len(records) for records in found(job).values()] == [1, 2]


def test_a_row_refused_by_the_source_fails_alone_and_is_retried_alone(
    order_rows: Callable[..., Job], asked: list[str], coordinator: User
) -> None:
    job = order_rows(*(by_id(n, "REFUSED" if n == 4 else f"ID{n}") for n in range(2, 9)))

    work()

    job.refresh_from_db()
    assert states(job) == ["success"] * 2 + ["failure"] + ["success"] * 4
    assert "test.refused" in str(job.tasks.get(position=3).message)
    assert job.state == JobState.WARNING
    assert "1 row was not answered" in str(job.message)
    asked.clear()
    perform(coordinator, job, "retry")
    work()
    assert asked == ["REFUSED"]


def test_an_unreachable_source_delays_only_the_affected_row(
    order_rows: Callable[..., Job], asked: list[str]
) -> None:
    job = order_rows(*(by_id(n, "AWAY" if n == 4 else f"ID{n}") for n in range(2, 9)))

    work()

    away = job.tasks.get(position=3)
    assert (away.state, away.failures) == (TaskState.PENDING, 1)
    assert away.not_before is not None
    others = job.tasks.exclude(pk=away.pk)
    assert set(others.values_list("state", "failures")) == {(TaskState.SUCCESS, 0)}
    assert found(job)[8] == ["ID8"]


def test_a_withdrawn_permission_fails_all_rows_with_a_message(
    order_rows: Callable[..., Job], coordinator: User, asked: list[str]
) -> None:
    job = order_rows(by_id(2, "ID2"), by_id(3, "ID3"))
    coordinator.groups.clear()

    work()

    assert asked == []
    assert states(job) == ["failure", "failure"]
    assert "may fetch from" in str(job.tasks.first().message)  # type: ignore[union-attr]


def test_a_query_batch_uses_one_search_slot_and_releases_it(
    order_rows: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: set[tuple[int, str]] = set()
    plain = MemoryNode.find

    def find(self: MemoryNode, query: Query) -> FindResults:
        held.update(Slot.objects.values_list("pk", "lane"))
        return plain(self, query)

    monkeypatch.setattr(MemoryNode, "find", find)
    monkeypatch.setattr(query_batch, "MAX_DURATION_S", 600)  # also on a slow machine
    order_rows(*(by_id(n, f"ID{n}") for n in range(2, 40)))

    work()

    assert [lane for _pk, lane in held] == [Lane.SEARCH]
    assert not Slot.objects.exists()
    assert AuditEvent.objects.filter(action="node.opened").count() == 1


def test_a_canceled_query_stops_early_and_keeps_its_answers(
    order_rows: Callable[..., Job], coordinator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order_rows(*(by_id(n, f"ID{n}") for n in range(2, 40)))
    plain, heard = MemoryNode.find, []

    def find(self: MemoryNode, query: Query) -> FindResults:
        heard.append(query)
        if len(heard) == 10:
            perform(coordinator, job, "cancel")
        return plain(self, query)

    monkeypatch.setattr(MemoryNode, "find", find)

    work()

    job.refresh_from_db()
    assert job.state == JobState.CANCELED
    assert len(heard) < 38
    answered = ResultLine.objects.filter(job=job, is_asked=True).values("line").distinct().count()
    assert answered == states(job).count("success") >= 10
    assert set(states(job)) == {"success", "canceled"}
    assert not Slot.objects.exists()


def test_all_rows_are_answered_after_a_worker_is_lost(order_rows: Callable[..., Job]) -> None:
    job = order_rows(*(by_id(n, f"ID{n}") for n in range(2, 9)))
    first = queue.claim("dies")
    assert first is not None
    with transaction.atomic():
        more = queue.claim_more(Job.objects.get(pk=job.pk), first, 3)
    assert len(more) == 3
    Task.objects.filter(job=job, state=TaskState.IN_PROGRESS).update(
        lease_until=timezone.now() - timedelta(seconds=1)
    )
    Slot.objects.all().delete()

    queue.sweep()
    work()

    assert set(states(job)) == {"success"}
    assert found(job) == {n: [f"ID{n}"] for n in range(2, 9)}


def test_a_worker_with_a_stale_attempt_number_writes_nothing(
    order_rows: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = order_rows(by_id(2, "ID2"))
    plain = MemoryNode.find

    def find(self: MemoryNode, query: Query) -> FindResults:
        Task.objects.filter(job=job).update(attempt=7)
        return plain(self, query)

    monkeypatch.setattr(MemoryNode, "find", find)
    task = queue.claim("late")
    assert task is not None

    query_batch.run_batch(task)

    assert found(job) == {2: []}
    assert states(job) == ["in_progress"]


def test_a_large_query_waits_for_approval(
    order_rows: Callable[..., Job], settings: object, coordinator: User, pacsadmin: User
) -> None:
    settings.MAX_QUERY_ROWS = 3  # type: ignore[attr-defined]
    rows = [by_id(n, "ID0") for n in range(2, 7)]

    job = order_rows(*rows)
    assert order_rows(*rows[:3]).state == JobState.PENDING

    assert job.state == JobState.WAITING_FOR_APPROVAL
    with pytest.raises(NotPermitted):
        perform(coordinator, job, "approve")
    perform(coordinator, job, "cancel")
    perform(coordinator, job, "resume")
    assert job.state == JobState.WAITING_FOR_APPROVAL
    perform(pacsadmin, job, "approve")
    work()
    assert len(found(job)) == 5


def test_a_user_without_permission_cannot_order_a_query(
    order_rows: Callable[..., Job], stranger: User
) -> None:
    with pytest.raises(NotPermitted):
        order_rows(by_id(2, "ID2"), user=stranger)


def test_a_query_without_rows_or_sources_is_refused(order_rows: Callable[..., Job]) -> None:
    with pytest.raises(InvalidInput, match="No row"):
        order_rows()
    with pytest.raises(InvalidInput, match="at least one PACS"):
        order_rows(by_id(2, "ID2"), sources=())


def test_patient_data_of_a_query_are_stored_only_encrypted(order_rows: Callable[..., Job]) -> None:
    job = order_rows(by_id(2, "ID2"))
    work()

    rows = [*Job.objects.values(), *Task.objects.values(), *ResultLine.objects.values()]
    clear = str([{k: v for k, v in row.items() if k not in ("payload", "sealed")} for row in rows])
    assert job.pk
    assert "ID2" not in clear + str(list(AuditEvent.objects.values()))
    assert "Fam2" not in clear
