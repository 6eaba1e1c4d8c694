"""Folders in which received instances wait for the retrieval that requested them.

One folder for each pending move. An instance becomes visible when it is complete, under a name that
sorts by arrival. Files survive the sudden end of any process; after a power failure the ledger
shows what is missing, and it is fetched again. Used by the receiver and by retrievals.
"""

import errno
import hashlib
import itertools
import mmap
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from adit_engine.dicom_file import part10
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed, StorageError, StorageFull
from adit_engine.values.instance import Instance
from adit_engine.values.references import InstanceRef

RECEIVER_NAME = "Receiver"
"""The name of our receiver in errors."""
RESERVE_BYTES = 1024 * 1024 * 1024
MEMORY_BYTES = 1024 * 1024
"""Smaller instances are written at once, larger ones in pieces."""

_CHECK_EVERY_BYTES, _CHECK_EVERY_S = 16 * 1024 * 1024, 0.05
_THROTTLED_FOR_S = 3.0
_TOKEN = re.compile(r"[0-9a-z]{1,64}")
_INCOMING, _JOURNAL, _THROTTLED = "_incoming", "journal", "held"
_SUFFIX = ".dcm"
_META_SEARCH_BYTES = 4096


class Spool:
    """The spool on this machine.

    `reserve_bytes` of the disk are never used for images.
    """

    def __init__(self, folder: Path, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self.reserve_bytes = reserve_bytes
        self._base = str(folder)
        self._numbers = itertools.count()
        self._journals: dict[str, int] = {}
        self._free_space = _FreeSpace(self._base)

    def prepare(self) -> None:
        """Create the folder. Raise StorageError."""
        try:
            (self.folder / _INCOMING).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._storage_error(error) from error

    def sweep_incoming(self) -> None:
        """Remove incomplete files of an earlier run. The receiver calls this at its start."""
        for entry in self._incoming():
            with suppress(OSError):
                os.unlink(entry.path)

    # Pending moves -----------------------------------------------------------------------------

    def open(self, token: str) -> Path:
        """Create the folder of a move: images are accepted as long as it exists."""
        self.prepare()
        path = self._path(token)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._storage_error(error) from error
        return path

    def close(self, token: str) -> None:
        """Refuse images of this move from now on, and delete those that were not taken."""
        path = self._path(token)
        gone = self.folder / f"_{token}.gone"
        with suppress(FileNotFoundError):
            path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def require_open(self, token: str) -> None:
        """Raise FileNotFoundError if the move has ended."""
        os.stat(self._path_text(token))

    def tokens(self) -> list[str]:
        with os.scandir(self.folder) as entries:
            return [entry.name for entry in entries if _TOKEN.fullmatch(entry.name)]

    def sweep_closed(self) -> None:
        """Remove what remains of processes that ended while closing a move."""
        for path in self.folder.glob("_*.gone"):
            shutil.rmtree(path, ignore_errors=True)

    def take(self, token: str) -> Iterator[Instance]:
        """Take the instances present now, in order of arrival; lazy. Raise StorageError."""
        for path in self.waiting(token):
            try:
                instance = _read_spooled(path)
                # A mapped file stays readable after unlink.
                path.unlink()
            except OSError as error:
                raise self._storage_error(error) from error
            yield instance

    def waiting(self, token: str) -> list[Path]:
        """Return the files present now, in order of arrival. Raise StorageError."""
        folder = self._path(token)
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))
        except OSError as error:
            raise self._storage_error(error) from error
        return [folder / name for name in names]

    def last_activity_s(self) -> float:
        """Seconds since an incoming image of this spool last grew; inf if there is none."""
        now = time.time()
        newest = max((_modification_time(entry) for entry in self._incoming()), default=0.0)
        return now - newest if newest else float("inf")

    def mark_throttled(self, token: str) -> bool:
        """Record that an image of the move is delayed now; False if the move has ended."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            held = os.open(f"{self._path_text(token)}/{_THROTTLED}", flags, 0o600)
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR)
        try:
            os.utime(held)
        finally:
            os.close(held)
        return True

    def is_throttled(self, token: str) -> bool:
        """Return whether an image of the move is delayed now, or was a moment ago."""
        try:
            return (
                time.time() - os.stat(f"{self._path_text(token)}/{_THROTTLED}").st_mtime
                < _THROTTLED_FOR_S
            )
        except OSError:
            return False

    # Receiving ---------------------------------------------------------------------------------

    def has_space(self) -> bool:
        """Return whether the disk has more free space than the reserve."""
        return self._free_space.free_bytes() >= self.reserve_bytes

    def begin_instance(
        self, sop_class_uid: str, instance_uid: str, syntax: str
    ) -> "IncomingInstance":
        """Return an empty instance, to be filled and then placed or dropped."""
        instance = Instance(sop_class_uid, instance_uid, syntax, b"")
        name = f"{time.time_ns():020d}-{next(self._numbers) % 10**6:06d}"
        return IncomingInstance(self, name, instance)

    def incoming_path(self, name: str) -> str:
        return f"{self._base}/{_INCOMING}/{name}"

    def waiting_bytes(self, token: str) -> int:
        """Return the bytes that wait to be taken."""
        total = 0
        with suppress(OSError), os.scandir(self._path(token)) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with suppress(OSError):
                        total += entry.stat().st_size
        return total

    def journal(self, token: str) -> dict[str, str]:
        """Return the digests of all instances that came for the move, by instance UID.

        Includes instances that were taken already.
        """
        found: dict[str, str] = {}
        with suppress(OSError), (self._path(token) / _JOURNAL).open() as lines:
            for line in lines:
                uid, _, digest = line.rstrip("\n").partition(" ")
                found[uid] = digest
        return found

    def add_to_journal(self, token: str, instance_uid: str, digest: str) -> None:
        """Add an entry to the journal, whose file stays open until `end_journal`."""
        journal = self._journals.get(token)
        if journal is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            journal = os.open(f"{self._path_text(token)}/{_JOURNAL}", flags, 0o600)
            self._journals[token] = journal
        os.write(journal, f"{instance_uid} {digest}\n".encode())

    def end_journal(self, token: str) -> None:
        journal = self._journals.pop(token, None)
        if journal is not None:
            os.close(journal)

    def end_journals(self) -> None:
        for token in list(self._journals):
            self.end_journal(token)

    def path_in(self, token: str, name: str) -> Path:
        return Path(self.path_text_in(token, name))

    def path_text_in(self, token: str, name: str) -> str:
        return f"{self._path_text(token)}/{name}{_SUFFIX}"

    def _path(self, token: str) -> Path:
        return Path(self._path_text(token))

    def _path_text(self, token: str) -> str:
        """Return a path as text; that takes a tenth of the time, and each image needs several."""
        if not _TOKEN.fullmatch(token):
            raise ValueError("A token consists of small letters and digits.")
        return f"{self._base}/{token}"

    def _incoming(self) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(self.folder / _INCOMING) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def _storage_error(self, error: OSError) -> StorageError:
        kind = StorageFull if error.errno in (28, 122) else StorageError
        return kind(
            RECEIVER_NAME,
            "receiver.spool-unusable",
            path=str(self.folder),
            reason=error.strerror,
        )


class _FreeSpace:
    """Free space of a disk, measured at most twenty times a second."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._free_bytes = 0
        self._measured_at = 0.0

    def free_bytes(self) -> int:
        now = time.monotonic()
        if now > self._measured_at + _CHECK_EVERY_S:
            status = os.statvfs(self._base)
            self._free_bytes, self._measured_at = status.f_bavail * status.f_frsize, now
        return self._free_bytes


