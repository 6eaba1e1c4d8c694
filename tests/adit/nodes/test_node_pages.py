"""Pages of nodes: managers create, test, open and pause them; others see those they may use."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from lab.node_pages import client_of, filled

from adit.accounts.models import User
from adit.nodes.models import Node, NodeAccess

PATHS = ("", "edit/", "access/", "pause/", "delete/")


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns if the folder does not exist."""
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


def page_of(user: User, path: str) -> str:
    return client_of(user).get(path).content.decode()


def test_a_coordinator_sees_only_nodes_that_their_groups_may_use(
    coordinator: User, source: Node, make_node: Callable[..., Node]
) -> None:
    make_node("Secret PACS")

    page = page_of(coordinator, "/nodes/")

    assert "PACS1" in page
    assert "Secret PACS" not in page
    assert "/nodes/new/" not in page


@pytest.mark.parametrize("path", PATHS)
def test_pages_of_an_inaccessible_node_return_404(
    path: str, coordinator: User, make_node: Callable[..., Node]
) -> None:
    node = make_node("Secret PACS")

    assert client_of(coordinator).get(f"/nodes/{node.pk}/{path}").status_code == 404
    assert client_of(coordinator).get(f"/nodes/{node.pk + 99}/{path}").status_code == 404


@pytest.mark.parametrize("path", PATHS[1:])
def test_a_user_with_access_to_a_node_cannot_change_it(
    path: str, coordinator: User, source: Node
) -> None:
    client = client_of(coordinator)

    assert client.get(f"/nodes/{source.pk}/{path}").status_code == 403
    assert client.post(f"/nodes/{source.pk}/{path}").status_code == 403


@pytest.mark.parametrize("verb", ["open", "close", "reopen"])
def test_a_user_with_access_to_a_node_cannot_open_or_close_it(
    verb: str, coordinator: User, source: Node
) -> None:
    client_of(coordinator).post(f"/nodes/{source.pk}/do/{verb}/")

    source.refresh_from_db()
    assert source.is_open


def test_settings_are_shown_only_to_managers(
    coordinator: User, pacsadmin: User, folder_node: Node
) -> None:
    path = folder_node.settings["path"]

    assert path in page_of(pacsadmin, f"/nodes/{folder_node.pk}/")
    assert path not in page_of(coordinator, f"/nodes/{folder_node.pk}/")


def test_a_new_pacs_is_closed_and_gets_hours_at_night(pacsadmin: User) -> None:
    client = client_of(pacsadmin)
    typed = {
        "name": "PACS Radiology",
        "settings-called_ae_title": "RADPACS",
        "settings-host": "pacs.hospital.example",
        "settings-port": "11112",
    }

    response = client.post("/nodes/new/dimse/", filled(client, "/nodes/new/dimse/", **typed))

    node = Node.objects.get(name="PACS Radiology")
    assert response["Location"] == f"/nodes/{node.pk}/"
    assert not node.is_open
    assert node.settings["host"] == "pacs.hospital.example"
    assert [row["from"] for row in node.windows] == ["20:00", "00:00"]
    assert node.retrieve_limit == 2


def test_an_invalid_form_keeps_the_entered_values(pacsadmin: User) -> None:
    client = client_of(pacsadmin)
    typed = {"name": "Share", "settings-path": "relative/path", "settings-contact": "Anna, 4711"}

    response = client.post("/nodes/new/folder/", filled(client, "/nodes/new/folder/", **typed))

    page = response.content.decode()
    assert response.status_code == 422
    assert "relative/path" in page
    assert "Anna, 4711" in page
    assert "absolute path that begins with /" in page
    assert not Node.objects.filter(name="Share").exists()


def test_all_errors_of_a_form_are_listed_at_the_top(pacsadmin: User) -> None:
    client = client_of(pacsadmin)
    typed = {"name": "", "settings-path": "relative", "hours-0-begin": "8"}

    response = client.post("/nodes/new/folder/", filled(client, "/nodes/new/folder/", **typed))

    page = response.content.decode()
    assert "3 problems found" in page
    assert 'href="#id_name"' in page
    assert "Enter times in the form 20:00." in page


