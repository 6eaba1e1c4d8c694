"""Large: nameless files of our own, in which large objects lie while they travel.

Nobody else can change them, and nothing is left of them when their process ends.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from adit_engine.errors import Malformed, StorageFull

SHORTER = "The file became shorter while it was read."

_PIECE_BYTES = 2 * 1024 * 1024

_folder: Path | None = None


def keep_in(folder: Path | None) -> None:
    """Where they lie from now on, for this process; None: in the system's temporary folder."""
    global _folder
    _folder = folder


def nameless() -> BinaryIO:
    """Raises OSError."""
    import tempfile  # takes long to load, for what is seldom needed

    if _folder is not None:
        _folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tempfile.TemporaryFile(dir=_folder)


def mapped(file: BinaryIO) -> memoryview:
    """All that was written; stays after the file is closed. Raises OSError."""
    file.flush()
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def copied(descriptor: int, size_bytes: int, owner: str, check: Callable[[], None]) -> memoryview:
    """So much of somebody else's file, which may be changed or shortened meanwhile.

    Calls `check` between pieces, which may raise. Raises Malformed when it is shorter, StorageFull
    in the name of `owner` when our own disk has no room, and OSError when it cannot be read.
    """
    with ExitStack() as stack:
        with _own_room(owner):
            file = stack.enter_context(nameless())
        done = 0
        while done < size_bytes:
            check()
            piece = os.pread(descriptor, min(size_bytes - done, _PIECE_BYTES), done)
            if not piece:
                raise Malformed(SHORTER)
            done += len(piece)
            with _own_room(owner):
                file.write(piece)
        with _own_room(owner):
            return mapped(file)


@contextmanager
def _own_room(owner: str) -> Iterator[None]:
    """What our own disk says no to inside is a StorageFull in the name of `owner`."""
    try:
        yield
    except OSError as error:
        raise no_room(owner) from error


def no_room(owner: str) -> StorageFull:
    text = "our temporary folder has no room for a large image. Make room, then retry."
    return StorageFull(owner, text)
