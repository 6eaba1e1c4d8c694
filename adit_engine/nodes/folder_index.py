"""The index of a source folder: header values by file, kept between searches, checked by each.

Used by the folder node. `SourceIndex` says what is trusted, and for how long. The index is kept in
an encrypted file where `keep_in` was called; otherwise it lasts as long as its node.
"""

import json
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from adit_engine.dicom_file.atomic import TEMP_PREFIX
from adit_engine.dicom_file.header_index import IndexEntry
from adit_engine.errors import StorageError
from adit_engine.nodes.folder_index_file import (
    IndexCipher,
    IndexFolder,
    IndexRows,
    MemoryRows,
    Outdated,
    Unusable,
)

MAX_FILES = 2_000_000
"""Files and folders that one search visits. Bounds its memory and the size of the index."""
COMPLETE_CHECK_NS = 60_000_000_000
"""How long a search of known studies may rely on the last check of all files."""

_FORMAT = "1"
_SETTLED_NS = 3_000_000_000
"""A file that changed less than this before it was read may change again within one time stamp.

The resolution of times is up to 2 s (FAT).
"""
_RUN_MASK = 1024 - 1
"""Runs of names have 1,024 files on average."""
_NO_IMAGE, _UNREADABLE = -1, -2
_OWN_VALUES = ("SOPInstanceUID", "InstanceNumber")
"""Values that differ from image to image; all others are kept once per series."""

_log = logging.getLogger(__name__)
_storage: IndexFolder | None = None

_FolderVersion = tuple[int, int, int]
T = TypeVar("T")


class Unreadable:
    """Marks a file that is DICOM, or cannot be opened, and has no readable header."""


UNREADABLE = Unreadable()
ReadEntry = Callable[[Path, str], IndexEntry | Unreadable | None]
"""Reads a header, given the path of the file and its path below the folder; None: no image."""


def keep_in(folder: Path | None, cipher: IndexCipher | None = None) -> None:
    """Keep the indexes of this process in a folder of ADIT. None: keep none."""
    global _storage
    _storage = None
    if folder is not None and cipher is not None:
        _storage = IndexFolder(folder, cipher)
        _storage.delete_unused(time.time())


@dataclass(slots=True)
class _FileRun:
    """The files of one run of names in a folder, one item per file in each list.

    `files` are a name and a version; `header_of` is an index of `headers`, or what the file is
    instead of an image.
    """

    files: list[str] = field(default_factory=list)
    headers: list[dict[str, str | list[str]]] = field(default_factory=list)
    header_of: list[int] = field(default_factory=list)
    uids: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)

    @property
    def has_unreadable(self) -> bool:
        return _UNREADABLE in self.header_of

    def to_bytes(self) -> bytes:
        lists = (self.files, self.headers, self.header_of, self.uids, self.numbers)
        return json.dumps(lists, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, body: bytes) -> "_FileRun":
        return cls(*json.loads(body))

    def entries(self, folder: str, studies: Collection[str] | None) -> Iterator[IndexEntry]:
        shared = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in one.items()}
            if studies is None or one["StudyInstanceUID"] in studies
            else None
            for one in self.headers
        ]
        begin = f"{folder}/" if folder else ""
        for file, header, uid, number in zip(
            self.files, self.header_of, self.uids, self.numbers, strict=True
        ):
            values = shared[header] if header >= 0 else None
            if values is not None:
                own = dict(zip(_OWN_VALUES, (uid, number), strict=True))
                yield IndexEntry({**values, **own}, begin + file[: file.index("\0")])


@dataclass(slots=True)
class _CompleteCheck:
    """What is remembered of a check of all files: when, the folders, those of some studies."""

    at_ns: int
    folders: dict[str, _FolderVersion | None] = field(default_factory=dict)
    study_folders: dict[str, set[str]] = field(default_factory=dict)


