"""The end of a research project: extension with a reason, waiting tasks."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.config.celery import app
from adit.jobs.models import Job, JobState
from adit.projects.models import Project
from adit.projects.services import may_use
from adit.worker.tasks import sweep

pytestmark = pytest.mark.django_db


def in_days(days: int) -> date:
    return timezone.localdate() + timedelta(days=days)


def set_values(project: Project, **values: Any) -> None:
    Project.objects.filter(pk=project.pk).update(**values)
    project.refresh_from_db()


def extend(client: Client, project: Project, until: date, reason: str = "More patients") -> Any:
    address = f"/projects/{project.pk}/extend/"
    return client.post(address, {"until": until.isoformat(), "reason": reason})


def test_an_extended_project_can_be_used_again_and_the_reason_is_recorded(
    dpo: User, coordinator: User, project: Project, as_user: Callable[..., Client]
) -> None:
    set_values(project, expires_on=in_days(-3))
    assert not may_use(coordinator, project)
    assert "Extend…" in as_user(dpo).get(f"/projects/{project.pk}/").content.decode()

    assert extend(as_user(dpo), project, in_days(90)).status_code == 302

    project.refresh_from_db()
    assert project.expires_on == in_days(90)
    assert may_use(coordinator, project)
    event = AuditEvent.objects.get(action="project.extended", about="project:LUNG")
    assert event.user == dpo
    assert event.details == {
        "from": in_days(-3).isoformat(),
        "until": in_days(90).isoformat(),
        "reason": "More patients",
    }


@pytest.mark.parametrize(
    ("values", "days", "reason", "text"),
    [
        ({"expires_on": 10}, 10, "why", "later than the present end"),
        ({"expires_on": -9}, -2, "why", "has not passed"),
        ({"expires_on": 10, "deletion_on": 20}, 21, "why", "must delete the data by"),
        ({"expires_on": 10, "is_revoked": True}, 20, "why", "cannot be extended"),
        ({"expires_on": 10, "is_accepted": False}, 20, "why", "cannot be extended"),
        ({"expires_on": None}, 20, "why", "cannot be extended"),
        ({"expires_on": 10}, 20, " ", "This field is required"),
    ],
)
def test_an_extension_that_is_not_possible_says_why(
    dpo: User,
    project: Project,
    as_user: Callable[..., Client],
    values: dict[str, Any],
    days: int,
    reason: str,
    text: str,
) -> None:
    days_given = {
        name: in_days(value) if type(value) is int else value for name, value in values.items()
    }
    set_values(project, **days_given)

    answer = extend(as_user(dpo), project, in_days(days), reason)

    assert answer.status_code == 422
    assert text in answer.content.decode()
    assert Project.objects.get(pk=project.pk).expires_on == days_given["expires_on"]
    assert not AuditEvent.objects.filter(action="project.extended").exists()


def test_the_end_can_be_moved_forward_by_editing_but_later_only_with_a_reason(
    dpo: User, project: Project, as_user: Callable[..., Client]
) -> None:
    set_values(project, expires_on=in_days(10))
    typed = {
        **{"protocol_id": "LUNG", "sponsor": "Test University", "profile": project.profile_id},
        **{"faces": "withhold", "header_word": "withhold", "all_modalities": "on"},
    }
    address = f"/projects/{project.pk}/edit/"
    for later, why in (
        (in_days(11).isoformat(), "A later end requires a reason."),
        ("", "Required: without it, nothing is sent"),
    ):
        answer = as_user(dpo).post(address, {**typed, "expires_on": later})
        assert why in answer.content.decode()

    assert as_user(dpo).post(address, {**typed, "expires_on": in_days(9)}).status_code == 302
    project.refresh_from_db()
    assert project.expires_on == in_days(9)


def test_the_sweep_of_the_scheduler_fails_waiting_tasks_within_a_minute_of_the_end(
    coordinator: User, project: Project, make_job: Callable[..., Job]
) -> None:
    job = make_job(coordinator, project=project, state=JobState.PENDING, tasks=2)
    set_values(project, expires_on=in_days(-1))

    sweep()

    job.refresh_from_db()
    assert job.state == JobState.FAILURE
    assert {str(task.message) for task in job.tasks.all()} == {
        "The research project LUNG has ended. Ask its manager to extend it."
    }
    assert app.conf.beat_schedule["sweep"]["task"] == sweep.name
    assert app.conf.beat_schedule["sweep"]["schedule"] <= 60
