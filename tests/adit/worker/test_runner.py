"""Execution of a task: results in the database and the ledger for every way in which it can end."""

import socket
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from lab import samples
from lab.jobs import GatedNode, claimed, in_thread, put_study, shelf, until, work
from lab.ultrasound import clip, put
from pytest_django import Settings

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.jobs import encrypted_payload, progress, queue
from adit.jobs.actions import perform
from adit.jobs.lease import SHUTDOWN
from adit.jobs.models import Job, JobState, SeriesResult, Task, TaskState
from adit.nodes.models import Node, Slot
from adit.worker import ledger
from adit_engine import nodes
from adit_engine.messages import Message
from adit_engine.nodes.memory import MemoryNode
from adit_engine.values.outcome import InstanceState

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]


def sums(item: SeriesResult) -> int:
    return item.delivered + item.withheld + item.failed + item.skipped


def test_a_study_is_delivered_pseudonymized_and_all_images_are_counted(
    order_studies: Ordering, destination: Node
) -> None:
    job = order_studies("1", images=3, series=2)
    task = work()
    assert task is not None
    assert (task.state, str(task.message)) == (TaskState.SUCCESS, "All 6 images delivered.")
    assert len(shelf(destination)) == 6
    for item in task.items.all():
        assert (item.expected, item.delivered, sums(item), item.is_final) == (3, 3, 3, True)
    job.refresh_from_db()
    assert (job.state, str(job.message)) == (JobState.SUCCESS, "All 6 images delivered.")
    assert job.started_at is not None
    assert job.ended_at is not None
    assert not Slot.objects.exists()
    pseudonym = encrypted_payload.open_task(task).pseudonym
    for instance in shelf(destination).values():
        assert instance.in_header.patient_id.decode() == pseudonym


def test_no_database_row_contains_patient_data_or_an_original_uid(order_studies: Ordering) -> None:
    order_studies("1")
    work()
    rows = ""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f'SELECT * FROM "{table}"')
            rows += repr(cursor.fetchall())
    assert "PID-4711" not in rows
    assert "Mustermann" not in rows
    assert samples.ROOT not in rows
    manifest = encrypted_payload.open_series(SeriesResult.objects.get()).manifest
    assert len(manifest.delivered_entries()) == 3


def test_a_second_job_delivers_the_same_uids(order_studies: Ordering, destination: Node) -> None:
    order_studies("1")
    work()
    first = set(shelf(destination))
    order_studies("1")
    work()
    assert set(shelf(destination)) == first


def test_an_image_withheld_without_announcement_causes_a_warning(
    order_studies: Ordering, source: Node
) -> None:
    job = order_studies("1")
    put_study(source, "1", images=4, BurnedInAnnotation="YES")
    MemoryNode.shelves[source.name].update(
        {i.instance_uid: i for i in map(samples.instance, (samples.ct(n) for n in (1, 2, 3)))}
    )
    task = work()
    assert task is not None
    assert task.state == TaskState.WARNING
    assert "3 of 4 images delivered. 1 × " in str(task.message)
    job.refresh_from_db()
    assert job.state == JobState.WARNING
    assert "1 study has gaps." in str(job.message)


def test_an_image_withheld_as_announced_does_not_cause_a_warning(
    order_studies: Ordering, source: Node
) -> None:
    put(source, clip(1))
    job = order_studies("1")
    work()
    job.refresh_from_db()
    assert (job.state, str(job.message)) == (
        JobState.SUCCESS,
        "3 images delivered, 1 withheld as announced.",
    )


def test_a_study_that_no_longer_exists_fails_with_the_next_step(
    order_studies: Ordering, source: Node
) -> None:
    job = order_studies("1")
    MemoryNode.shelves[source.name].clear()
    task = work()
    assert task is not None
    assert task.state == TaskState.FAILURE
    assert "Search for it again" in str(task.message)
    job.refresh_from_db()
    assert job.state == JobState.FAILURE
    assert not Slot.objects.exists()


def test_an_image_of_another_patient_fails_the_job(order_studies: Ordering, source: Node) -> None:
    job = order_studies("1", "2")
    stranger = samples.instance(samples.ct(9, PatientID="PID-OTHER"))
    MemoryNode.shelves[source.name][stranger.instance_uid] = stranger
    work()
    work()
    job.refresh_from_db()
    assert job.state == JobState.FAILURE
    assert "mixing up patients" in str(job.message)
    assert job.tasks.get(position=1).has_broken_rule
    assert job.tasks.get(position=2).state == TaskState.SUCCESS


