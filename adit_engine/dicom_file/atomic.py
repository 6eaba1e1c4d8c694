"""Write files atomically below a base folder. Used by folder nodes and 7-Zip destinations.

A file gets its final name in one step and never replaces another one, unless asked to. Symbolic
links below the base folder are not followed.
"""

import ctypes
import errno
import fcntl
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BufferedReader, FileIO
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file.part10 import hash_data_set
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed, StorageError, StorageFull

_RENAME_NOREPLACE = 1
"""RENAME_NOREPLACE of linux/fs.h."""
_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_LINKS_UNSUPPORTED = _UNSUPPORTED | {errno.EPERM, errno.EMLINK}
"""Error numbers of file systems that do not support the operation. Others are real errors."""

_NO_SUCH_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
"""No such file, a link where a file or folder was, or a file where a folder was."""

_libc = ctypes.CDLL(None, use_errno=True)


def rename_without_replacing(temp: str, name: str, folder: int) -> bool:
    """Rename a temporary file. Return False if the name exists; then both files stay.

    `folder` is a file descriptor. Raises OSError.
    """
    for way, cannot in _METHODS:
        try:
            way(temp, name, folder)
        except FileExistsError:
            return _is_same_file(temp, name, folder)
        except OSError as error:
            if error.errno not in cannot:
                raise
        else:
            return True
    return _rename_after_check(temp, name, folder)


