"""Spool: where received instances wait until the retrieval that asked for them takes them.

One folder for each expectation; an instance is visible in it once it is whole, under a name that
sorts by arrival. What is written there survives the end of any process, however sudden; after a
power cut the ledger tells what is missing, and it is fetched again.
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

RESERVE_BYTES = 1024 * 1024 * 1024
MEMORY_BYTES = 1024 * 1024
"""An instance is written at once when it is smaller, and in pieces when it is larger."""

_CHECK_EVERY_BYTES, _CHECK_EVERY_S = 16 * 1024 * 1024, 0.05
_THROTTLED_FOR_S = 3.0
_TOKEN = re.compile(r"[0-9a-z]{1,64}")
_INCOMING, _JOURNAL, _THROTTLED = "_incoming", "journal", "held"
_SUFFIX = ".dcm"
_META_SEARCH_BYTES = 4096


class Spool:
    """A folder on this machine. `reserve_bytes` of the disk are never used for images."""

    def __init__(self, folder: Path, reserve_bytes: int = RESERVE_BYTES) -> None:
        self.folder = folder
        self.reserve_bytes = reserve_bytes
        self._base = str(folder)
        self._numbers = itertools.count()
        self._journals: dict[str, int] = {}
        self._room = _FreeSpace(self._base)

    def prepare(self) -> None:
        """Makes the folder. Raises StorageTrouble."""
        try:
            (self.folder / _INCOMING).mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._trouble(error) from error

    def sweep_incoming(self) -> None:
        """Removes what a receiver left half received; for the receiver, at its start."""
        for entry in self._incoming():
            with suppress(OSError):
                os.unlink(entry.path)

    # Expectations ------------------------------------------------------------------------------

    def open(self, token: str) -> Path:
        """The folder of an expectation: as long as it is there, images are taken."""
        self.prepare()
        path = self._path(token)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._trouble(error) from error
        return path

    def close(self, token: str) -> None:
        """From now on images for it are refused; what nobody took is dropped."""
        path = self._path(token)
        gone = self.folder / f"_{token}.gone"
        with suppress(FileNotFoundError):
            path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def require_open(self, token: str) -> None:
        """Raises FileNotFoundError when the expectation has ended."""
        os.stat(self._place(token))

    def tokens(self) -> list[str]:
        with os.scandir(self.folder) as entries:
            return [entry.name for entry in entries if _TOKEN.fullmatch(entry.name)]

    def sweep_closed(self) -> None:
        """Removes what a process left that ended while closing an expectation."""
        for path in self.folder.glob("_*.gone"):
            shutil.rmtree(path, ignore_errors=True)

    def taken(self, token: str) -> Iterator[Instance]:
        """Takes out, in order of arrival, what lies there now. Lazy; raises StorageTrouble."""
        for path in self.waiting(token):
            try:
                instance = _read_spooled(path)
                # A mapped file stays readable for whoever has mapped it.
                path.unlink()
            except OSError as error:
                raise self._trouble(error) from error
            yield instance

    def waiting(self, token: str) -> list[Path]:
        """The files that lie there now, in order of arrival. Raises StorageTrouble."""
        folder = self._path(token)
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(_SUFFIX))
        except OSError as error:
            raise self._trouble(error) from error
        return [folder / name for name in names]

    def last_activity_s(self) -> float:
        """For how long no image has grown that is on its way into this spool; inf: none is."""
        now = time.time()
        newest = max((_modification_time(entry) for entry in self._incoming()), default=0.0)
        return now - newest if newest else float("inf")

    def hold(self, token: str) -> bool:
        """Notes that an image for it is held back now; False when the expectation has ended."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            held = os.open(f"{self._place(token)}/{_THROTTLED}", flags, 0o600)
        except OSError as error:
            return error.errno not in (errno.ENOENT, errno.ENOTDIR)
        try:
            os.utime(held)
        finally:
            os.close(held)
        return True

    def is_held(self, token: str) -> bool:
        """Whether an image for it is held back now, or was a moment ago."""
        try:
            return (
                time.time() - os.stat(f"{self._place(token)}/{_THROTTLED}").st_mtime
                < _THROTTLED_FOR_S
            )
        except OSError:
            return False

    # Receiving ---------------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Whether the disk has more free than the reserve."""
        return self._room.free_bytes() >= self.reserve_bytes

    def arriving(self, sop_class_uid: str, instance_uid: str, syntax: str) -> "IncomingInstance":
        """To be filled, and then placed or dropped."""
        instance = Instance(sop_class_uid, instance_uid, syntax, b"")
        name = f"{time.time_ns():020d}-{next(self._numbers) % 10**6:06d}"
        return IncomingInstance(self, name, instance)

    def incoming_path(self, name: str) -> str:
        return f"{self._base}/{_INCOMING}/{name}"

    def waiting_bytes(self, token: str) -> int:
        """What lies there, not taken yet."""
        total = 0
        with suppress(OSError), os.scandir(self._path(token)) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    with suppress(OSError):
                        total += entry.stat().st_size
        return total

    def journal(self, token: str) -> dict[str, str]:
        """The digests of all instances that have come for it, by UID; also after they were taken."""
        found: dict[str, str] = {}
        with suppress(OSError), (self._path(token) / _JOURNAL).open() as lines:
            for line in lines:
                uid, _, digest = line.rstrip("\n").partition(" ")
                found[uid] = digest
        return found

    def note(self, token: str, instance_uid: str, digest: str) -> None:
        """In the journal, which stays open until it is ended."""
        journal = self._journals.get(token)
        if journal is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            journal = os.open(f"{self._place(token)}/{_JOURNAL}", flags, 0o600)
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
        return Path(self.place_in(token, name))

    def place_in(self, token: str, name: str) -> str:
        return f"{self._place(token)}/{name}{_SUFFIX}"

    def _path(self, token: str) -> Path:
        return Path(self._place(token))

    def _place(self, token: str) -> str:
        """As text, which is made in a tenth of the time: each image needs several."""
        if not _TOKEN.fullmatch(token):
            raise ValueError("A token consists of small letters and digits.")
        return f"{self._base}/{token}"

    def _incoming(self) -> list["os.DirEntry[str]"]:
        try:
            with os.scandir(self.folder / _INCOMING) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def _trouble(self, error: OSError) -> StorageError:
        text = f"the folder {self.folder} cannot be used: {error.strerror}. Ask its administrator."
        kind = StorageFull if error.errno in (28, 122) else StorageError
        return kind("The receiver's spool", text)


