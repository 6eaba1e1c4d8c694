"""Delete files that ADIT delivered, and the folders that this leaves empty.

A file is deleted only if its data set is still the one that was delivered. Links are never
followed. Used by the nodes that write files.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file.atomic import AtomicFolder

_NO_NAMES = ("", ".", "..")


@dataclass(frozen=True, slots=True)
class DeliveredFile:
    """A file as it was delivered. `sha256` is that of the data set."""

    path: str = field(repr=False)
    sha256: str


class FileState(StrEnum):
    """What is known of a delivered file after an attempt to delete it."""

    DELETED = "deleted"
    MISSING = "missing"
    """There was no such file any more."""
    CHANGED = "changed"
    """Something else has this name. It was left as it is."""


def delete_delivered_files(
    tree: AtomicFolder, files: Iterable[DeliveredFile], stop: Stop
) -> Iterator[tuple[DeliveredFile, FileState]]:
    """Delete files, look for each again, and remove the folders that became empty.

    May be repeated at any time. Raises StorageError, Stopped.
    """
    folders: set[tuple[str, ...]] = set()
    for one in files:
        stop.check()
        names = tuple(one.path.split("/"))
        if any(name in _NO_NAMES for name in names):
            yield one, FileState.CHANGED
            continue
        folders.add(names[:-1])
        is_same = tree.remove_data_set(names, one.sha256)
        if tree.has_entry(names):
            yield one, FileState.CHANGED
        else:
            yield one, FileState.DELETED if is_same else FileState.MISSING
    for folder in sorted(folders, key=len, reverse=True):
        _remove_empty_folders(tree, folder)


def _remove_empty_folders(tree: AtomicFolder, folder: tuple[str, ...]) -> None:
    """Remove a folder and those above it as long as they are empty, but never the base."""
    with suppress(OSError):
        for length in range(len(folder), 0, -1):
            tree.remove_empty_folder(folder[:length])
