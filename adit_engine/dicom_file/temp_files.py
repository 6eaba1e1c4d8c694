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

TRUNCATED_MESSAGE = "The file became shorter while it was read."

_CHUNK_BYTES = 2 * 1024 * 1024

_folder: Path | None = None


def set_folder(folder: Path | None) -> None:
    """Where they lie from now on, for this process; None: in the system's temporary folder."""
    global _folder
    _folder = folder


def open_unnamed() -> BinaryIO:
    """Raises OSError."""
    import tempfile  # takes long to load, for what is seldom needed

    if _folder is not None:
        _folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tempfile.TemporaryFile(dir=_folder)


def map_file(file: BinaryIO) -> memoryview:
    """All that was written; stays after the file is closed. Raises OSError."""
    file.flush()
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def copy_and_map(
    descriptor: int, size_bytes: int, owner: str, check: Callable[[], None]
) -> memoryview:
    """So much of somebody else's file, which may be changed or shortened meanwhile.

    Calls `check` between pieces, which may raise. Raises Malformed when it is shorter, StorageFull
    in the name of `owner` when our own disk has no room, and OSError when it cannot be read.
    """
    with ExitStack() as stack:
        with _translate_full_disk(owner):
            file = stack.enter_context(open_unnamed())
        done = 0
        while done < size_bytes:
            check()
            piece = os.pread(descriptor, min(size_bytes - done, _CHUNK_BYTES), done)
            if not piece:
                raise Malformed(TRUNCATED_MESSAGE)
            done += len(piece)
            with _translate_full_disk(owner):
                file.write(piece)
        with _translate_full_disk(owner):
            return map_file(file)


@contextmanager
def _translate_full_disk(owner: str) -> Iterator[None]:
    """What our own disk says no to inside is a StorageFull in the name of `owner`."""
    try:
        yield
    except OSError as error:
        raise disk_full_error(owner) from error


def disk_full_error(owner: str) -> StorageFull:
    text = "our temporary folder has no room for a large image. Make room, then retry."
    return StorageFull(owner, text)
