"""Read-back: files that were just written are read again, in a thread, while the next are written."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import ETIMEDOUT
from queue import SimpleQueue
from threading import Event, Thread

from adit_engine import part10
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed
from adit_engine.nodes.base import Stored
from adit_engine.tree import Draft, Stamp, Tree, stamp_of

_READ_BYTES = 256 * 1024
LONGEST_S = 600.0
"""So long a group may take to be read; a disk that needs longer does not answer any more."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was written: `parts` are the bytes that it has to hold."""

    draft: Draft
    stored: Stored
    parts: Sequence[Buffer]


class ReadBack:
    """What the files of one group after the other hold, byte by byte."""

    def __init__(self) -> None:
        self._wanted: SimpleQueue[Sequence[Written] | None] = SimpleQueue()
        self._found: dict[tuple[str, ...], tuple[Stamp, str]] = {}
        self._idle = Event()
        self._thread: Thread | None = None
        self._left = False
        self._fault: BaseException | None = None

    def begin(self, files: Sequence[Written]) -> None:
        """The files have their names already; each is closed once it is read.

        Waits for the group before, so that no more than two are held in memory. Raises OSError when
        the disk does not answer, and what went wrong with a group before.
        """
        if self._thread is None:
            self._left, self._fault = False, None
            self._idle.set()
            self._thread = Thread(target=self._read, name="read back", daemon=True)
            self._thread.start()
        try:
            self._require_idle()
        except BaseException:
            _close(files)
            raise
        self._idle.clear()
        self._wanted.put(files)

    def _require_idle(self) -> None:
        if not self._idle.wait(LONGEST_S):
            raise TimeoutError(ETIMEDOUT, os.strerror(ETIMEDOUT))
        if self._fault is not None:
            raise self._fault

    def end(self, *, at_once: bool) -> None:
        """The thread has ended afterwards; `at_once` leaves the rest unread."""
        self._left = at_once
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join(LONGEST_S)
            self._thread = None

    def proves(self, names: tuple[str, ...], digest: str, tree: Tree) -> bool:
        """Whether the file holds that data set. It is read now if it was not, or changed since."""
        known = self._found.pop(names, None)
        if known is not None and known == (tree.stamp(names), digest):
            return True
        file = tree.open(names)
        if file is None:
            return False
        with file:
            try:
                return part10.data_set_sha256(file) == digest
            except Malformed:
                return False

    def _read(self) -> None:
        while (files := self._wanted.get()) is not None:
            try:
                for one in files:
                    with one.draft.held as held, suppress(OSError):
                        if not self._left:
                            self._read_one(one, held.fileno())
            except BaseException as error:  # noqa: BLE001 - it is raised where the next group begins
                self._fault = error
            finally:
                _close(files)
                self._idle.set()

    def _read_one(self, one: Written, descriptor: int) -> None:
        stamp = stamp_of(os.fstat(descriptor))
        same = stamp.size_bytes == one.draft.size_bytes and _holds(descriptor, one.parts)
        self._found[one.draft.names] = (stamp, one.stored.sha256 if same else "")


def _close(files: Sequence[Written]) -> None:
    for one in files:
        one.draft.held.close()


def _holds(descriptor: int, parts: Sequence[Buffer]) -> bool:
    """Whether the file begins with these bytes."""
    read, position = bytearray(_READ_BYTES), 0
    for piece in _pieces(parts):
        if len(read) != len(piece):
            read = bytearray(len(piece))
        # Of two buffers the one on the left is the one that is compared as a whole, not by item.
        if os.preadv(descriptor, [read], position) != len(piece) or read != piece:
            return False
        position += len(piece)
    return True


def _pieces(parts: Sequence[Buffer]) -> Iterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _READ_BYTES):
            yield view[start : start + _READ_BYTES]
