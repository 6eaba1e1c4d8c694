"""Hand-over by RabbitMQ: received images reach the worker on another machine."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import amqp
import pytest
from lab.services import USER, Service
from pydicom.uid import CTImageStorage

from adit.nodes.models import MoveInProgress
from adit.nodes.receiving import amqp as receiving_amqp
from adit.nodes.receiving.broker_sender import BrokerSender
from adit.nodes.receiving.receiver_state import DatabaseReceiverState
from adit.nodes.receiving.retrievals import ReceiverClient
from adit_engine.messages import Message
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.rate_limit import BURST_S
from adit_engine.storage_scp.pending_moves import AllowedSender, MoveImages, MoveTarget
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings
from adit_engine.storage_scp.spool import Spool
from adit_engine.values.instance import EXPLICIT_LE, Instance

pytestmark = pytest.mark.django_db(transaction=True)

STUDY, SERIES = "1.2.3", "1.2.3.1"
PATIENT = b"CANARY^PATIENT"
MB = 1024 * 1024


def image(number: int, size_bytes: int = 1000, study: str = STUDY) -> Instance:
    """Return a CT image with a patient name and random pixel data."""
    uid = f"{study}.1.{number}"
    values = [
        (0x00080016, b"UI", str(CTImageStorage).encode()),
        (0x00080018, b"UI", uid.encode()),
        (0x00100010, b"PN", PATIENT),
        (0x00100020, b"LO", b"CANARY-ID"),
        (0x0020000D, b"UI", study.encode()),
        (0x0020000E, b"UI", f"{study}.1".encode()),
    ]
    header = b"".join(element(*value) for value in values)
    size_bytes += size_bytes % 2
    head = bytes.fromhex("e07f1000") + b"OW\0\0" + size_bytes.to_bytes(4, "little")
    pixels = os.urandom(min(size_bytes, 1 * MB))
    pixels = (pixels * (size_bytes // len(pixels) + 1))[:size_bytes]
    return Instance(str(CTImageStorage), uid, EXPLICIT_LE, header, (head + pixels,))


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    group, number = (tag >> 16).to_bytes(2, "little"), (tag & 0xFFFF).to_bytes(2, "little")
    return group + number + vr + len(value).to_bytes(2, "little") + value


@pytest.fixture
def broker(rabbitmq_service: Service, settings: Any) -> Service:
    settings.HAND_OVER_URL = rabbitmq_service.url
    return rabbitmq_service


@pytest.fixture
def pacs(make_node: Any) -> Any:
    values = {"called_ae_title": "PACS1", "host": "127.0.0.1", "port": 1}
    return make_node("PACS1", kind="dimse", settings=values)


@pytest.fixture
def far(broker: Service, settings: Any, tmp_path: Path) -> Iterator["Far"]:
    """The receiver's machine; the worker has a different spool."""
    settings.SPOOL_DIR = tmp_path / "worker"
    settings.CALLING_AE_TITLE = "ADIT"
    settings.RECEIVER_PORT = 1
    with far_machine(broker.url, tmp_path / "receiver") as machine:
        yield machine


class Far:
    """A receiver in this process with its own spool, and a sender to it."""

    def __init__(self, url: str, folder: Path, **given: Any) -> None:
        self.spool = Spool(folder, 0)
        self.dispatch = BrokerSender(self.spool, url)
        self.register = DatabaseReceiverState(self.dispatch)
        values = StorageScpSettings("ADIT", "127.0.0.1", 0, **given)
        self.receiver = StorageScp(values, self.spool, self.register)

    def store(self, *images: Instance) -> list[Message | None]:
        """Send the images; return the error of each in order, None if it was stored."""
        given = DimseSettings(
            called_ae_title="ADIT",
            calling_ae_title="PACS1",
            host="127.0.0.1",
            port=self.receiver.port,
        )
        return [one.error for one in DimseNode("ADIT", given).store(iter(images))]

    def files(self) -> list[Path]:
        return list(self.spool.folder.glob("*/*.dcm"))


@contextmanager
def far_machine(url: str, folder: Path, **given: Any) -> Iterator[Far]:
    machine = Far(url, folder, **given)
    with machine.receiver:
        try:
            yield machine
        finally:
            machine.dispatch.stop()


def wanted(study: str = STUDY) -> MoveTarget:
    return MoveTarget("PACS1", (AllowedSender("PACS1", ("127.0.0.1",)),), "ADIT", study)


def never() -> None:
    """A stop check that never stops the wait."""


def until(happened: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)
    return found


def taken(awaited: MoveImages, count: int, seconds: float = 30) -> list[Instance]:
    """Wait for `count` images and return them."""
    found: list[Instance] = []

    def enough() -> bool:
        found.extend(awaited.take_images())
        return len(found) >= count

    until(enough, seconds)
    return found


def digests(images: list[Instance]) -> list[str]:
    return sorted(one.sha256() for one in images)


def channel(broker: Service) -> amqp.Channel:
    address = f"127.0.0.1:{broker.port}"
    connection = amqp.Connection(address, USER, broker.password, virtual_host=USER)
    connection.connect()
    return connection.channel()


def test_images_reach_the_worker_unmodified_and_leave_no_file_or_queue(far, pacs, broker, caplog):
    sent = [image(1), image(2, 300_000), image(3, 5 * MB), image(4, 12 * MB)]
    with ReceiverClient(pacs).expect(wanted(), never) as awaited:
        assert far.store(*sent) == [None] * 4
        assert digests(taken(awaited, 4)) == digests(sent)
        token = MoveInProgress.objects.get().token
        until(lambda: not far.files())
        assert not far.spool.journal("none")

    until(lambda: not far.spool.tokens())
    assert not MoveInProgress.objects.exists()
    assert "were not deleted" not in caplog.text
    line = channel(broker)
    for queue in (receiving_amqp.get_images_queue(token), receiving_amqp.get_receipts_queue(token)):
        with pytest.raises(amqp.NotFound):
            line.connection.channel().queue_declare(queue, passive=True)
    line.connection.close()


def test_the_queues_of_an_ended_retrieval_are_deleted_without_an_error(broker):
    """The broker cancels the consumers of a deleted queue, in the middle of the next request."""
    for number in range(20):
        wire = receiving_amqp.connect(broker.url)
        wire.make_queues(f"token{number}")
        wire.subscribe(receiving_amqp.get_images_queue(f"token{number}"), lambda message: None)
        wire.remove_queues(f"token{number}")
        wire.close()


def test_the_rate_is_kept_and_the_worker_is_notified_of_an_incoming_image(far, pacs):
    """The image appears in the worker's spool only when it is complete."""
    size_bytes, rate_kb_s = 200_000, 50
    type(pacs).objects.update(rate_kb_s=rate_kb_s)
    with ReceiverClient(pacs).expect(wanted(), never) as awaited:
        began = time.monotonic()
        sending = threading.Thread(target=far.store, args=(image(1, size_bytes),))
        sending.start()

        until(awaited.is_throttled)
        assert not list(awaited.take_images())
        assert len(taken(awaited, 1)) == 1
        assert time.monotonic() - began >= size_bytes / rate_kb_s / 1000 - BURST_S
        sending.join(30)
