"""Reception in the installation: images of a C-MOVE reach the worker that requested them."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace as but
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.utils import timezone
from lab.archive import Lying, plain_archive
from lab.ports import free_port
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage

from adit.accounts.permissions import COORDINATORS
from adit.nodes.gateway import Purpose, open_node
from adit.nodes.limits import slots
from adit.nodes.models import Lane, MoveInProgress, Slot
from adit.nodes.receiving.receiver_state import DatabaseReceiverState, delete_expired
from adit.nodes.receiving.retrievals import ReceiverClient, open_spool
from adit_engine.dicom_file import part10, temp_files
from adit_engine.errors import NotSupported
from adit_engine.nodes.base import Grade
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.rate_limit import BURST_S
from adit_engine.storage_scp.pending_moves import AllowedSender, MoveTarget
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings
from adit_engine.values.instance import EXPLICIT_LE, Instance
from adit_engine.values.references import SeriesRef

pytestmark = pytest.mark.django_db(transaction=True)

STUDY, SERIES = "1.2.3", "1.2.3.1"
HERE = ("127.0.0.1",)


def image(number: int) -> Instance:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"{SERIES}.{number}"
    dataset.Modality = "CT"
    dataset.PatientName = "Sample^One"
    dataset.PatientID = "P1"
    dataset.StudyInstanceUID = STUDY
    dataset.SeriesInstanceUID = SERIES
    dataset.InstanceNumber = str(number)
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset)
    uid = dataset.SOPInstanceUID
    return Instance(str(CTImageStorage), str(uid), EXPLICIT_LE, buffer.getvalue())


@pytest.fixture
def receiver(settings, tmp_path: Path) -> Iterator[StorageScp]:
    """The receiver of the installation, running in this process."""
    settings.SPOOL_DIR = tmp_path / "spool"
    settings.SPOOL_RESERVE_MB = 0
    settings.CALLING_AE_TITLE = "ADIT"
    given = StorageScpSettings("ADIT", "127.0.0.1", 0)
    with StorageScp(given, open_spool(), DatabaseReceiverState()) as one:
        settings.RECEIVER_PORT = one.port
        yield one


@pytest.fixture
def demo(receiver: StorageScp, tmp_path: Path) -> Iterator[Lying]:
    folder = tmp_path / "demo"
    folder.mkdir()
    for number in range(1, 6):
        one = image(number)
        (folder / f"{number}.dcm").write_bytes(b"".join(part10.file_parts(one)))
    with plain_archive("DEMO", folder, {"ADIT": ("127.0.0.1", receiver.port)}) as archive:
        yield archive


@pytest.fixture
def pacs(make_node, demo: Lying):
    values = {"called_ae_title": "DEMO", "host": "127.0.0.1", "port": demo.port, "drain_s": 0.5}
    return make_node(
        "PACS1", reads=(COORDINATORS,), kind="dimse", settings={**values, "retrieve": "move"}
    )


def wanted(title: str = "DEMO", study: str = STUDY) -> MoveTarget:
    return MoveTarget("PACS1", (AllowedSender(title, HERE),), "ADIT", study)


def sender(receiver: StorageScp, title: str = "DEMO") -> DimseNode:
    """Return a node that sends by C-STORE without a move originator."""
    given = DimseSettings(
        called_ae_title="ADIT", calling_ae_title=title, host="127.0.0.1", port=receiver.port
    )
    return DimseNode("ADIT", given)


def never() -> None:
    """A stop check that never stops the wait."""


def test_a_worker_gets_the_images_of_a_c_move_unmodified(coordinator, pacs):
    with open_node(coordinator, pacs, Purpose.RETRIEVE, holder="task:1") as node:
        fetched = list(node.fetch([SeriesRef(STUDY, SERIES)]))

    sent = [image(number) for number in range(1, 6)]
    assert sorted(one.sha256() for one in fetched) == sorted(one.sha256() for one in sent)
    assert not MoveInProgress.objects.exists()
    assert open_spool().tokens() == []
    pacs.refresh_from_db()
    assert pacs.sends_move_originator is True


def test_a_fetch_in_a_thread_leaves_no_database_connection_open(coordinator, pacs):
    left = []

    def fetch() -> None:
        with ReceiverClient(pacs).expect(wanted(), never) as awaited:
            list(awaited.take_images())
        left.append(connection.connection)

    thread = threading.Thread(target=fetch)
    thread.start()
    thread.join()
    assert left == [None]


@contextmanager
def second_move(pacs) -> Iterator[threading.Event]:
    """Start another move of the study in a thread; the event is set when its turn comes."""
    entered = threading.Event()

    def expect() -> None:
        with ReceiverClient(pacs).expect(wanted(), never):
            entered.set()

    thread = threading.Thread(target=expect)
    thread.start()
    yield entered
    thread.join()


def test_moves_of_one_study_take_turns_until_the_originator_is_known(pacs):
    with second_move(pacs) as entered:
        with ReceiverClient(pacs).expect(wanted(), never):
            entered.clear()
            with second_move(pacs) as third:
                assert not third.wait(0.6)
                type(pacs).objects.update(sends_move_originator=True)
                assert third.wait(30)
        assert entered


def test_an_image_without_originator_is_assigned_by_study_uid(pacs, receiver):
    with (
        ReceiverClient(pacs).expect(wanted(), never) as awaited,
        ReceiverClient(pacs).expect(wanted(study="1.2.4"), never) as other,
    ):
        stored = list(sender(receiver).store([image(1)]))
        assert [one.error for one in stored] == [None]
        assert [one.instance_uid for one in awaited.take_images()] == [f"{SERIES}.1"]
        assert list(other.take_images()) == []
    pacs.refresh_from_db()
    assert pacs.sends_move_originator is False


def test_late_images_are_refused(pacs, receiver):
    with ReceiverClient(pacs).expect(wanted(), never):
        assert next(sender(receiver).store([image(1)])).is_stored

    # The receiver may have cached the row, and has already stored the first image.
    for late in (image(1), image(2)):
        assert not next(sender(receiver).store([late])).is_stored
    assert not list(open_spool().folder.rglob("*.dcm"))


def test_a_canceled_move_keeps_a_slot_for_a_while(coordinator, pacs):
    with open_node(coordinator, pacs, Purpose.RETRIEVE, holder="task:1") as node:
        fetched = node.fetch([SeriesRef(STUDY, SERIES)])
        next(fetched)
        fetched.close()

    (late,) = Slot.objects.all()
    assert late.holder.startswith("late:")
    assert slots.count_free(pacs, Lane.RETRIEVE) == pacs.retrieve_limit - 1
    assert not MoveInProgress.objects.exists()


def test_message_ids_of_moves_are_unique_and_wrap_after_65535(pacs):
    numbers = []
    for _ in range(3):
        with ReceiverClient(pacs).expect(wanted(), never) as awaited:
            numbers.append(awaited.message_id)

    assert len(set(numbers)) == 3
    assert MoveInProgress(pk=65535).message_id == 65535
    assert MoveInProgress(pk=65536).message_id == 1


def test_only_expired_moves_and_orphaned_spool_folders_are_deleted(pacs):
    spool = open_spool()
    with ReceiverClient(pacs).expect(wanted(study="1.2.4"), never):
        alive = spool.tokens()
        dead = MoveInProgress.objects.create(
            node=pacs,
            token="dead",
            calling_ae_title="ADIT",
            allowed_senders=[],
            study_uid=STUDY,
            series_uids=[],
            instance_uids=[],
            expires_at=timezone.now() - timedelta(seconds=1),
        )
        for token in (dead.token, "orphan"):
            spool.open(token)

        delete_expired()

        assert spool.tokens() == alive
        assert MoveInProgress.objects.count() == 1


def test_the_receiver_accepts_only_known_calling_ae_titles(pacs, receiver):
    assert next(iter(sender(receiver).check())).grade is Grade.GOOD
    assert next(iter(sender(receiver, "STRANGER").check())).grade is Grade.BAD


def test_a_node_can_define_other_senders(make_node, receiver):
    values = {"called_ae_title": "PACS2", "host": "10.9.9.9", "senders": "FARM1, FARM2@10.0.0.0/8"}
    make_node("PACS2", kind="dimse", settings=values)
    make_node("broken", kind="dimse", settings={"host": ""})

    assert next(iter(sender(receiver, "FARM1").check())).grade is Grade.GOOD
    assert next(iter(sender(receiver, "FARM2").check())).grade is Grade.BAD
    assert next(iter(sender(receiver, "PACS2").check())).grade is Grade.BAD


def test_a_move_waiting_for_its_turn_can_be_stopped(pacs):
    class Ended(Exception):
        """The work is stopped."""

    def stop() -> None:
        raise Ended

    with ReceiverClient(pacs).expect(wanted(), never):
        started = time.monotonic()
        with pytest.raises(Ended), ReceiverClient(pacs).expect(wanted(), stop):
            pass
        assert time.monotonic() - started < 30
    assert not MoveInProgress.objects.exists()


def test_c_move_is_not_supported_without_a_receiver(settings, coordinator, pacs):
    settings.RECEIVER_PORT = 0

    with (
        pytest.raises(NotSupported, match="no receiver is running here"),
        open_node(coordinator, pacs, Purpose.RETRIEVE, holder="task:1") as node,
    ):
        list(node.fetch([SeriesRef(STUDY, SERIES)]))


def test_the_receiver_gets_the_rate_that_other_connections_leave(pacs, receiver):
    type(pacs).objects.update(rate_kb_s=90, retrieve_limit=4)
    slots.acquire_slot(
        pacs, Lane.RETRIEVE, "task:1", 60, slots.SlotRequest(min_associations=2, max_associations=2)
    )
    with ReceiverClient(pacs).expect(wanted(), never):
        (alone,) = DatabaseReceiverState().pending_moves()
        slots.acquire_slot(pacs, Lane.RETRIEVE, "task:2", 60)
        (beside_a_get,) = DatabaseReceiverState().pending_moves()
        type(pacs).objects.update(rate_kb_s=None)
        (free,) = DatabaseReceiverState().pending_moves()

    found = [one.target.rate_bytes_s for one in (alone, beside_a_get, free)]
    assert found == [90_000, 60_000, None]


def test_received_images_are_limited_to_the_rate_from_the_first_byte(pacs, receiver):
    type(pacs).objects.update(rate_kb_s=50)
    whole = but(
        image(1), rest=(bytes.fromhex("e07f1000") + b"OW\0\0" + b"\0\0\1\0" + bytes(65536),)
    )
    with ReceiverClient(pacs).expect(wanted(), never):
        began = time.monotonic()
        assert next(sender(receiver).store([whole])).is_stored

    assert time.monotonic() - began >= whole.size_bytes / 50_000 - BURST_S


def test_temporary_files_of_large_objects_are_in_the_spool(settings):
    with temp_files.open_unnamed() as file:
        place = os.readlink(f"/proc/self/fd/{file.fileno()}")

    assert place.startswith(f"{settings.SPOOL_DIR}/_large/")


def test_the_receiver_process_answers_associations_and_ends_on_sigterm(tmp_path: Path):
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_", "DATA"))}
    env = {**kept, "ADIT_DATA": str(tmp_path / "var"), "ADIT_RECEIVER_PORT": str(port)}
    prepare = [sys.executable, "-c", "from adit import cli; cli.prepare()"]
    subprocess.run(prepare, env=env, check=True, capture_output=True, timeout=250)
    process = subprocess.Popen(
        [sys.executable, "-m", "adit.cli", "receiver"], env=env, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert f"receives images as ADIT on port {port}" in process.stderr.readline()
        given = DimseSettings("ADIT", "127.0.0.1", port, calling_ae_title="STRANGER")
        finding = next(iter(DimseNode("the receiver", given).check()))
        assert finding.what.code == "association.unknown-calling-title"
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
