"""Retrieval by C-MOVE through our Storage SCP and its spool."""

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from lab import peers, receiving
from lab.peers import register
from lab.ports import free_port
from lab.samples import ROOT, ct, instance
from pydicom.dataset import Dataset

from adit_engine.bounded_stream import Stop
from adit_engine.cli import main
from adit_engine.cli.transfer import ExitCode
from adit_engine.dicom_file.part10 import file_parts, read_file
from adit_engine.dicom_ul.identifier import encode_identifier
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    InvalidInput,
    NodeBusy,
    NodeRefused,
    NotSupported,
    Stopped,
    TimedOut,
)
from adit_engine.nodes.dimse import c_move
from adit_engine.nodes.dimse.c_find import STUDY_ROOT
from adit_engine.nodes.dimse.c_get import STUDY_ROOT_GET
from adit_engine.nodes.dimse.c_move import STUDY_ROOT_MOVE
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.retrieve import ImageRetrieval
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import Completeness, SeriesOutcome
from adit_engine.values.query import Query
from adit_engine.values.references import InstanceRef, SeriesRef, StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

STUDY = StudyRef(f"{ROOT}.1")
SERIES = SeriesRef(STUDY.study_uid, f"{ROOT}.1.1")
MOVE = {"retrieve": "move", "drain_s": 0.5}
MOVE_ANSWER, CANCEL = 0x8021, 0x0FFF


def images(count: int, series: str = "1", **changes: object) -> list[Instance]:
    return [instance(ct(number, series=series, **changes)) for number in range(1, count + 1)]


def by_uid(instances: list[Instance]) -> dict[str, tuple[str, str, str]]:
    return {i.instance_uid: (i.sop_class_uid, i.transfer_syntax_uid, i.sha256()) for i in instances}


@pytest.fixture
def received(tmp_path: Path) -> Iterator[receiving.Received]:
    with receiving.receiving(tmp_path) as one:
        yield one
        assert one.spool.tokens() == []


# Real archives ---------------------------------------------------------------------------------


def test_images_from_orthanc_are_received_byte_for_byte(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    register(archive, received.port)
    sent, others = images(20), images(3, series="2")
    list(archive.node().store(sent + others))
    node = peers.node(archive.port, archive.called, received.reception, **MOVE)
    single = [one.in_header.ref for one in (sent[3], others[1])]

    assert by_uid(list(node.fetch([SERIES]))) == by_uid(sent)
    assert by_uid(list(node.fetch(single))) == by_uid([sent[3], others[1]])
    assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent + others)