class IncomingInstance:
    """One instance while it is received: in memory if small, else in a file.

    It is never held twice.
    """

    def __init__(self, spool: Spool, name: str, empty: Instance) -> None:
        self._spool = spool
        self.name = name
        self._empty = empty
        self._digest = hashlib.sha256()
        self._memory = bytearray(part10.file_head(empty))
        self._data_from = len(self._memory)
        self._path = spool.incoming_path(name)
        self._file: int | None = None
        self._check_at = _CHECK_EVERY_BYTES
        self._written = False
        self.size_bytes = 0
        self.is_full = not spool.has_space()
        """True if the disk has no space for it; further data are discarded."""

    def add(self, piece: memoryview) -> None:
        self.size_bytes += len(piece)
        if self.is_full:
            return
        self._digest.update(piece)
        try:
            self._append(piece)
        except OSError:
            self._discard_data()

    @property
    def class_uid(self) -> str:
        return self._empty.sop_class_uid

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the data set."""
        return self._digest.hexdigest()

    def ref(self) -> InstanceRef:
        """Return the reference from the data set. Raise Malformed."""
        kind, uid, syntax = (
            self._empty.sop_class_uid,
            self._empty.instance_uid,
            self._empty.transfer_syntax_uid,
        )
        with self._view() as view:
            identity = Instance(kind, uid, syntax, view[self._data_from :]).in_header
        return identity.ref

    def publish(self, token: str) -> None:
        """Make the complete instance visible to the retrieval.

        Raises FileNotFoundError if the move has ended, OSError if the disk is full.
        """
        self.finish()
        os.rename(self._path, self._spool.path_text_in(token, self.name))
        self._written = False

    def move_to(self, path: Path) -> None:
        """Move the complete instance to a place outside of all moves. Raise OSError."""
        self.finish()
        os.rename(self._path, path)
        self._written = False

    def discard(self) -> None:
        """Remove the instance unless it was placed."""
        self._close()
        if self._written:
            with suppress(OSError):
                os.unlink(self._path)
            self._written = False
        self._memory = bytearray()

    def _append(self, piece: memoryview) -> None:
        if self._file is None:
            self._memory += piece
            if len(self._memory) > MEMORY_BYTES:
                self._spill()
            return
        _write_all(self._file, piece)
        if self.size_bytes >= self._check_at:
            self._check_at = self.size_bytes + _CHECK_EVERY_BYTES
            if not self._spool.has_space():
                self._discard_data()

    def _spill(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._written = True
        _write_all(self._file, self._memory)
        self._memory = bytearray()

    def finish(self) -> None:
        """Write it completely, in a file that no retrieval sees yet. Raise OSError."""
        if not self._written:
            self._spill()
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _discard_data(self) -> None:
        self.is_full = True
        self.discard()

    def _view(self) -> memoryview:
        if not self._written:
            return memoryview(self._memory)
        assert self._file is not None
        return memoryview(mmap.mmap(self._file, 0, access=mmap.ACCESS_READ))


def parse_spooled(data: Buffer) -> Instance:
    """Parse the bytes of a file; unreadable ones give an instance with a fault."""
    try:
        return part10.parse_file(data)
    except Malformed as error:
        return _unreadable_instance(memoryview(data)[:_META_SEARCH_BYTES], error)


def _read_spooled(path: Path) -> Instance:
    """As `parse_spooled`, for a file; a large one is mapped."""
    try:
        return part10.read_file(path)
    except Malformed as error:
        with path.open("rb") as file:
            return _unreadable_instance(memoryview(file.read(_META_SEARCH_BYTES)), error)


def _unreadable_instance(start: memoryview, error: Malformed) -> Instance:
    head, _ = part10.parse_group2(start)
    kind, uid, syntax = (head.get(tag, "") for tag in part10.META_TAGS)
    return Instance(kind, uid, syntax, b"", defect=error.message)


def _write_all(file: int, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _modification_time(entry: "os.DirEntry[str]") -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0
