"""Temporary files of a killed process are removed; those of a running writer are not."""

import os
from pathlib import Path

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file.atomic import AtomicFolder, UnpublishedFile


def part(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def publish(tree: AtomicFolder, draft: UnpublishedFile) -> None:
    tree.publish([draft], Stop())
    draft.file.close()


def age(path: Path) -> None:
    os.utime(path, (1, 1))


def test_the_next_write_removes_a_temporary_file_of_a_dead_process(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    left = tmp_path / "a" / ".adit-0123.part"
    left.write_bytes(b"half")
    age(left)
    tree = AtomicFolder("Folder", tmp_path)
    publish(tree, tree.write(("a", "1.dcm"), [b"whole"]))
    assert part(tmp_path / "a") == ["1.dcm"]


def test_a_temporary_file_of_a_running_writer_is_kept(tmp_path: Path) -> None:
    other = AtomicFolder("Folder", tmp_path)
    draft = other.write(("a", "1.dcm"), [b"whole"])
    age(tmp_path / "a" / draft.temp)
    tree = AtomicFolder("Folder", tmp_path)
    publish(tree, tree.write(("a", "2.dcm"), [b"more"]))
    publish(other, draft)
    assert part(tmp_path / "a") == ["1.dcm", "2.dcm"]


def test_a_recent_temporary_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".adit-0123.part").write_bytes(b"half")
    tree = AtomicFolder("Folder", tmp_path)
    tree.discard([tree.write(("a", "2.dcm"), [b"more"])])
    assert part(tmp_path / "a") == [".adit-0123.part"]
