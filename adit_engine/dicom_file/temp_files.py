"""Unnamed temporary files for large objects, used while they are received or read.

No other process can change them, and they vanish when their process ends.
"""

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from adit_engine.errors import Malformed, StorageFull

_CHUNK_BYTES = 2 * 1024 * 1024

_folder: Path | None = None


def set_folder(folder: Path | None) -> None:
    """Set the folder for temporary files of this process. None: the system default."""
    global _folder
    _folder = folder


def open_unnamed() -> BinaryIO:
    """Open a temporary file without a name. Raises OSError."""
    import tempfile  # slow to import and rarely needed

    if _folder is not None:
        _folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return tempfile.TemporaryFile(dir=_folder)


def map_file(file: BinaryIO) -> memoryview:
    """Map everything written so far. The map outlives the file object. Raises OSError."""
    file.flush()
    return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def copy_and_map(
    descriptor: int, size_bytes: int, owner: str, check: Callable[[], None]
) -> memoryview:
    """Copy and map the first bytes of a file that others may change or truncate.

    Calls `check` between chunks, which may raise. Raises Malformed if the file is shorter,
    StorageFull with `owner` as node name if the temporary folder is full, and OSError if the file
    cannot be read.
    """
    with ExitStack() as stack:
        with _translate_full_disk(owner):
            file = stack.enter_context(open_unnamed())
        done = 0
        while done < size_bytes:
            check()
            piece = os.pread(descriptor, min(size_bytes - done, _CHUNK_BYTES), done)
            if not piece:
                raise Malformed("dicom-file.truncated")
            done += len(piece)
            with _translate_full_disk(owner):
                file.write(piece)
        with _translate_full_disk(owner):
            return map_file(file)


@contextmanager
def _translate_full_disk(owner: str) -> Iterator[None]:
    """Translate OSError of the temporary folder to StorageFull with `owner` as node name."""
    try:
        yield
    except OSError as error:
        raise disk_full_error(owner) from error


def disk_full_error(owner: str) -> StorageFull:
    return StorageFull(owner, "disk.temporary-folder-full")
