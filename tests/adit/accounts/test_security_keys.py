"""Security keys: what the server accepts, refuses, records and resets."""

import json
from collections.abc import Callable
from html import unescape

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group
from django.test import Client
from lab.security_key import SecurityKey

from adit.accounts import permissions as standard
from adit.accounts.models import SecondFactorGroup, User
from adit.accounts.second_factor import has_second_factor
from adit.administration import users
from adit.audit.models import AuditEvent

pytestmark = pytest.mark.django_db
PASSWORD = "a long enough password"
INDEX = "/accounts/second-factor/"
ADD = f"{INDEX}keys/add/"
ASKED = f"{INDEX}authenticate/"


def new_key(origin: str = "http://localhost") -> SecurityKey:
    return SecurityKey("localhost", origin)


def sign_in(user: User) -> Client:
    client = Client(headers={"host": "localhost"})
    client.post("/accounts/login/", {"login": user.username, "password": PASSWORD})
    return client


def read_options(client: Client, address: str) -> dict[str, object]:
    """Return the options that the page gives to the browser."""
    text = client.get(address).content.decode().partition('data-options="')[2]
    options = json.loads(unescape(text.partition('"')[0]))
    assert isinstance(options, dict)
    return options


def confirm_password(client: Client) -> None:
    client.post("/accounts/reauthenticate/", {"password": PASSWORD, "next": ADD})


def add_key(client: Client, key: SecurityKey, name: str = "blue key") -> None:
    confirm_password(client)
    typed = {"name": name, "credential": key.register(read_options(client, ADD))}
    assert client.post(ADD, typed).status_code == 302


def is_in(client: Client) -> bool:
    return client.get("/jobs/").status_code == 200


def test_a_key_counts_where_a_group_requires_a_second_factor_and_is_recorded(
    coordinator: User, groups: dict[str, Group]
) -> None:
    SecondFactorGroup.objects.create(group=groups[standard.COORDINATORS])
    key = new_key()
    client = sign_in(coordinator)
    assert not is_in(client)

    add_key(client, key)
    assert is_in(client)
    client = sign_in(coordinator)
    assert not is_in(client)
    client.post(ASKED, {"credential": key.sign(read_options(client, ASKED))})

    assert is_in(client)
    assert AuditEvent.objects.get(action="second_factor.added").details["type"] == "webauthn"


@pytest.mark.parametrize(
    "make_answer",
    [
        lambda key, options: key.sign(options, flags=0),
        lambda _key, options: new_key().sign(options),
        lambda key, _options: key.sign({"publicKey": {"challenge": "AAAA"}}),
        lambda key, options: _on_other_page(key).sign(options),
        lambda _key, _options: "[]",
        lambda _key, _options: "no JSON",
        lambda _key, _options: '{"id": 5, "rawId": {}, "response": [], "type": "x"}',
        lambda key, options: key.sign(options).replace("response", "answer"),
    ],
    ids=[
        "no touch",
        "unknown key",
        "other challenge",
        "other page",
        "list",
        "text",
        "types",
        "odd",
    ],
)
def test_only_the_own_key_with_a_touch_is_accepted(
    coordinator: User, make_answer: Callable[[SecurityKey, object], str]
) -> None:
    key = new_key()
    add_key(sign_in(coordinator), key)
    client = sign_in(coordinator)

    answer = client.post(ASKED, {"credential": make_answer(key, read_options(client, ASKED))})

    assert answer.status_code == 200
    assert "note-bad" in answer.content.decode()
    assert not is_in(client)


def _on_other_page(key: SecurityKey) -> SecurityKey:
    key.origin = "https://adit.example"
    return key


def test_an_answer_is_accepted_once(coordinator: User) -> None:
    key = new_key()
    add_key(sign_in(coordinator), key)
    first, second = sign_in(coordinator), sign_in(coordinator)

    answer = key.sign(read_options(first, ASKED))
    read_options(second, ASKED)
    second.post(ASKED, {"credential": answer})
    first.post(ASKED, {"credential": answer})

    assert (is_in(first), is_in(second)) == (True, False)
    assert AuditEvent.objects.filter(action="second_factor.failed").count() == 1


@pytest.mark.parametrize("answer", ["", "[]", "no JSON", '{"id": 5}', "flags"])
def test_a_damaged_registration_adds_nothing(coordinator: User, answer: str) -> None:
    client = sign_in(coordinator)
    confirm_password(client)
    options = read_options(client, ADD)
    text = new_key().register(options, flags=0) if answer == "flags" else answer

    page = client.post(ADD, {"name": "blue key", "credential": text})

    assert page.status_code == 200
    assert "note-bad" in page.content.decode()
    assert not Authenticator.objects.exists()


def test_a_key_is_changed_only_by_its_owner_who_was_checked_just_now(
    coordinator: User, make_user: Callable[..., User]
) -> None:
    client = sign_in(coordinator)
    add_key(client, new_key())
    key = Authenticator.objects.get(type="webauthn")
    other = sign_in(make_user("eve", standard.COORDINATORS))
    add_key(other, new_key())

    for verb in ("rename", "remove"):
        assert other.post(f"{INDEX}keys/{key.pk}/{verb}/", {"name": "x"}).status_code == 404
    client.post(f"{INDEX}keys/{key.pk}/rename/", {"name": "y" * 65})
    key.refresh_from_db()
    assert key.wrap().name == "blue key"
    assert not AuditEvent.objects.filter(action="second_factor.renamed").exists()
    client.post(f"{INDEX}keys/{key.pk}/rename/", {"name": "red key"})
    key.refresh_from_db()
    assert key.wrap().name == "red key"
    assert AuditEvent.objects.get(action="second_factor.renamed").user == coordinator
    client.post(f"{INDEX}keys/{key.pk}/remove/")

    assert not has_second_factor(coordinator)
    assert AuditEvent.objects.filter(action="second_factor.removed").count() == 2


def test_an_administrator_resets_a_lost_key(
    coordinator: User, make_user: Callable[..., User]
) -> None:
    add_key(sign_in(coordinator), new_key())

    users.reset_second_factor(make_user("admin", standard.ADMINISTRATORS), coordinator)

    assert is_in(sign_in(coordinator))


def test_a_person_without_password_is_checked_with_the_key(coordinator: User) -> None:
    key = new_key()
    client = sign_in(coordinator)
    add_key(client, key)
    coordinator.set_unusable_password()
    coordinator.save()
    client = Client(headers={"host": "localhost"})
    client.force_login(coordinator)

    asked = client.get(ADD, follow=True).redirect_chain[-1][0]
    assert asked.startswith(f"{INDEX}reauthenticate/")
    typed = {"credential": key.sign(read_options(client, asked)), "next": ADD}
    refused = client.post(f"{INDEX}keys/reauthenticate/", {**typed, "credential": "{}"})
    assert refused["Location"].startswith(f"{INDEX}reauthenticate/")
    typed["credential"] = key.sign(read_options(client, asked))
    assert client.post(f"{INDEX}keys/reauthenticate/", typed)["Location"] == ADD
    assert client.get(ADD).status_code == 200
