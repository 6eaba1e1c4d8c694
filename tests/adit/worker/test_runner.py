"""A task is run: what is delivered, withheld, lost or stopped stands in rows and in the ledger."""

import socket
import time
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
from adit.jobs import encrypted_payload, progress
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


def test_a_study_is_delivered_pseudonymized_and_accounted_for(
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


def test_no_row_of_ours_names_the_patient_or_an_original_uid(order_studies: Ordering) -> None:
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


def test_running_again_delivers_the_same_uids(order_studies: Ordering, destination: Node) -> None:
    order_studies("1")
    work()
    first = set(shelf(destination))
    order_studies("1")
    work()
    assert set(shelf(destination)) == first


def test_what_was_withheld_unannounced_is_a_warning_and_named(
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


def test_what_was_announced_before_the_start_does_not_count_against_success(
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


def test_a_study_that_vanished_fails_with_the_next_step(
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


def test_another_patients_image_breaks_a_rule_and_fails_the_job(
    order_studies: Ordering, source: Node
) -> None:
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


def test_a_folder_that_is_not_there_fails_at_once_with_the_next_step(
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


def test_a_pacs_that_does_not_answer_is_tried_again_and_given_up_in_the_end(
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
        assert work() is None, "not before its pause is over"
        Task.objects.update(not_before=None)
        task = work()
    assert task is not None
    assert task.state == TaskState.FAILURE
    assert str(task.message).endswith("Tried 2 times.")


def test_a_broken_connection_resumes_from_the_ledger(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, settings: Settings
) -> None:
    settings.RETRY_PAUSES_S = [60]
    order_studies("1", images=5)
    thread = in_thread(claimed())
    for _ in range(2):
        gated.gate.release()
    until(lambda: len(shelf(destination)) == 2)
    gated.aborted.set()
    thread.join(20)
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


def test_a_cancel_takes_effect_between_images_within_seconds(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, coordinator: User
) -> None:
    job = order_studies("1", "2", images=5)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    asked = time.monotonic()
    perform(coordinator, job, "cancel")
    assert job.state == JobState.CANCELING
    thread.join(10)
    assert time.monotonic() - asked < 8
    job.refresh_from_db()
    assert job.state == JobState.CANCELED
    assert set(job.tasks.values_list("state", flat=True)) == {TaskState.CANCELED}
    assert len(shelf(destination)) == 1
    assert not Slot.objects.exists()
    assert work() is None, "nothing is sent after the page says canceled"


def test_each_listed_image_of_a_canceled_task_has_an_end(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, coordinator: User
) -> None:
    job = order_studies("1", images=5)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    perform(coordinator, job, "cancel")
    thread.join(10)
    item = SeriesResult.objects.get()
    assert item.is_final
    assert (item.expected, item.delivered, item.skipped) == (5, 1, 4)
    assert item.reasons == [(Message("canceled"), 4)]


def test_each_listed_image_of_a_task_given_up_has_an_end(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, settings: Settings
) -> None:
    settings.MAX_FAILURES = 1
    order_studies("1", images=5)
    thread = in_thread(claimed())
    for _ in range(2):
        gated.gate.release()
    until(lambda: len(shelf(destination)) == 2)
    gated.aborted.set()
    thread.join(20)
    assert Task.objects.get().state == TaskState.FAILURE
    item = SeriesResult.objects.get()
    assert (item.expected, item.delivered, item.failed, item.stored) == (5, 2, 3, 0)
    assert sums(item) == item.expected


def test_what_is_sent_and_not_yet_confirmed_is_told_as_such(
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
    thread.join(20)
    item = SeriesResult.objects.get()
    assert (item.delivered, item.stored) == (5, 0)


def test_a_canceled_job_goes_on_where_it_was(
    order_studies: Ordering, gated: type[GatedNode], destination: Node, coordinator: User
) -> None:
    job = order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    perform(coordinator, job, "cancel")
    thread.join(10)
    perform(coordinator, job, "resume")
    gated.close_gate()
    for _ in range(2):
        gated.gate.release()
    task = work()
    assert task is not None
    assert task.state == TaskState.SUCCESS
    assert len(shelf(destination)) == 3


def test_one_task_is_stopped_and_the_others_go_on(
    order_studies: Ordering, gated: type[GatedNode], coordinator: User
) -> None:
    job = order_studies("1", "2", images=1)
    task = claimed()
    thread = in_thread(task)
    perform(coordinator, task, "stop")
    thread.join(10)
    gated.close_gate()
    gated.gate.release()
    work()
    job.refresh_from_db()
    assert [t.state for t in job.tasks.all()] == [TaskState.CANCELED, TaskState.SUCCESS]
    assert job.state == JobState.WARNING


def test_a_stopping_worker_gives_the_task_back_without_counting_a_failure(
    order_studies: Ordering, gated: type[GatedNode], destination: Node
) -> None:
    order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    until(lambda: len(shelf(destination)) == 1)
    SHUTDOWN.requested = True
    thread.join(6)
    assert not thread.is_alive()
    task = Task.objects.get()
    assert (task.state, task.failures, task.not_before) == (TaskState.PENDING, 0, None)
    assert not Slot.objects.exists()


def test_at_the_end_of_the_allowed_hours_a_task_stops_and_knows_when_it_goes_on(
    order_studies: Ordering, gated: type[GatedNode], source: Node
) -> None:
    order_studies("1", images=3)
    thread = in_thread(claimed())
    gated.gate.release()
    tomorrow = timezone.localtime() + timedelta(days=2)
    day = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[tomorrow.weekday()]
    source.windows = [{"days": [day], "from": "20:00", "to": "22:00"}]
    source.save()
    thread.join(10)
    task = Task.objects.get()
    assert (task.state, task.failures) == (TaskState.PENDING, 0)
    assert task.not_before is not None
    assert timezone.localtime(task.not_before).strftime("%H:%M") == "20:00"


def test_a_lost_attempt_writes_nothing_more(
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
    thread.join(10)
    task = Task.objects.get()
    assert (task.state, task.attempt) == (TaskState.IN_PROGRESS, 7)
    assert list(SeriesResult.objects.values()) == before
    assert not AuditEvent.objects.filter(action="task.ended").exists()


def test_nothing_is_stored_on_a_lease_that_ran_out(
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
    thread.join(10)
    assert not shelf(destination)
    assert Task.objects.get().state == TaskState.PENDING


def test_a_right_withdrawn_after_ordering_fails_the_task_before_anything_is_fetched(
    order_studies: Ordering, coordinator: User, destination: Node
) -> None:
    order_studies("1")
    coordinator.groups.clear()
    task = work()
    assert task is not None
    assert task.state == TaskState.FAILURE
    assert not shelf(destination)


def test_an_internal_error_fails_the_task_and_is_logged_once_without_its_values(
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


def test_retry_fetches_only_what_is_missing(
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
