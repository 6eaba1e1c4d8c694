"""Mails about finished jobs, approvals and failures: each sent once and without patient data."""

from collections.abc import Callable, Iterator

import pytest
from django.utils import timezone
from lab.jobs import PATIENT, work
from lab.smtp_server import SmtpServer, smtp_server
from pytest_django import Settings

from adit.accounts.models import User
from adit.jobs import notifications
from adit.jobs.actions import perform
from adit.jobs.models import Job, JobMail, JobState
from adit.nodes.models import Node
from adit.notifications import outbox
from adit_engine.nodes.memory import MemoryNode

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]


@pytest.fixture
def box(settings: Settings) -> Iterator[SmtpServer]:
    with smtp_server() as box:
        settings.MAIL = True
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", box.port
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.DEFAULT_FROM_EMAIL = "ADIT <adit@hospital.example>"
        settings.SITE_URL = "https://adit.hospital.example"
        settings.MAIL_ADMINS = []
        yield box


@pytest.fixture
def owner(coordinator: User) -> User:
    coordinator.email = "cora@hospital.example"
    coordinator.save()
    return coordinator


@pytest.fixture
def approver(pacsadmin: User) -> User:
    pacsadmin.email = "paul@hospital.example"
    pacsadmin.save()
    return pacsadmin


def test_one_mail_without_patient_data_is_sent_when_the_job_finishes(
    box: SmtpServer, owner: User, order_studies: Ordering
) -> None:
    job = order_studies("1", "2", images=1)
    perform(owner, job, "mail")
    work()
    assert notifications.send_due_mails() == 0, "a mail was sent before the job finished"
    work()
    assert [notifications.send_due_mails(), notifications.send_due_mails()] == [1, 0]

    (letter,) = box.taken
    assert (letter["To"], letter["Auto-Submitted"]) == ("cora@hospital.example", "auto-generated")
    assert letter["Subject"] == f"ADIT: job {job.pk} is finished: complete"
    text = letter.get_content()
    assert f"https://adit.hospital.example/jobs/{job.pk}/" in text
    for secret in (PATIENT, "Mustermann", "1.2."):
        assert secret not in letter.as_string()


def test_no_mail_is_sent_unless_it_was_requested(
    box: SmtpServer, owner: User, order_studies: Ordering
) -> None:
    order_studies("1", images=1)
    work()
    assert notifications.send_due_mails() == 0
    assert not box.taken


def test_a_mail_not_recorded_as_sent_is_repeated_with_the_same_message_id(
    box: SmtpServer, owner: User, order_studies: Ordering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed after the response of the mail server, before the mail is marked as sent."""
    perform(owner, order_studies("1", images=1), "mail")
    work()
    with monkeypatch.context() as context:
        context.setattr(outbox.Outbox, "mark_sent", _killed)
        with pytest.raises(KeyboardInterrupt):
            notifications.send_due_mails()
    assert notifications.send_due_mails() == 0, "the mail is still leased by the killed sender"
    JobMail.objects.update(not_before=timezone.now())
    assert notifications.send_due_mails() == 1

    first, second = box.taken
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Message-ID"].endswith("@hospital.example>")


def test_a_sender_with_an_expired_lease_cannot_mark_a_mail_as_sent(
    box: SmtpServer, owner: User, order_studies: Ordering
) -> None:
    perform(owner, order_studies("1", images=1), "mail")
    work()
    late = notifications.JOB_OUTBOX.claim_due()
    assert late is not None
    JobMail.objects.update(not_before=timezone.now())
    assert notifications.send_due_mails() == 1
    assert notifications.JOB_OUTBOX.mark_sent(late) == 0


def test_a_sender_whose_lease_expired_does_not_send_the_mail(
    box: SmtpServer, owner: User, order_studies: Ordering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock simulates a process that was suspended until its lease had expired."""
    perform(owner, order_studies("1", images=1), "mail")
    work()
    clock = iter([100.0])
    monkeypatch.setattr(outbox, "get_boot_time", lambda: next(clock, 100.0 + outbox.LEASE_S + 1))
    assert notifications.send_due_mails() == 0
    assert box.taken == []
    monkeypatch.undo()
    JobMail.objects.update(not_before=timezone.now())
    assert notifications.send_due_mails() == 1


def test_a_mail_rejected_temporarily_by_the_server_is_sent_later(
    box: SmtpServer, owner: User, order_studies: Ordering
) -> None:
    perform(owner, order_studies("1", images=1), "mail")
    work()
    box.answer = "451 come back later"
    assert notifications.send_due_mails() == 0
    letter = JobMail.objects.get()
    assert letter.sent_at is None
    assert letter.not_before is not None
    assert letter.not_before > timezone.now()
    box.answer = "250 kept"
    JobMail.objects.update(not_before=None)
    assert notifications.send_due_mails() == 1


def test_a_failed_job_is_mailed_to_the_administrators(
    box: SmtpServer, owner: User, order_studies: Ordering, source: Node, settings: Settings
) -> None:
    settings.MAIL_ADMINS = ["it@hospital.example"]
    job = order_studies("1", images=1)
    MemoryNode.shelves[source.name].clear()
    work()
    job.refresh_from_db()
    assert job.state == JobState.FAILURE
    assert notifications.send_due_mails() == 1
    assert box.taken[0]["To"] == "it@hospital.example"
    assert box.subjects() == [f"ADIT: job {job.pk} has failed"]


def test_approvers_are_mailed_a_request_and_the_owner_their_decision(
    box: SmtpServer, owner: User, approver: User, order_studies: Ordering, settings: Settings
) -> None:
    settings.MAX_STUDIES_PER_JOB = 1
    first = order_studies("1", "2", images=1)
    second = order_studies("3", "4", images=1)
    perform(approver, first, "approve")
    perform(approver, second, "return", "Mrs Mustermann has withdrawn her consent")
    notifications.send_due_mails()

    told = [(letter["To"], letter["Subject"]) for letter in box.taken]
    assert sorted(told) == sorted(
        [
            ("paul@hospital.example", f"ADIT: job {first.pk} is waiting for approval"),
            ("paul@hospital.example", f"ADIT: job {second.pk} is waiting for approval"),
            ("cora@hospital.example", f"ADIT: job {first.pk} is approved"),
            ("cora@hospital.example", f"ADIT: job {second.pk} is returned to you"),
        ]
    )
    assert not any("Mustermann" in letter.as_string() for letter in box.taken)


def test_without_a_mail_server_no_mail_is_queued(
    owner: User, order_studies: Ordering, settings: Settings
) -> None:
    settings.MAIL = False
    job = order_studies("1", images=1)
    Job.objects.filter(pk=job.pk).update(mail_at_end=True)
    work()
    assert not JobMail.objects.exists()


def _killed(*_: object) -> int:
    raise KeyboardInterrupt