def test_a_missing_source_folder_fails_the_task_without_a_retry(
    order_studies: Ordering, source: Node
) -> None:
    job = order_studies("1")
    source.kind, source.settings = "folder", {"path": "/nonexistent/adit-test"}
    source.save()
    task = work()
    assert task is not None
    assert (task.state, task.failures) == (TaskState.FAILURE, 0)
    assert "PACS1: " in str(task.message)
    job.refresh_from_db()
    assert job.state == JobState.FAILURE


def test_a_task_of_an_unreachable_pacs_is_retried_and_finally_fails(
    order_studies: Ordering, source: Node, settings: Settings
) -> None:
    settings.MAX_FAILURES, settings.RETRY_PAUSES_S, settings.BREAKER_PAUSES_S = 2, [60], [0]
    order_studies("1")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        source.kind = "dimse"
        source.settings = {"host": "127.0.0.1", "port": port, "called_ae_title": "NOBODY"}
        source.save()
        task = work()
        assert task is not None
        assert (task.state, task.failures) == (TaskState.PENDING, 1)
        assert str(task.message).startswith("PACS1: ")
        assert work() is None, "claimed before the end of the pause"
        Task.objects.update(not_before=None)
        task = work()
    assert task is not None
    assert task.state == TaskState.FAILURE
    assert str(task.message).endswith("Tried 2 times.")


def test_a_task_resumes_from_the_ledger_after_a_lost_connection(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, settings: Settings
) -> None:
    settings.RETRY_PAUSES_S = [60]
    order_studies("1", images=5)
    thread = in_thread(claimed())
    for _ in range(2):
        gated.gate.release()
    until(lambda: len(shelf(destination)) == 2)
    gated.aborted.set()
    thread.join(60)
    task = Task.objects.get()
    assert (task.state, task.failures) == (TaskState.PENDING, 1)
    assert task.not_before is not None
    assert timedelta(seconds=30) < task.not_before - timezone.now() <= timedelta(seconds=60)
    assert "cut" in str(task.message)
    assert (
        len(encrypted_payload.open_series(SeriesResult.objects.get()).manifest.delivered_entries())
        == 2
    )
    Task.objects.update(not_before=None)
    gated.close_gate()
    for _ in range(3):
        gated.gate.release()
    again = work()
    assert again is not None
    assert (again.state, again.attempt) == (TaskState.SUCCESS, 2)
    assert len(shelf(destination)) == 5


def test_a_cancel_takes_effect_between_images(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, coordinator: User
) -> None:
    job = order_studies("1", "2", images=5)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    perform(coordinator, job, "cancel")
    assert job.state == JobState.CANCELING
    thread.join(60)
    assert not thread.is_alive()
    job.refresh_from_db()
    assert job.state == JobState.CANCELED
    assert set(job.tasks.values_list("state", flat=True)) == {TaskState.CANCELED}
    assert len(shelf(destination)) == 1
    assert not Slot.objects.exists()
    assert work() is None, "a task ran after the job was canceled"


def test_every_listed_image_of_a_canceled_task_has_an_outcome(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, coordinator: User
) -> None:
    job = order_studies("1", images=5)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    perform(coordinator, job, "cancel")
    thread.join(60)
    item = SeriesResult.objects.get()
    assert item.is_final
    assert (item.expected, item.delivered, item.skipped) == (5, 1, 4)
    assert item.reasons == [(Message("canceled"), 4)]


def test_every_listed_image_of_a_failed_task_has_an_outcome(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, settings: Settings
) -> None:
    settings.MAX_FAILURES = 1
    order_studies("1", images=5)
    thread = in_thread(claimed())
    for _ in range(2):
        gated.gate.release()
    until(lambda: len(shelf(destination)) == 2)
    gated.aborted.set()
    thread.join(60)
    assert Task.objects.get().state == TaskState.FAILURE
    item = SeriesResult.objects.get()
    assert (item.expected, item.delivered, item.failed, item.stored) == (5, 2, 3, 0)
    assert sums(item) == item.expected


def test_images_sent_but_not_yet_confirmed_are_counted_as_stored(
    order_studies: Ordering,
    gated: type[GatedNode],
    destination: Node,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "WRITE_EVERY_S", 0.0)
    order_studies("1", images=5)
    thread = in_thread(claimed())
    for _ in range(3):
        gated.gate.release()
    until(lambda: SeriesResult.objects.filter(stored=3))
    assert progress.count_images(SeriesResult.objects.all()).delivered == 0
    for _ in range(2):
        gated.gate.release()
    thread.join(60)
    item = SeriesResult.objects.get()
    assert (item.delivered, item.stored) == (5, 0)


def test_a_canceled_job_can_be_resumed_and_completes(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, coordinator: User
) -> None:
    job = order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    perform(coordinator, job, "cancel")
    thread.join(60)
    perform(coordinator, job, "resume")
    gated.close_gate()
    for _ in range(2):
        gated.gate.release()
    task = work()
    assert task is not None
    assert task.state == TaskState.SUCCESS
    assert len(shelf(destination)) == 3


