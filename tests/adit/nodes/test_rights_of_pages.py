"""The HTTP status of each URL of the app `nodes` for each role."""

from collections.abc import Callable, Mapping

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.nodes import urls as addresses
from adit.nodes.models import Node

pytestmark = pytest.mark.django_db

ROLES = ("nobody", "stranger", "coordinator", "dpo", "pacsadmin", "root")
SIGN_IN, OK, AWAY, NO, HIDDEN, WRONG = 302, 200, 302, 403, 404, 422

ALL = dict.fromkeys(ROLES, OK) | {"nobody": SIGN_IN}
USERS = dict.fromkeys(ROLES, OK) | {"nobody": SIGN_IN, "stranger": HIDDEN, "dpo": HIDDEN}
MANAGERS = USERS | {"coordinator": NO}
MANAGERS_ALONE = dict.fromkeys(ROLES, NO) | {"nobody": SIGN_IN, "pacsadmin": OK, "root": OK}
DEED = {role: AWAY if status == OK else status for role, status in USERS.items()}
"""Permitted roles are redirected, after success or with an error message."""


def but(roles: Mapping[str, int], ok: int) -> dict[str, int]:
    return {role: ok if status == OK else status for role, status in roles.items()}


# URL name -> (method, arguments, status for each role)
MATRIX = {
    "nodes": ("get", (), ALL),
    "node_new": ("get", (), MANAGERS_ALONE),
    "node_new_kind": ("get", ("folder",), MANAGERS_ALONE),
    "node": ("get", ("node",), USERS),
    "node_edit": ("get", ("node",), MANAGERS),
    "node_access": ("get", ("node",), MANAGERS),
    "node_holidays": ("get", ("node",), MANAGERS),
    "node_pause": ("get", ("node",), MANAGERS),
    "node_stop": ("get", ("node",), MANAGERS),
    "stop_all": ("get", (), MANAGERS_ALONE),
    "node_end": ("post", ("node", 1), but(MANAGERS, AWAY)),
    "node_usage_csv": ("get", ("node",), MANAGERS),
    "node_usage_xlsx": ("get", ("node",), MANAGERS),
    "node_delete": ("get", ("node",), MANAGERS),
    "node_test": ("post", ("node",), DEED),
    "node_fetch": ("post", ("node",), but(MANAGERS, AWAY)),
    "node_write": ("post", ("node",), but(MANAGERS, AWAY)),
    "node_adopt": ("post", ("node",), but(MANAGERS, AWAY)),
    "node_sheet": ("get", ("node",), MANAGERS),
    "node_sheet_text": ("get", ("node",), MANAGERS),
    "budgets": ("get", (), MANAGERS_ALONE),
    "quarantine": ("get", (), MANAGERS_ALONE),
    "quarantine_delete": ("post", (), but(MANAGERS_ALONE, AWAY)),
    "node_action": ("post", ("node", "close"), DEED),
}
MANAGED = ("pacsadmin", "root")


@pytest.fixture
def people(make_user: Callable[..., User], root: User) -> dict[str, User | None]:
    return {
        "nobody": None,
        "stranger": make_user("stranger"),
        "coordinator": make_user("coordinator", standard.COORDINATORS),
        "dpo": make_user("dpo", standard.DATA_PROTECTION),
        "pacsadmin": make_user("pacsadmin", standard.PACS_ADMINISTRATORS),
        "root": root,
    }


def client_of(person: User | None) -> Client:
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    client = Client()
    if person is not None:
        client.force_login(person)
    return client


def address(name: str, arguments: tuple[object, ...], node: Node) -> str:
    values: dict[object, object] = {"node": node.pk}
    return reverse(name, args=[values.get(one, one) for one in arguments])


def test_every_url_of_nodes_is_in_the_matrix() -> None:
    assert {pattern.name for pattern in addresses.urlpatterns} == set(MATRIX)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", MATRIX)
def test_each_role_gets_the_expected_status(
    name: str, role: str, people: dict[str, User | None], folder_node: Node
) -> None:
    method, arguments, expected = MATRIX[name]

    answer = getattr(client_of(people[role]), method)(address(name, arguments, folder_node))

    assert answer.status_code == expected[role]
    if role == "nobody":
        assert answer["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["node_pause", "node_stop", "stop_all"])
def test_only_managers_can_pause_and_stop_nodes(
    name: str, role: str, people: dict[str, User | None], folder_node: Node
) -> None:
    path = address(name, MATRIX[name][1], folder_node)

    client_of(people[role]).post(path, {"reason": "maintenance"})

    folder_node.refresh_from_db()
    assert (folder_node.paused_at is not None) == (role in MANAGED)
    assert (folder_node.stopped_at is not None) == (role in MANAGED and name != "node_pause")


@pytest.mark.parametrize("name", ["node_pause", "node_stop", "stop_all"])
def test_a_pause_or_stop_without_a_reason_is_rejected(
    name: str, pacsadmin: User, folder_node: Node
) -> None:
    path = address(name, MATRIX[name][1], folder_node)

    answer = client_of(pacsadmin).post(path, {"reason": " "})

    assert answer.status_code == WRONG
    folder_node.refresh_from_db()
    assert folder_node.paused_at is None


@pytest.mark.parametrize("name", [n for n, row in MATRIX.items() if row[0] == "post"])
def test_a_get_of_an_action_changes_nothing_and_leads_to_a_page(
    name: str, pacsadmin: User, folder_node: Node
) -> None:
    path = address(name, MATRIX[name][1], folder_node)

    before = Node.objects.values().get(pk=folder_node.pk)
    answer = client_of(pacsadmin).get(path)
    assert answer.status_code == 302
    assert path.startswith(answer["Location"])
    assert Node.objects.values().get(pk=folder_node.pk) == before
