"""C-GET, C-MOVE and C-STORE of the demo PACS, with dcmtk and pynetdicom as peers."""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from lab.ports import free_port
from lab.scu import associate
from lab.small_objects import CT, MR, instance
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, build_context, build_role, evt
from pynetdicom.dimse import DIMSEServiceProvider

from adit.demo import pacs as demo_pacs
from adit.demo.pacs import DemoPacs
from adit.demo.pacs_index import FolderIndex

GET = "1.2.840.10008.5.1.4.1.2.2.3"
MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
needs_dcmtk = pytest.mark.skipif(
    shutil.which("getscu") is None, reason="needs dcmtk (apt install dcmtk)"
)


def data_set(path: Path) -> bytes:
    """Return the bytes after the file meta information."""
    content = path.read_bytes()
    return content[132 + 12 + int.from_bytes(content[140:144], "little") :]


def by_uid(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(dcmread(path).SOPInstanceUID): data_set(path) for path in paths}


def dcmtk(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(one) for one in arguments], capture_output=True, text=True, timeout=250, check=False
    )


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


@needs_dcmtk
@pytest.mark.parametrize("root", ["-S", "-P"])
def test_c_get_of_a_study_returns_the_stored_bytes(
    pacs: DemoPacs, filled: Path, tmp_path: Path, root: str
) -> None:
    (tmp_path / "out").mkdir()
    done = dcmtk(
        "getscu", root, "-aec", "DEMOPACS", "127.0.0.1", pacs.port, "-od", tmp_path / "out",
        "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=P1", "-k", "StudyInstanceUID=1.2.1",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert by_uid(tmp_path / "out") == by_uid(filled / "1.2.1")


def store(port: int, sent: Dataset | Path, class_uid: str = CT) -> int:
    """Send one object by C-STORE and return the status."""
    association = associate(
        ("127.0.0.1", port), "SECOND", [build_context(class_uid, "1.2.840.10008.1.2.1")]
    )
    status = association.send_c_store(sent).Status
    association.release()
    return int(status)


def get(
    pacs: DemoPacs,
    level: str,
    syntaxes: list[str],
    *,
    classes: tuple[str, ...] = (CT, MR),
    cancel: bool = False,
    **keys: object,
) -> tuple[list[bytes], int, int]:
    """Return the received data sets, the number of completed sub-operations and the status."""
    came: list[bytes] = []

    def keep(event: evt.Event) -> int:
        came.append(event.encoded_dataset(include_meta=False))
        if cancel and len(came) == 1:
            event.assoc.send_c_cancel(1, query_model=GET)
        return 0

    storage = [build_context(one, syntax) for one in classes for syntax in syntaxes]
    roles = [build_role(class_uid, scp_role=True) for class_uid in classes]
    association = associate(
        ("127.0.0.1", pacs.port),
        pacs.ae_title,
        [build_context(GET), *storage],
        roles,
        [(evt.EVT_C_STORE, keep)],
    )
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    last = list(association.send_c_get(identifier, GET))[-1][0]
    association.release()
    return came, last.get("NumberOfCompletedSuboperations", 0), last.Status


def test_c_get_returns_single_instances(pacs: DemoPacs, filled: Path) -> None:
    wanted = ["1.2.1.1.1", "1.2.1.1.3"]
    came, completed, status = get(
        pacs, "IMAGE", ["1.2.840.10008.1.2.1"],
        StudyInstanceUID="1.2.1", SeriesInstanceUID="1.2.1.1", SOPInstanceUID=wanted,
    )  # fmt: skip
    assert (completed, status) == (2, 0)
    assert sorted(came) == sorted(data_set(filled / f"1.2.1/1.2.1.1/{uid}.dcm") for uid in wanted)


def test_a_peer_that_accepts_only_implicit_vr_gets_implicit_vr(pacs: DemoPacs) -> None:
    came, completed, status = get(pacs, "STUDY", [ImplicitVRLittleEndian], StudyInstanceUID="1.2.2")
    assert (completed, status) == (2, 0)
    read = [
        read_dataset(BytesIO(data), is_implicit_VR=True, is_little_endian=True) for data in came
    ]
    assert [(one.PatientID, len(one.PixelData)) for one in read] == [("P2", 2000), ("P2", 2000)]


def test_an_image_is_decompressed_for_a_peer_without_its_transfer_syntax(tmp_path: Path) -> None:
    source = instance(
        "1.2.7.1.1", StudyInstanceUID="1.2.7", SeriesInstanceUID="1.2.7.1", PatientID="P7"
    )
    source.SamplesPerPixel, source.PhotometricInterpretation = 1, "MONOCHROME2"
    source.BitsStored, source.HighBit, source.PixelRepresentation = 16, 15, 0
    plain = source.PixelData
    source.compress(RLELossless)
    (tmp_path / "pacs").mkdir()
    source.save_as(tmp_path / "pacs" / "one.dcm", enforce_file_format=True)
    uid = str(source.SOPInstanceUID)
    with DemoPacs("DEMOPACS", tmp_path / "pacs") as pacs:
        unpacked = get(pacs, "STUDY", ["1.2.840.10008.1.2.1"], StudyInstanceUID="1.2.7")
        as_held = get(pacs, "STUDY", ["1.2.840.10008.1.2.1", RLELossless], StudyInstanceUID="1.2.7")
    assert unpacked[1:] == (1, 0)
    assert plain in unpacked[0][0]
    assert uid.encode() in unpacked[0][0]
    assert as_held[0] == [data_set(tmp_path / "pacs" / "one.dcm")]


def test_c_get_reports_failed_sub_operations(pacs: DemoPacs) -> None:
    came, completed, status = get(pacs, "STUDY", [RLELossless], StudyInstanceUID="1.2.1")
    assert (came, completed, status) == ([], 0, 0xA702)


def test_a_retrieval_without_a_unique_key_is_refused(pacs: DemoPacs) -> None:
    assert get(pacs, "STUDY", ["1.2.840.10008.1.2.1"], PatientName="*")[2] == 0xA900


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Port and output folder of a running storescp (dcmtk)."""
    folder = tmp_path / "received"
    folder.mkdir()
    port = free_port()
    process = subprocess.Popen(["storescp", "-od", str(folder), "-aet", "RECEIVER", str(port)])
    wait_until(lambda: dcmtk("echoscu", "-aec", "RECEIVER", "127.0.0.1", port).returncode == 0)
    yield port, folder
    process.terminate()
    process.wait(30)


@needs_dcmtk
def test_c_move_sends_only_to_registered_destinations(
    filled: Path, receiver: tuple[int, Path]
) -> None:
    port, folder = receiver
    with DemoPacs("DEMOPACS", filled, {"RECEIVER": ("127.0.0.1", port)}) as pacs:
        call = ["movescu", "-S", "-aec", "DEMOPACS", "127.0.0.1", pacs.port]
        wanted = ["-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.3"]
        moved = dcmtk(*call, "-aem", "RECEIVER", *wanted)
        unknown = dcmtk("movescu", "-v", *call[1:], "-aem", "NOBODY", *wanted)
    assert moved.returncode == 0, moved.stderr
    assert by_uid(folder) == by_uid(filled / "1.2.3")
    assert "MoveDestinationUnknown" in unknown.stdout + unknown.stderr


def test_c_move_sub_operations_name_the_move_originator(filled: Path) -> None:
    originators: set[tuple[str, int]] = set()

    def note(event: evt.Event) -> int:
        request = event.request
        title = str(request.MoveOriginatorApplicationEntityTitle).strip()
        originators.add((title, request.MoveOriginatorMessageID))
        return 0

    destination = AE("RECEIVER")
    destination.add_supported_context(CT)
    server = destination.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, note)]
    )
    port = server.socket.getsockname()[1]
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", "1.2.1"
    with DemoPacs("DEMOPACS", filled, {"RECEIVER": ("127.0.0.1", port)}) as pacs:
        association = associate(("127.0.0.1", pacs.port), "DEMOPACS", [build_context(MOVE)])
        answers = list(association.send_c_move(identifier, "RECEIVER", MOVE, msg_id=77))
        association.release()
    server.shutdown()
    assert (answers[-1][0].Status, answers[-1][0].NumberOfCompletedSuboperations) == (0, 5)
    assert originators == {("TESTER", 77)}


@needs_dcmtk
def test_c_move_gets_each_response_though_the_reactor_pauses_late(
    filled: Path, receiver: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = DIMSEServiceProvider.send_msg

    def send_before_the_pause(dimse: DIMSEServiceProvider, *message: Any) -> None:
        send(dimse, *message)
        if dimse.assoc.is_requestor and dimse.assoc.acceptor.ae_title == "RECEIVER":
            dimse.assoc._reactor_checkpoint.set()
            wait_until(dimse.msg_queue.qsize)
            time.sleep(0.1)  # the reactor looks for messages every millisecond
            dimse.assoc._reactor_checkpoint.clear()

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", send_before_the_pause)
    port, folder = receiver
    with DemoPacs("DEMOPACS", filled, {"RECEIVER": ("127.0.0.1", port)}) as pacs:
        association = associate(("127.0.0.1", pacs.port), "DEMOPACS", [build_context(MOVE)])
        identifier = Dataset()
        identifier.QueryRetrieveLevel, identifier.StudyInstanceUID = "STUDY", "1.2.3"
        answers = list(association.send_c_move(identifier, "RECEIVER", MOVE))
        association.release()
    assert (answers[-1][0].Status, answers[-1][0].NumberOfCompletedSuboperations) == (0, 2)
    assert by_uid(folder) == by_uid(filled / "1.2.3")


def test_c_get_ends_after_a_cancel(pacs: DemoPacs) -> None:
    came, completed, status = get(
        pacs, "STUDY", ["1.2.840.10008.1.2.1"], cancel=True, StudyInstanceUID="1.2.1"
    )
    assert status == 0xFE00
    assert len(came) == completed < 5


@needs_dcmtk
def test_c_get_does_not_wait_for_delayed_tcp_acknowledgements(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nagle's algorithm and delayed acknowledgements would cost 40 ms per image.

    Linux forgets TCP_QUICKACK, so it is set for each response.
    """
    count, options = 20, Counter[int]()
    set_option = socket.socket.setsockopt

    def counted(one: socket.socket, level: int, option: int, *value: Any) -> None:
        options[option] += level == socket.IPPROTO_TCP
        set_option(one, level, option, *value)

    monkeypatch.setattr(socket.socket, "setsockopt", counted)
    (tmp_path / "out").mkdir()
    (tmp_path / "pacs").mkdir()
    for number in range(count):
        uids = {"StudyInstanceUID": "1.2.7", "SeriesInstanceUID": "1.2.7.1"}
        one = instance(f"1.2.7.1.{number}", **uids)
        one.save_as(tmp_path / "pacs" / f"{number}.dcm", enforce_file_format=True)
    with DemoPacs("DEMOPACS", tmp_path / "pacs") as pacs:
        done = dcmtk(
            "getscu", "-S", "-aec", "DEMOPACS", "127.0.0.1", pacs.port, "-od", tmp_path / "out",
            "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.7",
        )  # fmt: skip
    assert done.returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == count
    assert options[socket.TCP_NODELAY] == 1
    assert options[socket.TCP_QUICKACK] >= count


def test_a_sop_class_unknown_to_pynetdicom_is_stored_and_sent(tmp_path: Path) -> None:
    retired = "1.2.840.10008.5.1.4.1.1.3"
    one = instance("1.2.7.1.1", StudyInstanceUID="1.2.7", SeriesInstanceUID="1.2.7.1")
    one.SOPClassUID = one.file_meta.MediaStorageSOPClassUID = retired
    with DemoPacs("SECOND", tmp_path / "second") as pacs:
        assert store(pacs.port, one, class_uid=retired) == 0
        came, _, status = get(
            pacs, "STUDY", ["1.2.840.10008.1.2.1"], classes=(retired,), StudyInstanceUID="1.2.7"
        )
        stored = data_set(tmp_path / "second/1.2.7/1.2.7.1/1.2.7.1.1.dcm")
    assert status == 0
    assert came == [stored]


def test_a_big_endian_image_is_converted_for_a_little_endian_peer(tmp_path: Path) -> None:
    one = instance("1.2.7.1.1", StudyInstanceUID="1.2.7", SeriesInstanceUID="1.2.7.1")
    one["PixelData"].VR = "OW"
    (tmp_path / "pacs").mkdir()
    pixels = one.PixelData
    one.PixelData = b"".join(pixels[n : n + 2][::-1] for n in range(0, len(pixels), 2))
    one["PixelData"].VR = "OW"
    one.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    dcmwrite(
        tmp_path / "pacs" / "one.dcm",
        one,
        implicit_vr=False,
        little_endian=False,
        enforce_file_format=True,
    )
    with DemoPacs("DEMOPACS", tmp_path / "pacs") as pacs:
        came, *counts = get(pacs, "STUDY", ["1.2.840.10008.1.2.1"], StudyInstanceUID="1.2.7")
    assert counts == [1, 0]
    assert pixels in came[0]


@needs_dcmtk
def test_stored_instances_are_indexed_and_survive_a_restart(tmp_path: Path, filled: Path) -> None:
    folder = tmp_path / "second"
    files = sorted(str(path) for path in (filled / "1.2.2").rglob("*.dcm"))
    for _ in range(2):  # storing again must change nothing
        with DemoPacs("SECOND", folder) as pacs:
            done = dcmtk("storescu", "-aec", "SECOND", "127.0.0.1", pacs.port, *files)
            assert done.returncode == 0, done.stderr
            assert len(pacs.index) == 2
    found = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert [str(path) for path in found] == [f"1.2.2/1.2.2.1/1.2.2.1.{n}.dcm" for n in (1, 2)]
    assert by_uid(folder) == by_uid(filled / "1.2.2")
    again = FolderIndex(folder)
    again.load()
    assert list(again.studies) == ["1.2.2"]


def test_an_instance_stored_again_with_the_same_uid_replaces_the_file(tmp_path: Path) -> None:
    names = {"StudyInstanceUID": "1.2.8", "SeriesInstanceUID": "1.2.8.1", "PatientID": "P8"}
    with DemoPacs("SECOND", tmp_path / "second") as pacs:
        for moved in ("1.2.8", "1.2.8", "1.2.9"):
            association = associate(
                ("127.0.0.1", pacs.port), "SECOND", [build_context(CT, "1.2.840.10008.1.2.1")]
            )
            sent = instance("1.2.8.1.1", **{**names, "StudyInstanceUID": moved})
            assert association.send_c_store(sent).Status == 0
            association.release()
        paths = [
            str(path.relative_to(tmp_path / "second"))
            for path in (tmp_path / "second").rglob("*.dcm")
        ]
        assert paths == ["1.2.9/1.2.8.1/1.2.8.1.1.dcm"]
        assert list(pacs.index.studies) == ["1.2.9"]


@pytest.mark.parametrize(("harmless", "study_uid"), [("10", ".."), ("1.2.3.4.5", "../../etc")])
def test_a_uid_that_would_leave_the_folder_is_refused(
    tmp_path: Path, harmless: str, study_uid: str
) -> None:
    sent = instance("1.2.8.1.1", StudyInstanceUID=harmless, SeriesInstanceUID="1.2.8.1")
    sent.save_as(tmp_path / "sent", enforce_file_format=True)
    data = data_set(tmp_path / "sent")
    head = (tmp_path / "sent").read_bytes()[: -len(data)]
    changed = data.replace(harmless.encode(), study_uid.encode())
    (tmp_path / "sent").write_bytes(head + changed)
    with DemoPacs("SECOND", tmp_path / "second") as pacs:
        # pynetdicom sends the file unmodified: the PACS enabled this for the process.
        status = store(pacs.port, tmp_path / "sent")
    assert status == 0xC000
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".dcm", ".part")]