def test_stopping_one_task_does_not_stop_the_others(
    order_studies: Ordering, gated: type[GatedNode], coordinator: User
) -> None:
    job = order_studies("1", "2", images=1)
    task = claimed()
    thread = in_thread(task)
    perform(coordinator, task, "stop")
    thread.join(60)
    gated.close_gate()
    gated.gate.release()
    work()
    job.refresh_from_db()
    assert [t.state for t in job.tasks.all()] == [TaskState.CANCELED, TaskState.SUCCESS]
    assert job.state == JobState.WARNING


def test_a_worker_that_shuts_down_releases_its_task_without_a_failure(
    order_studies: Ordering, gated: type[GatedNode], destination: Node
) -> None:
    order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    SHUTDOWN.requested = True
    thread.join(60)
    assert not thread.is_alive()
    task = Task.objects.get()
    assert (task.state, task.failures, task.not_before) == (TaskState.PENDING, 0, None)
    assert not Slot.objects.exists()


def test_a_task_stops_at_the_end_of_allowed_hours_until_the_next_window(
    order_studies: Ordering, gated: type[GatedNode], source: Node
) -> None:
    order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    tomorrow = timezone.localtime() + timedelta(days=2)
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[tomorrow.weekday()]
    source.windows = [{"days": [day], "from": "20:00", "to": "22:00"}]
    source.save()
    thread.join(60)
    task = Task.objects.get()
    assert (task.state, task.failures) == (TaskState.PENDING, 0)
    assert "20:00" in str(task.message)
    Task.objects.update(not_before=None)
    assert queue.claim("another worker") is None


def test_a_superseded_attempt_writes_no_results(
    order_studies: Ordering, gated: type[GatedNode], destination: Node
) -> None:
    order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    Task.objects.update(attempt=7)
    before = list(SeriesResult.objects.values())
    for _ in range(2):
        gated.gate.release()
    thread.join(60)
    task = Task.objects.get()
    assert (task.state, task.attempt) == (TaskState.IN_PROGRESS, 7)
    assert list(SeriesResult.objects.values()) == before
    assert not AuditEvent.objects.filter(action="task.ended").exists()


def test_no_image_is_stored_after_the_lease_has_expired(
    order_studies: Ordering,
    gated: type[GatedNode],
    destination: Node,
    settings: Settings,
) -> None:
    settings.LEASE_S, settings.BEAT_S = 2, 3600
    order_studies("1", images=3)
    thread = in_thread(claimed())
    until(lambda: timezone.now() > Task.objects.get().lease_until)
    for _ in range(3):
        gated.gate.release()
    thread.join(60)
    assert not shelf(destination)
    assert Task.objects.get().state == TaskState.PENDING


def test_a_permission_revoked_after_the_order_fails_the_task(
    order_studies: Ordering, coordinator: User, destination: Node
) -> None:
    order_studies("1")
    coordinator.groups.clear()
    task = work()
    assert task is not None
    assert task.state == TaskState.FAILURE
    assert not shelf(destination)


def test_an_internal_error_fails_the_task_and_is_logged_once_without_values(
    order_studies: Ordering,
    source: Node,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    order_studies("1")
    monkeypatch.setitem(nodes.KINDS, "broken", "lab.jobs:BrokenNode")  # type: ignore[arg-type]
    source.kind = "broken"
    source.save()
    task = work()
    assert task is not None
    assert task.state == TaskState.FAILURE
    assert task.message == Message("task.internal-error")
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith(f"task {task.pk}: internal error")
    assert told.endswith("ZeroDivisionError")
    assert "Mustermann" not in told + str(task.message) + repr(caplog.records[0].exc_text)


def test_a_retry_delivers_only_the_missing_images(
    order_studies: Ordering, source: Node, destination: Node, coordinator: User
) -> None:
    job = order_studies("1")
    put_study(source, "1", images=4, BurnedInAnnotation="YES")
    good = [samples.instance(samples.ct(n)) for n in (1, 2, 3)]
    MemoryNode.shelves[source.name].update({i.instance_uid: i for i in good})
    work()
    sent = dict(shelf(destination))
    put_study(source, "1", images=4)
    perform(coordinator, job, "retry")
    task = work()
    assert task is not None
    assert task.state == TaskState.SUCCESS
    assert len(shelf(destination)) == 4
    assert all(shelf(destination)[uid] is instance for uid, instance in sent.items())
    assert SeriesResult.objects.get().delivered == 4
    entries = encrypted_payload.open_series(SeriesResult.objects.get()).manifest.entries.values()
    assert {entry.state for entry in entries} == {InstanceState.DELIVERED}
