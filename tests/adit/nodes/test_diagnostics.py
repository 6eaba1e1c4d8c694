"""Tests of a node from its page: findings, deadline, stored results, proposals to adopt."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as config
from django.test import Client
from lab.archive import Lying, plain_archive

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS, NotPermitted
from adit.audit.models import AuditEvent
from adit.nodes import diagnostics
from adit.nodes.limits import slots
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Lane, Node, NodeTestResult, Slot, UnexpectedSender
from adit.nodes.receiving.receiver_state import DatabaseReceiverState
from adit.nodes.receiving.retrievals import open_spool
from adit_engine import messages
from adit_engine.dicom_file import part10
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding, SettingProposal
from adit_engine.nodes.diagnostics.image_probe import make_test_image
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    config.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def receiver(settings: Any, tmp_path: Path) -> Iterator[StorageScp]:
    """The receiver of the installation, running in this process."""
    settings.SPOOL_DIR = tmp_path / "spool"
    settings.SPOOL_RESERVE_MB = 0
    settings.CALLING_AE_TITLE = "ADIT"
    given = StorageScpSettings("ADIT", "127.0.0.1", 0)
    register = DatabaseReceiverState()
    with StorageScp(given, open_spool(), register) as one:
        settings.RECEIVER_PORT = one.port
        yield one


@pytest.fixture
def archive(receiver: StorageScp, tmp_path: Path) -> Iterator[Lying]:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "1.dcm").write_bytes(
        b"".join(part10.file_parts(make_test_image("the installation's tests")))
    )
    with plain_archive("DEMO", folder, {"ADIT": ("127.0.0.1", receiver.port)}) as one:
        yield one


@pytest.fixture
def pacs(make_node: Callable[..., Node], archive: Lying) -> Node:
    values = {"called_ae_title": "DEMO", "host": "127.0.0.1", "port": archive.port}
    return make_node(
        "PACS1", reads=(COORDINATORS,), kind="dimse", settings={**values, "drain_s": 0.5}
    )


@pytest.fixture
def silent(make_node: Callable[..., Node]) -> Iterator[Node]:
    """A node whose server accepts connections and never sends a byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        values = {"called_ae_title": "MUTE", "host": "127.0.0.1", "port": port}
        yield make_node("Mute", kind="dimse", settings={**values, "association_s": 600.0})


def kept(node: Node, *findings: NodeFinding) -> None:
    """Store these findings as the result of a test."""

    NodeTestResult.objects.create(
        node=node,
        kind="plain",
        at="2026-01-01T00:00Z",
        findings=json.loads(json.dumps([one.to_json() for one in findings])),
    )


def proposing(setting: str, value: object) -> NodeFinding:
    return NodeFinding(
        Grade.WARNING,
        Message("test.no-paging", count=2),
        Message("step.result-cap-if-truncated"),
        (SettingProposal(setting, value, Message("proposal.find")),),
    )


# Permissions and deadline -------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["pacsadmin", "coordinator"])
def test_managers_and_users_with_read_access_can_test_a_node(
    request: pytest.FixtureRequest, source: Node, who: str
) -> None:
    findings = diagnostics.check_node(request.getfixturevalue(who), source)

    assert [finding.grade for finding in findings] == [Grade.GOOD]
    assert AuditEvent.objects.get(action="node.checked").details["worst"] == "good"


@pytest.mark.parametrize("who", ["dpo", "stranger"])
def test_other_users_cannot_test_a_node(
    request: pytest.FixtureRequest, source: Node, who: str
) -> None:
    with pytest.raises(NotPermitted):
        diagnostics.check_node(request.getfixturevalue(who), source)


def test_only_managers_can_test_fetching_and_writing_of_images(
    coordinator: User, source: Node
) -> None:
    with pytest.raises(NotPermitted):
        diagnostics.try_fetching(coordinator, source, None)
    with pytest.raises(NotPermitted):
        diagnostics.try_writing(coordinator, source)


