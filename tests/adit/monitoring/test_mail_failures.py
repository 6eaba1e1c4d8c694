"""A mail server that refuses or is away: the audit trail says so, whatever was to be mailed."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import time_machine
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from lab.mail_peer import MailPeer, mail_peer

from adit.accounts import mails
from adit.accounts.models import User
from adit.accounts.permissions import ADMINISTRATORS
from adit.administration import one_time_links
from adit.audit.models import AuditEvent
from adit.monitoring import system_status
from adit.notifications.models import NotificationKind, NotificationMail
from adit.notifications.services import notify
from adit.pages.audit_sentences import EventNames, describe_event
from adit.worker.tasks import send_mail
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def post_office(settings: LazySettings) -> Iterator[MailPeer]:
    with mail_peer() as peer:
        settings.MAIL, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", peer.port
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        yield peer


@pytest.fixture
def admin(make_user: Callable[..., User]) -> User:
    return make_user("ada", ADMINISTRATORS, email="ada@hospital.example")


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name in (mails.THREAD, "password links"):
            thread.join(30)


def send_notification(admin: User) -> None:
    message = Message("notification.recall-overdue", recall=1, count=1)
    notify([admin], NotificationKind.RECALL, message, "/", with_mail=True)
    send_mail()


def send_invitation(admin: User) -> None:
    client = Client()
    client.force_login(admin)
    page = client.post(reverse("user_password", args=[admin.pk]))
    assert page.status_code == 200


def request_link(admin: User) -> None:
    Client().post(reverse("password_forgotten"), {"account": admin.username})
    wait_for_threads()


def change_second_factor(admin: User) -> None:
    mails.mail_change_of_second_factor(admin, was_added=True)
    wait_for_threads()


def send_test_mail(admin: User) -> None:
    client = Client()
    client.force_login(admin)
    client.post("/system/test-mail/")


DOORS = (send_notification, send_invitation, request_link, change_second_factor, send_test_mail)


def mail_events() -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action__startswith="mail.").order_by("pk"))


def sentences(reader: User) -> list[str]:
    events = mail_events()
    return [describe_event(event, EventNames(reader, events)) for event in events]


@pytest.mark.parametrize("door", DOORS)
def test_an_outage_and_its_end_are_recorded_whatever_is_mailed(
    door: Callable[[User], None], admin: User, post_office: MailPeer
) -> None:
    post_office.answers["DATA"] = "554 ada@hospital.example is not welcome"
    door(admin)
    door(admin)
    failed = sentences(admin)
    post_office.answers.clear()
    with time_machine.travel(timezone.now() + timedelta(hours=2), tick=True):
        door(admin)

    assert len(failed) == 1
    assert "did not accept the mail" in failed[0]
    assert sentences(admin) == [*failed, "ADIT can send mails again."]
    assert "hospital.example" not in repr([event.details for event in mail_events()])


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"MAIL": "550 no"}, "Change ADIT_MAIL_FROM"),
        (None, "The mail server does not answer"),
    ],
)
def test_the_reason_is_recorded_and_the_mail_is_sent_later(
    answers: dict[str, str] | None,
    sentence: str,
    admin: User,
    post_office: MailPeer,
    settings: LazySettings,
) -> None:
    if answers is None:
        settings.EMAIL_PORT = 1
    post_office.answers = answers or {}
    send_notification(admin)

    assert [sentence in text for text in sentences(admin)] == [True]
    post_office.answers, settings.EMAIL_PORT = {}, post_office.port
    with time_machine.travel(timezone.now() + timedelta(minutes=2), tick=True):
        send_mail()
    assert len(post_office.wait_for(1)) == 1
    assert NotificationMail.objects.get().sent_at is not None


def test_a_recipient_who_is_turned_away_for_now_is_no_outage_and_delays_no_other(
    admin: User, make_user: Callable[..., User], post_office: MailPeer
) -> None:
    other = make_user("bea", ADMINISTRATORS, email="bea@hospital.example")
    post_office.answers["RCPT ada@hospital.example"] = "450 greylisted"
    message = Message("notification.recall-overdue", recall=1, count=1)
    notify([admin, other], NotificationKind.RECALL, message, "/", with_mail=True)

    send_mail()

    (mail,) = post_office.wait_for(1)
    assert mail["To"] == "bea@hospital.example"
    assert sentences(admin) == ["The mail server rejected the mail address of ada."]
    assert list(system_status.list_outages()) == []
    post_office.answers.clear()
    with time_machine.travel(timezone.now() + timedelta(minutes=2), tick=True):
        send_mail()
    assert len(post_office.wait_for(2)) == 2
    assert not NotificationMail.objects.filter(sent_at=None).exists()


def test_an_address_that_the_server_rejects_is_recorded_once_a_day_without_the_address(
    admin: User, post_office: MailPeer
) -> None:
    post_office.answers["RCPT"] = "550 no such mailbox"
    for door in DOORS:
        door(admin)

    (event,) = mail_events()
    assert (event.action, event.about, event.details) == (
        "mail.address_refused",
        f"user:{admin.pk}",
        {},
    )
    assert AuditEvent.objects.filter(action="system.test_mail_failed").count() == 1
    assert NotificationMail.objects.get().given_up


def test_a_link_that_was_not_mailed_is_shown_to_the_administrator(
    admin: User, post_office: MailPeer, as_user: Callable[[User], Client]
) -> None:
    post_office.answers["DATA"] = "554 no"

    page = as_user(admin).post(reverse("user_password", args=[admin.pk])).content.decode()

    assert "No mail was sent. Copy the link" in page
    assert one_time_links.password_url("") in page
