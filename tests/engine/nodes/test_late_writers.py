"""A writer that was suspended and resumes late does not change the files of another writer."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.samples import ct, instance

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import atomic
from adit_engine.dicom_file.atomic import TEMP_PREFIX, AtomicFolder
from adit_engine.errors import Stopped, StorageError
from adit_engine.messages import Message
from adit_engine.nodes.base import ArchiveRequest, ArchivesTested, PackingProgress
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.nodes.sevenzip import ArchiveNode, ArchiveSettings
from adit_engine.values.instance import Instance

LEASE_EXPIRED = Message("node.stopped", node="late")

PASSWORD = "four words and 1 sign!"
Stamps = dict[str, tuple[int, int, int]]


def folder(base: Path) -> FolderNode:
    return FolderNode("Research", FolderSettings(path=str(base), reserve_mb=0))


def stamps(base: Path) -> Stamps:
    """Inode, mtime and ctime of each file below the folder, by file name."""
    found = {}
    for path in base.rglob("*"):
        if path.is_file():
            stat = path.stat()
            found[path.name] = (stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def visible(base: Path) -> Stamps:
    return {name: seen for name, seen in stamps(base).items() if not name.startswith(TEMP_PREFIX)}


def images(numbers: range, **changes: object) -> list[Instance]:
    return [instance(ct(number, **changes)) for number in numbers]


def then(instances: list[Instance], meanwhile: Callable[[], object]) -> Iterator[Instance]:
    """Call `meanwhile` when all instances are written but none has its final name."""
    yield from instances
    meanwhile()


def without_exclusive_names(monkeypatch: pytest.MonkeyPatch, *ways: str) -> None:
    """Simulate a share that does not support these ways to create a name exclusively."""

    def cannot(*_: object) -> None:
        raise OSError(errno.EINVAL, "unknown here")

    left = tuple((cannot if way.__name__ in ways else way, no) for way, no in atomic._METHODS)
    monkeypatch.setattr(atomic, "_METHODS", left)


SHARES = [(), ("_renamed",), ("_renamed", "_linked")]


@pytest.mark.parametrize("unknown", SHARES)
def test_files_of_another_writer_keep_their_inode_and_timestamps(
    unknown: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_exclusive_names(monkeypatch, *unknown)
    before: Stamps = {}

    def the_other_one() -> None:
        assert len(list(folder(tmp_path).store(images(range(1, 9))))) == 8
        before.update(visible(tmp_path))

    late = folder(tmp_path)
    stored = list(late.store(then(images(range(1, 11)), the_other_one)))

    after = stamps(tmp_path)
    assert len(before) == 8
    assert {name: after[name] for name in before} == before
    assert len(after) == 10, "temporary files remain"
    assert all(one.is_stored for one in stored)
    assert set(late.confirm(stored)) == {one.ref.instance_uid for one in stored}


@pytest.mark.parametrize("unknown", SHARES)
def test_a_late_writer_cannot_replace_a_different_object(
    unknown: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_exclusive_names(monkeypatch, *unknown)
    before: Stamps = {}

    def the_other_one() -> None:
        list(folder(tmp_path).store(images(range(1, 2), KVP="80")))
        before.update(visible(tmp_path))

    stored = list(folder(tmp_path).store(then(images(range(1, 3)), the_other_one)))

    assert [one.is_stored for one in stored] == [False, True]
    assert "already exists at the destination" in str(stored[0].error)
    after = stamps(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2


def test_no_file_becomes_visible_after_the_lease_has_expired(tmp_path: Path) -> None:
    late, stop = folder(tmp_path), Stop()
    late.set_stop(stop)

    with pytest.raises(Stopped, match=str(LEASE_EXPIRED)):
        list(late.store(then(images(range(1, 9)), lambda: stop.set(LEASE_EXPIRED))))

    assert stamps(tmp_path) == {}


def test_the_lease_is_checked_before_each_file_becomes_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, stop, names = folder(tmp_path), Stop(), []
    late.set_stop(stop)
    name_once = atomic.rename_without_replacing

    def slowly(temp: str, name: str, where: int) -> bool:
        names.append(name)
        if len(names) == 3:
            stop.set(LEASE_EXPIRED)
        return name_once(temp, name, where)

    monkeypatch.setattr("adit_engine.dicom_file.atomic.rename_without_replacing", slowly)
    with pytest.raises(Stopped):
        list(late.store(images(range(1, 9))))

    assert sorted(stamps(tmp_path)) == sorted(names)
    assert len(names) == 3


def test_a_file_linked_by_a_repeated_nfs_request_counts_as_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS repeats the request after a lost reply, and the second one finds the name in use."""

    def forgetful(temp: str, name: str, where: int) -> None:
        os.link(temp, name, src_dir_fd=where, dst_dir_fd=where)
        raise FileExistsError(errno.EEXIST, "asked twice")

    monkeypatch.setattr(atomic, "_METHODS", ((forgetful, frozenset[int]()),))
    stored = list(folder(tmp_path).store(images(range(1, 3))))

    assert all(one.is_stored for one in stored)
    assert len(stamps(tmp_path)) == 2


