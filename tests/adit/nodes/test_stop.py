"""'Stop now' aborts waiting searches and associations in which a PACS sends to us."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from lab import samples

from adit.accounts.models import User
from adit.accounts.permissions import COORDINATORS
from adit.nodes import bounded_call, pause, search
from adit.nodes.limits.unavailable import NodeStopped
from adit.nodes.models import Node, Slot
from adit.nodes.receiving.receiver_state import DatabaseReceiverState
from adit.nodes.receiving.retrievals import open_spool
from adit_engine.dicom_ul.association import ClientAssociation
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.dicom_ul.peer import Peer, Timeouts
from adit_engine.errors import AssociationRejected, ConnectionLost
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.rate_limit import BURST_S
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel

pytestmark = pytest.mark.django_db(transaction=True)

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never sends a byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def pacs(make_node: Callable[..., Node], port: int) -> Node:
    settings = {"host": "127.0.0.1", "port": port, "called_ae_title": "PACS", "association_s": 600}
    return make_node("PACS1", kind="dimse", settings=settings, reads=(COORDINATORS,))


def test_a_search_notices_a_stop_and_aborts_its_connection_within_10_s() -> None:
    assert bounded_call.RECHECK_S + bounded_call.POLL_S + bounded_call.ABORT_GRACE_S < 10


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_waiting_search_is_aborted(
    everywhere: bool,
    coordinator: User,
    pacsadmin: User,
    make_node: Callable[..., Node],
    silent: int,
    settings,
) -> None:
    settings.SEARCH_DEADLINE_S = 100
    node = pacs(make_node, silent)
    stopped_at: list[float] = []

    def stop() -> None:
        until = time.monotonic() + 30
        while not Slot.objects.exists() and time.monotonic() < until:
            time.sleep(0.05)
        if everywhere:
            pause.stop_all_nodes(pacsadmin, "fire")
        else:
            pause.stop_node(pacsadmin, node, "fire")
        stopped_at.append(time.monotonic())
        connection.close()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(NodeStopped, match=r"PACS1 was stopped by pacsadmin \(reason: fire\)"):
        search.search_studies(coordinator, node, Query(QueryLevel.STUDY, {"PatientID": "1"}))
    stopping.join(30)

    assert time.monotonic() - stopped_at[0] < 60
    assert not Slot.objects.exists()


def test_the_receiver_aborts_and_rejects_associations_of_a_stopped_pacs(
    pacsadmin: User, make_node: Callable[..., Node], settings, tmp_path
) -> None:
    settings.SPOOL_DIR, settings.SPOOL_RESERVE_MB = tmp_path / "spool", 0
    node, register = pacs(make_node, 104), DatabaseReceiverState()
    with StorageScp(StorageScpSettings("ADIT", "127.0.0.1", 0), open_spool(), register) as receiver:
        sending, other = calling(receiver, "PACS"), calling(receiver, "PACS")
        sending.open([PresentationContext(CT, ("1.2.840.10008.1.2.1",))])
        assert receiver.abort_associations(register.is_stopped) == 0

        pause.stop_node(pacsadmin, node, "fire")

        assert receiver.abort_associations(register.is_stopped) == 1
        with pytest.raises(ConnectionLost):
            sending.receive(10, "say something")
        with pytest.raises(AssociationRejected):
            other.open([PresentationContext(CT, ("1.2.840.10008.1.2.1",))])
        pause.reopen_node(pacsadmin, node)
        again = calling(receiver, "PACS")
        again.open([PresentationContext(CT, ("1.2.840.10008.1.2.1",))])
        again.release()
        for one in (sending, other):
            one.close()


def calling(receiver: StorageScp, title: str) -> ClientAssociation:
    peer = Peer("ADIT", "127.0.0.1", receiver.port, "ADIT", title, 65536, Timeouts())
    return ClientAssociation(peer)


def test_unrequested_images_of_a_pacs_are_limited_to_its_rate(
    make_node: Callable[..., Node], settings, tmp_path
) -> None:
    settings.SPOOL_DIR, settings.SPOOL_RESERVE_MB = tmp_path / "spool", 0
    node, register = pacs(make_node, 104), DatabaseReceiverState()
    with StorageScp(StorageScpSettings("ADIT", "127.0.0.1", 0), open_spool(), register) as receiver:
        first, second = unasked(1), unasked(2)
        assert not next(sender(receiver).store([first])).is_stored
        Node.objects.filter(pk=node.pk).update(rate_kb_s=50)
        receiver.limit_rates(register.get_rate)
        began = time.monotonic()

        assert not next(sender(receiver).store([second])).is_stored

    assert time.monotonic() - began >= second.size_bytes / 50_000 - BURST_S


def unasked(number: int) -> Instance:
    """Return an image with 100 kB of pixel data."""
    return samples.instance(samples.ct(number, Rows=1, Columns=1, PixelData=bytes(100_000)))


def sender(receiver: StorageScp) -> DimseNode:
    given = DimseSettings("ADIT", "127.0.0.1", receiver.port, calling_ae_title="PACS")
    return DimseNode("ADIT", given)