def test_writing_a_test_image_to_a_clinical_pacs_requires_a_permission(
    pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    pacsadmin.groups.get().permissions.remove(
        *pacsadmin.groups.get().permissions.filter(codename="write_clinical")
    )
    node = make_node("Clinic", is_clinical=True)

    with pytest.raises(NotPermitted):
        diagnostics.try_writing(User.objects.get(pk=pacsadmin.pk), node)


def test_errors_of_a_node_are_reported_as_findings(
    pacsadmin: User, make_node: Callable[..., Node], tmp_path: Path
) -> None:
    gone = make_node("gone", kind="folder", settings={"path": str(tmp_path / "gone")})
    broken = make_node("broken", kind="folder", settings={"path": ""})

    for node in (gone, broken):
        assert diagnostics.check_node(pacsadmin, node)[0].grade is Grade.BAD
    assert {e.details["worst"] for e in AuditEvent.objects.filter(action="node.checked")} == {"bad"}


def test_a_test_requires_a_free_slot(pacsadmin: User, source: Node) -> None:
    for number in range(source.search_limit):
        slots.acquire_slot(source, Lane.SEARCH, f"search:{number}", 60)

    with pytest.raises(NoSlot):
        diagnostics.check_node(pacsadmin, source)


def test_a_test_of_a_silent_pacs_ends_at_the_deadline(
    pacsadmin: User, silent: Node, settings: Any
) -> None:
    settings.SEARCH_DEADLINE_S = 1
    started = time.monotonic()

    findings = diagnostics.check_node(pacsadmin, silent)

    assert time.monotonic() - started < 30
    assert [finding.grade for finding in findings] == [Grade.BAD]
    assert "did not complete the test in time" in str(findings[0].what)
    assert not Slot.objects.exists()


def test_findings_before_the_deadline_are_kept(
    pacsadmin: User, source: Node, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adit_engine.nodes.memory import MemoryNode

    def check(node: MemoryNode) -> Iterator[NodeFinding]:
        yield NodeFinding(Grade.GOOD, Message("test.wado"))
        over.wait(60)

    over = threading.Event()
    settings.SEARCH_DEADLINE_S = 3
    monkeypatch.setattr(MemoryNode, "check", check)

    findings = diagnostics.check_node(pacsadmin, source)

    over.set()
    assert findings[0].what == Message("test.wado")
    assert [finding.grade for finding in findings] == [Grade.GOOD, Grade.BAD]


# Test images --------------------------------------------------------------------------------------


def test_one_image_is_fetched_by_c_get_and_by_c_move(pacsadmin: User, pacs: Node) -> None:
    client = client_of(pacsadmin)

    page = client.post(f"/nodes/{pacs.pk}/test/fetch/", follow=True).content.decode()

    assert "received by C-GET" in page
    assert "received by C-MOVE" in page
    assert not Slot.objects.exists()
    assert AuditEvent.objects.get(action="node.checked").details["test"] == "fetch"


def test_adopting_a_rejected_sender_makes_c_move_succeed(pacsadmin: User, pacs: Node) -> None:
    pacs.settings = {**pacs.settings, "senders": "FARM@127.0.0.1"}
    pacs.save()
    client = client_of(pacsadmin)

    before = client.post(f"/nodes/{pacs.pk}/test/fetch/", follow=True).content.decode()
    data = {"setting": "senders", "value": "FARM@127.0.0.1, DEMO@127.0.0.1"}
    adopted = client.post(f"/nodes/{pacs.pk}/test/adopt/", data, follow=True).content.decode()
    after = client.post(f"/nodes/{pacs.pk}/test/fetch/", follow=True).content.decode()

    assert "rejected DEMO at 127.0.0.1" in before
    assert "Adopt: Senders = FARM@127.0.0.1, DEMO@127.0.0.1" in before
    assert "Senders is now FARM@127.0.0.1, DEMO@127.0.0.1" in adopted
    assert "Adopt:" not in adopted
    assert "received by C-MOVE" in after
    assert UnexpectedSender.objects.get().calling == "DEMO"
    changed = AuditEvent.objects.get(action="node.changed").details["changed"]
    assert changed == ["settings.senders"]


def test_an_invalid_study_uid_is_rejected_with_a_message(pacsadmin: User, pacs: Node) -> None:
    client = client_of(pacsadmin)

    page = client.post(f"/nodes/{pacs.pk}/test/fetch/", {"study_uid": "ACC 17"}, follow=True)

    assert "A UID must have at most 64 characters" in page.content.decode()
    assert not NodeTestResult.objects.exists()


def test_a_test_image_is_sent_only_on_request(pacsadmin: User, pacs: Node, archive: Lying) -> None:
    client = client_of(pacsadmin)
    client.post(f"/nodes/{pacs.pk}/test/")
    assert len(archive.site.index) == 1

    page = client.post(f"/nodes/{pacs.pk}/test/write/", follow=True).content.decode()

    assert len(archive.site.index) == 2
    assert "patient ADIT-TEST" in page


# Proposals ----------------------------------------------------------------------------------------


def test_adopting_a_proposal_changes_the_setting_like_an_edit(pacsadmin: User, pacs: Node) -> None:
    kept(pacs, proposing("result_cap", 200))

    diagnostics.adopt_proposal(pacsadmin, pacs, "result_cap", "200")

    assert Node.objects.get(pk=pacs.pk).settings["result_cap"] == 200
    assert AuditEvent.objects.get(action="node.changed").details["changed"] == [
        "settings.result_cap"
    ]
    assert not any(
        line.proposals
        for one in diagnostics.get_last_reports(pacs, manages=True)
        for line in one.lines
    )


@pytest.mark.parametrize(
    ("setting", "value"), [("result_cap", "500"), ("host", "evil.example"), ("nonsense", "1")]
)
def test_only_proposed_values_can_be_adopted(
    pacsadmin: User, pacs: Node, setting: str, value: str
) -> None:
    kept(pacs, proposing("result_cap", 200))
    before = dict(pacs.settings)

    page = client_of(pacsadmin).post(
        f"/nodes/{pacs.pk}/test/adopt/", {"setting": setting, "value": value}, follow=True
    )

    assert "This proposal is outdated" in page.content.decode()
    assert Node.objects.get(pk=pacs.pk).settings == before


def test_an_invalid_value_is_not_adopted(pacsadmin: User, pacs: Node) -> None:
    kept(pacs, proposing("query_root", "image"))

    client_of(pacsadmin).post(
        f"/nodes/{pacs.pk}/test/adopt/", {"setting": "query_root", "value": "image"}
    )

    assert "query_root" not in Node.objects.get(pk=pacs.pk).settings


def test_a_user_who_does_not_manage_a_node_cannot_see_or_adopt_proposals(
    coordinator: User, pacs: Node
) -> None:
    kept(pacs, proposing("result_cap", 200))
    client = client_of(coordinator)

    page = client.get(f"/nodes/{pacs.pk}/").content.decode()
    answer = client.post(f"/nodes/{pacs.pk}/test/adopt/", {"setting": "result_cap", "value": "200"})

    assert "It returned 2 studies when one was requested" in page
    assert "Adopt:" not in page
    assert answer.status_code == 403
    for path in ("test/fetch/", "test/write/"):
        assert client.post(f"/nodes/{pacs.pk}/{path}").status_code == 403
        assert client.get(f"/nodes/{pacs.pk}/{path}").status_code == 302


def test_a_stored_finding_is_shown_with_the_current_template(
    pacsadmin: User, pacs: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(pacs, proposing("result_cap", 200))
    monkeypatch.setitem(
        messages._templates, "test.no-paging", "Without pages it returned {count} studies."
    )

    page = client_of(pacsadmin).get(f"/nodes/{pacs.pk}/").content.decode()

    assert "Without pages it returned 2 studies." in page


def test_findings_of_a_fetch_test_are_shown_only_to_managers(coordinator: User, pacs: Node) -> None:
    what = Message("test.sender-rejected", sender="FARM", sender_address="10.0.0.7")
    kept(pacs, NodeFinding(Grade.WARNING, what))
    NodeTestResult.objects.update(kind="fetch")

    assert "10.0.0.7" not in client_of(coordinator).get(f"/nodes/{pacs.pk}/").content.decode()


def test_pages_of_a_hidden_node_return_404(
    coordinator: User, make_node: Callable[..., Node]
) -> None:
    hidden = make_node("Hidden")
    client = client_of(coordinator)

    for path in ("test/", "test/fetch/", "test/write/", "test/adopt/"):
        assert client.post(f"/nodes/{hidden.pk}/{path}").status_code == 404
    for path in ("sheet/", "sheet.txt"):
        assert client.get(f"/nodes/{hidden.pk}/{path}").status_code == 404
