"""The CA certificate of a DICOMweb service is entered or uploaded, never named by a path."""

from collections.abc import Callable

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from lab.certificates import Authority
from lab.node_pages import client_of, filled

from adit.accounts.models import User
from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node
from adit_engine.dicom_ul.tls import MAX_PEM_CHARACTERS
from adit_engine.nodes.dicomweb.node import DicomwebSettings

CA, OTHER_CA = Authority(), Authority()
OURS = CA.issue("adit")
WEB = {"url": "https://pacs1.example/dicom-web", "sign_in": "basic", "user": "adit"}
NEW = "/nodes/new/dicomweb/"


@pytest.fixture
def client(pacsadmin: User) -> Client:
    return client_of(pacsadmin)


def send(client: Client, path: str, **values: object) -> HttpResponse:
    given = {f"settings-{name}": value for name, value in values.items()}
    return client.post(path, {**filled(client, path, name="Web"), **given})


def upload(client: Client, path: str, content: str, **values: object) -> HttpResponse:
    file = SimpleUploadedFile("ca.pem", content.encode())
    more = {"ca_certificate-file": file, **WEB, "password": "a password", **values}
    return send(client, path, **more)


def test_an_uploaded_certificate_is_stored_and_used(client: Client) -> None:
    answer = upload(client, NEW, CA.certificate + OTHER_CA.certificate)

    node = Node.objects.get(name="Web")
    assert answer.status_code == 302
    assert node.settings["ca_certificate"].count("BEGIN CERTIFICATE") == 2
    tls = DicomwebSettings(**get_engine_settings(node)).server("Web").load_tls()
    assert tls is not None
    assert len(tls.get_ca_certs()) == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (CA.certificate + OURS.key, "this contains a private key"),
        ("not a certificate", "this is not a certificate in PEM format"),
        (CA.certificate[:200], "this is not a certificate in PEM format"),
        ("x" * (MAX_PEM_CHARACTERS + 50), "enter at most"),
    ],
    ids=["key", "text", "truncated", "too large"],
)
def test_only_certificates_of_limited_size_are_accepted(
    content: str, says: str, client: Client
) -> None:
    answer = upload(client, NEW, content)

    assert answer.status_code == 422
    assert says in answer.content.decode()
    assert not Node.objects.filter(name="Web").exists()


def test_a_new_node_cannot_name_a_file(client: Client) -> None:
    assert 'name="settings-ca_file"' not in client.get(NEW).content.decode()

    send(client, NEW, **WEB, password="a password", ca_file="/etc/shadow")

    assert "ca_file" not in Node.objects.get(name="Web").settings


def test_a_node_with_a_file_keeps_it_until_a_certificate_is_entered(
    client: Client, make_node: Callable[..., Node]
) -> None:
    node = make_node("Web", kind="dicomweb", settings={**WEB, "ca_file": "/srv/ca.pem"})
    node.set_secrets({"password": "a password"})
    node.save()
    path = f"/nodes/{node.pk}/edit/"

    send(client, path, contact="Eve", ca_file="/etc/shadow")
    node.refresh_from_db()
    assert node.settings["contact"] == "Eve"
    assert node.settings["ca_file"] == "/srv/ca.pem"
    assert get_engine_settings(node)["password"] == "a password"

    assert send(client, path, ca_certificate=CA.certificate).status_code == 422
    send(client, path, ca_certificate=CA.certificate, password="a password")
    node.refresh_from_db()
    assert node.settings["ca_file"] == ""
    assert "ca_file" not in client.get(path).content.decode()


def test_a_secret_from_before_this_setting_stays_valid(make_node: Callable[..., Node]) -> None:
    node = make_node("Web", kind="dicomweb", settings=dict(WEB))
    node.secrets = {
        "for": ["dicomweb", "url: https://pacs1.example", "ca_file: "],
        "values": {"password": "a password"},
    }
    node.save()

    assert get_engine_settings(Node.objects.get(pk=node.pk))["password"] == "a password"
