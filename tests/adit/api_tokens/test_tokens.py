"""API tokens: who is authenticated, for what, and until when."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import Group, Permission
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right
from adit.api_tokens import tokens
from adit.api_tokens.models import ApiToken
from adit.api_tokens.tokens import Scope, TokenRefused, authenticate_token
from adit.audit.models import AuditEvent
from adit.cli import main
from adit.nodes.access import readable_nodes
from adit.nodes.models import Node
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db
MakeToken = Callable[..., tuple[ApiToken, str]]


@pytest.fixture
def make_token(coordinator: User) -> MakeToken:
    """Create a token of the coordinator: make_token(days=7, scopes=["query"], nodes=None)."""

    def make(**values: object) -> tuple[ApiToken, str]:
        given = {"scopes": ["query"], "days": 7, "nodes": None, **values}
        return tokens.create_token(coordinator, coordinator, "script", **given)

    return make


@pytest.mark.parametrize("scheme", ["Token", "Bearer", "bearer"])
def test_a_token_authenticates_its_user(
    scheme: str, coordinator: User, make_token: MakeToken
) -> None:
    made, text = make_token()

    assert authenticate_token(f"{scheme} {text}") == (coordinator, made)
    made.refresh_from_db()
    assert made.last_used_at is not None


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: text,
        lambda text: f"Basic {text}",
        lambda text: "Token",
        lambda text: f"Token {text[:-1]}",
        lambda text: f"Token {text}x",
        lambda text: f"Token {text.swapcase()}",
        lambda text: f"Token adit_{'0' * 12}_{text.rsplit('_', 1)[1]}",
        lambda text: f"Token {text}ü",
    ],
)
def test_anything_else_is_refused(change: Callable[[str], str], make_token: MakeToken) -> None:
    _made, text = make_token()

    with pytest.raises(TokenRefused, match="not valid") as refused:
        authenticate_token(change(text))
    assert text not in str(refused.value)


def test_a_token_is_refused_when_it_has_expired(make_token: MakeToken) -> None:
    _made, text = make_token(days=7)

    late = timezone.now() + timedelta(days=7, seconds=1)
    with time_machine.travel(late):
        for _attempt in range(3):
            with pytest.raises(TokenRefused, match="expired"):
                authenticate_token(f"Token {text}")
    event = AuditEvent.objects.get(action="token.refused")
    assert event.details["reason"] == "api-token.expired"


def test_a_revoked_token_is_refused(coordinator: User, make_token: MakeToken) -> None:
    made, text = make_token()

    tokens.revoke_token(coordinator, made)
    tokens.revoke_token(coordinator, made)

    with pytest.raises(TokenRefused, match="revoked"):
        authenticate_token(f"Token {text}")
    assert AuditEvent.objects.filter(action="token.revoked").count() == 1


def test_the_token_of_a_deactivated_user_is_refused(
    coordinator: User, make_token: MakeToken
) -> None:
    _made, text = make_token()
    User.objects.filter(pk=coordinator.pk).update(is_active=False)

    with pytest.raises(TokenRefused, match="deactivated"):
        authenticate_token(f"Token {text}")


def test_a_token_without_expiry_needs_the_permission_at_each_use(
    coordinator: User, make_token: MakeToken
) -> None:
    with pytest.raises(NotPermitted, match="without expiry"):
        make_token(days=None)
    group = Group.objects.create(name="Programs")
    group.permissions.set(Permission.objects.filter(codename=Right.TOKENS_WITHOUT_EXPIRY))
    coordinator.groups.add(group)
    user = User.objects.get(pk=coordinator.pk)
    _made, text = tokens.create_token(user, user, "script", ["query"], days=None, nodes=None)
    authenticate_token(f"Token {text}")

    user.groups.remove(group)

    with pytest.raises(TokenRefused, match="expired"):
        authenticate_token(f"Token {text}")


def test_a_token_is_not_used_beyond_its_scopes(make_token: MakeToken) -> None:
    made, _text = make_token(scopes=["query", "jobs:read"])

    tokens.require_scope(made, Scope.JOBS_READ)
    for scope in (Scope.STORE, Scope.JOBS_WRITE, Scope.IDENTIFIED):
        with pytest.raises(NotPermitted, match=scope.value):
            tokens.require_scope(made, scope)
    assert AuditEvent.objects.filter(action="token.refused").count() == 1


def test_a_token_for_single_nodes_allows_no_others(
    coordinator: User, source: Node, make_node: Callable[..., Node], make_token: MakeToken
) -> None:
    other = make_node("PACS2", reads=("Coordinators",))
    made, _text = make_token(nodes=[other])
    everywhere, _text = make_token(nodes=None)

    mine = readable_nodes(coordinator)
    assert list(tokens.allowed_nodes(made, mine)) == [other]
    assert set(tokens.allowed_nodes(everywhere, mine)) == {source, other}
    assert tokens.find_node(made, mine, pk=other.pk) == other
    assert tokens.find_node(made, mine, pk=source.pk) is None
    refused = AuditEvent.objects.get(action="token.refused")
    assert refused.details["reason"] == "api-token.node-not-granted"

    other.delete()
    assert list(tokens.allowed_nodes(made, readable_nodes(coordinator))) == []


@pytest.mark.parametrize(
    "wrong", [{"days": 0}, {"days": 91}, {"scopes": []}, {"scopes": ["administer"]}]
)
def test_invalid_tokens_are_not_created(wrong: dict[str, object], make_token: MakeToken) -> None:
    with pytest.raises(InvalidInput):
        make_token(**wrong)

    assert not ApiToken.objects.exists()


def test_no_token_is_stored_or_recorded(make_token: MakeToken) -> None:
    _made, text = make_token()
    secret = text.rsplit("_", 1)[1]

    stored = repr([*ApiToken.objects.values_list(), *AuditEvent.objects.values_list()])
    assert secret not in stored
    assert AuditEvent.objects.get(action="token.created").details["scopes"] == ["query"]


def test_the_command_prints_the_token_alone(
    coordinator: User, source: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--name", "nightly", "--scope", "query,retrieve", "--days", "1", "--nodes", "PACS1"]

    assert main(["token", "create", "coordinator", *options]) == 0

    user, made = authenticate_token(f"Token {capsys.readouterr().out.strip()}")
    assert (user, made.name, made.scopes) == (coordinator, "nightly", ["query", "retrieve"])
    assert list(made.nodes.all()) == [source]


@pytest.mark.parametrize(
    "options",
    [
        ["nobody"],
        ["coordinator", "--scopes", "everything"],
        ["coordinator", "--nodes", "No such PACS"],
        ["coordinator", "--days", "400"],
        ["coordinator", "--days", "never"],
    ],
)
def test_the_command_refuses_what_pages_refuse(
    options: list[str], coordinator: User, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "create", *options]) == 1

    assert capsys.readouterr().out == ""
    assert not ApiToken.objects.exists()