@pytest.mark.parametrize(
    ("kind", "typed", "labels"),
    [
        (
            "dimse",
            {"name": "", "settings-port": "0", "settings-retrieve": "fax"},
            ["Name", "Called AE title", "Host", "Port", "Retrieve by"],
        ),
        (
            "dicomweb",
            {"settings-url": "ftp://x", "settings-sign_in": "fax", "settings-wado_prefix": "a b"},
            ["Name", "Root URL", "Sign-in"],
        ),
        ("folder", {"settings-quota_gb": "many", "settings-file_mode": "9"}, ["Size limit (GB)"]),
    ],
)
def test_all_errors_of_a_new_node_are_shown_at_once(
    kind: str, typed: dict[str, str], labels: list[str], pacsadmin: User
) -> None:
    client, path = client_of(pacsadmin), f"/nodes/new/{kind}/"

    editor = client.post(path, filled(client, path, **typed)).context["editor"]

    found = [problem.label for problem in editor.problems]
    assert set(labels) <= set(found)
    assert len(found) == len(set(found))


def test_each_kind_of_node_is_explained_where_it_is_added(pacsadmin: User) -> None:
    for _kind, display in client_of(pacsadmin).get("/nodes/new/").context["kinds"]:
        assert display.help, display.label


def test_a_closed_node_asks_for_a_test_until_one_was_successful(
    pacsadmin: User, source: Node
) -> None:
    Node.objects.update(is_open=False)
    client, hint = client_of(pacsadmin), "Test it before you open it."
    assert hint in client.get(f"/nodes/{source.pk}/").content.decode()

    client.post(f"/nodes/{source.pk}/test/")

    assert hint not in client.get(f"/nodes/{source.pk}/").content.decode()
    findings = [{"grade": "bad", "what": {"code": "vanished", "values": {}}}]
    findings[0] |= {"next_step": None, "proposals": []}
    source.test_results.update(findings=findings)
    assert hint in client.get(f"/nodes/{source.pk}/").content.decode()


def test_a_node_name_that_is_in_use_is_rejected(
    pacsadmin: User, source: Node, tmp_path: Path
) -> None:
    client = client_of(pacsadmin)
    typed = {"name": source.name, "settings-path": str(tmp_path)}

    response = client.post("/nodes/new/folder/", filled(client, "/nodes/new/folder/", **typed))

    assert response.status_code == 422
    assert Node.objects.filter(name=source.name).count() == 1


def test_editing_changes_only_the_entered_values(pacsadmin: User, folder_node: Node) -> None:
    folder_node.windows = [
        {"days": ["mon"], "from": "20:00", "to": "06:00", "limit": 4},
        {"days": ["sun"], "from": "00:00", "to": "24:00", "limit": 1, "lane": "search"},
    ]
    folder_node.save()
    client, path = client_of(pacsadmin), f"/nodes/{folder_node.pk}/edit/"

    client.post(path, filled(client, path, **{"settings-contact": "Anna, 4711"}))

    before = folder_node
    after = Node.objects.get(pk=folder_node.pk)
    assert after.settings["contact"] == "Anna, 4711"
    assert after.settings["path"] == before.settings["path"]
    assert after.windows == before.windows
    assert after.is_open


def test_hours_without_days_or_end_are_rejected_with_an_explanation(
    pacsadmin: User, folder_node: Node
) -> None:
    client, path = client_of(pacsadmin), f"/nodes/{folder_node.pk}/edit/"

    no_days = client.post(path, filled(client, path, **{"hours-0-begin": "20:00"}))
    no_end = client.post(
        path, filled(client, path, **{"hours-0-days": ["mon"], "hours-0-begin": "20:00"})
    )

    assert "Select the days on which these hours begin." in no_days.content.decode()
    assert "Enter start and end" in no_end.content.decode()


def test_an_emptied_row_of_hours_is_removed(pacsadmin: User, folder_node: Node) -> None:
    folder_node.windows = [{"days": ["mon"], "from": "20:00", "to": "06:00"}]
    folder_node.save()
    client, path = client_of(pacsadmin), f"/nodes/{folder_node.pk}/edit/"
    data = {**filled(client, path), "hours-0-begin": "", "hours-0-end": ""}
    data.pop("hours-0-days")

    client.post(path, data)

    assert Node.objects.get(pk=folder_node.pk).windows == []


