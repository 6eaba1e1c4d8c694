"""Secrets of a node are used only for the address and verification they were entered for."""

import re
from collections.abc import Callable
from dataclasses import fields

import pytest
from django.test import Client
from lab.certificates import Authority
from lab.node_pages import client_of, filled

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.nodes import diagnostics, services
from adit.nodes.forms import get_settings_form_class
from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node
from adit_engine.errors import InvalidInput
from adit_engine.nodes import KINDS, kind_class

CA, OTHER_CA = Authority(), Authority()
OURS = CA.issue("adit")
WEB = {"url": "https://pacs1.example/dicom-web", "sign_in": "bearer"}
BASIC = {"url": "https://pacs1.example/dicom-web", "sign_in": "basic", "user": "adit"}
PACS = {
    "called_ae_title": "PACS7",
    "host": "pacs7",
    "port": 2762,
    "transport": "tls",
    "ca_certificate": CA.certificate,
    "client_certificate": OURS.certificate,
}
SECRETS = {"token": "canary-token", "password": "canary-password", "client_key": OURS.key}
CHANGES = [
    ("dicomweb", WEB, "token", {"url": "https://elsewhere.example/dicom-web"}),
    ("dicomweb", WEB, "token", {"url": "http://pacs1.example/dicom-web"}),
    ("dicomweb", WEB, "token", {"url": "https://pacs1.example:8443/dicom-web"}),
    ("dicomweb", WEB, "token", {"url": "https://pacs1.example.attacker.example/dicom-web"}),
    ("dicomweb", WEB, "token", {"ca_certificate": OTHER_CA.certificate}),
    ("dicomweb", BASIC, "password", {"url": "https://elsewhere.example/dicom-web"}),
    ("dicomweb", BASIC, "password", {"ca_certificate": OTHER_CA.certificate}),
    ("dimse", PACS, "client_key", {"host": "elsewhere"}),
    ("dimse", PACS, "client_key", {"port": 11112}),
    ("dimse", PACS, "client_key", {"ca_certificate": OTHER_CA.certificate}),
    ("dimse", PACS, "client_key", {"ca_certificate": ""}),
    ("dimse", PACS, "client_key", {"certificate_name": "elsewhere"}),
]
changes = pytest.mark.parametrize(("kind", "given", "secret", "change"), CHANGES)
SAME = [
    ("dicomweb", WEB, "token", {"url": "https://PACS1.example:443/other-path"}),
    ("dicomweb", WEB, "token", {"result_cap": 5, "contact": "Eve"}),
    ("dimse", PACS, "client_key", {"host": " PACS7 "}),
    ("dimse", PACS, "client_key", {"called_ae_title": "PACS8"}),
    ("dimse", PACS, "client_key", {"ca_certificate": CA.certificate.replace("\n", "\r\n")}),
]


@pytest.fixture
def make_sealed(make_node: Callable[..., Node]) -> Callable[..., Node]:
    """Create a node with one stored secret."""

    def make(kind: str, given: dict[str, object], secret: str) -> Node:
        node = make_node("PACS1", kind=kind, settings=dict(given))
        node.set_secrets({secret: SECRETS[secret]})
        node.save()
        return node

    return make


def posted(**values: object) -> dict[str, object]:
    return {f"settings-{name}": value for name, value in values.items()}


def stored(node: Node) -> Node:
    return Node.objects.get(pk=node.pk)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_with_a_secret_declares_its_recipient(kind: str) -> None:
    given = fields(kind_class(kind).Settings)

    has_secret = any(field.metadata["secret"] for field in given)
    assert has_secret <= any(field.metadata["recipient"] is not None for field in given)


# Use of the secret --------------------------------------------------------------------------------


@changes
def test_a_node_changed_in_memory_is_opened_without_the_secret(
    make_sealed, kind, given, secret, change
) -> None:
    node = make_sealed(kind, given, secret)
    assert get_engine_settings(node)[secret] == SECRETS[secret]

    node.settings = {**given, **change}

    assert secret not in get_engine_settings(node)


@changes
def test_a_row_changed_by_a_queryset_update_is_opened_without_the_secret(
    make_sealed, kind, given, secret, change
) -> None:
    node = make_sealed(kind, given, secret)

    Node.objects.filter(pk=node.pk).update(settings={**given, **change})

    assert secret not in get_engine_settings(stored(node))


@changes
@pytest.mark.parametrize("only", [None, ["settings"]])
def test_saving_a_changed_address_deletes_the_secret(
    make_sealed, kind, given, secret, change, only
) -> None:
    node = make_sealed(kind, given, secret)

    node.settings = {**given, **change}
    node.save(update_fields=only)
    assert stored(node).secrets is None

    Node.objects.filter(pk=node.pk).update(settings=given)
    assert secret not in get_engine_settings(stored(node))


@pytest.mark.parametrize(("kind", "given", "secret", "change"), SAME)
def test_unrelated_changes_keep_the_secret(make_sealed, kind, given, secret, change) -> None:
    node = make_sealed(kind, given, secret)

    node.settings = {**given, **change}
    node.save()

    assert get_engine_settings(stored(node))[secret] == SECRETS[secret]


