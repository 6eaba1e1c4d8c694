"""Written files are read back before they count as stored, and again if they changed."""

from pathlib import Path
from threading import Event

import pytest
from lab import samples

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file.atomic import AtomicFolder
from adit_engine.errors import StorageError
from adit_engine.nodes import file_writer
from adit_engine.nodes.folder import FolderNode, FolderSettings

Folder = tuple[FolderNode, Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return FolderNode("Research", FolderSettings(str(tmp_path))), tmp_path


def test_unchanged_files_are_confirmed(folder: Folder) -> None:
    node, _ = folder
    stored = list(node.store([samples.instance(samples.ct(number)) for number in range(20)]))
    assert set(node.confirm(stored)) == {one.ref.instance_uid for one in stored}


def test_a_file_changed_after_it_was_read_back_is_not_confirmed(folder: Folder) -> None:
    node, base = folder
    stored = list(node.store([samples.instance(samples.ct(number)) for number in range(3)]))
    path = base / stored[1].path
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert set(node.confirm(stored)) == {stored[n].ref.instance_uid for n in (0, 2)}


def test_a_file_that_the_disk_corrupted_is_not_confirmed(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, base = folder
    publish = AtomicFolder.publish

    def worn(tree: AtomicFolder, drafts: list, stop: Stop) -> list:  # type: ignore[type-arg]
        taken = publish(tree, drafts, stop)
        drafts[0].file.seek(-1, 2)
        drafts[0].file.write(b"\x7f")
        return taken

    monkeypatch.setattr(AtomicFolder, "publish", worn)
    stored = list(node.store([samples.instance(samples.ct(number)) for number in range(3)]))
    assert set(node.confirm(stored)) == {one.ref.instance_uid for one in stored[1:]}


def test_a_deleted_file_is_not_confirmed(folder: Folder) -> None:
    node, base = folder
    stored = list(node.store([samples.instance(samples.ct(number)) for number in range(3)]))
    (base / stored[0].path).unlink()
    assert set(node.confirm(stored)) == {one.ref.instance_uid for one in stored[1:]}


def test_an_error_while_reading_back_is_raised_by_store(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise MemoryError

    node, _ = folder
    monkeypatch.setattr(file_writer, "_begins_with", fail)
    with pytest.raises(MemoryError):
        list(node.store([samples.instance(samples.ct(number)) for number in range(40)]))
    monkeypatch.undo()
    stored = list(node.store([samples.instance(samples.ct(number)) for number in range(40)]))
    assert len(set(node.confirm(stored))) == 40


def test_store_raises_if_the_disk_does_not_respond_in_time(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, _ = folder
    over = Event()
    monkeypatch.setattr(file_writer, "MAX_WAIT_S", 0.2)
    monkeypatch.setattr(file_writer, "_begins_with", lambda *_: over.wait(30))
    try:
        with pytest.raises(StorageError, match="Research"):
            list(node.store([samples.instance(samples.ct(number)) for number in range(40)]))
    finally:
        over.set()
