"""Read-back: files that were just written are read again, in a thread, while the next are written."""

import os
from collections.abc import Iterable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

from adit_engine import part10
from adit_engine.errors import Malformed, StorageTrouble
from adit_engine.tree import Tree

Names = tuple[str, ...]
Stamp = tuple[int, int, int]


class ReadBack:
    """Digests of data sets as they stand on the disk. `tree` is used by no other thread."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._wanted: SimpleQueue[Names | None] = SimpleQueue()
        self._found: dict[Names, tuple[Stamp, str]] = {}
        self._thread: Thread | None = None
        self._left = False

    def begin(self, files: Iterable[Names]) -> None:
        """Does not wait. The files have their names already."""
        if self._thread is None:
            self._left = False
            self._thread = Thread(target=self._read, name="read back", daemon=True)
            self._thread.start()
        for names in files:
            self._wanted.put(names)

    def end(self, *, at_once: bool) -> None:
        """The thread has ended afterwards; `at_once` leaves the rest unread."""
        self._left = at_once
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join()
            self._thread = None

    def proves(self, names: Names, digest: str, tree: Tree) -> bool:
        """Whether the file holds that data set. It is read now if it was not, or changed since."""
        known = self._found.pop(names, None)
        file = tree.open(names)
        if file is None:
            return False
        with file:
            if known is not None and known[0] == _stamp(file.fileno()):
                return known[1] == digest
            try:
                return part10.data_set_sha256(file) == digest
            except Malformed:
                return False

    def _read(self) -> None:
        with self._tree.staying():
            while (names := self._wanted.get()) is not None:
                if not self._left:
                    with suppress(StorageTrouble, Malformed, OSError):
                        self._read_one(names)

    def _read_one(self, names: Names) -> None:
        file = self._tree.open(names)
        if file is not None:
            with file:
                stamp = _stamp(file.fileno())
                self._found[names] = (stamp, part10.data_set_sha256(file))


def _stamp(descriptor: int) -> Stamp:
    """Another file, another length or another time of change: it has to be read again."""
    stat = os.fstat(descriptor)
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
