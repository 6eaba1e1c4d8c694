"""The timeline of a job: events with the user, or without one if the system caused them."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from adit.accounts.models import User
from adit.audit.trail import record
from adit.jobs.models import START_POSITION, Job, JobState, Task
from adit.jobs.views.event_labels import event_label
from adit.jobs.views.timeline import MAX_NAMED_TASKS, get_timeline
from adit.message_templates import EVENT_ACTIONS

pytestmark = pytest.mark.django_db


def ended(job: Job, number: int, state: str) -> None:
    record(
        "task.ended",
        user=job.owner,
        about=f"job:{job.pk}",
        details={"task": number, "state": state},
    )


def test_the_end_of_studies_and_jobs_has_no_user_and_the_job_ends_last(
    coordinator: User, make_job: Callable[..., Job]
) -> None:
    job = make_job(coordinator, state=JobState.WARNING)
    record("job.created", user=coordinator, about=f"job:{job.pk}", details={})
    ended(job, 1, "success")
    job.ended_at = timezone.now()
    ended(job, 2, "failure")  # written just after, in the same transaction
    told = [(one.text, one.user_name) for one in get_timeline(job)]
    assert told[0] == (f"finished: {job.get_state_display()}", "")
    assert told[1:3] == [("task 2 finished: failed", ""), ("task 1 finished: complete", "")]
    assert told[3][1] == coordinator.get_username()


NOT_IN_TIMELINES = {"task.ended", "job.created.query", "job.expired", "job.previewed"}
"""Events with a text of their own, and events that are not about an existing job."""


def test_every_event_of_a_job_has_a_label() -> None:
    nouns = ("job", "task", "rows", "archive", "withheld")
    actions = {one for one in EVENT_ACTIONS if one.partition(".")[0] in nouns}

    shown = {*actions, "recall.checked"} - NOT_IN_TIMELINES

    assert [action for action in sorted(shown) if event_label(action) == action] == []


def test_the_start_of_a_checked_list_has_no_task_number(
    coordinator: User, make_job: Callable[..., Job]
) -> None:
    job = make_job(coordinator)
    ended(job, START_POSITION, "failure")
    assert [one.text for one in get_timeline(job)] == ["start finished: failed"]


def test_events_after_the_end_of_a_job_are_listed_above_it(
    coordinator: User, make_job: Callable[..., Job]
) -> None:
    job = make_job(coordinator, state=JobState.SUCCESS)
    job.ended_at = timezone.now() - timedelta(minutes=5)
    record("job.report_downloaded", user=coordinator, about=f"job:{job.pk}", details={})
    assert [one.text for one in get_timeline(job)] == ["report downloaded", "finished: complete"]


def test_the_timeline_of_many_studies_omits_their_ends(
    coordinator: User, make_job: Callable[..., Job], as_user: Callable[[User | None], Client]
) -> None:
    job = make_job(coordinator)
    first = job.tasks.get()
    for number in range(2, 70):
        Task.objects.create(job=job, position=number, source=first.source, lane=first.lane)
    record("job.created", user=coordinator, about=f"job:{job.pk}", details={})
    for number in range(1, 70):
        ended(job, number, "success")
    assert job.tasks.count() > MAX_NAMED_TASKS
    assert [one.text for one in get_timeline(job)] == ["ordered"]
    page = as_user(coordinator).get(reverse("job", args=[job.pk]))
    assert b"ordered" in page.content