def test_a_secret_copied_to_another_node_is_not_used(make_sealed, make_node) -> None:
    node = make_sealed("dicomweb", WEB, "token")
    other = make_node(
        "Mine", kind="dicomweb", settings={**WEB, "url": "https://elsewhere.example/"}
    )

    Node.objects.filter(pk=other.pk).update(secrets=node.secrets)

    assert "token" not in get_engine_settings(stored(other))


@changes
def test_the_service_rejects_a_changed_address_without_the_secret(
    pacsadmin, make_sealed, kind, given, secret, change
) -> None:
    node = make_sealed(kind, given, secret)
    node.settings = {**given, **change}

    with pytest.raises(InvalidInput, match=r"(?i)token|password|key"):
        services.save_node(pacsadmin, node)

    assert stored(node).settings == given
    assert stored(node).get_secrets(given) == {secret: SECRETS[secret]}


def test_the_audit_event_states_that_secrets_changed(pacsadmin, make_sealed) -> None:
    node = make_sealed("dicomweb", {**WEB, "sign_in": "none"}, "token")
    node.settings = {**node.settings, "url": "https://elsewhere.example/"}

    services.save_node(pacsadmin, node)

    assert AuditEvent.objects.get(action="node.changed").details["changed"] == [
        "secrets",
        "settings.url",
    ]


def test_testing_a_changed_address_does_not_use_the_secret(
    pacsadmin, make_sealed, monkeypatch
) -> None:
    node = make_sealed("dicomweb", BASIC, "password")
    Node.objects.filter(pk=node.pk).update(
        settings={**BASIC, "url": "http://127.0.0.1:9/", "allow_local": True}
    )
    seen = []

    def opened(kind, name, values, **more):
        seen.append(values)
        raise InvalidInput("not opened")

    monkeypatch.setattr("adit.nodes.gateway.engine.open_node", opened)
    diagnostics.check_node(pacsadmin, stored(node))

    assert len(seen) == 1
    assert "password" not in seen[0]


# The form -----------------------------------------------------------------------------------------


@changes
def test_the_form_asks_for_the_secret_again_and_saves_nothing(
    pacsadmin: User, make_sealed, kind, given, secret, change
) -> None:
    node, client = make_sealed(kind, given, secret), client_of(pacsadmin)
    path = f"/nodes/{node.pk}/edit/"

    answer = client.post(path, filled(client, path, **posted(**change)))

    page = answer.content.decode()
    assert answer.status_code == 422
    assert re.search(rf'id="id_settings-{secret}_error">.*Enter the value again', page)
    assert "Leave the field empty to keep it" not in page
    assert "canary" not in page
    assert stored(node).settings == given


@changes
def test_the_form_saves_a_secret_that_is_entered_again(
    pacsadmin: User, make_sealed, kind, given, secret, change
) -> None:
    node, client = make_sealed(kind, given, secret), client_of(pacsadmin)
    path = f"/nodes/{node.pk}/edit/"
    again = OURS.key if secret == "client_key" else "again"

    answer = client.post(path, filled(client, path, **posted(**change, **{secret: again})))

    assert answer.status_code == 302, re.findall(r"field-error.*", answer.content.decode())
    assert get_engine_settings(stored(node))[secret].split() == again.split()
    assert stored(node).settings != given


@pytest.mark.parametrize(("kind", "given", "secret", "change"), SAME)
def test_the_form_keeps_the_secret_if_the_address_is_unchanged(
    pacsadmin: User, make_sealed, kind, given, secret, change
) -> None:
    node, client = make_sealed(kind, given, secret), client_of(pacsadmin)
    path = f"/nodes/{node.pk}/edit/"

    answer = client.post(path, filled(client, path, **posted(**change)))

    assert answer.status_code == 302, re.findall(r"field-error.*", answer.content.decode())
    assert get_engine_settings(stored(node))[secret] == SECRETS[secret]


@pytest.mark.parametrize(
    ("kind", "given", "secret", "change"),
    [
        ("dicomweb", BASIC, "password", {"sign_in": "none", "user": ""}),
        ("dimse", PACS, "client_key", {"client_certificate": ""}),
    ],
)
def test_a_secret_that_is_no_longer_needed_is_not_required(
    pacsadmin: User, make_sealed, kind, given, secret, change
) -> None:
    node, client = make_sealed(kind, given, secret), client_of(pacsadmin)
    path = f"/nodes/{node.pk}/edit/"
    place = {"url": "https://elsewhere.example/"} if kind == "dicomweb" else {"host": "elsewhere"}

    answer = client.post(path, filled(client, path, **posted(**change, **place)))

    assert answer.status_code == 302, re.findall(r"field-error.*", answer.content.decode())
    assert stored(node).secrets is None


def test_the_form_explains_when_the_secret_must_be_entered_again(
    pacsadmin: User, make_sealed
) -> None:
    node = make_sealed("dicomweb", WEB, "token")
    client: Client = client_of(pacsadmin)

    page = client.get(f"/nodes/{node.pk}/edit/").content.decode()

    assert "A value is stored. Leave the field empty to keep it." in page
    assert "if you change the address or how its certificate is verified." in page


def test_basic_authentication_requires_a_password() -> None:
    form = get_settings_form_class("dicomweb")(posted(**BASIC))

    assert not form.is_valid()
    assert form.errors == {"password": ["Password: enter a value."]}
