"""The second factor: set up, asked for at sign-in, required by a group, reset."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import time_machine
from allauth.mfa.models import Authenticator
from django.conf import LazySettings
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone
from lab.mail_peer import MailPeer, mail_peer
from lab.totp import totp_code

from adit.accounts import permissions as standard
from adit.accounts.models import SecondFactorGroup, User
from adit.accounts.second_factor import SecondFactorAdapter
from adit.administration import users
from adit.api_tokens import tokens
from adit.audit.models import AuditEvent
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db
committed = pytest.mark.django_db(transaction=True)
"""For what is recorded and mailed after the commit."""
PASSWORD = "a long enough password"
INDEX = "/accounts/second-factor/"
APP = f"{INDEX}app/"
ASKED = f"{INDEX}authenticate/"


@pytest.fixture
def post_office(settings: LazySettings) -> Iterator[MailPeer]:
    with mail_peer() as peer:
        settings.MAIL, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", peer.port
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        yield peer


def sign_in(user: User, client: Client | None = None) -> Client:
    client = client or Client()
    client.post("/accounts/login/", {"login": user.username, "password": PASSWORD})
    return client


def set_up(client: Client) -> str:
    """Set up an app, as the pages lead to it; return its secret."""
    asked = client.get(APP)
    assert asked["Location"].startswith("/accounts/reauthenticate/")
    client.post(asked["Location"], {"password": PASSWORD, "next": APP})
    page = client.get(APP).content.decode()
    found = re.search(r'id="secret">(\w+)<', page)
    assert found is not None
    assert "<svg" in page
    assert "data:image" not in page
    done = client.post(APP, {"code": totp_code(found[1])})
    assert done["Location"] == f"{INDEX}codes/"
    return found[1]


def shown_codes(client: Client) -> list[str]:
    return re.findall(r"<code>(\d{8})</code>", client.get(f"{INDEX}codes/").content.decode())


def test_sign_in_asks_for_the_code_and_accepts_each_code_once(coordinator: User) -> None:
    secret = set_up(sign_in(coordinator))
    later = timezone.now() + timedelta(minutes=10)

    with time_machine.travel(later, tick=False):
        client = sign_in(coordinator)
        assert client.get("/")["Location"].startswith("/accounts/login/")
        wrong = client.post(ASKED, {"code": "000000"})
        assert "Incorrect code" in wrong.content.decode()
        assert client.get("/").status_code == 302
        code = totp_code(secret, later.timestamp())
        assert client.post(ASKED, {"code": code})["Location"] == "/"
        assert client.get("/").status_code == 200

        replayed = sign_in(coordinator)
        replayed.post(ASKED, {"code": code})
        assert replayed.get("/").status_code == 302

    assert AuditEvent.objects.filter(action="second_factor.failed").count() == 2


@committed
def test_setting_up_the_second_factor_ends_sessions_that_never_showed_it(
    coordinator: User,
) -> None:
    other, mine = sign_in(coordinator), sign_in(coordinator)

    set_up(mine)

    assert mine.get("/").status_code == 200
    assert other.get("/")["Location"].startswith("/accounts/login/")
    typed = {"name": "a", "days": "7", "scopes": ["query"], "all_nodes": "all"}
    other.post("/accounts/tokens/new/", typed)
    assert not coordinator.api_tokens.exists()
    added = AuditEvent.objects.filter(action="second_factor.added")
    assert [event.details.get("ended_sessions") for event in added] == [1, None]


def test_a_recovery_code_replaces_the_app_once(coordinator: User) -> None:
    client = sign_in(coordinator)
    set_up(client)
    codes = shown_codes(client)
    assert len(codes) == 10

    first, second = sign_in(coordinator), sign_in(coordinator)
    first.post(ASKED, {"code": codes[0]})
    second.post(ASKED, {"code": codes[0]})

    assert (first.get("/").status_code, second.get("/").status_code) == (200, 302)
    assert len(shown_codes(client)) == 9


def test_codes_cannot_be_guessed_without_limit(coordinator: User) -> None:
    secret = set_up(sign_in(coordinator))
    client = sign_in(coordinator)

    for _ in range(10):
        client.post(ASKED, {"code": "000000"})
    later = timezone.now() + timedelta(seconds=60)
    with time_machine.travel(later):
        client.post(ASKED, {"code": totp_code(secret)})

    assert client.get("/").status_code == 302


def test_the_database_holds_no_secret_and_no_recovery_code(coordinator: User) -> None:
    client = sign_in(coordinator)
    secret = set_up(client)
    codes = shown_codes(client)

    rows = list(Authenticator.objects.all())
    stored = json.dumps([row.data for row in rows])
    app = next(row for row in rows if row.type == Authenticator.Type.TOTP)
    seed = next(row for row in rows if row.type == Authenticator.Type.RECOVERY_CODES)

    assert secret not in stored
    assert not any(code in stored for code in codes)
    assert SecondFactorAdapter().decrypt(app.data["secret"]) == secret
    assert not re.fullmatch(r"[0-9a-f]{80}", seed.data["seed"])


@committed
def test_the_second_factor_is_removed_after_a_check_of_the_person(
    coordinator: User, post_office: MailPeer
) -> None:
    coordinator.email = "carla@hospital.example"
    coordinator.save()
    client = sign_in(coordinator)
    set_up(client)
    stolen = sign_in(coordinator)

    assert stolen.post(f"{APP}remove/")["Location"].startswith("/accounts/login/")
    assert client.post(f"{APP}remove/")["Location"] == INDEX

    assert not Authenticator.objects.exists()
    assert sign_in(coordinator).get("/").status_code == 200
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"second_factor.added", "second_factor.removed"} <= actions
    subjects = {mail["Subject"] for mail in post_office.wait_for(3)}
    assert subjects == {
        "ADIT: second factor set up",
        "ADIT: second factor removed",
        "ADIT: sign-in with a new browser",
    }


def test_members_of_a_group_that_requires_it_can_do_nothing_else_until_it_is_set_up(
    coordinator: User, groups: dict[str, Group]
) -> None:
    signed_in_before = sign_in(coordinator)
    SecondFactorGroup.objects.create(group=groups[standard.COORDINATORS])

    for client in (signed_in_before, sign_in(coordinator)):
        for path in ("/", "/jobs/", "/accounts/profile/", "/accounts/tokens/new/"):
            assert client.get(path)["Location"] == INDEX, path
        assert client.post("/accounts/password/change/", {})["Location"] == INDEX
        assert client.get("/help/").status_code == 200
    page = client.get(INDEX).content.decode()
    assert "Coordinators" in page
    assert "requires a second factor" in page

    set_up(client)

    assert client.get("/").status_code == 200
    client.post(f"{APP}remove/")
    assert client.get("/")["Location"] == INDEX


def test_without_the_required_second_factor_nobody_makes_tokens_or_webhooks(
    coordinator: User, groups: dict[str, Group]
) -> None:
    SecondFactorGroup.objects.create(group=groups[standard.COORDINATORS])
    client = sign_in(coordinator)
    token = {"name": "a", "days": "7", "scopes": ["query"], "all_nodes": "all"}
    webhook = {"name": "a", "url": "https://hooks.example.org/", "events": ["job.ended"]}

    for path, typed in (("tokens", token), ("webhooks", webhook)):
        assert client.post(f"/accounts/{path}/new/", typed)["Location"] == INDEX
    assert not coordinator.api_tokens.exists()
    assert not coordinator.webhooks.exists()

    set_up(client)
    for path, typed in (("tokens", token), ("webhooks", webhook)):
        assert client.post(f"/accounts/{path}/new/", typed).status_code == 200
    assert coordinator.api_tokens.count() == coordinator.webhooks.count() == 1


def test_api_tokens_are_not_asked_for_a_second_factor(
    coordinator: User, groups: dict[str, Group]
) -> None:
    _row, text = tokens.create_token(
        coordinator, coordinator, "script", ["query"], days=7, nodes=None
    )
    SecondFactorGroup.objects.create(group=groups[standard.COORDINATORS])

    assert tokens.authenticate_token(f"Bearer {text}")[0] == coordinator


def test_a_group_requires_a_second_factor_on_its_page(
    make_user: Callable[..., User], coordinator: User, groups: dict[str, Group]
) -> None:
    client = sign_in(make_user("admin", standard.ADMINISTRATORS))
    group = Group.objects.create(name="Visitors")
    typed = {"name": "Visitors", "members": coordinator.pk, "requires_second_factor": "on"}

    client.post(f"/groups/{group.pk}/", typed)

    assert SecondFactorGroup.objects.get().group == group
    assert sign_in(coordinator).get("/")["Location"] == INDEX
    recorded = AuditEvent.objects.get(action="group.changed").details
    assert recorded["requires_second_factor"] == {"from": False, "to": True}
    checkbox = re.search(
        r"<input[^>]*requires_second_factor[^>]*>",
        client.get(f"/groups/{group.pk}/").content.decode(),
    )
    assert checkbox is not None
    assert "checked" in checkbox[0]
    del typed["requires_second_factor"]
    client.post(f"/groups/{group.pk}/", typed)
    assert not SecondFactorGroup.objects.exists()


@committed
def test_an_administrator_resets_a_lost_second_factor(
    make_user: Callable[..., User], post_office: MailPeer
) -> None:
    admin = make_user("admin", standard.ADMINISTRATORS)
    carla = make_user("carla", standard.COORDINATORS, email="carla@hospital.example")
    client = sign_in(carla)
    set_up(client)
    post_office.wait_for(1)
    pages = sign_in(admin)
    assert "Reset second factor" in pages.get(f"/users/{carla.pk}/").content.decode()

    pages.post(f"/users/{carla.pk}/second-factor/reset/")

    assert client.get("/").status_code == 302
    assert sign_in(carla).get("/").status_code == 200
    event = AuditEvent.objects.get(action="user.second_factor_reset")
    assert (event.user, event.about) == (admin, f"user:{carla.pk}")
    mails = post_office.wait_for(3)
    assert {mail["To"] for mail in mails} == {"carla@hospital.example"}
    told = "An administrator has removed the second factor"
    assert sum(told in mail.get_content() for mail in mails) == 1


def test_nobody_resets_the_own_second_factor_without_its_code(
    make_user: Callable[..., User],
) -> None:
    admin = make_user("admin", standard.ADMINISTRATORS)
    set_up(sign_in(admin))

    with pytest.raises(InvalidInput, match="another administrator"):
        users.reset_second_factor(admin, admin)

    assert Authenticator.objects.exists()
