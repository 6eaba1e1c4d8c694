"""Storage Commitment reports to the receiver reach the worker that requested them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from lab.archive import Lying
from lab.lies import Kind, Lie, Part, Site, holdings

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS
from adit.nodes import diagnostics
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.models import Node, PendingCommitment
from adit.nodes.receiving import commitment_reports
from adit.nodes.receiving.receiver_state import DatabaseReceiverState, delete_expired
from adit.nodes.receiving.retrievals import ReceiverClient, open_spool
from adit_engine.nodes.base import ConfirmationRemark, NotConfirmed, StorageConfirmation
from adit_engine.nodes.diagnostics import image_probe
from adit_engine.storage_scp.pending_moves import AllowedSender, PendingReport
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings
from adit_engine.values.commitment_report import CommitmentReport, ReportReceipt

pytestmark = pytest.mark.django_db(transaction=True)

HERE = ("127.0.0.1",)
ASKED = PendingReport("PACS1", "2.25.7", (AllowedSender("PACS", HERE),))
REPORT = CommitmentReport(
    "2.25.7", frozenset({("1.2", "1.3.1"), ("1.2", "1.3.2")}), {"1.3.3": 0x0112}
)


@pytest.fixture
def pacs(make_node: Any) -> Node:
    return make_node("PACS1", kind="dimse", settings={"called_ae_title": "PACS", "host": "h"})


def test_a_report_reaches_the_worker_that_requested_it(pacs: Node) -> None:
    with ReceiverClient(pacs).await_report(ASKED, 5) as come:
        assert come() is None
        assert (
            DatabaseReceiverState().take_report(REPORT, "PACS", "127.0.0.1") is ReportReceipt.TAKEN
        )
        came = _until(come)

    assert came == REPORT
    assert not PendingCommitment.objects.exists()


def _until(come: Any) -> Any:
    deadline = timezone.now() + timedelta(seconds=5)
    while (came := come()) is None and timezone.now() < deadline:
        pass
    return came


def test_only_the_first_report_of_a_request_counts(pacs: Node) -> None:
    with ReceiverClient(pacs).await_report(ASKED, 5) as come:
        register = DatabaseReceiverState()
        register.take_report(REPORT, "PACS", "127.0.0.1")

        again = register.take_report(replace(REPORT, committed=frozenset()), "PACS", "127.0.0.1")

        assert again is ReportReceipt.TAKEN
        assert _until(come) == REPORT


@pytest.mark.parametrize(
    ("title", "address"), [("OTHER", "127.0.0.1"), ("PACS", "10.1.2.3")], ids=["title", "address"]
)
def test_a_report_from_another_sender_is_not_accepted(pacs: Node, title: str, address: str) -> None:
    with ReceiverClient(pacs).await_report(ASKED, 5) as come:
        assert DatabaseReceiverState().take_report(REPORT, title, address) is ReportReceipt.STRANGER
        assert PendingCommitment.objects.get().report is None
        assert come() is None


def test_a_report_without_a_pending_request_is_not_accepted(pacs: Node) -> None:
    with ReceiverClient(pacs).await_report(ASKED, 5):
        pass

    assert DatabaseReceiverState().take_report(REPORT, "PACS", "127.0.0.1") is ReportReceipt.UNKNOWN


def test_an_expired_request_accepts_no_report_and_is_deleted(
    pacs: Node, settings: Any, tmp_path: Path
) -> None:
    settings.SPOOL_DIR = tmp_path / "spool"
    late = timezone.now() - timedelta(seconds=1)
    with commitment_reports.expect_report(pacs.pk, replace(ASKED, transaction_uid="2.25.8"), 5):
        open_spool().prepare()
        PendingCommitment.objects.create(
            node=pacs,
            transaction_uid="2.25.7",
            allowed_senders=[["PACS", list(HERE)]],
            expires_at=late,
        )
        assert (
            DatabaseReceiverState().take_report(REPORT, "PACS", "127.0.0.1")
            is ReportReceipt.UNKNOWN
        )

        delete_expired()

        assert [row.transaction_uid for row in PendingCommitment.objects.all()] == ["2.25.8"]


def test_a_report_that_cannot_be_stored_is_temporarily_refused(
    pacs: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ReceiverClient(pacs).await_report(ASKED, 5):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE nodes_pendingcommitment RENAME TO away")
        try:
            receipt = DatabaseReceiverState().take_report(REPORT, "PACS", "127.0.0.1")
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE away RENAME TO nodes_pendingcommitment")

    assert receipt is ReportReceipt.NOT_NOW


# With a real receiver, and a PACS that opens an association to it ------------------------------


@contextmanager
def installation(settings: Any, folder: Path, *lies: Lie) -> Iterator[Lying]:
    """Run the receiver of the installation and a test PACS that reports to it."""
    settings.SPOOL_DIR = folder / "spool"
    settings.SPOOL_RESERVE_MB = 0
    settings.CALLING_AE_TITLE = "ADIT"
    (folder / "kept").mkdir()
    given = StorageScpSettings("ADIT", "127.0.0.1", 0)
    with StorageScp(given, open_spool(), DatabaseReceiverState()) as receiver:
        settings.RECEIVER_PORT = receiver.port
        site = Site("PACS", holdings(folder / "kept"), {"ADIT": ("127.0.0.1", receiver.port)})
        with Lying(site, lies, scratch=folder) as archive:
            yield archive


def destination(make_node: Any, archive: Lying, **values: Any) -> Node:
    given = {"called_ae_title": "PACS", "host": "127.0.0.1", "port": archive.port, **values}
    return make_node("PACS1", writes=(COORDINATORS,), kind="dimse", settings=given)


def proofs_of(user: User, row: Node) -> list[StorageConfirmation]:
    with open_node(user, row, Purpose.STORE, holder="task:1") as node:
        return list(node.confirm(list(node.store([image_probe.make_test_image("ADIT")]))))


def test_a_worker_gets_the_report_that_the_pacs_sends_to_the_receiver(
    coordinator: User, make_node: Any, settings: Any, tmp_path: Path
) -> None:
    with installation(settings, tmp_path) as archive:
        row = destination(make_node, archive, proof="commitment")

        proofs = proofs_of(coordinator, row)

    assert archive.log.reports == [0]
    assert proofs == [image_probe.make_test_image("ADIT").instance_uid]
    assert not PendingCommitment.objects.exists()


def test_an_image_that_the_pacs_reports_as_missing_is_not_confirmed(
    coordinator: User, make_node: Any, settings: Any, tmp_path: Path
) -> None:
    with installation(settings, tmp_path, Lie(Kind.FORGET, on=Part.STORE)) as archive:
        (proof,) = proofs_of(coordinator, destination(make_node, archive, proof="commitment"))

    assert isinstance(proof, NotConfirmed)
    assert "0112" in str(proof.reason)


def test_storage_is_confirmed_by_query_if_no_report_arrives(
    coordinator: User, make_node: Any, settings: Any, tmp_path: Path
) -> None:
    with installation(settings, tmp_path, Lie(Kind.NOTHING, on=Part.COMMIT)) as archive:
        row = destination(make_node, archive, proof="commitment", commitment_s=1.0)

        remark, proof = proofs_of(coordinator, row)

    assert isinstance(remark, ConfirmationRemark)
    assert remark.text.code == "proof.by-query"
    assert proof == image_probe.make_test_image("ADIT").instance_uid
    assert not PendingCommitment.objects.exists()


def test_a_test_image_leads_to_a_proposal_to_use_storage_commitment(
    pacsadmin: User, make_node: Any, settings: Any, tmp_path: Path, client: Client
) -> None:
    with installation(settings, tmp_path) as archive:
        row = destination(make_node, archive)
        diagnostics.try_writing(pacsadmin, row)

    client.force_login(pacsadmin)
    page = client.get(f"/nodes/{row.pk}/").content.decode()
    assert "Adopt: Verification of storage = commitment" in page
    diagnostics.adopt_proposal(pacsadmin, row, "proof", "commitment")
    row.refresh_from_db()
    assert row.settings["proof"] == "commitment"
