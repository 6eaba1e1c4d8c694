"""Self-registration: who asks for an account, and what the administrators do with the request."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html import unescape

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.urls import reverse
from lab.mail_peer import MailPeer, mail_peer

from adit.accounts import mails
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted
from adit.administration import account_requests
from adit.administration.models import AccountRequest, OneTimeLink
from adit.administration.users import UserData
from adit.audit.models import AuditEvent
from adit.notifications.models import Notification
from adit.notifications.services import NOTIFICATION_OUTBOX
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db
ASK = "/accounts/request/"
NORA = {
    "first_name": "Nora",
    "last_name": "Neu",
    "email": "nora@hospital.example",
    "username": "nora",
    "reason": "LUNG study",
}
AsUser = Callable[[User | None], Client]


@pytest.fixture(autouse=True)
def open_registration(settings: LazySettings) -> None:
    settings.SELF_REGISTRATION = True


@pytest.fixture
def post_office(settings: LazySettings) -> Iterator[MailPeer]:
    with mail_peer() as peer:
        settings.MAIL, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", peer.port
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        yield peer


def make_request(**values: str) -> AccountRequest:
    request = AccountRequest(**NORA | values)
    account_requests.save_request(request)
    return request


def test_the_sign_in_page_offers_it_only_where_it_is_allowed(settings: LazySettings) -> None:
    offered = Client().get("/accounts/login/").content.decode()
    settings.SELF_REGISTRATION = False
    hidden = Client().get("/accounts/login/").content.decode()

    assert ASK in offered
    assert ASK not in hidden
    assert Client().get(ASK).status_code == 404
    assert Client().post(ASK, NORA).status_code == 404
    assert not AccountRequest.objects.exists()


def test_an_accepted_person_sets_a_password_and_signs_in(
    admin: User, as_user: AsUser, groups: dict[str, Group], post_office: MailPeer
) -> None:
    admin.email = "admin@hospital.example"
    admin.save()
    asked = Client().post(ASK, NORA)
    NOTIFICATION_OUTBOX.send()
    client = as_user(admin)
    (told,) = Notification.objects.filter(user=admin)
    shown = client.get(told.link).content.decode()
    page = reverse("account_request", args=[AccountRequest.objects.get().pk])
    form = client.get(page).content.decode()
    coordinators = {**NORA, "groups": groups["Coordinators"].pk}
    question = client.post(page, coordinators).content.decode()
    digest = question.partition('name="confirmed" value="')[2].partition('"')[0]
    made = client.post(page, {**coordinators, "confirmed": digest})

    to_admin, to_nora = post_office.wait_for(2)
    assert asked.status_code == 200
    assert (to_admin["To"], to_nora["To"]) == ("admin@hospital.example", "nora@hospital.example")
    assert "Nora" not in to_admin.get_content()
    assert page in shown
    assert "LUNG study" in form
    assert "The groups newly allow this:" in question
    assert made.status_code == 200
    nora = User.objects.get(username="nora")
    assert nora.groups.get().name == "Coordinators"
    link = to_nora.get_content().partition("http")[2].partition("\n")[0].partition("/accounts")[2]
    password = {"password1": "four words in a row", "password2": "four words in a row"}
    Client().post(f"/accounts{link}", password)
    signed_in = Client().post(
        "/accounts/login/", {"login": "nora", "password": "four words in a row"}
    )
    assert signed_in.status_code == 302
    assert not AccountRequest.objects.exists()


def test_a_declined_person_is_told_by_mail_and_forgotten(
    admin: User,
    as_user: AsUser,
    post_office: MailPeer,
    django_capture_on_commit_callbacks: Callable[..., object],
) -> None:
    request = make_request()

    with django_capture_on_commit_callbacks(execute=True):
        as_user(admin).post(f"/users/requests/{request.pk}/decline/")

    for thread in threading.enumerate():
        if thread.name == mails.THREAD:
            thread.join(30)
    (mail,) = post_office.wait_for(1)
    assert mail["To"] == "nora@hospital.example"
    assert "declined" in mail.get_content()
    assert not AccountRequest.objects.exists()
    assert not User.objects.filter(username="nora").exists()


def test_what_an_unknown_person_typed_is_in_no_trail_and_no_notification(admin: User) -> None:
    first, second = make_request(username="wished"), make_request(username="wished")
    account_requests.accept_request(admin, first, UserData("n.neu"))
    account_requests.decline_request(admin, second)

    events = AuditEvent.objects.filter(action__startswith="user.request")
    assert [event.action for event in events.order_by("pk")] == [
        "user.requested",
        "user.requested",
        "user.request_accepted",
        "user.request_declined",
    ]
    told = [str(row.message) for row in Notification.objects.all()]
    recorded = str([(event.about, event.details) for event in events])
    for typed in ("wished", "Nora", "Neu", "hospital", "LUNG"):
        assert typed not in recorded
        assert not any(typed in text for text in told)


def test_the_form_does_not_tell_who_has_an_account(admin: User, root: User) -> None:
    def answer(name: str, address: str) -> str:
        values = NORA | {"username": name, "email": address}
        page = Client().post(ASK, values, REMOTE_ADDR="127.0.0.1")
        assert page.status_code == 200
        return page.content.decode()

    root.email = "root@hospital.example"
    root.save()

    assert answer(root.username, root.email) == answer("unused", "unused@hospital.example")
    assert AccountRequest.objects.count() == 2


def test_a_taken_name_is_replaced_by_the_administrator(admin: User, as_user: AsUser) -> None:
    request = make_request(username=admin.username)
    client, page = as_user(admin), f"/users/requests/{request.pk}/"

    taken = client.post(page, NORA | {"username": admin.username})
    accepted = client.post(page, NORA | {"username": "n.neu"})

    assert taken.status_code == 422
    assert "already" in taken.content.decode()
    assert accepted.status_code == 200
    assert User.objects.filter(username="n.neu").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("email", "no address"),
        ("email", "a@b.example\nBcc: c@d.example"),
        ("username", "../etc"),
        ("username", "x" * 151),
        ("reason", "x" * 1001),
        ("last_name", ""),
        ("first_name", "a\0b"),
    ],
)
def test_an_unusable_request_is_returned_with_its_values(name: str, value: str) -> None:
    answer = Client().post(ASK, NORA | {name: value})

    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.content.decode()
    assert not AccountRequest.objects.exists()


def test_markup_in_a_request_is_shown_as_text(admin: User, as_user: AsUser) -> None:
    request = make_request(last_name="<script>alert(1)</script>", reason="<img src=x>\n<b>b</b>")
    client = as_user(admin)

    for path in ("/users/requests/", f"/users/requests/{request.pk}/"):
        page = client.get(path).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "<script>alert(1)</script>" in unescape(page)


def test_one_address_sends_ten_requests_in_an_hour() -> None:
    codes = [Client().post(ASK, NORA).status_code for _ in range(12)]

    assert codes == [200] * 10 + [429] * 2
    assert AccountRequest.objects.count() == 10


def test_only_so_many_requests_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_requests, "MAX_WAITING", 2)
    answers = [Client().post(ASK, NORA) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 422]
    assert "Ask an administrator directly" in answers[2].content.decode()
    assert AccountRequest.objects.count() == 2


def test_who_manages_users_grants_by_a_request_only_what_they_hold(
    clerk: User, groups: dict[str, Group]
) -> None:
    request = make_request()

    with pytest.raises(NotPermitted, match="grant any permission"):
        account_requests.accept_request(
            clerk, request, UserData("nora", groups=[groups["Administrators"]])
        )

    assert AccountRequest.objects.filter(pk=request.pk).exists()
    assert not User.objects.filter(username="nora").exists()
    assert AuditEvent.objects.filter(action="user.refused").exists()


def test_people_without_the_permission_do_not_decide(coordinator: User) -> None:
    request = make_request()

    with pytest.raises(NotPermitted):
        account_requests.decline_request(coordinator, request)

    assert AccountRequest.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_answers_at_the_same_time_one_counts(admin: User) -> None:
    request = make_request()

    def answer(accepts: bool) -> str:
        try:
            wish = AccountRequest.objects.get(pk=request.pk)
            barrier.wait(30)
            if accepts:
                account_requests.accept_request(admin, wish, UserData("nora"))
            else:
                account_requests.decline_request(admin, wish)
        except InvalidInput as error:
            return error.message.code
        finally:
            connection.close()
        return "done"

    barrier = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        results = sorted(pool.map(answer, [True, False]))

    assert results == ["account-request.answered", "done"]
    accepted = AuditEvent.objects.filter(action="user.request_accepted").count()
    declined = AuditEvent.objects.filter(action="user.request_declined").count()
    assert (accepted, declined) in ((1, 0), (0, 1))
    assert User.objects.filter(username="nora").count() == accepted == OneTimeLink.objects.count()


def test_requests_need_local_passwords() -> None:
    environment = {**os.environ, "ADIT_SELF_REGISTRATION": "true", "ADIT_LOCAL_SIGN_IN": "false"}
    command = [sys.executable, "-c", "import adit.config.settings"]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    assert refused.returncode != 0
    assert "ADIT_SELF_REGISTRATION needs ADIT_LOCAL_SIGN_IN" in refused.stderr
