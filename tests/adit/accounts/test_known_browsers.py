"""A sign-in with a browser that is unknown for the account is mailed to the person."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import time_machine
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone
from lab.mail_peer import MailPeer, mail_peer

from adit.accounts.known_browsers import COOKIE
from adit.accounts.models import KnownBrowser, User

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def post_office(settings: LazySettings) -> Iterator[MailPeer]:
    with mail_peer() as peer:
        settings.MAIL, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", peer.port
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        yield peer


def sign_in(client: Client, name: str = "carla") -> None:
    client.post(
        "/accounts/login/",
        {"login": name, "password": PASSWORD},
        headers={"User-Agent": FIREFOX},
    )
    assert client.get("/").status_code == 200
    client.post("/accounts/logout/")


def test_a_sign_in_with_an_unknown_browser_is_mailed_once(
    make_user: Callable[..., User], post_office: MailPeer
) -> None:
    make_user("carla", email="carla@hospital.example")
    office, home = Client(), Client()
    sign_in(office)
    sign_in(office)
    assert post_office.mails == []

    sign_in(home)
    (mail,) = post_office.wait_for(1)
    sign_in(home)
    sign_in(office)

    text = mail.get_content()
    assert mail["To"] == "carla@hospital.example"
    assert "Browser: Firefox, Windows" in text
    assert "Address: 127.0.0.1" in text
    assert len(post_office.mails) == 1


def test_a_browser_is_known_for_one_account_only_and_for_a_year(
    make_user: Callable[..., User], post_office: MailPeer
) -> None:
    make_user("carla", email="carla@hospital.example")
    make_user("theo", email="theo@hospital.example")
    shared, other = Client(), Client()
    sign_in(shared)
    sign_in(other, "theo")

    sign_in(shared, "theo")
    assert [mail["To"] for mail in post_office.wait_for(1)] == ["theo@hospital.example"]

    with time_machine.travel(timezone.now() + timedelta(days=366)):
        sign_in(other, "theo")
    assert [mail["To"] for mail in post_office.wait_for(2)] == ["theo@hospital.example"] * 2


def test_the_cookie_is_stored_as_a_hash_and_signs_nobody_in(
    make_user: Callable[..., User],
) -> None:
    make_user("carla")
    client = Client()
    sign_in(client)

    cookie = client.cookies[COOKIE]

    assert cookie["httponly"]
    assert cookie.value not in repr(list(KnownBrowser.objects.values()))
    thief = Client()
    thief.cookies[COOKIE] = cookie.value
    assert thief.get("/").status_code == 302
