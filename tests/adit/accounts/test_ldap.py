"""People sign in with the password of a directory (slapd), which also disables them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import Client

pytest.importorskip("ldap", reason="needs python-ldap: requirements/ldap.txt")

from lab.directory import (
    ADMIN_DN,
    ADMIN_PASSWORD,
    PASSWORD,
    SUFFIX,
    DirectoryPeer,
    directory,
    slapd,
)

from adit.accounts.models import User
from adit.accounts.sign_in_settings import Directory, read_directory
from adit.administration import users
from adit.administration.directory_check import end_access_of_missing_users
from adit.api_tokens import tokens
from adit.api_tokens.tokens import TokenRefused
from adit.audit.models import AuditEvent

LOCAL_PASSWORD = "a long enough password"
pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(slapd() is None, reason="needs slapd: apt install slapd ldap-utils"),
]


@pytest.fixture(scope="module")
def running_peer() -> Iterator[DirectoryPeer]:
    with directory() as peer:
        yield peer


@pytest.fixture
def peer(
    running_peer: DirectoryPeer, settings: Any, groups: dict[str, Group]
) -> Iterator[DirectoryPeer]:
    settings.AUTHENTICATION_BACKENDS = [
        "adit.accounts.backends.LocalBackend",
        "adit.accounts.ldap.DirectoryBackend",
    ]
    configure(settings, running_peer)
    yield running_peer
    running_peer.change(set_status("müller", "active"))


def configure(settings: Any, peer: DirectoryPeer, **changes: Any) -> None:
    values = {
        "url": peer.url,
        "ca_file": peer.ca_file,
        "bind_dn": ADMIN_DN,
        "bind_password": ADMIN_PASSWORD,
        "base": f"ou=people,{SUFFIX}",
        "user_filter": "(&(uid=%(user)s)(employeeType=active))",
        "group_base": f"ou=groups,{SUFFIX}",
        "group_map": {"Röntgen": ("Coordinators",), "nobody": ("Administrators",)},
        "creates_accounts": True,
        "checks_accounts": True,
        "timeout_s": 1,
    }
    settings.LDAP = Directory(**{**values, **changes})


def set_status(uid: str, status: str) -> str:
    return (
        f"dn: uid={uid},ou=people,{SUFFIX}\nchangetype: modify\n"
        f"replace: employeeType\nemployeeType: {status}\n"
    )


def sign_in(client: Client, username: str, password: str) -> Any:
    return client.post("/accounts/login/", {"login": username, "password": password})


def is_signed_in(client: Client) -> bool:
    return client.get("/accounts/profile/").status_code == 200


def reasons() -> list[str]:
    """Return why the directory failed, as the audit trail says."""
    events = AuditEvent.objects.filter(action="directory.failed")
    return [event.details["reason"]["code"] for event in events]


BIND_AS_USER = {
    "user_dn": f"uid=%(user)s,ou=people,{SUFFIX}",
    "bind_dn": "",
    "checks_accounts": False,
}


@pytest.mark.parametrize("changes", [{}, BIND_AS_USER], ids=["search and bind", "bind as user"])
def test_a_person_of_the_directory_gets_an_account_with_the_mapped_groups(
    peer: DirectoryPeer, client: Client, settings: Any, changes: dict[str, Any]
) -> None:
    configure(settings, peer, **changes)

    sign_in(client, "MÜLLER", PASSWORD)

    user = User.objects.get(username="müller")
    assert is_signed_in(client)
    assert (user.first_name, user.last_name) == ("Jürgen", "Müller")
    assert [group.name for group in user.groups.all()] == ["Coordinators"]
    assert not user.has_usable_password()


@pytest.mark.parametrize("changes", [{}, BIND_AS_USER], ids=["search and bind", "bind as user"])
@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("müller", "wrong"),
        ("müller", ""),
        ("nobody", PASSWORD),
        ("left", PASSWORD),
        ("*", PASSWORD),
        ("m*", PASSWORD),
        ("müller)(uid=*", PASSWORD),
        ("müller,ou=people", PASSWORD),
    ],
)
def test_wrong_names_and_passwords_and_disabled_people_are_refused(
    peer: DirectoryPeer,
    client: Client,
    settings: Any,
    changes: dict[str, Any],
    username: str,
    password: str,
) -> None:
    configure(settings, peer, **changes)

    assert sign_in(client, username, password).status_code == 200

    assert not is_signed_in(client)
    assert not User.objects.exists()


def test_a_local_account_of_the_same_name_is_not_taken_over(
    peer: DirectoryPeer, client: Client, coordinator: User
) -> None:
    sign_in(client, "coordinator", PASSWORD)
    assert not is_signed_in(client)

    sign_in(client, "coordinator", LOCAL_PASSWORD)
    assert is_signed_in(client)


def test_without_permission_to_create_accounts_the_page_says_so(
    peer: DirectoryPeer, client: Client, settings: Any
) -> None:
    configure(settings, peer, creates_accounts=False)

    page = sign_in(client, "müller", PASSWORD)

    assert page.status_code == 403
    assert "You have no account in ADIT yet" in page.content.decode()
    refused = AuditEvent.objects.get(action="signin.refused")
    assert refused.details["reason"] == "signin.no-account"


def test_an_administrator_links_an_account_with_the_directory(
    peer: DirectoryPeer, client: Client, settings: Any, make_user: Callable[..., User]
) -> None:
    configure(settings, peer, creates_accounts=False)
    existing = make_user("jm", "Coordinators")
    sign_in(client, "müller", PASSWORD)
    subject = AuditEvent.objects.get(action="signin.refused").details["subject"]

    call_command("link_account", "jm", "ldap", subject)
    sign_in(client, "müller", PASSWORD)

    assert is_signed_in(client)
    assert User.objects.get() == existing


def test_a_directory_that_does_not_answer_is_named_and_local_accounts_still_work(
    peer: DirectoryPeer, client: Client, make_user: Callable[..., User]
) -> None:
    make_user("emergency", "Administrators")
    sign_in(Client(), "müller", PASSWORD)
    peer.stop()
    try:
        end_access_of_missing_users()
        end_access_of_missing_users()
        page = sign_in(client, "müller", PASSWORD)
        assert page.status_code == 503
        assert "The directory of your hospital does not respond" in page.content.decode()
        sign_in(client, "emergency", LOCAL_PASSWORD)
        assert is_signed_in(client)
    finally:
        peer.start()
    end_access_of_missing_users()
    assert reasons() == ["directory.away"]
    assert AuditEvent.objects.filter(action="directory.works").count() == 1
    refused = AuditEvent.objects.get(action="signin.refused")
    assert refused.details["reason"] == "signin.directory-unavailable"


def test_a_directory_that_does_not_answer_is_given_up(peer: DirectoryPeer, client: Client) -> None:
    peer.suspend()
    try:
        assert sign_in(client, "müller", PASSWORD).status_code == 503
    finally:
        peer.resume()
    assert reasons() == ["directory.away"]


@pytest.mark.parametrize("changes", [{"ca_file": ""}, {"start_tls": False}])
def test_passwords_are_not_sent_without_verified_encryption(
    peer: DirectoryPeer, client: Client, settings: Any, changes: dict[str, Any]
) -> None:
    configure(settings, peer, **changes)

    assert sign_in(client, "müller", PASSWORD).status_code == 503


def test_a_group_base_that_does_not_exist_changes_no_groups(
    peer: DirectoryPeer, client: Client, settings: Any
) -> None:
    sign_in(client, "müller", PASSWORD)
    configure(settings, peer, group_base=f"ou=unknown,{SUFFIX}")

    assert sign_in(Client(), "müller", PASSWORD).status_code == 503

    assert User.objects.get().groups.get().name == "Coordinators"
    assert reasons() == ["directory.base-missing"]


def test_groups_that_the_settings_name_but_nobody_has_are_recorded_once_a_day(
    peer: DirectoryPeer, client: Client, settings: Any
) -> None:
    groups = {"Röntgen": ("Coordinators", "Radiologists"), "Rontgen": ("Reviewers",)}
    configure(settings, peer, group_map=groups)

    for _time in range(2):
        sign_in(client, "müller", PASSWORD)
        end_access_of_missing_users()

    assert is_signed_in(client)
    missing = {
        (event.action, *event.details["groups"])
        for event in AuditEvent.objects.filter(action__endswith=".groups_missing")
    }
    assert missing == {
        ("signin.groups_missing", "Radiologists"),
        ("directory.groups_missing", "Rontgen"),
    }
    assert AuditEvent.objects.filter(action__endswith=".groups_missing").count() == 2


def test_a_rejected_account_of_adit_is_recorded(
    peer: DirectoryPeer, client: Client, settings: Any
) -> None:
    configure(settings, peer, bind_password="wrong")

    assert sign_in(client, "müller", PASSWORD).status_code == 503

    assert reasons() == ["directory.sign-in-rejected"]


def test_an_account_that_the_directory_disables_loses_sessions_and_tokens(
    peer: DirectoryPeer, client: Client
) -> None:
    sign_in(client, "müller", PASSWORD)
    user = User.objects.get(username="müller")
    _token, text = tokens.create_token(user, user, "script", ["query"], days=7, nodes=None)
    end_access_of_missing_users()
    assert is_signed_in(client)

    peer.change(set_status("müller", "left"))
    end_access_of_missing_users()

    user.refresh_from_db()
    assert not user.is_active
    assert not is_signed_in(client)
    with pytest.raises(TokenRefused):
        tokens.authenticate_token(f"Token {text}")
    event = AuditEvent.objects.get(action="user.deactivated")
    assert (event.user, event.details["sessions"], event.details["tokens"]) == (None, 1, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"base": f"ou=groups,{SUFFIX}"}, "directory.nobody-found"),
        ({"base": f"ou=no,{SUFFIX}"}, "directory.base-missing"),
    ],
)
def test_a_directory_that_finds_nobody_disables_nobody(
    peer: DirectoryPeer, client: Client, settings: Any, changes: dict[str, str], reason: str
) -> None:
    sign_in(client, "müller", PASSWORD)
    configure(settings, peer, **changes)

    end_access_of_missing_users()

    assert is_signed_in(client)
    assert reasons() == [reason]


def test_deactivation_ends_the_sessions_of_a_person_of_the_directory(
    peer: DirectoryPeer, client: Client, make_user: Callable[..., User]
) -> None:
    admin = make_user("admin", "Administrators")
    sign_in(client, "müller", PASSWORD)

    users.deactivate_user(admin, User.objects.get(username="müller"), successor=None)

    assert not is_signed_in(client)
    assert "This account is deactivated" in sign_in(client, "müller", PASSWORD).content.decode()


def test_the_directory_is_read_from_settings() -> None:
    values = {
        "ADIT_LDAP_URL": "ldap://directory",
        "ADIT_LDAP_BASE": "dc=x",
        "ADIT_LDAP_BIND_DN": "cn=adit",
        "ADIT_LDAP_BIND_PASSWORD": "secret",
    }
    one = read_directory(lambda name, default: values.get(name, default))
    assert one is not None
    assert (one.start_tls, one.creates_accounts) == (True, False)
