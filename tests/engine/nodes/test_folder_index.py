"""The index of a source folder: kept, checked by each search, rebuilt when damaged."""

import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab.samples import ROOT, ct, file_bytes

from adit_engine.errors import Stopped, StorageError
from adit_engine.nodes import folder, folder_index, folder_index_file
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel, StudyRef

HOUR_NS = 3_600_000_000_000


class XorCipher:
    """Stands in for the encryption of the application; detects changed bytes and contexts."""

    def seal(self, plain: bytes, context: str) -> bytes:
        import hmac

        body = bytes(byte ^ 0x5A for byte in plain)
        return hmac.digest(b"k", context.encode() + body, "sha256") + body

    def open(self, sealed: bytes, context: str) -> bytes:
        import hmac

        mac, body = sealed[:32], sealed[32:]
        if mac != hmac.digest(b"k", context.encode() + body, "sha256"):
            raise ValueError
        return bytes(byte ^ 0x5A for byte in body)

    def name_key(self) -> bytes:
        return b"name key"


class Site:
    """A source folder and its kept index. Counts the files that are opened; has its own clock."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base, self.index = path / "source", path / "index"
        self.base.mkdir()
        self.opened: list[str] = []
        self.ahead_ns = HOUR_NS
        """The files of a test are new; for the index they are an hour old."""
        read = folder._read_header

        def read_and_note(file: Path, place: str) -> object:
            self.opened.append(place)
            return read(file, place)

        monkeypatch.setattr(folder, "_read_header", read_and_note)
        folder_index.keep_in(self.index, XorCipher())

    def put(self, place: str, number: int, study: str = "1", **changes: object) -> Path:
        path = self.base / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file_bytes(ct(number, study=study, **changes)))
        return path

    def node(self) -> FolderNode:
        node = FolderNode("Shelf", FolderSettings(path=str(self.base)))
        node._index._clock = lambda: time.time_ns() + self.ahead_ns
        return node

    def count(self, study: str = "1", node: FolderNode | None = None) -> int:
        """Search a study, by a node of its own, as each task does; return its images."""
        found = (node or self.node()).find(Query.study(StudyRef(f"{ROOT}.{study}")))
        return sum(record.instance_count or 0 for record in found)

    def opened_by(self, search: Callable[[], object]) -> list[str]:
        self.opened.clear()
        search()
        return sorted(self.opened)

    def index_file(self) -> Path:
        (file,) = self.index.glob("*.sqlite3")
        return file


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    yield Site(tmp_path, monkeypatch)
    folder_index.keep_in(None)


def test_only_new_and_changed_files_are_opened_by_a_later_search(site: Site) -> None:
    for number in range(1, 6):
        site.put(f"a/{number}", number)
        site.put(f"b/{number}", number, study="2")
    (site.base / "readme.txt").write_text("not an image")

    assert len(site.opened_by(lambda: site.count())) == 11
    assert site.opened_by(lambda: site.count()) == []

    site.put("b/sub/6", 6)
    before = site.put("a/7", 7).stat()
    (site.base / "a" / "1").unlink()
    (site.base / "a" / "2").rename(site.base / "b" / "renamed")
    assert site.count() == 6
    assert site.count("2") == 5
    assert site.opened_by(lambda: site.count()) == []

    # Overwritten in place, with the size and the modification time of before.
    changed = site.put("a/7", 7, study="2")
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_size == before.st_size
    assert site.opened_by(lambda: site.count()) == ["a/7"]
    assert (site.count(), site.count("2")) == (5, 6)


def test_a_file_that_changed_just_before_it_was_read_is_read_again(site: Site) -> None:
    site.ahead_ns = 0
    site.put("1", 1)
    site.count()

    assert site.opened_by(lambda: site.count()) == ["1"]
    site.ahead_ns = HOUR_NS
    assert site.opened_by(lambda: site.count()) == ["1"]
    assert site.opened_by(lambda: site.count()) == []


@pytest.mark.parametrize("goes_before", ["open", "stat"])
def test_a_share_that_goes_away_for_a_moment_hides_no_image(
    site: Site, monkeypatch: pytest.MonkeyPatch, goes_before: str
) -> None:
    for number in range(1, 6):
        site.put(f"a/{number}", number)
    owner, name = {
        "open": (folder, "_read_header"),
        "stat": (folder_index.SourceIndex, "_file_version"),
    }[goes_before]
    away, calls, use = site.base.with_name("away"), list[object](), getattr(owner, name)

    def go_away_once(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) != 3:
            return use(*arguments)
        site.base.rename(away)
        try:
            return use(*arguments)
        finally:
            away.rename(site.base)

    monkeypatch.setattr(owner, name, go_away_once)
    found = site.node().find(Query.study(StudyRef(f"{ROOT}.1")))
    assert sum(record.instance_count or 0 for record in found) == 4
    assert found.is_capped
    assert site.count() == 5


def test_a_node_that_knows_the_folders_of_a_study_looks_only_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.put("a/1", 1)
    site.put("c/2", 2)
    site.put("b/1", 1, study="2")
    node, listed = site.node(), []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path).name) or scandir(path))

    def folders_listed() -> list[str]:
        listed.clear()
        site.count(node=node)
        return list(listed)

    assert folders_listed() == ["source", "a", "b", "c"]
    assert folders_listed() == ["a", "c"]

    # Overwritten in place in a folder of the study, and elsewhere.
    site.put("a/1", 1, study="2", KVP="80")
    site.put("b/1", 5, KVP="80")
    assert site.count(node=node) == 1
    site.ahead_ns += folder_index.COMPLETE_CHECK_NS
    assert site.count(node=node) == 2

    assert folders_listed() == ["b", "c"]
    site.put("d/3", 3)
    assert site.count(node=node) == 3


def test_folders_that_vanished_leave_no_row(site: Site) -> None:
    site.put("a/1", 1)
    path = site.put("b/2", 2)
    assert site.count() == 2
    size = len(rows(site))

    path.unlink()
    path.parent.rmdir()

    assert site.count() == 1
    assert (size, len(rows(site))) == (2, 1)


def rows(site: Site) -> list[bytes]:
    import sqlite3

    with sqlite3.connect(site.index_file()) as database:
        return [row[0] for row in database.execute("SELECT body FROM parts")]


def test_the_index_is_private_and_not_in_the_source_folder(site: Site) -> None:
    site.put("Mustermann/1.dcm", 1)
    before = sorted(site.base.rglob("*"))
    site.count()

    assert sorted(site.base.rglob("*")) == before
    assert site.index.stat().st_mode & 0o777 == 0o700
    for file in site.index.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        content = file.read_bytes()
        for secret in (b"Mustermann", b"PID-4711", ROOT.encode(), os.fsencode(site.base)):
            assert secret not in content


@pytest.mark.parametrize("damage", ["cut", "noise", "empty", "row", "swapped rows", "folder"])
def test_a_damaged_index_is_built_again(site: Site, damage: str) -> None:
    for number in range(1, 4):
        site.put(f"a/{number}", number)
        site.put(f"b/{number}", number + 3)
    site.count()
    file = site.index_file()
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "noise":
        file.write_bytes(b"\x17" * len(content))
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        change_rows(file, is_swap=damage != "row")

    assert site.count() == 6
    if damage != "folder":
        assert site.opened_by(lambda: site.count()) == []


def change_rows(file: Path, *, is_swap: bool) -> None:
    import sqlite3

    with sqlite3.connect(file) as database:
        (one, body), (other, other_body) = database.execute("SELECT key, body FROM parts")
        new = other_body if is_swap else body[:-1] + b"!"
        database.execute("UPDATE parts SET body = ? WHERE key = ?", [new, one])
        database.execute("UPDATE parts SET body = ? WHERE key = ?", [body, other])


def test_a_search_works_where_no_index_can_be_kept(site: Site) -> None:
    site.put("1", 1)
    site.index.write_text("a file, not a folder")

    assert site.count() == 1


def test_a_search_that_was_stopped_is_continued_by_the_next(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 21):
        site.put(f"{number:02}/image", number)
    node = site.node()
    read = node._index._read

    def stop_later(file: Path, place: str) -> object:
        if place.startswith("11"):
            node.abort()
        return read(file, place)

    node._index._read = stop_later  # type: ignore[assignment]
    with pytest.raises(Stopped):
        site.count(node=node)

    later = site.opened_by(lambda: site.count())
    assert 9 <= len(later) <= 11
    assert site.count() == 20


SEARCH = f"""
import sys
from pathlib import Path
sys.path[:0] = [{str(Path(__file__).parents[2])!r}, {str(Path(__file__).parent)!r}]
import test_folder_index as here
print(here.search_as_process(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def search_as_process(base: Path, index: Path) -> int:
    folder_index.keep_in(index, XorCipher())
    node = FolderNode("Shelf", FolderSettings(path=str(base)))
    query = Query(QueryLevel.STUDY, {})
    return min(sum(r.instance_count or 0 for r in node.find(query)) for _ in range(5))


def test_several_processes_use_one_index_while_files_arrive(site: Site) -> None:
    for number in range(1, 101):
        site.put(f"{number % 10}/{number}", number, study=str(number % 5))
    command = [sys.executable, "-c", SEARCH, str(site.base), str(site.index)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for number in range(101, 121):
        site.put(f"new/{number}", number, study="1")
    found = [process.communicate(timeout=300)[0].strip() for process in processes]

    assert all(100 <= int(count) <= 120 for count in found)
    assert sum(site.count(str(study)) for study in range(5)) == 120
    assert len(list(site.index.glob("*.sqlite3"))) == 1


def test_a_writer_that_was_killed_leaves_a_usable_index(site: Site) -> None:
    for number in range(1, 31):
        site.put(f"{number}/image", number)
    code = SEARCH.replace("print(", "here.kill_at(15); print(")
    command = [sys.executable, "-c", code, str(site.base), str(site.index)]

    killed = subprocess.run(command, capture_output=True, timeout=250)

    assert killed.returncode == -9
    assert site.count() == 30
    assert site.opened_by(lambda: site.count()) == []


def kill_at(number: int) -> None:
    """Kill this process when it has read so many files; each is committed."""
    read, left = folder._read_header, [number]
    folder_index_file._COMMIT_S = 0.0

    def read_or_die(file: Path, place: str) -> object:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), 9)
        return read(file, place)

    folder._read_header = read_or_die  # type: ignore[assignment]


def test_a_search_that_waits_for_a_writer_can_be_stopped(site: Site) -> None:
    site.put("1", 1)
    site.count()
    node = site.node()
    storage = folder_index_file.IndexFolder(site.index, XorCipher())
    threading.Timer(0.3, node.abort).start()
    with (
        storage.open_rows(site.base, is_writable=True, check=lambda: None),
        pytest.raises(Stopped),
    ):
        site.count(node=node)


def test_an_index_that_nobody_used_for_a_month_is_deleted(site: Site) -> None:
    site.put("1", 1)
    site.count()
    file = site.index_file()
    folder_index.keep_in(site.index, XorCipher())
    assert file.exists()
    long_ago = time.time() - folder_index_file.UNUSED_S - 60
    os.utime(file, (long_ago, long_ago))
    site.count()
    folder_index.keep_in(site.index, XorCipher())
    assert file.exists()

    os.utime(file, (long_ago, long_ago))
    folder_index.keep_in(site.index, XorCipher())

    assert not file.exists()


def test_a_folder_with_too_many_files_is_refused_by_name(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_index, "MAX_FILES", 3)
    for number in range(1, 4):
        site.put(f"{number}", number)

    with pytest.raises(StorageError, match="Shelf: the folder contains more than 3 files"):
        site.count()


def test_names_that_are_no_text_and_many_files_in_one_folder_are_kept(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of about eight names instead of a thousand."""
    monkeypatch.setattr(folder_index, "_RUN_MASK", 7)
    strange = os.fsdecode(b"a/\xff\xfe image")
    for number in range(1, 60):
        site.put(f"a/{number:03}", number)
    site.put(strange, 60)
    assert site.count() == 60
    assert len(rows(site)) > 4

    site.put("a/0305", 61)

    opened = site.opened_by(lambda: site.count())
    assert "a/0305" in opened
    assert len(opened) < 40
    node = site.node()
    assert len(list(node.fetch([StudyRef(f"{ROOT}.1")]))) == 61


def test_memory_stays_flat_while_a_large_folder_is_searched(site: Site) -> None:
    first = site.put("0/00000", 1)
    for number in range(1, 6_000):
        path = site.base / str(number // 500) / f"{number:05}"
        path.parent.mkdir(exist_ok=True)
        os.link(first, path)
    header = folder._read_header(first, "x")
    node = site.node()
    node._index._read = lambda file, place: header
    tracemalloc.start()
    try:
        assert site.count(node=node) == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 1_000 * 1_000
