"""Delivered files are deleted only if they are still what was delivered."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import samples

from adit_engine.dicom_file.delivered_files import DeliveredFile, FileState
from adit_engine.errors import StorageError
from adit_engine.nodes.base import ArchiveRequest, StagedImage, StoreResult
from adit_engine.nodes.folder import FolderNode, FolderSettings

UMLAUTS = "Größe^Änne"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "Ausgänge"
    path.mkdir()
    return path


@pytest.fixture
def node(base: Path) -> FolderNode:
    return FolderNode("Research", FolderSettings(str(base)))


def store(node: FolderNode, images: int = 3, **changes: str) -> list[StoreResult]:
    made = [samples.instance(samples.ct(number, **changes)) for number in range(images)]
    return list(node.store(made))


def delete(node: FolderNode, stored: list[StoreResult]) -> list[FileState]:
    files = [DeliveredFile(one.path, one.sha256) for one in stored]
    return [state for _file, state in node.delete_files(files)]


def files_in(base: Path) -> Iterator[Path]:
    return (path for path in base.rglob("*") if path.is_file() or path.is_symlink())


def test_files_and_the_folders_that_become_empty_are_deleted(node: FolderNode, base: Path) -> None:
    stored = store(node, PatientID=UMLAUTS, SeriesDescription="Schädel nativ")
    (base / "notes.txt").write_text("of the recipient")

    assert delete(node, stored) == [FileState.DELETED] * 3
    assert [path.name for path in base.rglob("*")] == ["notes.txt"]
    assert delete(node, stored) == [FileState.MISSING] * 3, "a repeated deletion is no error"


def test_folders_with_files_of_others_stay(node: FolderNode, base: Path) -> None:
    stored = store(node)
    beside = (base / stored[0].path).parent / "segmentation.nii"
    beside.write_bytes(b"of the recipient")

    assert delete(node, stored) == [FileState.DELETED] * 3
    assert list(files_in(base)) == [beside]


def test_what_is_no_longer_the_delivered_file_stays(
    node: FolderNode, base: Path, tmp_path: Path
) -> None:
    stored = store(node, images=5)
    edited, linked, folder, pipe, other = (base / one.path for one in stored)
    edited.write_bytes(edited.read_bytes() + b"\0\0")
    outside = tmp_path / "outside.dcm"
    linked.rename(outside)
    linked.symlink_to(outside)
    folder.unlink()
    folder.mkdir()
    pipe.unlink()
    os.mkfifo(pipe)
    other.write_bytes(b"no DICOM file")

    assert delete(node, stored) == [FileState.CHANGED] * 5
    assert outside.exists()
    assert edited.exists()
    assert other.read_bytes() == b"no DICOM file"


def test_a_folder_that_became_a_link_is_not_entered(
    node: FolderNode, base: Path, tmp_path: Path
) -> None:
    stored = store(node)
    patient = base / stored[0].path.split("/")[0]
    patient.rename(tmp_path / "moved")
    patient.symlink_to(tmp_path / "moved")

    assert delete(node, stored) == [FileState.CHANGED] * 3
    assert len(list(files_in(tmp_path / "moved"))) == 3


@pytest.mark.parametrize("path", ["../outside.dcm", "/etc/hostname", "a//b", "."])
def test_a_path_out_of_the_folder_is_not_used(node: FolderNode, base: Path, path: str) -> None:
    (base.parent / "outside.dcm").write_bytes(b"x")
    found = list(node.delete_files([DeliveredFile(path, "0" * 64)]))
    assert [state for _file, state in found] == [FileState.CHANGED]
    assert (base.parent / "outside.dcm").exists()


def test_files_of_a_folder_that_is_away_do_not_count_as_deleted(base: Path) -> None:
    node = FolderNode("Research", FolderSettings(str(base)))
    stored = store(node)
    base.rename(base.with_name("away"))
    with pytest.raises(StorageError):
        delete(node, stored)
    base.mkdir()
    share = FolderNode("Research", FolderSettings(str(base), network=True))
    with pytest.raises(StorageError, match="mount"):
        delete(share, stored)


def test_a_folder_that_is_read_only_is_an_error_and_can_be_tried_again(
    node: FolderNode, base: Path
) -> None:
    stored = store(node)

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, "read-only file system")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(StorageError):
            delete(node, stored)
    assert len(list(files_in(base))) == 3
    assert delete(node, stored) == [FileState.DELETED] * 3


def test_a_delivery_list_is_deleted_with_the_folder_of_its_project(
    node: FolderNode, base: Path
) -> None:
    stored = store(node, ClinicalTrialProtocolID="LUNG")
    staged = [StagedImage(one.ref, one.path, one.sha256, one.size_bytes) for one in stored]
    node.write_delivery_list(ArchiveRequest("job-1", 3, 0, staged, (), {}))
    assert (base / "LUNG" / "contents-job-1.csv").exists()

    assert delete(node, stored) == [FileState.DELETED] * 3
    node.delete_delivery_list("job-1", stored[0].path)
    assert not list(base.iterdir())
