"""Naming: gives a finished file its name in one step, and never takes the place of another one."""

import ctypes
import errno
import os
from collections.abc import Callable

_NOREPLACE = 1
"""RENAME_NOREPLACE of linux/fs.h."""
_UNKNOWN = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_LINKS_UNKNOWN = _UNKNOWN | {errno.EPERM, errno.EMLINK}
"""What file systems answer that cannot do it; all others are real faults."""

_libc = ctypes.CDLL(None, use_errno=True)


def name_once(temp: str, name: str, folder: int) -> bool:
    """False where something has that name: it stays as it is, and so does the temporary file.

    `folder` is a descriptor. Raises OSError.
    """
    for way, cannot in _WAYS:
        try:
            way(temp, name, folder)
        except FileExistsError:
            return _is_ours(temp, name, folder)
        except OSError as error:
            if error.errno not in cannot:
                raise
        else:
            return True
    return _moved(temp, name, folder)


def _renamed(temp: str, name: str, folder: int) -> None:
    """NFS cannot, most others can."""
    try:
        rename = _libc.renameat2
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    if rename(folder, os.fsencode(temp), folder, os.fsencode(name), _NOREPLACE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _linked(temp: str, name: str, folder: int) -> None:
    """Where names are given by linking; some shares know no links."""
    os.link(temp, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(temp, dir_fd=folder)


def _is_ours(temp: str, name: str, folder: int) -> bool:
    """A share may link, lose its answer, and be asked again; then the name is that of our file."""
    ours = os.stat(temp, dir_fd=folder, follow_symlinks=False)
    there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
        return False
    os.unlink(temp, dir_fd=folder)
    return True


def _moved(temp: str, name: str, folder: int) -> bool:
    """The last resort: between the look and the move somebody else may give the same name."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)
        return True
    return False


_WAYS: tuple[tuple[Callable[[str, str, int], None], frozenset[int]], ...] = (
    (_renamed, _UNKNOWN),
    (_linked, _LINKS_UNKNOWN),
)
