"""The node that stages images and packs them into encrypted 7-Zip files; a destination only.

Opened through `adit_engine.nodes.open_node`.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file.atomic import AtomicFolder, to_storage_error
from adit_engine.dicom_file.delivered_files import DeliveredFile, FileState
from adit_engine.dicom_file.layout import make_component
from adit_engine.errors import InvalidInput, StorageError
from adit_engine.messages import Message
from adit_engine.nodes.base import (
    NOT_OBSERVED,
    ArchiveRequest,
    FinishedArchive,
    Grade,
    NodeCapabilities,
    NodeFinding,
    Report,
    StagedImage,
    StoreResult,
    TrafficObserver,
    observe_sent,
    setting_field,
)
from adit_engine.nodes.diagnostics.disk_probe import DiskProbe, require_mounted
from adit_engine.nodes.file_writer import FileWriter
from adit_engine.nodes.sevenzip_builder import ArchiveBuilder
from adit_engine.rate_limit import RateLimiter
from adit_engine.values.instance import Instance

GB = 1_000_000_000
_ASIDE = ".gone-"
_OVERHEAD = 1.01
"""An archive is a little larger than its images."""


@dataclass(frozen=True)
class ArchiveSettings:
    path: str = setting_field(
        "", "Folder", help="Folder of finished 7-Zip files. Empty: in the data folder of ADIT."
    )
    shown_path: str = setting_field(
        "",
        "Folder as users see it",
        help=r"Such as \\server\share\archives. Empty: files can only be downloaded in the browser.",
    )
    network: bool = setting_field(
        False, "Network folder", help="ADIT does not write while it is not mounted."
    )
    staging: str = setting_field(
        "",
        "Folder for staged images",
        help="Images are stored there unencrypted until their 7-Zip file is created. Use a disk "
        "that only ADIT can read. Empty: in the data folder of ADIT.",
        advanced=True,
    )
    part_gb: int = setting_field(
        20, "Maximum file size (GB)", help="A larger job is split into several independent files."
    )
    reserve_mb: int = setting_field(
        200, "Space to keep free (MB)", help="ADIT writes nothing if less is free.", advanced=True
    )
    domain: str = setting_field("", "Patient ID domain", advanced=True)
    contact: str = setting_field(
        "", "Contact", help="Name, phone or mail address of its administrator."
    )

    def __post_init__(self) -> None:
        for label, path in (("Folder", self.path), ("Folder for staged images", self.staging)):
            if path and not os.path.isabs(path):
                raise InvalidInput("setting.absolute-path", setting=label)
        if self.part_gb < 1:
            raise InvalidInput("setting.minimum", setting="Maximum file size (GB)", minimum=1)


class ArchiveNode(NodeCapabilities):
    """A 7-Zip node.

    `set_archive_title` says what belongs together; then `store` as often as needed, finally `pack`.
    """

    Settings = ArchiveSettings
    is_archive = True
    folder_settings = ("path", "staging")

    def __init__(
        self, name: str, settings: ArchiveSettings, *, observer: TrafficObserver = NOT_OBSERVED
    ) -> None:
        if not settings.path or not settings.staging:
            raise InvalidInput("setting.archive-folders")
        self.name = name
        self.settings = settings
        self._observer = observer
        self.base = Path(settings.path)
        self.rate_limiter = RateLimiter()
        self._staged: dict[str, StagedImage] = {}
        self.set_archive_title("images")

    def set_archive_title(self, title: str) -> None:
        """Set the title under which images are staged and packed from now on."""
        self._staging = Path(self.settings.staging, make_component(title, "images"))
        self._filing = FileWriter(
            self.name,
            self._staging,
            reserve_mb=self.settings.reserve_mb,
            folder_mode=0o700,
            file_mode=0o600,
            rate_limiter=self.rate_limiter,
        )

    def close(self) -> None:
        pass

    def abort(self) -> None:
        self._filing.abort()

    def set_stop(self, stop: Stop) -> None:
        self._filing.set_stop(stop)

    def check(self) -> Iterator[NodeFinding]:
        try:
            self._require_mounted()
        except StorageError as error:
            yield NodeFinding(Grade.BAD, error.message, Message("step.fix-archive"))
            return
        yield from self._disk_probe().findings()

    def try_writing(self) -> Iterator[NodeFinding]:
        """Write a test file, which is removed again."""
        try:
            self._require_mounted()
        except StorageError as error:
            yield NodeFinding(Grade.BAD, error.message, Message("step.fix-archive"))
            return
        yield from self._disk_probe().test_writing()

    def _disk_probe(self) -> DiskProbe:
        given = self.settings
        return DiskProbe(self.name, self.base, given.network, given.reserve_mb)

    # Staging -----------------------------------------------------------------------------------

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Stage images, unencrypted, where only this account can read them."""
        self._require_mounted()
        self._make_staging()
        yield from self._filing.store(observe_sent(instances, self._observer))

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[str]:
        """Read each staged file back."""
        kept = set(self._filing.confirm(stored))
        for one in stored:
            if one.ref.instance_uid in kept:
                found = StagedImage(one.ref, one.path, one.sha256, one.size_bytes)
                self._staged[one.path] = found
        return iter(kept)

    @property
    def staged_images(self) -> list[StagedImage]:
        """The images confirmed since this node was opened."""
        return list(self._staged.values())

    def delete_files(
        self, files: Iterable[DeliveredFile]
    ) -> Iterator[tuple[DeliveredFile, FileState]]:
        """Delete images that are staged under this title; see FileWriter.delete_files. Lazy."""
        self._require_mounted()
        if not self._staging.is_dir():
            yield from ((one, FileState.MISSING) for one in files)
            return
        for result in self._filing.delete_files(files):
            # In the empty folder that an unmounted share leaves, every file seems to be gone.
            self._require_mounted()
            yield result

    def discard_staged(self) -> None:
        """Remove what was staged under this title so far.

        The folder is renamed first: images that are staged meanwhile stay, however long the removal
        takes.
        """
        aside = self._staging.with_name(f"{_ASIDE}{secrets.token_hex(8)}")
        with suppress(OSError):
            self._staging.rename(aside)
        for one in self._staging.parent.glob(f"{_ASIDE}*"):
            shutil.rmtree(one, ignore_errors=True)
        with suppress(OSError):  # other titles are staged there
            self._staging.parent.rmdir()

    def _make_staging(self) -> None:
        try:
            self._staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise to_storage_error(self.name, error) from error

    # Packing -----------------------------------------------------------------------------------

    def pack(
        self, bundle: ArchiveRequest, password: str, stop: Stop, report: Report = lambda _: None
    ) -> list[FinishedArchive]:
        """Build, test and publish the archives of what was staged; see ArchiveBuilder.pack.

        May be repeated at any time until `discard_staged`. Raises StorageError, Stopped.
        """
        self._require_mounted()
        target = FileWriter(self.name, self.base, reserve_mb=self.settings.reserve_mb)
        target.require_free_space(int(bundle.size_bytes * _OVERHEAD))
        packing = ArchiveBuilder(
            self.name,
            AtomicFolder(self.name, self._staging),
            target.folder,
            password,
            self.settings.part_gb * GB,
            stop,
            report,
        )
        return packing.pack(bundle)

    def require_free_space(self, size_bytes: int) -> None:
        """Require space for the staged images and the archive. Raises StorageError."""
        self._require_mounted()
        self._make_staging()
        try:
            is_one_disk = self._staging.stat().st_dev == self.base.stat().st_dev
        except OSError as error:
            raise to_storage_error(self.name, error) from error
        self._filing.require_free_space(2 * size_bytes if is_one_disk else size_bytes)
        FileWriter(self.name, self.base, reserve_mb=self.settings.reserve_mb).require_free_space(
            size_bytes
        )

    def _require_mounted(self) -> None:
        require_mounted(self.name, self.base, self.settings.network)