def test_a_late_writer_cannot_replace_a_newer_delivery_list(tmp_path: Path) -> None:
    node = folder(tmp_path)
    list(node.store(images(range(1, 3))))
    late = AtomicFolder("Research", tmp_path)
    name = "contents-job-1"
    drafts = [late.create((f"{name}.{ending}",), group=name) for ending in ("csv", "json")]

    folder(tmp_path).write_delivery_list(ArchiveRequest("job-1", 0, 0, []))
    before = stamps(tmp_path)

    with pytest.raises(StorageError):
        late.replace(drafts, Stop())
    late.discard(drafts)
    assert stamps(tmp_path) == before
    assert {f"{name}.csv", f"{name}.json"} < set(before)


@pytest.mark.parametrize("frozen_at", [1, 6, 11])
def test_a_late_writer_does_not_change_a_finished_7_zip_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen_at: int
) -> None:
    """Suspended while writing 5 members, while reading them back, and before publishing."""
    monkeypatch.setattr("adit_engine.nodes.sevenzip_builder._STEP_BYTES", 1)
    late, other = archives(tmp_path), archives(tmp_path)
    bundle = ArchiveRequest("job-7", 3, 3, late.staged_images)
    seen: list[PackingProgress | ArchivesTested] = []
    before: Stamps = {}

    def freeze(event: PackingProgress | ArchivesTested) -> None:
        seen.append(event)
        if len(seen) == frozen_at:
            other.pack(bundle, PASSWORD, Stop())
            before.update(stamps(tmp_path / "out"))

    with pytest.raises(StorageError):
        late.pack(bundle, PASSWORD, Stop(), freeze)
    assert stamps(tmp_path / "out") == before
    assert set(before) == {"job-7.7z"}


def test_a_slow_removal_of_staged_images_does_not_remove_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is suspended during the removal, and new images are staged meanwhile."""
    opened, anew = archives(tmp_path), []

    def at_length(where: Path, **_: object) -> None:
        anew.append(archives(tmp_path))
        for path in sorted(where.rglob("*.dcm")):
            path.unlink()

    monkeypatch.setattr("adit_engine.nodes.sevenzip.shutil.rmtree", at_length)
    opened.discard_staged()

    (again,) = anew
    assert len(again.pack(bundle_of(again), PASSWORD, Stop())) == 1


def archives(base: Path) -> ArchiveNode:
    """A 7-Zip node with three staged images."""
    (base / "out").mkdir(exist_ok=True)
    places = {"path": str(base / "out"), "staging": str(base / "gathered")}
    opened = ArchiveNode("Archives", ArchiveSettings(**places, reserve_mb=0))
    opened.set_archive_title("job-7")
    list(opened.confirm(list(opened.store(images(range(1, 4))))))
    return opened


def bundle_of(opened: ArchiveNode) -> ArchiveRequest:
    return ArchiveRequest("job-7", 3, 3, opened.staged_images)