def test_the_error_explains_that_our_ae_title_is_not_registered(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    # Ensure that there is an entry to delete, whatever test ran before.
    register(archive, received.port)
    request = urllib.request.Request(
        f"http://127.0.0.1:{archive.http_port}/modalities/adit", method="DELETE"
    )
    urllib.request.urlopen(request, timeout=250).close()
    list(archive.node().store(images(1)))
    node = peers.node(archive.port, archive.called, received.reception, **MOVE)

    # Orthanc 1.12 aborts the association without sending a status.
    with pytest.raises(ConnectionLost, match="register the AE title ADIT at this machine"):
        list(node.fetch([SERIES]))


def test_a_transfer_by_c_move_is_complete(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    register(archive, received.port)
    sent = images(10) + images(5, series="2")
    list(archive.node().store(sent))
    source = peers.node(archive.port, archive.called, received.reception, **MOVE)
    destination = MemoryNode("there", MemorySettings())

    told = list(
        transfer(StudyRequest(STUDY, "PID-4711-0815"), source, destination, AsIs(), {}, Stop())
    )

    outcomes = [one for one in told if isinstance(one, SeriesOutcome)]
    assert [one.completeness for one in outcomes] == [Completeness.COMPLETE] * 2


def test_c_move_prefetches_images_before_their_list_is_known(
    archive: peers.Orthanc, received: receiving.Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(archive, received.port)
    list(archive.node().store(images(20)))
    slow = {"retrieve": "move", "drain_s": 60.0}
    source = peers.node(archive.port, archive.called, received.reception, **slow)
    source.lists_concurrently = True
    list(source.find(Query.study(STUDY)))
    early: list[str] = []
    whole = ImageRetrieval.prefetch

    def noted(self: ImageRetrieval, *arguments: object) -> Iterator[Instance]:
        for one in whole(self, *arguments):  # type: ignore[arg-type]
            early.append(one.instance_uid)
            yield one

    monkeypatch.setattr(ImageRetrieval, "prefetch", noted)
    began = time.monotonic()
    destination = MemoryNode("there", MemorySettings())
    order = StudyRequest(STUDY, "PID-4711-0815")

    told = list(transfer(order, source, destination, AsIs(), {}, Stop()))

    outcomes = [one for one in told if isinstance(one, SeriesOutcome)]
    assert [one.completeness for one in outcomes] == [Completeness.COMPLETE]
    assert len(early) == 20
    assert time.monotonic() - began < slow["drain_s"]


def test_a_finished_prefetch_ends_when_the_list_of_images_is_known(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    register(archive, received.port)
    list(archive.node().store(images(5)))
    source = peers.node(
        archive.port, archive.called, received.reception, retrieve="move", drain_s=60.0
    )
    source.lists_concurrently = True
    list(source.find(Query.study(STUDY)))
    coming = source.prefetch(SERIES, patient_id="", count=5, expected_uids=lambda kind: True)
    assert coming is not None
    came: list[str] = []
    thread = threading.Thread(target=lambda: came.extend(one.instance_uid for one in coming))
    thread.start()

    # This is not the list of the images, so the prefetch keeps waiting.
    list(source.find(Query.uids_of(SERIES)))
    peers.wait_until(lambda: len(came) == 5, "all images have come")
    thread.join(1)
    waits = thread.is_alive()
    list(source.find(Query.instances_of(SERIES)))
    thread.join(20)

    assert waits
    assert not thread.is_alive()


def test_four_concurrent_moves_each_receive_their_own_images(
    archive: peers.Orthanc, received: receiving.Received
) -> None:
    register(archive, received.port)
    first, second = images(15), images(15, series="2")
    list(archive.node().store(first + second))
    other = SeriesRef(STUDY.study_uid, f"{ROOT}.1.2")
    fetched: dict[int, list[Instance]] = {}

    def fetch(number: int, ref: SeriesRef) -> None:
        node = peers.node(archive.port, archive.called, received.reception, **MOVE)
        fetched[number] = list(node.fetch([ref]))

    threads = [
        threading.Thread(target=fetch, args=(number, ref))
        for number, ref in enumerate((SERIES, other, SERIES, other))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    for number, expected in enumerate((first, second, first, second)):
        assert by_uid(fetched[number]) == by_uid(expected)
        assert len(fetched[number]) == 15


def test_the_command_line_fetches_by_c_move_and_removes_old_spool_files(
    archive: peers.Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    register(archive, port)
    sent = images(4)
    list(archive.node().store(sent))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    left = tmp_path / "state" / "adit" / "spool" / "999999999-left"
    left.mkdir(parents=True)
    source = f"dimse://{archive.called}@127.0.0.1:{archive.port}?retrieve=move"
    arguments = ["fetch", "--from", source, "--to", str(tmp_path / "out")]

    code = main.main([*arguments, "--study", STUDY.study_uid, "--receiver", str(port)])

    assert code == 0
    files = [read_file(path) for path in (tmp_path / "out").rglob("*.dcm")]
    assert by_uid(files) == by_uid(sent)
    assert not list(left.parent.iterdir())


def test_a_receiver_port_in_use_exits_with_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        source = "dimse://PACS@127.0.0.1:104?retrieve=move"
        arguments = ["fetch", "--from", source, "--to", str(tmp_path), "--study", "1.2"]

        assert main.main([*arguments, "--receiver", str(port)]) == ExitCode.WRONG_USE


@contextmanager
def demo_pacs(folder: Path, port: int, sent: list[Instance]) -> Iterator[int]:
    """Run the demo PACS with ADIT registered at `port`, and yield its own port."""
    folder.mkdir()
    for number, one in enumerate(sent):
        (folder / f"{number}.dcm").write_bytes(b"".join(file_parts(one)))
    command = [sys.executable, "-m", "adit.demo.pacs", "--ae-title", "DEMO", "--port", "0"]
    command += ["--folder", str(folder), "--peer", f"ADIT=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline().split()[1])
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_images_from_the_demo_pacs_are_received_byte_for_byte(
    tmp_path: Path, received: receiving.Received
) -> None:
    sent = images(5)
    with demo_pacs(tmp_path / "demo", received.port, sent) as port:
        node = peers.node(port, "DEMO", received.reception, **MOVE)

        assert by_uid(list(node.fetch([SERIES]))) == by_uid(sent)


@peers.needs_dcmtk
def test_images_from_dcmqrscp_are_received(tmp_path: Path, received: receiving.Received) -> None:
    sent = images(5)
    known = f"ADIT = (ADIT, 127.0.0.1, {received.port})"
    with peers.dcmqrscp(tmp_path / "qr", known) as port:
        list(peers.node(port, "QR").store(sent))
        node = peers.node(port, "QR", received.reception, **MOVE)

        assert {one.instance_uid for one in node.fetch([SERIES])} == {
            one.instance_uid for one in sent
        }


@peers.needs_dcmtk
def test_images_from_storescu_are_received_byte_for_byte(
    tmp_path: Path, received: receiving.Received
) -> None:
    sent = images(5)
    for one in sent:
        (tmp_path / f"{one.instance_uid}.dcm").write_bytes(b"".join(file_parts(one)))
    want = receiving.wanted(STUDY.study_uid, title="STORESCU")
    with received.reception.expect(want, receiving.never) as awaited:
        files = [str(path) for path in tmp_path.glob("*.dcm")]
        subprocess.run(
            ["storescu", "-aec", "ADIT", "127.0.0.1", str(received.port), *files],
            check=True,
            timeout=250,
        )
        taken = list(awaited.take_images())
    assert by_uid(taken) == by_uid(sent)


# Scripted archives -----------------------------------------------------------------------------


Say = Callable[[int | None], None]


class Archive:
    """Lists three CT images and answers a C-MOVE with the function `move`.

    `move` gets the archive, the talk, the message ID, and a function that sends a status.
    """

    def __init__(self, move: Callable[["Archive", peers.Talk, int, Say], None], port: int) -> None:
        self._move = move
        self.port = port
        self.images = images(3)
        self.moves = 0
        self.asked: dict[int, bytes] = {}

    def __call__(self, talk: peers.Talk) -> None:
        talk.accept(refuse=lambda kind, syntax: kind == STUDY_ROOT_GET)
        if any(uid == STUDY_ROOT_MOVE for uid, _ in talk.contexts.values()):
            self.moves += 1
            self.asked = talk.hear()
            number = int.from_bytes(self.asked[0x0110], "little")
            self._move(self, talk, number, self._answering(talk, number))
        elif any(uid == STUDY_ROOT for uid, _ in talk.contexts.values()):
            self._list(talk)
        talk.until_gone()

    def send(self, instances: list[Instance], number: int | None) -> list[int | None]:
        """Send sub-operations, with the move originator if a message ID is given."""
        originator = None if number is None else ("ADIT", number)
        with receiving.sending(self.port, *instances) as sending:
            return [sending.store(one, originator) for one in instances]

    def _answering(self, talk: peers.Talk, number: int) -> Say:
        def say(status: int | None) -> None:
            answer = {0x0100: MOVE_ANSWER, 0x0120: number}
            context = talk.context(STUDY_ROOT_MOVE)
            talk.say(context, answer if status is None else {**answer, 0x0900: status})

        return say

    def _list(self, talk: peers.Talk) -> None:
        talk.hear()
        context = talk.context(STUDY_ROOT)
        for one in self.images:
            record = Dataset()
            record.SOPInstanceUID = one.instance_uid
            record.SOPClassUID = one.sop_class_uid
            pending = {0x0100: 0x8020, 0x0120: 1, 0x0900: 0xFF00}
            talk.say(context, pending, encode_identifier(record, explicit=True))
        talk.say(context, {0x0100: 0x8020, 0x0120: 1, 0x0900: 0})


def moving(peer: peers.Scripted, received: receiving.Received, **settings: object) -> DimseNode:
    return peers.node(peer.port, "PACS", received.reception, **{**MOVE, **settings})


def failed(action: Callable[[], object]) -> AditError:
    started = time.monotonic()
    with pytest.raises(AditError) as caught:
        action()
    assert time.monotonic() - started < peers.WITHOUT_WAIT_S
    assert "PACS1" in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (0xA701, NodeBusy, "Try again later"),
        (0xA702, NodeBusy, "whether a firewall blocks the connection"),
        (0xA801, NodeRefused, "register the AE title ADIT at this machine"),
        (0xA900, NodeRefused, "A900"),
        (0xC001, NodeBusy, "cannot reach us"),
        (0x0110, NodeBusy, "Try again later"),
        (0xFE00, NodeRefused, "canceled"),
        (0x1234, NodeRefused, "no known reason"),
        (None, NodeRefused, "without a status"),
    ],
)
def test_a_final_failure_status_raises_an_error_with_an_explanation(
    received: receiving.Received, status: int | None, kind: type[AditError], words: str
) -> None:
    archive = Archive(lambda self, talk, number, say: say(status), received.port)
    with peers.Scripted(archive) as peer:
        error = failed(lambda: list(moving(peer, received).fetch([SERIES])))

    assert type(error) is kind
    assert words in str(error)


def test_the_request_names_our_ae_title_as_the_move_destination(
    received: receiving.Received,
) -> None:
    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        assert self.send(self.images, number) == [0, 0, 0]
        say(0)

    archive = Archive(move, received.port)
    with peers.Scripted(archive) as peer:
        assert len(list(moving(peer, received).fetch([SERIES]))) == 3

    assert archive.asked[0x0600] == b"ADIT"


@pytest.mark.parametrize("with_originator", [True, False])
def test_images_that_arrive_after_the_success_status_are_received(
    received: receiving.Received, with_originator: bool
) -> None:
    senders: list[threading.Thread] = []

    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        say(0)

        def later() -> None:
            time.sleep(0.2)
            self.send(self.images, number if with_originator else None)

        senders.append(threading.Thread(target=later))
        senders[0].start()

    archive = Archive(move, received.port)
    with peers.Scripted(archive) as peer:
        started = time.monotonic()
        fetched = list(moving(peer, received, drain_s=60.0).fetch([SERIES]))
        # All listed images have arrived, so the rest of `drain_s` is not waited for.
        assert time.monotonic() - started < peers.WITHOUT_WAIT_S
        senders[0].join()

    assert by_uid(fetched) == by_uid(archive.images)


@pytest.mark.parametrize("status", [0, 0xB000, 0xA702])
def test_a_final_status_after_fewer_images_ends_the_move_without_an_error(
    received: receiving.Received, status: int
) -> None:
    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        self.send(self.images[:2], number)
        say(status)

    archive = Archive(move, received.port)
    with peers.Scripted(archive) as peer:
        fetched = list(moving(peer, received).fetch([SERIES]))

    assert by_uid(fetched) == by_uid(archive.images[:2])


def test_a_slow_consumer_receives_all_images(received: receiving.Received) -> None:
    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        self.send(self.images, None)
        say(0xFF00)
        say(0)

    archive = Archive(move, received.port)
    with peers.Scripted(archive) as peer:
        fetched = []
        for one in moving(peer, received, no_progress_s=1.5).fetch([SERIES]):
            if not fetched:
                time.sleep(2)
            fetched.append(one)

    assert by_uid(fetched) == by_uid(archive.images)


def test_an_archive_that_closes_the_connection_raises_connection_lost(
    received: receiving.Received,
) -> None:
    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        self.send(self.images[:1], number)
        talk.close()

    fetched: list[Instance] = []
    with peers.Scripted(Archive(move, received.port)) as peer:
        error = failed(lambda: fetched.extend(moving(peer, received).fetch([SERIES])))

    assert isinstance(error, ConnectionLost)


@pytest.mark.parametrize("pending", [0, 200])
def test_a_move_without_images_times_out_despite_pending_responses(
    received: receiving.Received, pending: int
) -> None:
    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        for _ in range(pending):
            say(0xFF00)
            time.sleep(0.02)

    with peers.Scripted(Archive(move, received.port)) as peer:
        node = moving(peer, received, first_byte_s=2.0)
        error = failed(lambda: list(node.fetch([SERIES])))

    assert isinstance(error, TimedOut)
    assert "did not send an image within 2 s" in str(error)


def test_closing_a_move_early_sends_a_cancel_request(received: receiving.Received) -> None:
    heard: list[int] = []

    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        self.send(self.images[:1], number)
        cancelled = talk.hear()
        heard.append(int.from_bytes(cancelled[0x0100], "little"))
        assert int.from_bytes(cancelled[0x0120], "little") == number
        say(0xFE00)

    with peers.Scripted(Archive(move, received.port)) as peer:
        fetched = moving(peer, received).fetch([SERIES])
        next(fetched)
        started = time.monotonic()
        fetched.close()  # type: ignore[attr-defined]
        assert time.monotonic() - started < peers.WITHOUT_WAIT_S

    assert heard == [CANCEL]


def test_abort_cancels_and_then_aborts_if_the_archive_ignores_the_cancel(
    received: receiving.Received,
) -> None:
    late: list[int | None] = []

    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        assert talk.hear()[0x0100] == b"\xff\x0f"
        assert talk.until_gone() == 7
        late.extend(self.send_late(number))

    class Stubborn(Archive):
        def send_late(self, number: int) -> list[int | None]:
            """Send the images of the canceled move while another move is running."""
            want = receiving.wanted(STUDY.study_uid, series_uids=frozenset({SERIES.series_uid}))
            with received.reception.expect(want, receiving.never) as awaited:
                answers = self.send(self.images, number)
                assert list(awaited.take_images()) == []
            return answers

    with peers.Scripted(Stubborn(move, received.port)) as peer:  # type: ignore[arg-type]
        with receiving_title(received), closing(moving(peer, received)) as node:
            timer = threading.Timer(0.3, node.abort)
            timer.start()
            error = failed(lambda: list(node.fetch([SERIES])))
            timer.join()
        peers.wait_until(lambda: len(late) == 3, "the late images have been sent")

    assert isinstance(error, Stopped)
    assert late == [0x0124] * 3


@contextmanager
def receiving_title(received: receiving.Received) -> Iterator[None]:
    """Let the archive open associations while no image is expected from it."""
    want = receiving.wanted(f"{ROOT}.99")
    with received.reception.expect(want, receiving.never):
        yield


def test_a_second_abort_does_not_wait_for_the_archive(
    received: receiving.Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c_move, "CANCEL_WAIT_S", 60.0)

    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        talk.until_gone()

    with (
        peers.Scripted(Archive(move, received.port)) as peer,
        closing(moving(peer, received)) as node,
    ):
        timers = [threading.Timer(s, node.abort) for s in (0.2, 0.4)]
        for timer in timers:
            timer.start()
        assert isinstance(failed(lambda: list(node.fetch([SERIES]))), Stopped)
        for timer in timers:
            timer.join()


@pytest.mark.parametrize("with_originator", [True, False])
def test_two_concurrent_moves_of_one_study_each_receive_their_own_images(
    tmp_path: Path, received: receiving.Received, with_originator: bool
) -> None:
    """Two archives with the same AE title send the same study with different bytes."""

    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        for one in self.images:
            self.send([one], number if with_originator else None)
            time.sleep(0.05)
        say(0)

    fetched: dict[int, list[Instance]] = {}
    archives = [Archive(move, received.port) for _ in range(2)]
    archives[1].images = images(3, KVP="80")
    with peers.Scripted(archives[0]) as one, peers.Scripted(archives[1]) as other:

        def fetch(number: int, peer: peers.Scripted) -> None:
            fetched[number] = list(moving(peer, received).fetch([SERIES]))

        threads = [
            threading.Thread(target=fetch, args=(number, peer))
            for number, peer in enumerate((one, other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert by_uid(fetched[0]) == by_uid(archives[0].images)
    assert by_uid(fetched[1]) == by_uid(archives[1].images)


# Routes ----------------------------------------------------------------------------------------


def test_auto_falls_back_to_c_move_if_c_get_is_not_offered(
    received: receiving.Received,
) -> None:
    def move(self: Archive, talk: peers.Talk, number: int, say: Say) -> None:
        self.send(self.images, number)
        say(0)

    archive = Archive(move, received.port)
    with peers.Scripted(archive) as peer:
        fetched = list(moving(peer, received, retrieve="auto").fetch([SERIES]))

    assert by_uid(fetched) == by_uid(archive.images)


def test_auto_prefers_c_get(archive: peers.Orthanc, received: receiving.Received) -> None:
    list(archive.node().store(images(2)))
    node = peers.node(archive.port, archive.called, received.reception)

    assert len(list(node.fetch([SERIES]))) == 2


def test_c_move_without_a_receiver_raises_not_supported() -> None:
    node = peers.node(104, retrieve="move")

    with pytest.raises(NotSupported, match="no receiver is running here"):
        list(node.fetch([InstanceRef(STUDY.study_uid, f"{ROOT}.1.1", f"{ROOT}.1.1.1")]))


def test_invalid_senders_are_rejected() -> None:
    with pytest.raises(InvalidInput, match="Senders"):
        peers.node(104, senders="PACS1@somewhere")
