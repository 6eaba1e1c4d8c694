"""The quarantine: unrequested images, shown without patient data, deleted by node managers."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as config
from django.test import Client

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.nodes import host_checks
from adit.nodes.models import Alarm, Node, UnexpectedSender
from adit.nodes.receiving import quarantine, unexpected_senders
from adit.nodes.receiving.receiver_state import DatabaseReceiverState
from adit.nodes.receiving.retrievals import ReceiverClient, open_spool
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade
from adit_engine.nodes.diagnostics.image_probe import TEST_PATIENT_ID, make_test_image
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.storage_scp.pending_moves import AllowedSender, Disposition, MoveTarget
from adit_engine.storage_scp.pending_moves import UnexpectedArrival as Arrived
from adit_engine.storage_scp.quarantine import Quarantine
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/nodes/quarantine/"


@pytest.fixture(autouse=True)
def installation(settings: Any, tmp_path: Path) -> None:
    config.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    settings.SPOOL_DIR = tmp_path / "spool"
    settings.SPOOL_RESERVE_MB = 0
    settings.RECEIVER_QUARANTINE_MB = 1


@pytest.fixture
def receiver() -> Iterator[StorageScp]:
    given = StorageScpSettings("ADIT", "127.0.0.1", 0, quarantine_bytes=1024 * 1024)
    register = DatabaseReceiverState()
    with StorageScp(given, open_spool(), register) as one:
        yield one
    register.write_unexpected_senders()


def send(receiver: StorageScp, title: str) -> Message | None:
    """Send one image to the receiver; return its error, or None if it was accepted."""
    given = DimseSettings(
        called_ae_title="ADIT", calling_ae_title=title, host="127.0.0.1", port=receiver.port
    )
    (stored,) = DimseNode("ADIT", given).store([make_test_image(title)])
    return stored.error


def known(make_node: Callable[..., Node], title: str) -> Node:
    values = {"called_ae_title": title, "host": "127.0.0.1", "port": 104}
    return make_node(title, kind="dimse", settings=values)


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def seen(fate: Disposition, calling: str = "FARM", **more: Any) -> Arrived:
    return Arrived(fate, calling, "ADIT", "10.0.0.7", **more)


def test_an_unrequested_image_is_quarantined_listed_and_deleted(
    pacsadmin: User, make_node: Callable[..., Node], receiver: StorageScp
) -> None:
    known(make_node, "FARM")
    assert send(receiver, "FARM") is None
    client = client_of(pacsadmin)

    page = client.get(PATH).content.decode()
    (lot,) = client.get(PATH).context["held"].groups
    client.post(f"{PATH}delete/", {"lot": lot.key})

    assert "FARM" in page
    assert "127.0.0.1" in page
    assert "Secondary Capture" in page
    for word in (TEST_PATIENT_ID, make_test_image("FARM").instance_uid, "2.25."):
        assert word not in page
    assert Quarantine(open_spool(), 0).contents() == []
    assert list((open_spool().folder / "_quarantine").iterdir()) == []
    actions = list(AuditEvent.objects.filter(action__startswith="quarantine").values_list("action"))
    assert actions == [("quarantine.viewed",)] * 2 + [("quarantine.deleted",)]
    assert AuditEvent.objects.get(action="quarantine.deleted").details == {
        "images": 1,
        "from": ["FARM@127.0.0.1"],
    }


def test_a_quarantined_image_raises_an_alarm_until_it_is_deleted(
    pacsadmin: User, make_node: Callable[..., Node], receiver: StorageScp
) -> None:
    known(make_node, "FARM")
    assert send(receiver, "FARM") is None

    host_checks.check_host(receives=True)

    alarm = Alarm.objects.get(cause=Alarm.Cause.QUARANTINE)
    assert alarm.text == Message("alarm.quarantine-used", count=1)
    (lot,) = quarantine.list_quarantine(pacsadmin).groups
    quarantine.delete_images(pacsadmin, [(lot.calling, lot.address, lot.class_uid)])
    host_checks.check_host(receives=True)
    alarm.refresh_from_db()
    assert alarm.ended_at is not None


def test_unknown_senders_are_counted_and_can_be_deleted(
    pacsadmin: User, receiver: StorageScp
) -> None:
    given = DimseSettings(
        called_ae_title="ADIT", calling_ae_title="NOBODY", host="127.0.0.1", port=receiver.port
    )
    for _ in range(3):
        assert next(iter(DimseNode("ADIT", given).check())).grade is Grade.BAD
    receiver._register.write_unexpected_senders()
    client = client_of(pacsadmin)

    row = UnexpectedSender.objects.get()
    page = client.get(PATH).content.decode()
    client.post(f"{PATH}delete/", {"forget": "1"})

    assert (row.calling, row.disposition, row.count) == ("NOBODY", "turned_away", 3)
    assert "NOBODY" in page
    assert "Connection rejected" in page
    assert not UnexpectedSender.objects.exists()


def test_a_c_move_image_from_another_sender_is_reported_for_the_node(
    make_node: Callable[..., Node], receiver: StorageScp
) -> None:
    pacs = known(make_node, "PACS1")
    known(make_node, "FARM")
    image = make_test_image("FARM")
    study = image.in_header.ref.study_uid
    wanted = MoveTarget("PACS1", (AllowedSender("PACS1", ("127.0.0.1",)),), "ADIT", study)
    reception, began = ReceiverClient(pacs), datetime.now(UTC)

    with reception.expect(wanted, lambda: None):
        send(receiver, "FARM")
        found = reception.unexpected_since("PACS1", began)

    assert [(one.source, one.calling, one.disposition) for one in found] == [
        ("PACS1", "FARM", Disposition.QUARANTINED)
    ]
    assert reception.unexpected_since("OTHER", began) == []


def test_the_number_of_stored_senders_is_limited() -> None:
    many = unexpected_senders.SenderCounter()
    for number in range(unexpected_senders.MAX_ROWS + 50):
        many.add(seen(Disposition.REJECTED, f"AE{number}"))

    unexpected_senders.write_counts(many.take())

    assert UnexpectedSender.objects.count() == unexpected_senders.MAX_ROWS


def test_unexpected_images_are_counted_in_memory_before_they_are_stored() -> None:
    gatherer = unexpected_senders.SenderCounter()
    due = [gatherer.add(seen(Disposition.REFUSED, size_bytes=10)) for _ in range(3)]
    unexpected_senders.write_counts(gatherer.take())
    due.append(gatherer.add(seen(Disposition.REFUSED, size_bytes=10)))
    unexpected_senders.write_counts(gatherer.take())

    row = UnexpectedSender.objects.get()
    assert (row.count, row.size_bytes) == (4, 40)
    assert due == [True, True, True, False]


@pytest.mark.parametrize("who", ["coordinator", "stranger", "dpo"])
def test_only_node_managers_can_use_the_quarantine(
    request: pytest.FixtureRequest, who: str
) -> None:
    client = client_of(request.getfixturevalue(who))

    assert client.get(PATH).status_code == 403
    assert client.post(f"{PATH}delete/", {"forget": "1"}).status_code == 403


def test_get_is_not_allowed_for_deletion(pacsadmin: User) -> None:
    assert client_of(pacsadmin).get(f"{PATH}delete/")["Location"] == PATH


@pytest.mark.parametrize("lot", ["", "[]", "1", '["a"]', "nonsense", '["../x", "..", ".."]'])
def test_an_invalid_lot_deletes_nothing(
    lot: str, pacsadmin: User, make_node: Callable[..., Node], receiver: StorageScp
) -> None:
    known(make_node, "FARM")
    send(receiver, "FARM")

    answer = client_of(pacsadmin).post(f"{PATH}delete/", {"lot": lot})

    assert answer.status_code == 302
    assert len(Quarantine(open_spool(), 0).contents()) == 1


def test_the_home_page_notifies_only_managers_of_unrequested_images(
    pacsadmin: User, coordinator: User
) -> None:
    assert "Unrequested images or connections" not in client_of(pacsadmin).get("/").content.decode()

    gatherer = unexpected_senders.SenderCounter()
    gatherer.add(seen(Disposition.REJECTED))
    unexpected_senders.write_counts(gatherer.take())

    assert "Unrequested images or connections" in client_of(pacsadmin).get("/").content.decode()
    assert (
        "Unrequested images or connections" not in client_of(coordinator).get("/").content.decode()
    )


def test_markup_in_ae_titles_is_escaped(pacsadmin: User) -> None:
    gatherer = unexpected_senders.SenderCounter()
    gatherer.add(seen(Disposition.REJECTED, "<script>x"))
    unexpected_senders.write_counts(gatherer.take())

    assert "<script>x" not in client_of(pacsadmin).get(PATH).content.decode()


def test_senders_seen_before_the_start_time_are_not_reported(
    make_node: Callable[..., Node],
) -> None:
    gatherer = unexpected_senders.SenderCounter()
    gatherer.add(seen(Disposition.REJECTED))
    unexpected_senders.write_counts(gatherer.take())

    assert unexpected_senders.find_for_node("PACS1", datetime.now(UTC) + timedelta(seconds=1)) == []