def test_testing_a_node_shows_its_findings(pacsadmin: User, folder_node: Node) -> None:
    response = client_of(pacsadmin).post(f"/nodes/{folder_node.pk}/test/", follow=True)

    page = response.content.decode()
    assert response.status_code == 200
    assert "Test: findings" in page
    assert 'class="note note-good"' in page


def test_testing_a_missing_folder_shows_an_error(
    pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    node = make_node("Gone", kind="folder", settings={"path": "/nowhere/at/all"}, is_open=False)

    page = client_of(pacsadmin).post(f"/nodes/{node.pk}/test/", follow=True).content.decode()

    assert 'class="note note-bad"' in page


def test_a_pause_requires_a_reason_and_shows_it_to_users(
    coordinator: User, pacsadmin: User, source: Node
) -> None:
    manager = client_of(pacsadmin)

    refused = manager.post(f"/nodes/{source.pk}/pause/", {"reason": " "})
    manager.post(f"/nodes/{source.pk}/pause/", {"reason": "new disks until 14:00"})

    assert refused.status_code == 422
    page = page_of(coordinator, f"/nodes/{source.pk}/")
    assert "Paused by pacsadmin (reason: new disks until 14:00)." in page


def test_a_manager_ends_a_pause(pacsadmin: User, source: Node) -> None:
    manager = client_of(pacsadmin)
    manager.post(f"/nodes/{source.pk}/pause/", {"reason": "new disks"})

    manager.post(f"/nodes/{source.pk}/do/reopen/")

    source.refresh_from_db()
    assert source.paused_at is None


def test_a_closed_node_can_be_opened(pacsadmin: User, make_node: Callable[..., Node]) -> None:
    node = make_node("New one", is_open=False)

    client_of(pacsadmin).post(f"/nodes/{node.pk}/do/open/")

    node.refresh_from_db()
    assert node.is_open


def test_a_get_of_an_action_leads_to_its_page(pacsadmin: User, source: Node) -> None:
    manager = client_of(pacsadmin)

    for path in ("do/close/", "test/"):
        assert manager.get(f"/nodes/{source.pk}/{path}").status_code == 302


def test_access_is_granted_and_revoked_per_group(
    pacsadmin: User, source: Node, groups: dict[str, Group]
) -> None:
    manager, path = client_of(pacsadmin), f"/nodes/{source.pk}/access/"
    group = groups["Data protection"]

    manager.post(path, {f"access-read_{group.pk}": "on", f"access-write_{group.pk}": "on"})

    rows = {row.group.name: (row.may_read, row.may_write) for row in NodeAccess.objects.all()}
    assert rows == {"Data protection": (True, True)}


def test_a_manager_deletes_a_node(pacsadmin: User, make_node: Callable[..., Node]) -> None:
    node = make_node("Old archive")

    client_of(pacsadmin).post(f"/nodes/{node.pk}/delete/")

    assert not Node.objects.filter(pk=node.pk).exists()


def test_a_stored_secret_is_not_shown_on_the_pages_of_a_node(
    pacsadmin: User, folder_node: Node
) -> None:
    folder_node.set_secrets({"password": "s3cret-canary"})
    folder_node.save()

    for path in ("", "edit/"):
        assert "s3cret-canary" not in page_of(pacsadmin, f"/nodes/{folder_node.pk}/{path}")


def test_markup_in_a_node_name_or_pause_reason_is_escaped(
    pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    node = make_node(
        "<b>PACS</b>", paused_at="2026-01-01T00:00Z", pause_reason="<script>x</script>"
    )

    for path in ("/nodes/", f"/nodes/{node.pk}/", "/"):
        page = page_of(pacsadmin, path)
        assert "<b>PACS" not in page
        assert "<script>x" not in page


def test_the_list_of_nodes_is_sorted_only_by_orderable_columns(pacsadmin: User) -> None:
    client = client_of(pacsadmin)
    for name, is_open in (("B", True), ("A", False), ("C", True)):
        Node.objects.create(name=name, kind="folder", settings={}, is_open=is_open)

    def names(sort: str) -> list[str]:
        page = client.get("/nodes/", {"sort": sort})
        return [place.node.name for place in page.context["table"].records]

    assert names("-name") == ["C", "B", "A"]
    assert names("state") == ["A", "B", "C"]
    assert names("-connections") == names("-test") == ["A", "B", "C"]
