"""The end of a research project: extension with a reason, warnings by mail, waiting tasks."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone
from lab.smtp_server import SmtpServer, smtp_server
from pytest_django import Settings

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.config.celery import app
from adit.jobs.models import Job, JobState
from adit.projects.end_warnings import create_end_mails
from adit.projects.models import Project, ProjectEndMail
from adit.projects.services import extend_project, may_use, revoke_project
from adit.worker.tasks import clean_up, send_mail, sweep

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
        **{"faces": "withhold", "header_word": "withhold"},
    }
    address = f"/projects/{project.pk}/edit/"
    for later in (in_days(11).isoformat(), ""):
        answer = as_user(dpo).post(address, {**typed, "expires_on": later})
        assert "A later end requires a reason." in answer.content.decode()

    assert as_user(dpo).post(address, {**typed, "expires_on": in_days(9)}).status_code == 302
    project.refresh_from_db()
    assert project.expires_on == in_days(9)


@pytest.fixture
def box(settings: Settings) -> Iterator[SmtpServer]:
    with smtp_server() as box:
        settings.MAIL = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", box.port
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.SITE_URL = "https://adit.hospital.example"
        yield box


@pytest.fixture
def orderer(coordinator: User, project: Project, make_job: Callable[..., Job]) -> User:
    """A member who has ordered for the project twice."""
    coordinator.email = "cora@hospital.example"
    coordinator.save()
    for _ in range(2):
        make_job(coordinator, project=project)
    return coordinator


def run_scheduler(on: date | None = None) -> None:
    """Run the hourly and the minutely task of the scheduler, each twice, at noon of a day."""
    day = on or timezone.localdate()
    with time_machine.travel(datetime.combine(day, time(12), tzinfo=UTC)):
        for task in (clean_up, clean_up, send_mail, send_mail):
            task()


def test_members_who_ordered_and_the_responsible_get_one_mail_30_and_one_7_days_before_the_end(
    box: SmtpServer,
    orderer: User,
    stranger: User,
    dpo: User,
    project: Project,
    make_job: Callable[..., Job],
) -> None:
    stranger.email = dpo.email = "nobody@hospital.example"
    stranger.save()
    dpo.save()
    make_job(stranger, project=project)
    end = in_days(60)
    set_values(project, expires_on=end, responsible="Prof. Rot <rot@hospital.example>")

    sent = {}
    for days in (31, 30, 8, 7, 0, -1):
        run_scheduler(end - timedelta(days=days))
        sent[days] = [(mail["To"], mail["Subject"]) for mail in box.taken]
        box.taken.clear()

    both = ("cora@hospital.example", "rot@hospital.example")
    assert {days for days, mails in sent.items() if mails} == {30, 7}
    for days in (30, 7):
        subject = f"ADIT: research project LUNG ends in {days} days"
        assert sorted(sent[days]) == [(address, subject) for address in both]


def test_a_mail_before_the_end_links_to_the_project_and_names_no_patient(
    box: SmtpServer, orderer: User, project: Project
) -> None:
    set_values(project, expires_on=in_days(5))

    run_scheduler()

    (mail,) = box.taken
    text = mail.get_content()
    assert f"https://adit.hospital.example/projects/{project.pk}/" in text
    assert in_days(5).isoformat() in text
    assert "PID-0815" not in mail.as_string()


def test_an_extended_or_revoked_project_is_not_reported_with_its_old_end(
    box: SmtpServer,
    orderer: User,
    dpo: User,
    project: Project,
    make_project: Callable[..., Project],
) -> None:
    set_values(project, expires_on=in_days(20))
    create_end_mails()
    extend_project(dpo, project, in_days(200), "More patients")
    run_scheduler()
    assert box.taken == []

    set_values(project, expires_on=in_days(7))
    create_end_mails()
    revoke_project(dpo, project)
    run_scheduler()
    assert (box.taken, ProjectEndMail.objects.count()) == ([], 0)


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
