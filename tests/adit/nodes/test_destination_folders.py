"""Nodes for encrypted 7-Zip files: default folders, test, free space and paths for users."""

from collections.abc import Callable

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse
from lab.node_pages import filled

from adit.accounts.models import User
from adit.nodes import destination_folders, diagnostics
from adit.nodes.gateway import get_engine_settings
from adit.nodes.models import Node

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(pacsadmin: User) -> Client:
    client = Client()
    client.force_login(pacsadmin)
    return client


def test_a_7zip_node_without_folders_uses_the_data_folder(client: Client) -> None:
    address = reverse("node_new_kind", args=["archive"])
    assert "Folder of finished 7-Zip files" in client.get(address).content.decode()

    answer = client.post(address, filled(client, address, name="7-Zip files"))

    assert answer.status_code == 302, answer.content.decode()
    node = Node.objects.get(name="7-Zip files")
    values = get_engine_settings(node)
    assert values["path"] == str(settings.ARCHIVE_DIR)
    assert values["staging"] == str(settings.GATHERED_DIR)
    assert settings.GATHERED_DIR.stat().st_mode & 0o077 == 0
    assert client.get(reverse("node", args=[node.pk])).status_code == 200


def test_testing_a_7zip_node_reports_the_free_space(
    make_node: Callable[..., Node], pacsadmin: User
) -> None:
    node = make_node("7-Zip files", kind="archive")

    findings = diagnostics.check_node(pacsadmin, node)

    assert any("GB are free" in str(finding.what) for finding in findings)
    assert not [finding for finding in findings if finding.grade == "bad"]


def test_insufficient_disk_space_is_explained(make_node: Callable[..., Node]) -> None:
    node = make_node("7-Zip files", kind="archive")

    assert destination_folders.explain_no_space(node, 1000) is None
    assert "are required" in str(destination_folders.explain_no_space(node, 10**18))


def test_users_see_the_configured_path_of_the_share(make_node: Callable[..., Node]) -> None:
    share = {"path": "/mnt/a", "shown_path": "\\\\server\\share\\archives\\"}

    plain, shared = make_node("A", kind="archive"), make_node("B", kind="archive", settings=share)

    assert destination_folders.get_user_path(plain, "job-1.7z") == ""
    assert (
        destination_folders.get_user_path(shared, "job-1.7z")
        == "\\\\server\\share\\archives\\job-1.7z"
    )
