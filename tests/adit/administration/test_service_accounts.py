"""Service accounts: programs with groups and tokens, which cannot sign in in any way."""

import re
from collections.abc import Callable

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.test import Client

from adit.accounts.external_accounts import DIRECTORY, ExternalPerson, SignInRefused, sign_in_person
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, administrators, has_right, order_right
from adit.administration import one_time_links, users
from adit.administration.one_time_links import LinkRefused
from adit.administration.users import UserData
from adit.api_tokens import tokens
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import TokenRefused, authenticate_token
from adit.audit.models import AuditEvent
from adit.cli import main
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db
Groups = dict[str, Group]
PASSWORD = "a long enough password"
NEW = "/users/new/service/"
TOKEN = {"name": "nightly", "days": "30", "scopes": ["query"], "all_nodes": "all"}


@pytest.fixture
def pages(admin: User, client: Client) -> Client:
    client.force_login(admin)
    return client


@pytest.fixture
def robot(admin: User, groups: Groups) -> User:
    data = UserData("robot", "Evaluation", groups=[groups["Coordinators"]])
    return users.create_service_account(admin, data)


def test_an_administrator_makes_one_with_a_token_that_is_shown_once(
    pages: Client, groups: Groups
) -> None:
    typed = {"username": "robot", "first_name": "Evaluation", "groups": groups["Coordinators"].pk}
    asked = pages.post(NEW, {**typed, "is_staff": "on", "email": "x@hospital.example"})
    shown = re.search(r'name="confirmed" value="(\w+)"', asked.content.decode())
    assert shown is not None
    pages.post(NEW, {**typed, "is_staff": "on", "confirmed": shown[1]})
    robot = User.objects.get(username="robot")

    made = pages.post(f"/users/{robot.pk}/token/", TOKEN).content.decode()
    found = re.search(r"adit_\w+_[\w-]+", made)
    assert found is not None
    page = pages.get(f"/users/{robot.pk}/").content.decode()

    assert (robot.is_service, robot.is_staff, robot.email) == (True, False, "")
    assert has_right(robot, order_right("selective"))
    assert authenticate_token(f"Bearer {found[0]}")[0] == robot
    assert "nightly" in page
    assert found[0] not in page
    assert "Evaluation (service account)" in page
    for absent in (f"{robot.pk}/password/", "<dt>Second factor", "<dt>Last sign-in"):
        assert absent not in page
    assert AuditEvent.objects.get(action="token.created").user.username == "admin"
    listed = pages.get("/users/?is_service=True").content.decode()
    assert "Evaluation (service account)" in listed
    assert 'href="/users/1/"' not in listed
    assert "Evaluation (service account)</a>" in pages.get("/trail/").content.decode()

    token = ApiToken.objects.get()
    assert pages.post(f"/accounts/tokens/{token.pk}/revoke/")["Location"] == f"/users/{robot.pk}/"
    with pytest.raises(TokenRefused):
        authenticate_token(f"Bearer {found[0]}")


def test_it_cannot_sign_in_even_with_a_correct_password(robot: User, client: Client) -> None:
    robot.set_password(PASSWORD)
    robot.save()

    assert authenticate(None, username="robot", password=PASSWORD) is None
    client.post("/accounts/login/", {"login": "robot", "password": PASSWORD})
    assert client.get("/").status_code == 302
    client.force_login(robot)
    assert client.get("/").status_code == 302


def test_it_gets_no_link_to_set_a_password(
    admin: User, robot: User, pages: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.filter(pk=robot.pk).update(email="robot@hospital.example")
    robot.set_password(PASSWORD)
    robot.save()
    mailed: list[object] = []
    monkeypatch.setattr(one_time_links, "_mail_links", mailed.extend)

    with pytest.raises(LinkRefused, match="has no password"):
        one_time_links.create_password_link(admin, robot)
    pages.post(f"/users/{robot.pk}/password/")
    one_time_links.mail_requested_links("robot")
    one_time_links.mail_requested_links("robot@hospital.example")

    assert mailed == []
    assert not AuditEvent.objects.filter(action__startswith="user.password").exists()


@pytest.mark.parametrize("provider", ["hospital", DIRECTORY])
def test_a_person_of_the_same_name_elsewhere_does_not_get_it(
    robot: User, provider: str, settings: object
) -> None:
    person = ExternalPerson(provider, "4711", "robot")

    with pytest.raises(SignInRefused, match="already has an account"):
        sign_in_person(person, {}, creates=True)
    settings.OPENID_PROVIDERS = {provider: None}  # type: ignore[attr-defined]
    with pytest.raises(CommandError, match="service account"):
        call_command("link_account", "robot", provider, "4711")
    SocialAccount.objects.create(user=robot, provider=provider, uid="4711")
    with pytest.raises(SignInRefused, match="service account"):
        sign_in_person(person, {}, creates=True)


def test_deactivation_ends_its_tokens_at_once(admin: User, robot: User) -> None:
    _row, text = tokens.create_token(admin, robot, "nightly", ["query"], days=7, nodes=None)

    users.deactivate_user(admin, robot, successor=None)

    with pytest.raises(TokenRefused):
        authenticate_token(f"Bearer {text}")
    users.reactivate_user(admin, robot)
    with pytest.raises(TokenRefused):
        authenticate_token(f"Bearer {text}")


def test_it_is_not_the_last_administrator(admin: User, groups: Groups) -> None:
    data = UserData("robot", groups=[groups["Administrators"]])
    users.create_service_account(admin, data)

    assert list(administrators()) == [admin]
    with pytest.raises(InvalidInput, match="administrator"):
        users.change_user(admin, admin, UserData("admin", is_staff=True))


def test_tokens_are_made_only_by_who_may_grant_what_they_allow(
    admin: User, clerk: User, groups: Groups, robot: User, client: Client
) -> None:
    strong = users.create_service_account(
        admin, UserData("strong", groups=[groups["Data protection"]])
    )
    client.force_login(clerk)

    with pytest.raises(NotPermitted):
        users.require_may_create_token(clerk, strong)
    client.post(f"/users/{strong.pk}/token/", TOKEN)
    assert not ApiToken.objects.exists()
    client.post(f"/users/{robot.pk}/token/", TOKEN)
    assert ApiToken.objects.get().user == robot


def test_nobody_makes_tokens_of_a_person(
    pages: Client, coordinator: User, make_user: Callable[..., User]
) -> None:
    pages.post(f"/users/{coordinator.pk}/token/", TOKEN)

    assert not ApiToken.objects.exists()


def test_the_command_makes_a_token(robot: User, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", "robot", "--scopes", "query"]) == 0

    assert authenticate_token(f"Bearer {capsys.readouterr().out.strip()}")[0] == robot


def test_it_takes_over_no_jobs(robot: User, coordinator: User) -> None:
    assert robot not in users.possible_successors(coordinator)
