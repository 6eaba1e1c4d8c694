"""Folder node: complete files only, no access outside the folder, clear errors."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab.samples import ROOT, ct, file_bytes, instance
from pydicom import dcmread

from adit_engine.errors import ConnectionLost, InvalidInput, Stopped, StorageError, StorageFull
from adit_engine.nodes.base import Grade
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.rate_limit import BURST_S
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel, StudyRef


def node(path: Path, **settings: object) -> FolderNode:
    return FolderNode("Research", FolderSettings(path=str(path), reserve_mb=0, **settings))


def files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


@contextmanager
def share(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Mount a file system and yield a function that unmounts it; simulated without root rights."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], capture_output=True)
    if mounted.returncode:
        real, here = os.path.ismount, {str(path)}
        monkeypatch.setattr(os.path, "ismount", lambda p: str(p) in here or real(p))
        yield here.clear
        return
    is_there = [True]

    def take_away() -> None:
        if is_there.pop() if is_there else False:
            subprocess.run(["umount", "-l", path], check=True, timeout=250)

    try:
        yield take_away
    finally:
        take_away()


def test_a_share_unmounted_during_a_store_raises_and_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, stored = tmp_path / "share", []

    def slowly(take_away: Callable[[], None]) -> Iterator[Instance]:
        for n in range(1, 41):
            if n == 20:
                take_away()
            yield instance(ct(n))

    with share(base, monkeypatch) as take_away:
        writing = node(base, network=True).store(slowly(take_away))
        with pytest.raises(StorageError, match="not mounted"):
            stored += list(writing)
        is_real = not files(base)
    assert len([path for path in files(base) if path.suffix != ".dcm"]) == 0
    if is_real:
        assert files(base) == []  # nothing was written into the empty mount point
    (base / "later").mkdir()
    again = node(base / "later")
    assert all(one.is_stored for one in again.store(instance(ct(n)) for n in range(1, 41)))
    assert len(files(base / "later")) == 40


def test_files_and_folders_get_the_configured_mode_and_group(tmp_path: Path) -> None:
    group = next(iter(set(os.getgroups()) - {os.getgid()}), os.getgid())
    if os.geteuid() == 0:
        group = 12345
    before = os.umask(0o077)
    try:
        settings = {"file_mode": "664", "folder_mode": "2775", "group": str(group)}
        list(node(tmp_path, **settings).store([instance(ct(1))]))
    finally:
        os.umask(before)

    (path,) = files(tmp_path)
    assert path.stat().st_mode & 0o7777 == 0o664
    assert path.stat().st_gid == group
    for folder in path.relative_to(tmp_path).parents:
        if folder != Path():
            assert (tmp_path / folder).stat().st_mode & 0o7777 == 0o2775
            assert (tmp_path / folder).stat().st_gid == group


def test_an_unknown_group_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^Group of new files: "):
        node(tmp_path, group="nobody-knows-this-group")


def test_a_stored_file_is_a_complete_part_10_file(tmp_path: Path) -> None:
    one = instance(ct(1))

    (stored,) = node(tmp_path).store([one])

    (path,) = files(tmp_path)
    assert str(path.relative_to(tmp_path)) == stored.path
    assert path.read_bytes()[:128] == b"\0" * 128
    ds = dcmread(path)
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID == one.instance_uid
    assert ds.PixelData == ct(1).PixelData


def test_storing_the_same_object_again_does_not_replace_the_file(tmp_path: Path) -> None:
    list(node(tmp_path).store([instance(ct(1))]))
    before = files(tmp_path)[0].stat()

    (stored,) = node(tmp_path).store([instance(ct(1))])

    assert stored.is_stored
    assert files(tmp_path)[0].stat().st_ino == before.st_ino


def test_a_different_object_with_the_same_uid_is_rejected(tmp_path: Path) -> None:
    list(node(tmp_path).store([instance(ct(1))]))
    before = files(tmp_path)[0].read_bytes()

    (stored,) = node(tmp_path).store([instance(ct(1, KVP="80"))])

    assert not stored.is_stored
    assert "already exists at the destination" in str(stored.error)
    assert files(tmp_path)[0].read_bytes() == before


def test_a_failed_stream_leaves_only_acknowledged_files(tmp_path: Path) -> None:
    def stream() -> Iterator[Instance]:
        yield from (instance(ct(n)) for n in range(1, 20))
        raise RuntimeError("the source is gone")

    answered = []

    def store_all() -> None:
        for stored in node(tmp_path).store(stream()):
            answered.append(stored.path)

    with pytest.raises(RuntimeError):
        store_all()

    assert sorted(answered) == [str(p.relative_to(tmp_path)) for p in files(tmp_path)]
    assert len(answered) == 16


def test_images_received_before_the_connection_was_lost_are_kept(tmp_path: Path) -> None:
    def stream() -> Iterator[Instance]:
        yield from (instance(ct(n)) for n in range(1, 4))
        raise ConnectionLost("PACS1", "the connection broke off.")

    answered = []

    def store_all() -> None:
        for stored in node(tmp_path).store(stream()):
            answered.append(stored.path)

    with pytest.raises(ConnectionLost):
        store_all()

    assert sorted(answered) == [str(p.relative_to(tmp_path)) for p in files(tmp_path)]
    assert len(answered) == 3


def test_a_damaged_file_is_not_confirmed(tmp_path: Path) -> None:
    made = node(tmp_path)
    stored = list(made.store([instance(ct(1)), instance(ct(2))]))
    damaged = tmp_path / stored[0].path
    damaged.write_bytes(damaged.read_bytes()[:-2] + b"xx")

    assert set(made.confirm(stored)) == {stored[1].ref.instance_uid}


def test_store_does_not_follow_a_symbolic_link_below_the_folder(tmp_path: Path) -> None:
    base, outside = tmp_path / "base", tmp_path / "outside"
    base.mkdir()
    outside.mkdir()
    (base / "PID-4711-0815").symlink_to(outside)

    with pytest.raises(StorageError, match="link"):
        list(node(base).store([instance(ct(1))]))

    assert not files(outside)


def test_a_missing_folder_raises_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="does not exist"):
        list(node(tmp_path / "no").store([instance(ct(1))]))


def test_nothing_is_written_to_a_network_folder_that_is_not_mounted(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not mounted"):
        list(node(tmp_path, network=True).store([instance(ct(1))]))

    assert not files(tmp_path)


def test_an_almost_full_disk_is_rejected_before_the_first_byte(tmp_path: Path) -> None:
    made = FolderNode("Research", FolderSettings(path=str(tmp_path), reserve_mb=10**9))

    with pytest.raises(StorageFull, match="almost full"):
        list(made.store([instance(ct(1))]))

    assert not files(tmp_path)
    assert Grade.BAD in {finding.grade for finding in made.check()}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_during_a_write_leaves_no_file(tmp_path: Path) -> None:
    """A file size limit of the process simulates the full disk."""
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError):
            list(node(tmp_path).store([instance(ct(1))]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not files(tmp_path)


def test_store_and_fetch_respect_the_rate_limit(tmp_path: Path) -> None:
    opened, images = node(tmp_path), [instance(ct(n)) for n in range(1, 11)]
    opened.rate_limiter.rate_bytes_s = sum(one.size_bytes for one in images) / 0.75

    began = time.monotonic()
    stored = list(opened.store(images))
    written = time.monotonic()
    fetched = list(opened.fetch([StudyRef(images[0].in_header.ref.study_uid)]))
    ended = time.monotonic()

    assert len(stored) == len(fetched) == 10
    assert min(written - began, ended - written) >= 0.75 - BURST_S - 0.01


def test_abort_ends_the_wait_for_the_rate_limit(tmp_path: Path) -> None:
    opened = node(tmp_path)
    opened.rate_limiter.rate_bytes_s = 1.0
    threading.Timer(0.3, opened.abort).start()

    began = time.monotonic()
    with pytest.raises(Stopped):
        list(opened.store([instance(ct(1)), instance(ct(2))]))
    assert time.monotonic() - began < 30
    assert files(tmp_path) == []


def test_a_relative_path_is_rejected() -> None:
    with pytest.raises(InvalidInput, match="absolute path"):
        FolderSettings(path="research")


def test_a_folder_can_be_searched_at_study_and_series_level(tmp_path: Path) -> None:
    for n, series in ((1, "1"), (2, "1"), (1, "2")):
        (tmp_path / f"{n}-{series}").write_bytes(file_bytes(ct(n, series=series)))
    (tmp_path / "readme.txt").write_text("not an image")
    made = node(tmp_path)

    (study,) = made.find(Query(QueryLevel.STUDY, {"PatientID": "PID-4711-0815"}))
    series = list(made.find(Query.series_of(StudyRef(f"{ROOT}.1"))))

    assert study.instance_count == 3
    assert study.patient_name == "Mustermann^Änne"
    assert sorted(s.instance_count or 0 for s in series) == [1, 2]
    assert list(made.find(Query(QueryLevel.STUDY, {"PatientID": "other"}))) == []


def test_identical_copies_count_once_and_conflicting_ones_are_defective(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(file_bytes(ct(1)))
    (tmp_path / "copy of a").write_bytes(file_bytes(ct(1)))
    (tmp_path / "b").write_bytes(file_bytes(ct(2)))
    (tmp_path / "other b").write_bytes(file_bytes(ct(2, KVP="80")))

    fetched = list(node(tmp_path).fetch([StudyRef(f"{ROOT}.1")]))

    assert len(fetched) == 2
    assert {one.instance_uid[-1]: bool(one.defect) for one in fetched} == {"1": False, "2": True}


# Entries that are not complete DICOM images ---------------------------------------------------------

WHOLE = file_bytes(ct(2))


def uids(folder: Path) -> tuple[list[str], bool]:
    """Last component of each instance UID, and whether the list is complete."""
    answers = node(folder).find(Query(QueryLevel.IMAGE, {}))
    found = sorted(record.instance_uid.rpartition(".")[2] for record in answers)
    return found, not answers.is_capped


def test_a_named_pipe_does_not_block_a_search(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(file_bytes(ct(1)))
    os.mkfifo(tmp_path / "2.dcm")

    assert uids(tmp_path) == (["1"], True)


def test_a_search_follows_links_only_within_the_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "1.dcm").write_bytes(file_bytes(ct(1)))
    (tmp_path / "here" / "2.dcm").write_bytes(file_bytes(ct(2)))
    (tmp_path / "here" / "out.dcm").symlink_to(tmp_path / "1.dcm")
    (tmp_path / "here" / "in.dcm").symlink_to("2.dcm")
    (tmp_path / "here" / "nowhere.dcm").symlink_to("gone")
    (tmp_path / "here" / "round.dcm").symlink_to("round.dcm")

    assert uids(tmp_path / "here") == (["2"], True)


@pytest.mark.parametrize(
    "content",
    [WHOLE[:300], WHOLE[132:], WHOLE[WHOLE.index(b"\x08\0\x05\0CS") :]],
    ids=["cut-off", "no-preamble", "no-head"],
)
def test_a_broken_file_makes_the_list_incomplete(tmp_path: Path, content: bytes) -> None:
    """The file may belong to any study."""
    (tmp_path / "1.dcm").write_bytes(file_bytes(ct(1)))
    (tmp_path / "2.dcm").write_bytes(content)

    assert uids(tmp_path) == (["1"], False)


def test_files_that_are_not_images_are_ignored(tmp_path: Path) -> None:
    protocol = ct(3, StudyInstanceUID=None, SeriesInstanceUID=None)
    listing = ct(4, StudyInstanceUID=None)
    listing.SOPClassUID = "1.2.840.10008.1.3.10"
    (tmp_path / "1.dcm").write_bytes(file_bytes(ct(1)))
    (tmp_path / "protocol").write_bytes(file_bytes(protocol))
    (tmp_path / "DICOMDIR").write_bytes(file_bytes(listing))
    (tmp_path / "empty").touch()
    (tmp_path / "notes.txt").write_text("Look at the second one.")
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(500))

    assert uids(tmp_path) == (["1"], True)


def test_unreadable_files_are_reported_until_they_are_readable() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        folder.chmod(0o755)
        (folder / "1.dcm").write_bytes(file_bytes(ct(1)))
        (folder / "2.dcm").write_bytes(file_bytes(ct(2)))
        (folder / "shut").mkdir()
        (folder / "shut" / "3.dcm").write_bytes(file_bytes(ct(3)))
        reader = node(folder)

        def find() -> tuple[int, bool, str]:
            answers = reader.find(Query(QueryLevel.IMAGE, {}))
            return len(list(answers)), answers.is_capped, answers.shortfall

        (folder / "2.dcm").chmod(0)
        (folder / "shut").chmod(0)
        with as_nobody():
            count, capped, words = find()
        (folder / "2.dcm").chmod(0o644)
        (folder / "shut").chmod(0o755)
        with as_nobody():
            later = find()

        assert (count, capped) == (1, True)
        assert "2 files or folders that cannot be read" in str(words)
        assert later[:2] == (3, False)
    finally:
        shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop root rights, because root can read every file."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
