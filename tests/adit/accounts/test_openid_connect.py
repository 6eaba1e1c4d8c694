"""People sign in at an OpenID provider; wrong answers of it are refused and recorded."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.http import HttpResponse
from django.test import Client
from lab.openid_provider import CLIENT_ID, CLIENT_SECRET, OpenIdPeer, openid_provider

from adit.accounts.models import User
from adit.accounts.sign_in_settings import OpenIdProvider, read_openid_providers
from adit.administration import users
from adit.api_tokens import tokens
from adit.api_tokens.tokens import TokenRefused
from adit.audit.models import AuditEvent

PASSWORD = "a long enough password"
pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def running_peer() -> Iterator[OpenIdPeer]:
    with openid_provider() as peer:
        yield peer


@pytest.fixture
def peer(running_peer: OpenIdPeer, settings: Any, groups: dict[str, Group]) -> OpenIdPeer:
    running_peer.person = {
        "sub": "1234",
        "preferred_username": "müller",
        "given_name": "Jürgen",
        "family_name": "Müller",
        "email": "j@example.org",
        "groups": ["radiology", "canteen"],
    }
    running_peer.claims = {}
    running_peer.userinfo = {}
    running_peer.configuration = {}
    running_peer.signs_with_another_key = running_peer.is_down = False
    running_peer.redirects_keys_to = ""
    running_peer.paths.clear()
    configure(settings, running_peer.url)
    return running_peer


def configure(settings: Any, url: str, **changes: Any) -> None:
    values = {
        "provider_id": "hospital",
        "name": "Hospital login",
        "issuer": url,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "group_map": {"radiology": ("Coordinators",), "it": ("Administrators",)},
        "creates_accounts": True,
    }
    settings.OPENID_PROVIDERS = {"hospital": OpenIdProvider(**{**values, **changes})}


def sign_in(client: Client, path: str = "/accounts/oidc/hospital/") -> HttpResponse:
    """Follow the redirects of a browser: to the provider, and back."""
    to_provider = client.get(path)
    if to_provider.status_code != 302:
        return to_provider
    back = urlsplit(httpx.get(to_provider["Location"]).headers["Location"])
    return client.get(f"{back.path}?{back.query}")


def refusals() -> list[dict[str, Any]]:
    return [event.details for event in AuditEvent.objects.filter(action="signin.refused")]


def is_signed_in(client: Client) -> bool:
    return client.get("/accounts/profile/").status_code == 200


def test_a_new_person_gets_an_account_with_the_mapped_groups_only(
    peer: OpenIdPeer, client: Client
) -> None:
    assert sign_in(client, "/accounts/oidc/hospital/?next=/jobs/")["Location"] == "/jobs/"

    user = User.objects.get(username="müller")
    assert (user.first_name, user.last_name, user.email) == ("Jürgen", "Müller", "j@example.org")
    assert [group.name for group in user.groups.all()] == ["Coordinators"]
    assert not user.has_usable_password()
    assert (user.is_superuser, user.is_staff) == (False, False)
    assert is_signed_in(client)
    actions = list(AuditEvent.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["user.created", "user.changed", "signin.done"]
    assert SocialAccount.objects.get().extra_data == {}


def test_each_sign_in_has_its_own_challenge_and_nonce(peer: OpenIdPeer, client: Client) -> None:
    first, second = (
        parse_qs(urlsplit(client.get("/accounts/oidc/hospital/")["Location"]).query)
        for _ in range(2)
    )

    assert first["code_challenge_method"] == ["S256"]
    for name in ("code_challenge", "nonce", "state"):
        assert first[name] != second[name]


def test_parameters_of_the_request_do_not_change_what_is_asked_of_the_provider(
    peer: OpenIdPeer, client: Client
) -> None:
    page = client.get("/accounts/oidc/hospital/?auth_params=nonce%3Dmine&scope=all&process=connect")

    query = parse_qs(urlsplit(page["Location"]).query)
    assert query["nonce"] != ["mine"]
    assert "all" not in query["scope"][0].split()


def test_managed_groups_follow_the_provider_and_others_are_kept(
    peer: OpenIdPeer, client: Client
) -> None:
    sign_in(client)
    user = User.objects.get(username="müller")
    user.groups.add(Group.objects.get(name="Reviewers"))
    peer.person["groups"] = ["canteen"]

    sign_in(client)

    assert [group.name for group in user.groups.all()] == ["Reviewers"]


def test_groups_are_found_inside_another_claim(
    peer: OpenIdPeer, client: Client, settings: Any
) -> None:
    configure(settings, peer.url, groups_claim="realm_access.roles")
    peer.person["realm_access"] = {"roles": ["radiology"]}

    sign_in(client)

    assert User.objects.get().groups.get().name == "Coordinators"


WRONG_ANSWERS = {
    "signin.wrong-issuer": {"iss": "https://elsewhere.example"},
    "signin.wrong-audience": {"aud": "another application"},
    "signin.wrong-nonce": {"nonce": "of another sign-in"},
    "signin.wrong-subject": {"sub": ""},
}


@pytest.mark.parametrize(
    ("reason", "claims"),
    [
        *WRONG_ANSWERS.items(),
        ("signin.wrong-nonce", {"nonce": None}),
        ("signin.wrong-audience", {"aud": [CLIENT_ID, "other"], "azp": "other"}),
        ("signin.wrong-time", {"exp": int(time.time()) - 120}),
        ("signin.wrong-time", {"iat": int(time.time()) + 3600}),
        ("signin.wrong-signature", {"exp": None}),
    ],
)
def test_a_wrong_answer_is_refused_and_recorded(
    peer: OpenIdPeer, client: Client, reason: str, claims: dict[str, Any]
) -> None:
    peer.claims = claims

    page = sign_in(client)

    assert page.status_code == 403
    assert "You are not signed in" in page.content.decode()
    assert [one["reason"] for one in refusals()] == [reason]
    assert not is_signed_in(client)
    assert not User.objects.exists()


def test_an_answer_with_a_wrong_signature_is_refused(peer: OpenIdPeer, client: Client) -> None:
    peer.signs_with_another_key = True

    page = sign_in(client)

    assert "The signature of the answer of Hospital login is not valid" in page.content.decode()
    assert refusals()[0]["reason"] == "signin.wrong-signature"
    assert not is_signed_in(client)


def test_user_information_of_another_person_is_refused(peer: OpenIdPeer, client: Client) -> None:
    peer.userinfo = {"sub": "9999", "groups": ["it"]}

    assert sign_in(client).status_code == 403
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "configuration",
    [{"issuer": "https://elsewhere.example"}, {"token_endpoint": "http://10.0.0.1/token"}],
)
def test_a_configuration_that_leads_elsewhere_is_refused(
    peer: OpenIdPeer, client: Client, configuration: dict[str, str]
) -> None:
    peer.configuration = configuration

    assert client.get("/accounts/oidc/hospital/").status_code == 403


def test_redirects_of_the_provider_are_not_followed(peer: OpenIdPeer, client: Client) -> None:
    peer.redirects_keys_to = f"{peer.url}/internal"

    assert sign_in(client).status_code == 503
    assert "/internal" not in peer.paths


def test_a_provider_that_is_down_is_named(peer: OpenIdPeer, client: Client) -> None:
    peer.is_down = True

    page = client.get("/accounts/oidc/hospital/")

    assert page.status_code == 503
    assert "Hospital login does not respond" in page.content.decode()


def test_an_answer_for_another_browser_is_refused(peer: OpenIdPeer, client: Client) -> None:
    to_provider = Client().get("/accounts/oidc/hospital/")
    back = urlsplit(httpx.get(to_provider["Location"]).headers["Location"])

    page = client.get(f"{back.path}?{back.query}")

    assert page.status_code == 403
    assert "started in another browser" in page.content.decode()
    assert not is_signed_in(client)


def test_an_account_with_the_same_name_or_mail_address_is_not_taken_over(
    peer: OpenIdPeer, client: Client, coordinator: User
) -> None:
    User.objects.filter(pk=coordinator.pk).update(email="j@example.org")
    peer.person["preferred_username"] = "Coordinator"

    page = sign_in(client)

    assert "which does not belong to this sign-in" in page.content.decode()
    assert "<code>1234</code>" in page.content.decode()
    assert not is_signed_in(client)
    peer.person["preferred_username"] = "other"
    sign_in(client)
    assert User.objects.get(username="other") != coordinator


def test_an_administrator_links_an_account_that_exists(
    peer: OpenIdPeer, client: Client, settings: Any, coordinator: User
) -> None:
    configure(settings, peer.url, creates_accounts=False)
    assert "You have no account in ADIT yet" in sign_in(client).content.decode()

    call_command("link_account", "coordinator", "hospital", "1234")
    sign_in(client)

    assert is_signed_in(client)
    assert User.objects.get() == coordinator


def test_a_deactivated_person_stays_out(
    peer: OpenIdPeer, client: Client, make_user: Callable[..., User], coordinator: User
) -> None:
    admin = make_user("admin", "Administrators")
    call_command("link_account", "coordinator", "hospital", "1234")
    sign_in(client)
    assert is_signed_in(client)
    _token, text = tokens.create_token(
        coordinator, coordinator, "script", ["query"], days=7, nodes=None
    )

    users.deactivate_user(admin, coordinator, successor=None)

    assert not is_signed_in(client)
    with pytest.raises(TokenRefused):
        tokens.authenticate_token(f"Token {text}")
    assert "This account is deactivated" in sign_in(client).content.decode()
    assert refusals()[0]["reason"] == "permission.account-deactivated"


def test_a_person_without_a_local_password_is_told_where_to_change_it(
    peer: OpenIdPeer, client: Client
) -> None:
    sign_in(client)

    page = client.get("/accounts/password/change/", follow=True)

    assert "Change its password there" in page.content.decode()


def test_only_emergency_accounts_have_a_password_if_local_sign_in_is_off(
    settings: Any, client: Client, make_user: Callable[..., User]
) -> None:
    settings.LOCAL_SIGN_IN, settings.EMERGENCY_ACCOUNTS = False, ["emergency"]
    for name in ("emergency", "somebody"):
        make_user(name, "Coordinators")

    assert not client.login(username="somebody", password=PASSWORD)
    assert client.login(username="emergency", password=PASSWORD)


def test_the_sign_in_page_offers_the_providers_and_keeps_the_next_page(
    peer: OpenIdPeer, client: Client
) -> None:
    page = client.get("/accounts/login/?next=/jobs/").content.decode()

    assert "Sign in with Hospital login" in page
    assert "/accounts/oidc/hospital/?next=/jobs/" in page
    assert client.get("/accounts/oidc/unknown/").status_code == 404


def test_providers_are_read_from_settings() -> None:
    values = {
        "ADIT_OIDC_PROVIDERS": "hospital",
        "ADIT_OIDC_HOSPITAL_ISSUER": "https://login.example.org",
        "ADIT_OIDC_HOSPITAL_CLIENT_ID": "adit",
        "ADIT_OIDC_HOSPITAL_CLIENT_SECRET": "secret",
        "ADIT_OIDC_HOSPITAL_GROUPS": "cn=x,dc=y=Coordinators; it=Administrators;it=Reviewers",
    }

    def read(name: str, default: str) -> str:
        return values.get(name, default)

    one = read_openid_providers(read)["hospital"]
    assert one.group_map == {
        "cn=x,dc=y": ("Coordinators",),
        "it": ("Administrators", "Reviewers"),
    }
    assert not one.creates_accounts
    values["ADIT_OIDC_HOSPITAL_ISSUER"] = "http://login.example.org"
    with pytest.raises(ImproperlyConfigured, match="must be an https"):
        read_openid_providers(read)
