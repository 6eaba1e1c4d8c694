"""Password forgotten: a link by mail, through a real mail server."""

import re
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import time_machine
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone
from lab.mail_peer import MailPeer, mail_peer

from adit.accounts.models import User
from adit.administration import one_time_links, users
from adit.administration.models import OneTimeLink
from adit.audit.models import AuditEvent

pytestmark = pytest.mark.django_db
PAGE = "/accounts/password/forgotten/"
NEW = "four words in a row"
BOTH = {"password1": NEW, "password2": NEW}


@pytest.fixture
def post_office(settings: LazySettings) -> Iterator[MailPeer]:
    with mail_peer() as peer:
        settings.MAIL, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", peer.port
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        yield peer


@pytest.fixture
def carla(make_user: Callable[..., User]) -> User:
    return make_user("carla", email="Carla@hospital.example")


def link_in(text: str) -> str:
    found = re.search(r"https?://[^/]+(/\S+)", text)
    assert found is not None
    return found[1]


def ask(account: str) -> str:
    """Request a link; return the page without its form token."""
    response = Client().post(PAGE, {"account": account})
    for thread in threading.enumerate():
        if thread.name == "password links":
            thread.join(30)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("typed", ["carla", " CARLA@hospital.example"])
def test_a_forgotten_password_is_set_with_the_mailed_link_once_within_an_hour(
    typed: str, carla: User, post_office: MailPeer
) -> None:
    ask(typed)

    (mail,) = post_office.wait_for(1)
    address = link_in(mail.get_content())
    assert mail["To"] == "Carla@hospital.example"
    assert "one hour" in mail.get_content()
    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1)):
        late = Client().post(address, BOTH)
    first, second = (Client().post(address, BOTH).status_code for _ in range(2))

    carla.refresh_from_db()
    assert (late.status_code, first, second) == (410, 302, 410)
    assert "too old" in late.content.decode()
    assert carla.check_password(NEW)
    assert AuditEvent.objects.filter(action="user.password_forgotten").count() == 1


def test_the_answer_is_the_same_for_accounts_that_get_no_link(
    carla: User, make_user: Callable[..., User], post_office: MailPeer
) -> None:
    make_user("gone", email="gone@hospital.example", is_active=False)
    make_user("no-address")
    elsewhere = make_user("elsewhere", email="elsewhere@hospital.example")
    elsewhere.set_unusable_password()
    elsewhere.last_login = timezone.now()
    elsewhere.save()

    known = ask("carla")
    others = [ask(name) for name in ("nobody-knows", "gone", "no-address", "elsewhere")]

    assert others == [known] * 4
    assert [mail["To"] for mail in post_office.mails] == ["Carla@hospital.example"]
    assert OneTimeLink.objects.get().user == carla


def test_an_invited_person_who_requests_a_link_keeps_the_seven_days(
    admin: User, post_office: MailPeer
) -> None:
    data = users.UserData("ida", email="ida@hospital.example")
    user, _token = users.create_user(admin, data)

    ask("ida")

    assert "7 days" in post_office.wait_for(1)[0].get_content()
    left = OneTimeLink.objects.get(user=user).expires_at - timezone.now()
    assert left > timedelta(days=6)


def test_links_for_one_account_are_limited_alike_for_unknown_accounts(
    carla: User, post_office: MailPeer
) -> None:
    found = {
        name: [Client().post(PAGE, {"account": name}).status_code for _ in range(4)]
        for name in ("carla", "nobody-knows")
    }

    assert found["carla"] == found["nobody-knows"] == [200, 200, 200, 429]
    assert len(post_office.wait_for(3)) == 3


def test_without_a_mail_server_the_page_says_to_ask_an_administrator(carla: User) -> None:
    page = Client().get(PAGE).content.decode()
    Client().post(PAGE, {"account": "carla"})

    assert "Ask an administrator" in page
    assert 'name="account"' not in page
    assert not OneTimeLink.objects.exists()


@pytest.mark.parametrize("case", ["used twice", "late", "deactivated"])
def test_an_invitation_that_is_not_valid_says_why_changes_nothing_and_is_recorded(
    case: str, admin: User, post_office: MailPeer
) -> None:
    data = users.UserData("ida", email="ida@hospital.example")
    ida, token = users.create_user(admin, data)
    one_time_links.mail_password_link(ida, token)
    address = link_in(post_office.wait_for(1)[0].get_content())
    now = timezone.now()
    if case == "used twice":
        Client().post(address, {"password1": NEW + "!", "password2": NEW + "!"})
    if case == "deactivated":
        User.objects.filter(pk=ida.pk).update(is_active=False)
    before = User.objects.values().get(pk=ida.pk)

    with time_machine.travel(now + timedelta(days=8) if case == "late" else now):
        response = Client().post(address, BOTH)

    expected = {"used twice": "used already", "late": "too old", "deactivated": "is deactivated"}
    assert response.status_code == 410
    assert expected[case] in response.content.decode()
    assert User.objects.values().get(pk=ida.pk) == before
    refused = AuditEvent.objects.get(action="link.refused")
    assert refused.about == f"user:{ida.pk}"
    assert refused.details["address"] == "127.0.0.1"