class _FreeSpace:
    """What is free on a disk, looked at some twenty times a second at most."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._free_bytes = 0
        self._looked_at = 0.0

    def free_bytes(self) -> int:
        now = time.monotonic()
        if now > self._looked_at + _CHECK_EVERY_S:
            status = os.statvfs(self._base)
            self._free_bytes, self._looked_at = status.f_bavail * status.f_frsize, now
        return self._free_bytes


class IncomingInstance:
    """One instance while it comes in: small in memory, large in a file; never held twice."""

    def __init__(self, spool: Spool, name: str, empty: Instance) -> None:
        self._spool = spool
        self.name = name
        self._empty = empty
        self._digest = hashlib.sha256()
        self._memory = bytearray(part10.file_head(empty))
        self._data_from = len(self._memory)
        self._path = spool.incoming_path(name)
        self._file: int | None = None
        self._look_at = _CHECK_EVERY_BYTES
        self._written = False
        self.size_bytes = 0
        self.is_full = not spool.has_room()
        """True when the disk has no room for it; what still comes is thrown away."""

    def add(self, piece: memoryview) -> None:
        self.size_bytes += len(piece)
        if self.is_full:
            return
        self._digest.update(piece)
        try:
            self._keep(piece)
        except OSError:
            self._give_up()

    @property
    def class_uid(self) -> str:
        return self._empty.sop_class_uid

    @property
    def digest(self) -> str:
        """Hex sha256 of the data set."""
        return self._digest.hexdigest()

    def ref(self) -> InstanceRef:
        """What the data set says of itself. Raises Malformed."""
        kind, uid, syntax = (
            self._empty.sop_class_uid,
            self._empty.instance_uid,
            self._empty.transfer_syntax_uid,
        )
        with self._view() as view:
            identity = Instance(kind, uid, syntax, view[self._data_from :]).in_header
        return identity.ref

    def place(self, token: str) -> None:
        """Makes it visible to the expectation, whole. Raises FileNotFoundError when that is over,
        and OSError when the disk is full.
        """
        self.finish()
        os.rename(self._path, self._spool.place_in(token, self.name))
        self._written = False

    def move_to(self, path: Path) -> None:
        """Lays it somewhere else, whole, where no retrieval takes it. Raises OSError."""
        self.finish()
        os.rename(self._path, path)
        self._written = False

    def drop(self) -> None:
        """Removes what was not placed."""
        self._close()
        if self._written:
            with suppress(OSError):
                os.unlink(self._path)
            self._written = False
        self._memory = bytearray()

    def _keep(self, piece: memoryview) -> None:
        if self._file is None:
            self._memory += piece
            if len(self._memory) > MEMORY_BYTES:
                self._spill()
            return
        _write_all(self._file, piece)
        if self.size_bytes >= self._look_at:
            self._look_at = self.size_bytes + _CHECK_EVERY_BYTES
            if not self._spool.has_room():
                self._give_up()

    def _spill(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o600)
        self._written = True
        _write_all(self._file, self._memory)
        self._memory = bytearray()

    def finish(self) -> None:
        """Writes all of it into a file that no retrieval sees yet. Raises OSError."""
        if not self._written:
            self._spill()
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _give_up(self) -> None:
        self.is_full = True
        self.drop()

    def _view(self) -> memoryview:
        if not self._written:
            return memoryview(self._memory)
        assert self._file is not None
        return memoryview(mmap.mmap(self._file, 0, access=mmap.ACCESS_READ))


def parse_spooled(data: Buffer) -> Instance:
    """The instance in the bytes of a file; one that cannot be read carries a fault instead."""
    try:
        return part10.parse_file(data)
    except Malformed as error:
        return _unreadable_instance(memoryview(data)[:_META_SEARCH_BYTES], error)


def _read_spooled(path: Path) -> Instance:
    """The same, for a file; a large one is mapped."""
    try:
        return part10.read_file(path)
    except Malformed as error:
        with path.open("rb") as file:
            return _unreadable_instance(memoryview(file.read(_META_SEARCH_BYTES)), error)


def _unreadable_instance(start: memoryview, error: Malformed) -> Instance:
    head, _ = part10.parse_group2(start)
    kind, uid, syntax = (head.get(tag, "") for tag in part10.META_TAGS)
    return Instance(kind, uid, syntax, b"", fault=str(error))


def _write_all(file: int, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _modification_time(entry: "os.DirEntry[str]") -> float:
    try:
        return entry.stat().st_mtime
    except OSError:
        return 0.0
