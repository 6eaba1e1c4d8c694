"""TLS in the form of a node: transport, PEM certificates and an encrypted private key."""

import re

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from lab.certificates import Authority
from lab.node_pages import client_of, filled

from adit.accounts.models import User
from adit.nodes.forms import get_settings_form_class
from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node

CA = Authority()
OURS, OTHER = CA.issue("adit", ["adit.example"]), CA.issue("other")
PLACE = {"called_ae_title": "PACS7", "host": "pacs7", "port": "2762"}
MUTUAL = {
    "transport": "tls",
    "ca_certificate": CA.certificate,
    "client_certificate": OURS.certificate,
    "client_key": OURS.key,
}


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns if the folder does not exist."""
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def client(pacsadmin: User) -> Client:
    return client_of(pacsadmin)


def posted(**values: str) -> dict[str, str]:
    return {f"settings-{name}": value for name, value in values.items()}


@pytest.fixture
def saved(client: Client) -> Node:
    """A node with mutual TLS, created by a manager through the form."""
    data = filled(client, "/nodes/new/dimse/", name="PACS7", **posted(**PLACE, **MUTUAL))
    response = client.post("/nodes/new/dimse/", data)
    assert response.status_code == 302, re.findall(r"field-error.*", response.content.decode())
    return Node.objects.get(name="PACS7")


def test_the_transport_is_a_choice_with_plain_as_default() -> None:
    form = get_settings_form_class("dimse")()

    assert [value for value, _ in form.fields["transport"].choices] == ["plain", "tls"]
    assert form["transport"].initial == "plain"
    assert "not encrypted" in str(form["transport"])
    assert form["ca_certificate"].field in [field.field for field in form.advanced_fields()]


def test_a_form_without_a_transport_uses_the_default() -> None:
    form = get_settings_form_class("dimse")(
        posted(**PLACE, calling_ae_title="ADIT", query_root="study", retrieve="auto", contact="")
    )

    assert form.is_valid(), form.errors
    assert (form.settings["transport"], form.settings["least_tls"]) == ("plain", "1.2")


def test_only_the_private_key_is_stored_encrypted(saved: Node) -> None:
    given = get_engine_settings(saved)
    assert given["transport"] == "tls"
    assert given["client_key"].split() == OURS.key.split()
    assert "client_key" not in saved.settings
    with connection.cursor() as cursor:
        cursor.execute("select * from nodes_node where id = %s", [saved.pk])
        row = str(cursor.fetchone())
    assert "BEGIN CERTIFICATE" in row
    assert "PRIVATE KEY" not in row


def test_pages_show_subject_and_expiry_of_certificates_but_never_the_key(
    client: Client, saved: Node
) -> None:
    shown = client.get(f"/nodes/{saved.pk}/").content.decode()
    edited = client.get(f"/nodes/{saved.pk}/edit/").content.decode()

    assert re.search(r"adit\.example, until \d{4}-\d\d-\d\d", shown)
    assert "BEGIN CERTIFICATE" not in shown
    assert "BEGIN CERTIFICATE" in edited
    assert "A value is stored. Leave the field empty to keep it." in edited
    assert "PRIVATE KEY" not in shown + edited


def test_a_stored_key_is_kept_until_another_is_entered(client: Client, saved: Node) -> None:
    path = f"/nodes/{saved.pk}/edit/"

    assert client.post(path, filled(client, path, name="PACS8")).status_code == 302
    saved.refresh_from_db()
    assert get_engine_settings(saved)["client_key"].split() == OURS.key.split()

    changed = posted(client_certificate=OTHER.certificate, client_key=OTHER.key)
    assert client.post(path, filled(client, path, **changed)).status_code == 302
    saved.refresh_from_db()
    assert get_engine_settings(saved)["client_key"].split() == OTHER.key.split()


def test_removing_the_client_certificate_removes_its_key(client: Client, saved: Node) -> None:
    path = f"/nodes/{saved.pk}/edit/"

    response = client.post(path, filled(client, path, **posted(client_certificate="")))

    assert response.status_code == 302
    saved.refresh_from_db()
    assert not saved.secrets


@pytest.mark.parametrize(
    ("values", "field", "sentence"),
    [
        ({"ca_certificate": "hello"}, "ca_certificate", "this is not a certificate in PEM format"),
        ({"client_key": OTHER.key}, "client_key", "the key does not match Client certificate"),
        (
            {"client_certificate": OURS.certificate + OURS.key},
            "client_certificate",
            "this contains a private key",
        ),
    ],
)
def test_errors_are_shown_at_their_field_without_returning_the_key(
    client: Client, values: dict[str, str], field: str, sentence: str
) -> None:
    typed = posted(**PLACE, **{**MUTUAL, **values})
    response = client.post("/nodes/new/dimse/", filled(client, "/nodes/new/dimse/", **typed))

    page = response.content.decode()
    assert response.status_code == 422
    assert re.search(rf'id="id_settings-{field}_error">.*{sentence}', page)
    assert '<details class="more" open>' in page
    assert re.search(r'<textarea name="settings-client_key"[^>]*>\s*</textarea>', page)
