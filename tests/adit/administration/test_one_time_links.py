"""One-time links: to set a password, and to create the first administrator."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.conf import LazySettings
from django.core import mail
from django.test import Client
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import administrators
from adit.administration import one_time_links, users
from adit.administration.models import OneTimeLink
from adit.administration.one_time_links import LinkRefused
from adit.audit.models import AuditEvent

pytestmark = pytest.mark.django_db
NEW = "four words in a row"
BOTH = {"password1": NEW, "password2": NEW}


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def test_a_person_sets_the_password_once(admin: User, coordinator: User) -> None:
    token = users.reset_password(admin, coordinator)
    address = path_of(one_time_links.password_url(token))

    assert Client().get(address).status_code == 200
    assert Client().post(address, BOTH)["Location"] == "/accounts/login/"
    again = Client().post(address, {"password1": NEW + "!", "password2": NEW + "!"})

    coordinator.refresh_from_db()
    assert coordinator.check_password(NEW)
    assert (again.status_code, Client().get(address).status_code) == (410, 410)
    assert "used already" in again.content.decode()


@pytest.mark.parametrize(
    ("typed", "error"), [(("q7w8", "q7w8"), "too short"), ((NEW, "x"), "different")]
)
def test_a_bad_password_does_not_use_up_the_link(
    typed: tuple[str, str], error: str, admin: User, coordinator: User
) -> None:
    token = users.reset_password(admin, coordinator)
    address = path_of(one_time_links.password_url(token))

    answer = Client().post(address, {"password1": typed[0], "password2": typed[1]})

    assert answer.status_code == 422
    assert error in answer.content.decode()
    assert typed[0] not in answer.content.decode()
    assert Client().get(address).status_code == 200


def test_the_old_password_is_valid_until_the_new_one_is_set(
    admin: User, coordinator: User, as_user: Callable[[User], Client]
) -> None:
    signed_in = as_user(coordinator)
    token = users.reset_password(admin, coordinator)
    assert Client().login(username="coordinator", password="a long enough password")

    one_time_links.set_password(token, NEW)

    assert not Client().login(username="coordinator", password="a long enough password")
    assert signed_in.get("/accounts/profile/").status_code == 302


def test_a_password_link_expires_after_seven_days(admin: User, coordinator: User) -> None:
    token = users.reset_password(admin, coordinator)

    late = timezone.now() + timedelta(days=7, seconds=1)
    with time_machine.travel(late), pytest.raises(LinkRefused, match="too old"):
        one_time_links.set_password(token, NEW)


def test_a_newer_link_replaces_the_earlier_one(admin: User, coordinator: User) -> None:
    first = users.reset_password(admin, coordinator)
    users.reset_password(admin, coordinator)

    with pytest.raises(LinkRefused, match="newer one"):
        one_time_links.set_password(first, NEW)


def test_the_link_of_a_deactivated_person_is_refused(admin: User, coordinator: User) -> None:
    token = users.reset_password(admin, coordinator)
    User.objects.filter(pk=coordinator.pk).update(is_active=False)
    with pytest.raises(LinkRefused, match="deactivated"):
        one_time_links.set_password(token, NEW)
    User.objects.filter(pk=coordinator.pk).update(is_active=True)

    users.deactivate_user(admin, coordinator, successor=None)
    users.reactivate_user(admin, coordinator)

    with pytest.raises(LinkRefused, match="Ask an administrator"):
        one_time_links.set_password(token, NEW)


def test_no_link_is_stored_recorded_or_logged(
    admin: User, coordinator: User, caplog: pytest.LogCaptureFixture
) -> None:
    token = users.reset_password(admin, coordinator)

    Client().post(path_of(one_time_links.password_url(token)), {"password1": "x"})

    assert "Unprocessable" in caplog.text
    assert token not in caplog.text
    stored = [*OneTimeLink.objects.values_list(), *AuditEvent.objects.values_list()]
    assert token not in repr(stored)


def test_the_link_is_mailed_if_there_is_a_mail_server(
    coordinator: User, settings: LazySettings, admin: User
) -> None:
    coordinator.email = "carla@hospital.example"
    token = users.reset_password(admin, coordinator)
    assert not one_time_links.mail_password_link(coordinator, token)

    settings.MAIL = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"

    assert one_time_links.mail_password_link(coordinator, token)
    assert token in mail.outbox[0].body
    assert mail.outbox[0].to == ["carla@hospital.example"]


def test_a_mail_server_that_does_not_answer_is_reported(
    coordinator: User, settings: LazySettings, admin: User
) -> None:
    coordinator.email = "carla@hospital.example"
    settings.MAIL, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", 1
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"

    assert not one_time_links.mail_password_link(coordinator, "token")


ADMIN = {"username": "anna", "first_name": "Anna", "last_name": "First", "email": "", **BOTH}


def test_the_setup_link_creates_the_first_administrator_once(db: None) -> None:
    address = path_of(one_time_links.create_setup_link())

    assert Client().get(address).status_code == 200
    assert Client().post(address, ADMIN)["Location"] == "/accounts/login/"
    again = Client().post(address, {**ADMIN, "username": "mallory"})

    anna = User.objects.get()
    assert list(administrators()) == [anna]
    assert not anna.is_superuser
    assert Client().login(username="anna", password=NEW)
    assert again.status_code == 410
    assert AuditEvent.objects.filter(action="user.first_administrator", user=anna).exists()


def test_the_setup_link_expires_after_a_day(db: None) -> None:
    address = path_of(one_time_links.create_setup_link())

    with time_machine.travel(timezone.now() + timedelta(hours=24, seconds=1)):
        answer = Client().post(address, ADMIN)

    assert answer.status_code == 410
    assert not User.objects.exists()


def test_the_setup_link_is_void_when_there_is_an_administrator(root: User) -> None:
    User.objects.filter(pk=root.pk).update(is_active=False)
    address = path_of(one_time_links.create_setup_link())
    User.objects.filter(pk=root.pk).update(is_active=True)

    assert Client().post(address, ADMIN).status_code == 410
    with pytest.raises(LinkRefused, match="administrator already"):
        one_time_links.create_setup_link()
    token = address.partition("token=")[2]
    with pytest.raises(LinkRefused, match="administrator already"):
        one_time_links.create_first_administrator(token, User(username="eve"), NEW)


def test_links_of_one_kind_do_not_open_pages_of_the_other(db: None, stranger: User) -> None:
    setup = one_time_links.create_setup_link().partition("?")[2]

    assert Client().get(f"/accounts/password/link/?{setup}").status_code == 410
    assert Client().get("/setup/?token=made-up").status_code == 410
    assert Client().get("/setup/").status_code == 410


@pytest.mark.parametrize("why", ["used", "expired", "account-deactivated"])
def test_a_link_that_is_used_in_vain_is_explained_and_recorded_once_an_hour(
    why: str, admin: User, coordinator: User
) -> None:
    token = users.reset_password(admin, coordinator)
    address = path_of(one_time_links.password_url(token))
    if why == "used":
        Client().post(address, BOTH)
    elif why == "account-deactivated":
        User.objects.filter(pk=coordinator.pk).update(is_active=False)
    days = 8 if why == "expired" else 0
    password = User.objects.get(pk=coordinator.pk).password

    with time_machine.travel(timezone.now() + timedelta(days=days)):
        answers = [Client().get(address), Client().post(address, BOTH)]

    assert [answer.status_code for answer in answers] == [410, 410]
    assert "administrator" in answers[1].content.decode()
    assert User.objects.get(pk=coordinator.pk).password == password
    event = AuditEvent.objects.get(action="link.refused")
    assert event.about == f"user:{coordinator.pk}"
    assert event.details == {"reason": f"link.{why}", "address": "127.0.0.1"}
    assert token not in str(event.details)


def test_an_unknown_link_is_not_recorded(db: None) -> None:
    assert Client().get("/accounts/password/link/?token=guessed").status_code == 410
    assert not AuditEvent.objects.filter(action="link.refused").exists()