class SourceIndex:
    """The header values of all images below a folder.

    - A complete check lists all folders and asks for the version of each file: its modification and
      change time, size and inode number. Only new and changed files are opened. An unchanged
      version is trusted, unless the file had changed less than 3 s before it was read.
    - A search of studies whose folders are known from a complete check of the last 60 s checks only
      the files in these folders, if the times of all folders are unchanged. It does not notice a
      file elsewhere that was overwritten in place by an image of that study, or a new file on a
      file system that does not keep the times of folders.
    - Files that could not be read are tried again by each search.
    - A row that was damaged is read again, a damaged file of the index is built again, and where
      none can be written, each node builds its own in memory.
    """

    def __init__(
        self,
        owner: str,
        base: Path,
        read: ReadEntry,
        check: Callable[[], None],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`owner` is the node, for errors. `check` is called often and may end a search by raising.

        `clock` returns nanoseconds.
        """
        self._owner = owner
        self._base = base
        self._read = read
        self._check = check
        self._clock = clock
        self._storage = _storage
        self._memory = MemoryRows()
        self._lock = threading.Lock()
        self._last: _CompleteCheck | None = None
        self.unread = 0
        """Files and folders that the last search could not read."""

    def close(self) -> None:
        self._memory = MemoryRows()
        self._last = None

    def search(
        self, use: Callable[[Iterator[IndexEntry]], T], studies: Collection[str] | None = None
    ) -> T:
        """Return what `use` makes of the entries, in the order of folders and names.

        `use` must read all entries; it may be called several times. `studies` are the study UIDs
        that matter; None for all. Raises StorageError, and what `check` raises.
        """
        with self._lock:
            if self._storage is not None:
                # The second attempt to write is that after a damaged file was deleted.
                for is_writable in (False, True, True):
                    with (
                        suppress(Outdated, Unusable),
                        self._storage.open_rows(
                            self._base, is_writable=is_writable, check=self._check
                        ) as rows,
                    ):
                        return use(self._entries(rows, studies))
                _log.warning("The index of a folder cannot be kept. Check the data folder of ADIT.")
                self._storage = None
            return use(self._entries(self._memory, studies))

    def _entries(self, rows: IndexRows, studies: Collection[str] | None) -> Iterator[IndexEntry]:
        folders = self._find_known_folders(studies)
        self.unread = 0
        if folders is None:
            yield from self._check_everything(rows, studies)
            return
        for folder in folders:
            for _, part in self._load_parts(rows, folder, self._list_files(folder)[0]):
                yield from part.entries(folder, studies)

    def _find_known_folders(self, studies: Collection[str] | None) -> list[str] | None:
        """Return the folders of the studies; None if a complete check is due."""
        last = self._last
        if last is None or studies is None or self.unread:
            return None
        is_recent = 0 <= self._clock() - last.at_ns < COMPLETE_CHECK_NS
        if not is_recent or not all(study in last.study_folders for study in studies):
            return None
        for folder, version in last.folders.items():
            if version is None or self._folder_version(folder) != version:
                return None
        wanted = set().union(*(last.study_folders[study] for study in studies))
        return [folder for folder in last.folders if folder in wanted]

    def _check_everything(
        self, rows: IndexRows, studies: Collection[str] | None
    ) -> Iterator[IndexEntry]:
        done = _CompleteCheck(self._clock())
        names: set[str] = set()
        pending, count = [""], 0
        while pending:
            folder = pending.pop()
            self._check()
            done.folders[folder] = self._folder_version(folder)
            files, subfolders = self._list_files(folder)
            count += 1 + len(files)
            if count > MAX_FILES:
                raise StorageError(self._owner, "folder.too-many-files", limit=MAX_FILES)
            pending.extend(os.path.join(folder, name) for name in reversed(subfolders))
            for name, part in self._load_parts(rows, folder, files):
                names.add(name)
                if studies is not None:
                    for header in part.headers:
                        if (study := str(header["StudyInstanceUID"])) in studies:
                            done.study_folders.setdefault(study, set()).add(folder)
                yield from part.entries(folder, studies)
        rows.keep_only(names)
        self._last = done

    def _list_files(self, folder: str) -> tuple[list["os.DirEntry[str]"], list[str]]:
        """Return the files of a folder, without our own unfinished ones, and its subfolders."""
        files, subfolders = [], []
        try:
            with os.scandir(self._base / folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        subfolders.append(entry.name)
                    elif not entry.name.startswith(TEMP_PREFIX):
                        files.append(entry)
        except OSError:
            self.unread += 1
        return sorted(files, key=lambda entry: entry.name), sorted(subfolders)

    def _folder_version(self, folder: str) -> _FolderVersion | None:
        """Return times and inode; None if they changed so recently that they cannot be relied on."""
        try:
            seen = os.stat(os.path.join(self._base, folder))
        except OSError:
            return None
        is_settled = max(seen.st_mtime_ns, seen.st_ctime_ns) < self._clock() - _SETTLED_NS
        return (seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino) if is_settled else None

    def _load_parts(
        self, rows: IndexRows, folder: str, entries: Sequence["os.DirEntry[str]"]
    ) -> Iterator[tuple[str, _FileRun]]:
        """Yield the name and content of each row of a folder; it is brought up to date before."""
        for run, end in _split_into_runs(entries):
            self._check()
            versions = ((entry.name, self._file_version(entry)) for entry in run)
            files = [f"{name}\0{version}" for name, version in versions if version is not None]
            name = "\0".join((_FORMAT, str(self._base), folder, end))
            body = rows.get(name)
            part = _FileRun() if body is None else _FileRun.from_bytes(body)
            if body is None or part.files != files or part.has_unreadable:
                if body is None or not set(files).issubset(part.files):
                    rows.require_writable()
                before, part = part, self._update(part, folder, files)
                if body is None or part != before:
                    rows.put(name, part.to_bytes())
            self.unread += part.header_of.count(_UNREADABLE)
            yield name, part

    def _file_version(self, entry: "os.DirEntry[str]") -> str | None:
        """Return times, size and inode of a file.

        None for anything but a regular file, and for links that lead out of the folder.
        """
        try:
            seen = entry.stat(follow_symlinks=False)
        except OSError:
            self.unread += 1
            return None
        try:
            if stat.S_ISLNK(seen.st_mode):
                if not Path(entry.path).resolve().is_relative_to(self._base.resolve()):
                    return None
                seen = os.stat(entry.path)
        except (OSError, RuntimeError):
            return None
        # Opening a pipe or a device would block.
        if not stat.S_ISREG(seen.st_mode):
            return None
        return f"{seen.st_mtime_ns} {seen.st_ctime_ns} {seen.st_size} {seen.st_ino}"

    def _update(self, before: _FileRun, folder: str, files: Sequence[str]) -> _FileRun:
        """Return a part with these files; those that are new, changed or unreadable are opened."""
        known = {file: number for number, file in enumerate(before.files)}
        part, headers = _FileRun(), dict[str, int]()

        def add(
            file: str, header: dict[str, str | list[str]] | int, uid: str = "", number: str = ""
        ) -> None:
            if not isinstance(header, int):
                text = json.dumps(header)
                if (place := headers.setdefault(text, len(part.headers))) == len(part.headers):
                    part.headers.append(header)
                header = place
            part.files.append(file)
            part.header_of.append(header)
            part.uids.append(uid)
            part.numbers.append(number)

        for file in files:
            at = known.get(file)
            if at is not None and (kept := before.header_of[at]) != _UNREADABLE:
                header = before.headers[kept] if kept >= 0 else kept
                add(file, header, before.uids[at], before.numbers[at])
                continue
            self._check()
            name, version = file.split("\0")
            place = os.path.join(folder, name)
            began_ns = self._clock()
            entry = self._read(self._base / place, place)
            if not _is_settled(version, began_ns):
                file = f"{name}\0"
            if isinstance(entry, IndexEntry):
                values = {
                    key: value if isinstance(value, str) else list(value)
                    for key, value in entry.values.items()
                    if key not in _OWN_VALUES
                }
                own = (str(entry.values.get(key, "")) for key in _OWN_VALUES)
                add(file, values, *own)
            else:
                add(file, _NO_IMAGE if entry is None else _UNREADABLE)
        return part


def _is_settled(version: str, at_ns: int) -> bool:
    modified, changed, *_ = map(int, version.split())
    return max(modified, changed) < at_ns - _SETTLED_NS


def _split_into_runs(
    entries: Sequence["os.DirEntry[str]"],
) -> Iterator[tuple[Sequence["os.DirEntry[str]"], str]]:
    """Split sorted names into runs, and yield each with the name at its end.

    The ends depend on the names alone, so that a new name changes only its own run. The last run
    has no end.
    """
    begin = 0
    for number, entry in enumerate(entries, 1):
        if crc32(os.fsencode(entry.name)) & _RUN_MASK == 0:
            yield entries[begin:number], entry.name
            begin = number
    if begin < len(entries):
        yield entries[begin:], ""