def _rename_noreplace(temp: str, name: str, folder: int) -> None:
    """Supported by most file systems, but not by NFS."""
    try:
        rename = _libc.renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if rename(folder, os.fsencode(temp), folder, os.fsencode(name), _RENAME_NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _rename_by_link(temp: str, name: str, folder: int) -> None:
    """Create a hard link with the new name. Some network shares do not support links."""
    os.link(temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(temp, dir_fd=folder)


def _is_same_file(temp: str, name: str, folder: int) -> bool:
    """Whether the existing name already belongs to our file.

    A network share may create the link, lose the response and repeat the request.
    """
    ours = os.stat(temp, dir_fd=folder, follow_symlinks=False)
    there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
        return False
    os.unlink(temp, dir_fd=folder)
    return True


def _rename_after_check(temp: str, name: str, folder: int) -> bool:
    """The last resort: another process may create the name between check and rename."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        return True
    return False


_METHODS: tuple[tuple[Callable[[str, str, int], None], frozenset[int]], ...] = (
    (_rename_noreplace, _UNSUPPORTED),
    (_rename_by_link, _LINKS_UNSUPPORTED),
)


TEMP_PREFIX = ".adit-"
_MAX_BUFFERS = 512
ABANDONED_AFTER_S = 0.5
"""Age from which an unlocked temporary file counts as left behind by a dead process."""
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileStamp(NamedTuple):
    """Identity of a file's content. If any part differs, the file must be read again."""

    inode: int
    size_bytes: int
    changed_ns: int


def read_stamp(stat: os.stat_result) -> FileStamp:
    return FileStamp(stat.st_ino, stat.st_size, stat.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class UnpublishedFile:
    """A written file that still has its temporary name and is not visible yet.

    `held` stays open and locked until the file is published or discarded; the code that publishes
    the file closes it. The lock ends with the process, which shows other processes whether the file
    is still in use.
    """

    names: tuple[str, ...]
    temp: str
    size_bytes: int
    file: FileIO


class AtomicFolder:
    """A base folder for atomic writes.

    `owner` is the name of the node, used in errors. The modes apply to new folders and files.
    """

    def __init__(
        self,
        owner: str,
        base: Path,
        *,
        folder_mode: int = 0o750,
        file_mode: int = 0o640,
        group: int = -1,
    ) -> None:
        self.owner = owner
        self.base = base
        self._folder_mode = folder_mode
        self._file_mode = file_mode
        self._group = group
        self._cleaned: set[tuple[str, ...]] = set()
        self._here: tuple[tuple[str, ...], int] | None = None
        self._stays = 0
        self._trouble = _OsErrorTranslation(owner)
        self._visit = _FolderHandle(self._enter, self._exit)

    def write(self, names: tuple[str, ...], parts: Iterable[Buffer]) -> UnpublishedFile:
        """Write a file below the base under a temporary name.

        Raises StorageError, StorageFull.
        """
        with self.translate_errors():
            draft = self.create(names)
            try:
                size = _write_all(draft.file.fileno(), parts)
            except BaseException:
                self.discard([draft])
                raise
        return UnpublishedFile(names, draft.temp, size, draft.file)

    def create(self, names: tuple[str, ...], group: str = "") -> UnpublishedFile:
        """Create a file under a temporary name, to be written by the caller.

        `lot` groups files, so that `remove_unfinished` can remove them together. Raises
        StorageError.
        """
        temp = f"{_temp_prefix(group) if group else TEMP_PREFIX}{os.urandom(16).hex()}.part"
        with self.translate_errors(), self._folder(names[:-1], make=True) as folder:
            if names[:-1] not in self._cleaned:
                self._cleaned.add(names[:-1])
                _remove_abandoned(folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temp, flags, self._file_mode, dir_fd=folder)
            held = FileIO(descriptor, "r+")
            self._set_owner(descriptor, self._file_mode)
            with suppress(OSError):  # some network shares do not support locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return UnpublishedFile(names, temp, 0, held)

    def _set_owner(self, descriptor: int, mode: int) -> None:
        """Set mode and group regardless of the umask. Shares that ignore modes are accepted."""
        with suppress(OSError):
            os.fchmod(descriptor, mode)
        if self._group >= 0:
            os.fchown(descriptor, -1, self._group)

    def open_unpublished(self, draft: UnpublishedFile) -> BufferedReader:
        """Open a file that is not visible yet, for reading. The caller closes it."""
        with self.translate_errors(), self._folder(draft.names[:-1]) as folder:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.fdopen(os.open(draft.temp, flags, dir_fd=folder), "rb")

    def publish(self, drafts: Sequence[UnpublishedFile], stop: Stop) -> list[UnpublishedFile]:
        """Make files visible. All are synced to disk before the first one gets its name.

        No existing file is replaced: files whose name exists are discarded and returned. `stop` is
        checked before each file. Raises StorageError, Stopped.
        """
        taken: list[UnpublishedFile] = []

        def name(draft: UnpublishedFile, folder: int) -> None:
            if not rename_without_replacing(draft.temp, draft.names[-1], folder):
                taken.append(draft)

        self._publish_as(drafts, stop, name)
        self.discard(taken)
        return taken

    def replace(self, drafts: Sequence[UnpublishedFile], stop: Stop) -> None:
        """Make files visible as `publish` does, but replace existing files."""

        def name(draft: UnpublishedFile, folder: int) -> None:
            os.rename(draft.temp, draft.names[-1], src_dir_fd=folder, dst_dir_fd=folder)

        self._publish_as(drafts, stop, name)

    def _publish_as(
        self,
        drafts: Sequence[UnpublishedFile],
        stop: Stop,
        name: Callable[[UnpublishedFile, int], None],
    ) -> None:
        with self.translate_errors():
            for draft in drafts:
                os.fsync(draft.file.fileno())
            try:
                for draft in drafts:
                    with self._folder(draft.names[:-1]) as folder:
                        stop.check()
                        name(draft, folder)
            finally:
                for names in {draft.names[:-1] for draft in drafts}:
                    with self._folder(names) as folder:
                        os.fsync(folder)

    def remove_unfinished(self, names: tuple[str, ...], group: str) -> None:
        """Remove the unfinished files of a lot in this folder, which never become visible.

        For data that only one process may write at a time: the process that starts last calls this.
        A suspended process finds no file to rename when it resumes.
        """
        with self.translate_errors(), suppress(FileNotFoundError), self._folder(names) as folder:
            for name in os.listdir(folder):
                if name.startswith(_temp_prefix(group)):
                    with suppress(OSError):  # some shares keep files that are open
                        os.unlink(name, dir_fd=folder)

    def discard(self, drafts: Iterable[UnpublishedFile]) -> None:
        """Remove files that were not published. Files that are gone already are ignored."""
        for draft in drafts:
            draft.file.close()
            with suppress(OSError), self._folder(draft.names[:-1]) as folder:
                os.unlink(draft.temp, dir_fd=folder)

    def open(self, names: tuple[str, ...]) -> BufferedReader | None:
        """Open a visible file for reading, or return None. The caller closes it."""
        with self.translate_errors():
            try:
                with self._folder(names[:-1]) as folder:
                    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
                    return os.fdopen(os.open(names[-1], flags, dir_fd=folder), "rb")
            except FileNotFoundError:
                return None

    def get_stamp(self, names: tuple[str, ...]) -> FileStamp | None:
        """Return the stamp of a visible file, or None if there is none."""
        with self.translate_errors():
            try:
                with self._folder(names[:-1]) as folder:
                    stat = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
        return read_stamp(stat) if S_ISREG(stat.st_mode) else None

    def remove_data_set(self, names: tuple[str, ...], sha256: str) -> bool:
        """Remove a visible file if its data set has this hash; return whether it was removed.

        Anything else of this name stays: other content, links, folders and devices. Raises
        StorageError.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with self.translate_errors():
            try:
                with self._folder(names[:-1]) as folder:
                    with os.fdopen(os.open(names[-1], flags, dir_fd=folder), "rb") as file:
                        opened = os.fstat(file.fileno())
                        if not S_ISREG(opened.st_mode) or hash_data_set(file) != sha256:
                            return False
                    named = os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
                    if not os.path.samestat(opened, named):
                        return False
                    os.unlink(names[-1], dir_fd=folder)
                    os.fsync(folder)
            except Malformed:
                return False
            except OSError as error:
                if error.errno in _NO_SUCH_FILE:
                    return False
                raise
        return True

    def has_entry(self, names: tuple[str, ...]) -> bool:
        """Return whether anything has this name, or a link replaces one of its folders."""
        with self.translate_errors():
            try:
                with self._folder(names[:-1]) as folder:
                    os.stat(names[-1], dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno in _NO_SUCH_FILE:
                    return True
                raise
        return True

    def remove_file(self, names: tuple[str, ...]) -> None:
        """Remove a visible file that ADIT creates under this name. A missing one is no error."""
        with (
            self.translate_errors(),
            suppress(FileNotFoundError),
            self._folder(names[:-1]) as folder,
        ):
            os.unlink(names[-1], dir_fd=folder)

    def remove_empty_folder(self, names: tuple[str, ...]) -> None:
        """Remove a folder below the base. Raises OSError if it is not empty."""
        with self._folder(names) as folder:
            _remove_abandoned(folder)
        with self._folder(names[:-1]) as above:
            os.rmdir(names[-1], dir_fd=above)

    def free_bytes(self) -> int:
        """Return the free space of the base folder in bytes."""
        with self.translate_errors():
            room = os.statvfs(self.base)
        return room.f_bavail * room.f_frsize

    @contextmanager
    def keep_folder_open(self) -> Iterator[None]:
        """Keep the folder used last open inside the block, to speed up writing many files."""
        self._stays += 1
        try:
            yield
        finally:
            self._stays -= 1
            self._exit()

    def _enter(self) -> int:
        assert self._here is not None
        return self._here[1]

    def _exit(self) -> None:
        if not self._stays:
            self._close()

    def _close(self) -> None:
        if self._here is not None:
            os.close(self._here[1])
            self._here = None

    def _folder(self, names: tuple[str, ...], *, make: bool = False) -> "_FolderHandle":
        """Return a context manager that yields a descriptor of a folder below the base."""
        if self._here is None or self._here[0] != names:
            self._close()
            self._here = (names, self._open_folder(names, make=make))
        return self._visit

    def _open_folder(self, names: Sequence[str], *, make: bool) -> int:
        """Open each component with O_NOFOLLOW. The caller closes the descriptor."""
        here = os.open(self.base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                is_new = make and _make_folder(name, here, self._folder_mode)
                below = os.open(name, _FOLDER_FLAGS, dir_fd=here)
                if is_new:
                    self._set_owner(below, self._folder_mode)
                os.close(here)
                here = below
        except BaseException:
            os.close(here)
            raise
        return here

    def translate_errors(self) -> "_OsErrorTranslation":
        """Translate OSError inside a `with` block to StorageError or StorageFull."""
        return self._trouble


class _OsErrorTranslation:
    """Created once per folder, since it is entered several times for each file."""

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise to_storage_error(self._owner, error) from error


class _FolderHandle:
    """Access to the open folder of an AtomicFolder. Created once as well."""

    def __init__(self, arrived: Callable[[], int], left: Callable[[], None]) -> None:
        self._arrived = arrived
        self._left = left

    def __enter__(self) -> int:
        return self._arrived()

    def __exit__(self, *exc: object) -> None:
        self._left()


def _temp_prefix(group: str) -> str:
    """A hash, so that temporary names do not reveal the final names."""
    return f"{TEMP_PREFIX}{sha256(group.encode()).hexdigest()[:16]}-"


def _make_folder(name: str, folder: int, mode: int) -> bool:
    """Return False if the folder existed."""
    try:
        os.mkdir(name, mode, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def to_storage_error(owner: str, error: OSError) -> StorageError:
    """Convert to a StorageError without the path, which may contain a patient ID."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(owner, "disk.full")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(owner, "disk.not-permitted")
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return StorageError(owner, "disk.not-a-folder")
    if error.errno == errno.ENOENT:
        return StorageError(owner, "disk.folder-missing")
    words = os.strerror(error.errno) if error.errno else type(error).__name__
    return StorageError(owner, "disk.unusable", error=words)


def _write_all(descriptor: int, parts: Iterable[Buffer]) -> int:
    """Write all parts with as few system calls as possible. Return the number of bytes."""
    queue = deque(memoryview(part) for part in parts if len(part))
    total = sum(len(view) for view in queue)
    while queue:
        count = os.writev(descriptor, list(islice(queue, _MAX_BUFFERS)))
        while queue and count >= len(queue[0]):
            count -= len(queue.popleft())
        if count:
            queue[0] = queue[0][count:]
    return total


def _remove_abandoned(folder: int) -> None:
    """Remove temporary files of killed processes, which are no longer locked."""
    for name in os.listdir(folder):
        if name.startswith(TEMP_PREFIX):
            with suppress(OSError):
                _remove_if_abandoned(name, folder)


def _remove_if_abandoned(name: str, folder: int) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if time.time() - os.fstat(descriptor).st_mtime > ABANDONED_AFTER_S:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(descriptor)
