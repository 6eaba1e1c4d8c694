"""Time searches of one study in a source folder of 100,000 files, first and again.

`python -m benchmarks.folder_index [FILES]`, 100 images per study. Prints processor time, time and
memory of each search, each by a node of its own, as in jobs. Uses the index of an installation.
"""

import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from adit_engine.nodes import folder_index
from adit_engine.nodes.folder import FolderNode, FolderSettings
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel, StudyRef
from benchmarks.data import Kind, Study, write

IMAGES = 100
SMALL = Kind("CT", "1.2.840.10008.5.1.4.1.1.2", 16, 16)


class NoEncryption:
    """The cost of AES-GCM is that of one call for about a hundred files."""

    def seal(self, plain: bytes, context: str) -> bytes:
        return plain

    def open(self, sealed: bytes, context: str) -> bytes:
        return sealed

    def name_key(self) -> bytes:
        return b"benchmark"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as temp:
        base = Path(temp) / "source"
        for number in range(count // IMAGES):
            write(Study(SMALL, IMAGES, number), base / f"{number:05}")
        _wait_until_settled()
        folder_index.keep_in(Path(temp) / "index", NoEncryption())
        print(f"{count} files of {count // IMAGES} studies")
        one = Study(SMALL, IMAGES, count // IMAGES // 2)
        _measure("one study, first", base, lambda node: _find(node, one))
        _measure("one study, again", base, lambda node: _find(node, one))
        _measure("a patient", base, lambda node: _find_patient(node, one))
        _measure("as a job: 30 searches of one study", base, lambda node: _as_job(node, one))
        (base / "new").mkdir()
        shutil.copy(base / "00000" / "00000.dcm", base / "new" / "copy.dcm")
        _measure("one study, after a new file", base, lambda node: _find(node, one))
        size = sum(path.stat().st_size for path in (Path(temp) / "index").iterdir())
        print(f"size of the index: {size / 1e6:.1f} MB")


def _wait_until_settled() -> None:
    time.sleep(4)


def _find(node: FolderNode, one: Study) -> None:
    (record,) = node.find(Query.study(StudyRef(one.uid)))
    assert record.instance_count == IMAGES


def _find_patient(node: FolderNode, one: Study) -> None:
    keys = {"PatientID": f"BENCH-{one.number:04}"}
    (record,) = node.find(Query(QueryLevel.STUDY, keys))
    assert record.instance_count == IMAGES


def _as_job(node: FolderNode, one: Study) -> None:
    for _ in range(30):
        _find(node, one)


def _measure(what: str, base: Path, work: Callable[[FolderNode], None]) -> None:
    node = FolderNode("source", FolderSettings(path=str(base)))
    began, cpu = time.monotonic(), time.process_time()
    work(node)
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    node.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {cpu:.2f} s of processor time, {wall:.2f} s, peak memory {peak:.0f} MB")


if __name__ == "__main__":
    main()
