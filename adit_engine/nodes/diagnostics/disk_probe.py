"""Probe the disk below a folder: mount, free space, and the operations that we rely on.

Used by the folder and 7-Zip nodes.
"""

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adit_engine.dicom_file.atomic import TEMP_PREFIX, to_storage_error
from adit_engine.errors import StorageError
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding, SettingProposal

NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "ceph", "9p"}
)
SLOW_S = 0.5

_OCTAL = re.compile(r"\\([0-7]{3})")  # how a space is written in mountinfo
_MOUNTINFO = Path("/proc/self/mountinfo")
_TEXT = b"A test by ADIT.\n"


@dataclass(frozen=True, slots=True)
class DiskProbe:
    """Probes a folder. `is_network` and `reserve_mb` are values of the settings."""

    name: str
    base: Path
    is_network: bool
    reserve_mb: int

    def findings(self) -> Iterator[NodeFinding]:
        """Yield the findings on an existing folder. Writes nothing."""
        yield NodeFinding(Grade.GOOD, Message("test.folder-exists", node=self.name))
        yield from self._mount_findings()
        yield self._free_space_finding()
        if os.access(self.base, os.R_OK | os.W_OK | os.X_OK):
            yield NodeFinding(Grade.GOOD, Message("test.folder-writable"))
        else:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.folder-read-only"),
                Message("step.grant-write"),
            )

    def test_writing(self) -> Iterator[NodeFinding]:
        """Write a file as images are written, and remove it. Never raises StorageError."""
        from shutil import rmtree  # slow to load, and only a test needs it

        place = self.base / f"{TEMP_PREFIX}{os.urandom(16).hex()}"
        try:
            yield from self._test_folder(place)
        except OSError as error:
            reason = to_storage_error(self.name, error).message
            yield NodeFinding(Grade.BAD, Message("test.file-not-written", error=reason))
        except StorageError as error:
            yield NodeFinding(Grade.BAD, error.message)
        finally:
            rmtree(place, ignore_errors=True)

    def _mount_findings(self) -> Iterator[NodeFinding]:
        kind = filesystem_type(self.base)
        if self.is_network:
            mounted = Message("test.mounted-as", filesystem=kind)
            yield NodeFinding(Grade.GOOD, mounted if kind else Message("test.mounted"))
        elif kind in NETWORK_FILESYSTEMS:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.network-folder", filesystem=kind),
                Message("step.mark-network-folder"),
                (SettingProposal("network", True, Message("proposal.network")),),
            )

    def _free_space_finding(self) -> NodeFinding:
        status = os.statvfs(self.base)
        free_gb = status.f_bavail * status.f_frsize / 1e9
        if free_gb * 1000 < self.reserve_mb:
            return NodeFinding(
                Grade.BAD,
                Message("test.space-low", free=f"{free_gb:.1f}"),
                Message("step.free-space"),
            )
        return NodeFinding(Grade.GOOD, Message("test.space", free=f"{free_gb:.0f}"))

    def _test_folder(self, path: Path) -> Iterator[NodeFinding]:
        started = time.monotonic()
        path.mkdir()
        temp, last = path / f"{TEMP_PREFIX}part", path / "test.txt"
        with temp.open("xb") as file:
            file.write(_TEXT)
            file.flush()
            os.fsync(file.fileno())
        temp.rename(last)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        took_s = time.monotonic() - started
        if last.read_bytes() != _TEXT:
            raise StorageError(self.name, "folder.test-file-differs")
        one_disk = last.stat().st_dev == self.base.stat().st_dev
        last.unlink()
        path.rmdir()
        yield from self._speed_findings(took_s, one_disk=one_disk)

    def _speed_findings(self, took_s: float, *, one_disk: bool) -> Iterator[NodeFinding]:
        took_ms = f"{took_s * 1000:.0f}"
        if took_s < SLOW_S:
            yield NodeFinding(Grade.GOOD, Message("test.file-written", milliseconds=took_ms))
        else:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.file-written-slowly", milliseconds=took_ms),
                Message("step.slow-disk"),
            )
        if not one_disk:
            yield NodeFinding(
                Grade.WARNING,
                Message("test.other-filesystem"),
                Message("step.other-filesystem"),
            )


def require_mounted(name: str, base: Path, is_network: bool) -> None:
    """Raise StorageError if the folder is missing or its network share is not mounted."""
    try:
        os.stat(base)
    except OSError as error:
        raise to_storage_error(name, error) from error
    if not base.is_dir():
        raise StorageError(name, "folder.not-a-folder")
    if is_network and not _is_mounted(base):
        raise StorageError(name, "folder.not-mounted")


def _is_mounted(path: Path) -> bool:
    return any(os.path.ismount(step) for step in (path, *path.parents) if step != Path("/"))


def filesystem_type(path: Path) -> str:
    """Return the kind of file system, such as ext4 or cifs; empty if unknown."""
    try:
        lines = _MOUNTINFO.read_text().splitlines()
    except OSError:
        return ""
    found = ("", "")
    for line in lines:
        left, _, right = line.partition(" - ")
        place = _OCTAL.sub(lambda match: chr(int(match[1], 8)), left.split()[4])
        if path.is_relative_to(place) and len(place) >= len(found[0]):
            found = (place, right.split()[0])
    return found[1]
