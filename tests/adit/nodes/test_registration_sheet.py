"""The registration sheet for PACS administrators as page, text and command output."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.conf import settings as config
from django.core.management import CommandError, call_command
from django.test import Client

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS
from adit.nodes.models import Node

pytestmark = pytest.mark.django_db


@pytest.fixture
def pacs(make_node: Callable[..., Node], settings: Any) -> Node:
    config.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    settings.RECEIVER_PORT = 11112
    settings.RECEIVER_ADDRESS = "adit.hospital.example"
    values = {"called_ae_title": "RADPACS", "host": "127.0.0.1", "port": 104, "contact": "Anna, 11"}
    return make_node(
        "PACS Radiology",
        kind="dimse",
        settings=values,
        reads=(COORDINATORS,),
        retrieve_limit=3,
        windows=[{"days": ["sun"], "from": "08:00", "to": "12:00"}],
    )


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_the_sheet_lists_what_to_register_and_the_agreed_limits(
    pacsadmin: User, pacs: Node
) -> None:
    client = client_of(pacsadmin)

    page = client.get(f"/nodes/{pacs.pk}/sheet/").content.decode()
    text = client.get(f"/nodes/{pacs.pk}/sheet.txt").content.decode()

    for words in (
        "ADIT from adit.hospital.example may open associations to RADPACS",
        "ADIT = adit.hospital.example, port 11112",
        "at most 3 at the same time",
        "08:00",
        "Anna, 11",
        "pacsadmin",
        "not encrypted",
    ):
        assert words in page
        assert words in text


def test_only_node_managers_can_read_the_sheet(coordinator: User, pacs: Node) -> None:
    for path in ("sheet/", "sheet.txt"):
        assert client_of(coordinator).get(f"/nodes/{pacs.pk}/{path}").status_code == 403


def test_the_sheet_contains_no_secret(pacsadmin: User, make_node: Callable[..., Node]) -> None:
    values = {"url": "https://localhost/dicom-web", "sign_in": "bearer"}
    node = make_node("Web", kind="dicomweb", settings=values)
    node.set_secrets({"token": "s3cret-canary"})
    node.save()

    page = client_of(pacsadmin).get(f"/nodes/{node.pk}/sheet/").content.decode()

    assert "https://localhost/dicom-web" in page
    assert "s3cret-canary" not in page


def test_invalid_settings_are_reported_on_the_page(
    pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    node = make_node("Broken", kind="folder", settings={"path": ""})

    page = client_of(pacsadmin).get(f"/nodes/{node.pk}/sheet/", follow=True).content.decode()

    assert "absolute path that begins with /" in page


def test_the_command_prints_the_sheet_or_lists_existing_nodes(pacs: Node) -> None:
    out = StringIO()

    call_command("registration_sheet", "PACS Radiology", stdout=out)

    assert "ADIT = adit.hospital.example, port 11112" in out.getvalue()
    with pytest.raises(CommandError, match="Existing names: PACS Radiology"):
        call_command("registration_sheet", "Nowhere")
