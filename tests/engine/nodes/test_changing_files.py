"""Source files that another program changes while ADIT reads them."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab.samples import ROOT, ct, file_bytes, instance

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import temp_files
from adit_engine.dicom_file.part10 import MAPPED_FROM_BYTES
from adit_engine.errors import Stopped, StorageFull
from adit_engine.messages import Message
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.nodes.memory import MemoryNode, MemorySettings
from adit_engine.pseudonymize.parameters import AsIs
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.outcome import Completeness, InstanceEvent, InstanceState, SeriesOutcome
from adit_engine.values.references import StudyRef

STUDY = StudyRef(f"{ROOT}.1")
SHORTER = Message("dicom-file.truncated")


def write_large(path: Path, number: int) -> Path:
    """Write a file so large that ADIT copies it to a temporary file."""
    image = ct(number, Rows=1, Columns=1, PixelData=bytes(MAPPED_FROM_BYTES))
    path.write_bytes(file_bytes(image))
    return path


def folder(path: Path) -> FolderNode:
    return FolderNode("Shelf", FolderSettings(path=str(path)))


READER = f"""
import os, sys
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parents[2])!r}, {str(Path(__file__).parent)!r}]
import test_changing_files as here
path = Path(sys.argv[1])
(one,) = here.folder(path.parent).fetch([here.STUDY])
before = one.sha256()
os.truncate(path, 100_000)
print(one.sha256() == before)
"""


def test_truncating_a_large_file_after_reading_does_not_change_the_instance(tmp_path: Path) -> None:
    """Runs in a subprocess, which would be killed if the source file were mapped."""
    path = write_large(tmp_path / "1.dcm", 1)

    done = subprocess.run(
        [sys.executable, "-c", READER, str(path)], capture_output=True, text=True, timeout=250
    )

    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


@pytest.fixture
def cutting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderNode:
    """A folder with three large files; the second is truncated after its first read."""
    paths = [write_large(tmp_path / f"{number}.dcm", number) for number in (1, 2, 3)]
    node, pread = folder(tmp_path), os.pread

    def cut(descriptor: int, count: int, at: int) -> bytes:
        piece = pread(descriptor, count, at)
        if os.path.samestat(os.fstat(descriptor), paths[1].stat()):
            os.truncate(paths[1], at + len(piece))
        return piece

    monkeypatch.setattr(os, "pread", cut)
    return node


def test_a_large_file_truncated_while_it_is_read_is_withheld_alone(
    cutting: FolderNode,
) -> None:
    destination = MemoryNode("there", MemorySettings())

    told = list(
        transfer(StudyRequest(STUDY, "PID-4711-0815"), cutting, destination, AsIs(), {}, Stop())
    )

    (outcome,) = [one for one in told if isinstance(one, SeriesOutcome)]
    assert outcome.completeness is Completeness.PARTIAL
    events = [one for one in told if isinstance(one, InstanceEvent)]
    ended = {one.ref.instance_uid: (one.state, one.reason) for one in events}
    delivered = (InstanceState.DELIVERED, None)
    assert [ended[f"{ROOT}.1.1.{number}"] for number in (1, 3)] == [delivered] * 2
    withheld = (InstanceState.WITHHELD, Message("fault", fault=SHORTER))
    assert ended[f"{ROOT}.1.1.2"] == withheld


def test_a_small_file_truncated_before_its_pixels_is_marked_defective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remaining bytes are a valid object without pixel data."""
    path = tmp_path / "1.dcm"
    path.write_bytes(file_bytes(ct(1)))
    without_pixels = path.stat().st_size - len(instance(ct(1)).rest[0])
    node, read = folder(tmp_path), os.read

    def cut(descriptor: int, count: int) -> bytes:
        os.truncate(path, without_pixels)
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", cut)
    (one,) = node.fetch([STUDY])

    assert one.defect == SHORTER


def test_abort_stops_reading_in_the_middle_of_a_large_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_large(tmp_path / "1.dcm", 1)
    node, pread, pieces = folder(tmp_path), os.pread, []

    def noted(descriptor: int, count: int, at: int) -> bytes:
        pieces.append(at)
        node.abort()
        return pread(descriptor, count, at)

    monkeypatch.setattr(os, "pread", noted)
    with pytest.raises(Stopped, match="operation on Shelf was stopped"):
        list(node.fetch([STUDY]))

    assert len(pieces) == 1


def test_a_full_temporary_folder_raises_storage_full_for_a_large_file(tmp_path: Path) -> None:
    """A file size limit of the process simulates the full disk."""
    write_large(tmp_path / "1.dcm", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, hard))
    try:
        with pytest.raises(StorageFull, match="Shelf: the temporary folder of ADIT has no space"):
            list(folder(tmp_path).fetch([STUDY]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_large_objects_use_the_configured_folder_and_leave_no_files(tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    write_large(tmp_path / "shelf" / "1.dcm", 1)
    own = tmp_path / "own"
    temp_files.set_folder(own)
    try:
        (one,) = folder(tmp_path / "shelf").fetch([STUDY])
        device = one.header.obj  # type: ignore[union-attr]
        assert own.is_dir()
        assert list(own.iterdir()) == []
        assert len(device) > MAPPED_FROM_BYTES
    finally:
        temp_files.set_folder(None)
