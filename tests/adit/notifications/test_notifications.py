"""Notifications: written with the event, shown on a page, mailed by choice, without patient data."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import time_machine
from django.db import transaction
from django.test import Client
from django.utils import timezone
from lab.jobs import PATIENT, work
from lab.smtp_server import SmtpServer, smtp_server
from pytest_django import Settings

from adit.accounts.models import User
from adit.accounts.permissions import ADMINISTRATORS
from adit.jobs import notifications as job_notifications
from adit.jobs import states
from adit.jobs.models import Job, JobMail, JobState
from adit.notifications import services
from adit.notifications.models import MailChoice, Notification, NotificationKind
from adit.projects.end_warnings import warn_of_project_ends
from adit.projects.models import Project
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db(transaction=True)
AsUser = Callable[[User | None], Client]
MESSAGE = Message("notification.job-finished", job=12)


@pytest.fixture
def box(settings: Settings) -> Iterator[SmtpServer]:
    with smtp_server() as box:
        settings.MAIL = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", box.port
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.SITE_URL = "https://adit.hospital.example"
        settings.MAIL_ADMINS = []
        yield box


@pytest.fixture
def owner(coordinator: User) -> User:
    coordinator.email = "cora@hospital.example"
    coordinator.save()
    return coordinator


def told(user: User) -> list[str]:
    return [str(row.message) for row in Notification.objects.filter(user=user).order_by("pk")]


def fail(job: Job) -> None:
    states.move_row(job, JobState.IN_PROGRESS)
    states.move_row(job, JobState.FAILURE, Message("approval.refused", reason="x"))


def test_the_owner_finds_the_end_of_a_job_on_the_page_and_the_number_in_the_header(
    owner: User, order_studies: Callable[..., Job], as_user: AsUser
) -> None:
    job = order_studies("1", images=1)
    work()

    page = as_user(owner).get("/notifications/").content.decode()
    assert f"Your job {job.pk} is finished." in page
    assert f'href="/jobs/{job.pk}/"' in page
    assert "unread: </span>1</span>" in page
    assert PATIENT not in page


def test_an_event_that_is_rolled_back_leaves_no_notification(
    owner: User, order_studies: Callable[..., Job]
) -> None:
    job = order_studies("1", images=1)
    with transaction.atomic():
        fail(job)
        assert told(owner)
        transaction.set_rollback(True)
    assert not told(owner)


def test_a_failed_job_is_reported_to_its_owner_and_to_the_administrators(
    box: SmtpServer,
    owner: User,
    make_user: Callable[..., User],
    order_studies: Callable[..., Job],
) -> None:
    admin = make_user("ada", ADMINISTRATORS, email="ada@hospital.example")
    job = order_studies("1", images=1)
    fail(job)

    assert told(owner) == [f"Your job {job.pk} has failed. Its page says why and what to do."]
    assert told(admin) == [f"Job {job.pk} of coordinator has failed."]
    job_notifications.send_due_mails()
    assert [mail["To"] for mail in box.taken] == ["ada@hospital.example"]


def test_mails_follow_the_choice_of_each_person(
    box: SmtpServer, owner: User, order_studies: Callable[..., Job], as_user: AsUser
) -> None:
    client = as_user(owner)
    chosen = client.get("/notifications/mails/").context["form"].initial["kinds"]
    assert "approval_decided" in chosen
    assert "job_finished" not in chosen
    client.post("/notifications/mails/", {"kinds": ["job_finished"]})

    job = order_studies("1", images=1)
    work()
    job_notifications.notify_approval_decision(job, approved=True)
    job_notifications.send_due_mails()
    assert box.subjects() == [f"ADIT: job {job.pk} is finished: complete"]
    assert len(told(owner)) == 2


def test_released_images_and_lists_that_wait_are_mailed_once_if_chosen(
    box: SmtpServer, owner: User, order_studies: Callable[..., Job]
) -> None:
    job = order_studies("1", images=1)
    job_notifications.notify_images_released([job])
    services.save_mailed_kinds(owner, {"images_released", "start_needed"})
    job_notifications.notify_images_released([job])
    job_notifications.notify_start_needed(job)

    assert [services.NOTIFICATION_OUTBOX.send(), services.NOTIFICATION_OUTBOX.send()] == [2, 0]
    assert len(told(owner)) == 3
    for mail in box.taken:
        assert f"https://adit.hospital.example/jobs/{job.pk}/" in mail.get_content()
        assert PATIENT not in mail.as_string()


def test_an_order_that_needs_approval_is_reported_to_other_approvers_only(
    box: SmtpServer, owner: User, pacsadmin: User, order_studies: Callable[..., Job]
) -> None:
    User.objects.filter(pk=pacsadmin.pk).update(email="paul@hospital.example")
    job = order_studies("1", images=1)
    services.save_mailed_kinds(pacsadmin, set())
    job_notifications.request_approval(job)

    assert told(pacsadmin) == [f"Job {job.pk} of coordinator needs an approval."]
    assert not told(owner)
    assert not JobMail.objects.filter(address="paul@hospital.example").exists()


def test_only_own_notifications_can_be_opened_and_marked_as_read(
    owner: User, pacsadmin: User, as_user: AsUser
) -> None:
    for user in (owner, owner, pacsadmin):
        services.notify([user], NotificationKind.JOB_FINISHED, MESSAGE, "/jobs/12/")
    first = Notification.objects.filter(user=owner).earliest("pk")
    client = as_user(owner)

    listed = as_user(pacsadmin).get("/notifications/").context["table"].records
    assert {one.user for one in listed} == {pacsadmin}
    assert as_user(pacsadmin).post(f"/notifications/{first.pk}/read/").status_code == 404
    assert services.count_unread(owner) == 2
    assert client.post(f"/notifications/{first.pk}/read/", {"open": "1"})["Location"] == "/jobs/12/"
    assert services.count_unread(owner) == 1
    assert client.post("/notifications/read/")["Location"] == "/notifications/"
    assert (services.count_unread(owner), services.count_unread(pacsadmin)) == (0, 1)
    assert as_user(None).get("/notifications/").status_code == 302


def test_members_are_warned_30_and_7_days_before_a_project_ends_once_each(
    owner: User, project: Project
) -> None:
    project.members.set(owner.groups.all())
    end = timezone.localdate() + timedelta(days=40)
    Project.objects.filter(pk=project.pk).update(expires_on=end)
    for days in (31, 30, 29, 7, 1):
        with time_machine.travel(timezone.now() + timedelta(days=40 - days)):
            warn_of_project_ends()
            warn_of_project_ends()
    ends = [f"The project {project.protocol_id} ends in {days} days." for days in (30, 7)]
    assert told(owner) == ends


def test_a_user_without_a_choice_gets_the_mails_of_the_defaults(owner: User) -> None:
    assert services.select_mailed([owner], NotificationKind.APPROVAL_ASKED) == [owner]
    assert services.select_mailed([owner], NotificationKind.JOB_FINISHED) == []
    MailChoice.objects.create(user=owner, kind=NotificationKind.APPROVAL_ASKED, by_mail=False)
    assert services.select_mailed([owner], NotificationKind.APPROVAL_ASKED) == []
