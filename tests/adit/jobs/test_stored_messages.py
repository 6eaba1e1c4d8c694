"""Jobs, tasks and task groups store code and values of a message; pages render the sentence."""

from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from adit.accounts.models import User
from adit.jobs.models import Job, JobState, Task, TaskGroup, TaskState
from adit_engine import messages
from adit_engine.messages import Message

AsUser = Callable[[User | None], Client]


def test_a_page_shows_the_current_sentence_of_a_stored_message(
    coordinator: User,
    make_job: Callable[..., Job],
    as_user: AsUser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job(
        coordinator, state=JobState.FAILURE, message=Message("job.studies-failed", count=7)
    )
    job.tasks.update(state=TaskState.FAILURE, message=Message("task.no-progress", seconds=321))
    monkeypatch.setitem(messages._templates, "job.studies-failed", "New sentence: {count} failed.")
    monkeypatch.setitem(messages._templates, "task.no-progress", "New sentence: {seconds} s.")
    client = as_user(coordinator)

    page = client.get(reverse("job", args=[job.pk])).content.decode()
    task_page = client.get(reverse("job_task", args=[job.pk, 1])).content.decode()

    assert "New sentence: 7 failed." in page
    assert "New sentence: 321 s." in page
    assert "New sentence: 321 s." in task_page


def test_a_page_shows_the_current_sentence_of_a_stored_wait_reason(
    coordinator: User,
    make_job: Callable[..., Job],
    as_user: AsUser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job(coordinator, state=JobState.PENDING)
    TaskGroup.objects.filter(job=job).update(wait_reason=Message("task.no-progress", seconds=321))
    monkeypatch.setitem(messages._templates, "task.no-progress", "New sentence: {seconds} s.")
    client = as_user(coordinator)

    for path in (reverse("job", args=[job.pk]), reverse("job_task", args=[job.pk, 1]), "/"):
        assert "New sentence: 321 s." in client.get(path).content.decode()


def test_a_message_is_read_from_the_database_as_it_was_stored(
    coordinator: User, make_job: Callable[..., Job]
) -> None:
    job = make_job(coordinator)
    reason = Message("delivery.counted", count=3, reason=Message("delivery.no-result"))

    Task.objects.filter(job=job).update(message=reason)

    assert Task.objects.get(job=job).message == reason
    assert Task.objects.values_list("message", flat=True).get(job=job) == reason


def test_only_the_owner_is_asked_for_your_confirmation(
    coordinator: User, pacsadmin: User, make_job: Callable[..., Job], as_user: AsUser
) -> None:
    job = make_job(coordinator, state=JobState.WAITING_FOR_OWNER)

    for path in (reverse("jobs"), reverse("job", args=[job.pk])):
        assert "waiting for your confirmation" in as_user(coordinator).get(path).content.decode()
        page = as_user(pacsadmin).get(path).content.decode()
        assert "waiting for the owner&#x27;s confirmation" in page