def test_a_full_disk_is_reported_as_out_of_resources(tmp_path: Path) -> None:
    """A limit on the file size simulates the full disk."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000));"
        "from adit.demo.pacs import main; sys.exit(main(sys.argv[1:]))"
    )
    with running(tmp_path / "second", [sys.executable, "-c", code]) as (_, port):
        association = associate(
            ("127.0.0.1", port), "SECOND", [build_context(CT, "1.2.840.10008.1.2.1")]
        )
        names = {"StudyInstanceUID": "1.2.8", "SeriesInstanceUID": "1.2.8.1"}
        small = association.send_c_store(instance("1.2.8.1.1", **names)).Status
        large = association.send_c_store(instance("1.2.8.1.2", pixels=100000, **names)).Status
        association.release()
    assert (small, large) == (0, 0xA700)
    assert [path.name for path in (tmp_path / "second").rglob("*.*") if path.is_file()] == [
        "1.2.8.1.1.dcm"
    ]


class running:
    """Run the PACS in its own process; yields the process and its port."""

    def __init__(self, folder: Path, command: list[str] | None = None) -> None:
        self.command = command or [sys.executable, "-m", "adit.demo.pacs"]
        self.command += ["--ae-title", "SECOND", "--port", "0", "--folder", str(folder)]

    def __enter__(self) -> tuple[subprocess.Popen[bytes], int]:
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], 60)[0], "the PACS was not ready in time"
        word, port, _ = self.process.stdout.readline().split()
        assert word == b"ready"
        return self.process, int(port)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_the_process_does_not_wait_for_the_end_of_an_open_association(filled: Path) -> None:
    with running(filled) as (process, port):
        association = associate(("127.0.0.1", port), "SECOND", [build_context("1.2.840.10008.1.1")])
        assert association.send_c_echo().Status == 0
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - started < 12, "the PACS waits 15 s for a release"
        association.abort()


def test_a_pacs_with_follow_parent_ends_with_its_parent_process(filled: Path) -> None:
    command = [sys.executable, "-m", "adit.demo.pacs", "--ae-title", "SECOND", "--port", "0"]
    command += ["--folder", str(filled), "--follow-parent"]
    code = f"import subprocess; p = subprocess.Popen({command!r}, stdout=-1);"
    code += "p.stdout.readline(); print(p.pid)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=True
    )
    pid = int(done.stdout)
    wait_until(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_index_reflects_changes_and_removes_interrupted_writes(filled: Path) -> None:
    (filled / "1.2.4/1.2.4.1/1.2.4.1.1.dcm").unlink()
    names = {"StudyInstanceUID": "1.2.5", "SeriesInstanceUID": "1.2.5.1"}
    instance("1.2.5.1.1", **names).save_as(filled / "new.dcm", enforce_file_format=True)
    (filled / "left.part").write_bytes(b"cut off")
    (filled / "notes.txt").write_bytes(b"")
    index = FolderIndex(filled)
    index.load()
    assert sorted(index.studies) == ["1.2.1", "1.2.2", "1.2.3", "1.2.5"]
    assert not (filled / "left.part").exists()
    assert (filled / "notes.txt").exists()
    assert index.studies["1.2.1"].values["PatientName"] == "Müller^Änne"


def test_the_pacs_does_not_import_django(filled: Path) -> None:
    code = "import sys, adit.demo.pacs, adit.demo.patients;"
    code += "print([name for name in sys.modules if name.startswith('django')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_connection_is_closed_even_if_the_peer_has_already_gone() -> None:
    gone = socket.socket()

    demo_pacs._close(gone)

    assert gone.fileno() == -1


def test_invalid_data_does_not_stop_the_pacs(pacs: DemoPacs) -> None:
    for garbage in (
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff",
        b"\x01\x00\x00\x00\x00\x04abcd",
        os.urandom(500),
    ):
        with socket.create_connection(("127.0.0.1", pacs.port), timeout=30) as peer:
            peer.sendall(garbage)
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
    association = associate(
        ("127.0.0.1", pacs.port), "DEMOPACS", [build_context("1.2.840.10008.1.1")]
    )
    assert association.send_c_echo().Status == 0
    association.release()
