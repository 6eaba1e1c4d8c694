"""Build encrypted 7-Zip files of staged images; none is visible before all are tested.

Used by the 7-Zip node.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from io import TextIOWrapper
from typing import TYPE_CHECKING, BinaryIO, TextIO

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import part10
from adit_engine.dicom_file.atomic import AtomicFolder, UnpublishedFile, to_storage_error
from adit_engine.dicom_file.delivery_list import (
    DeliveryListLine,
    DeliveryListWriter,
    open_delivery_list,
)
from adit_engine.errors import InvalidInput, Malformed, StorageError
from adit_engine.nodes.base import (
    ArchiveRequest,
    ArchivesTested,
    FinishedArchive,
    PackingProgress,
    Report,
    StagedImage,
)
from adit_engine.values.outcome import InstanceState

if TYPE_CHECKING:
    from adit_engine.nodes.sevenzip_file import SevenZipWriter

SUFFIX = ".7z"
MAX_FILES = 50_000
"""Per archive, so that its list of files needs little memory, here and where it is opened."""
_PIECE_BYTES = 256 * 1024
_STEP_BYTES = 64 * 1024 * 1024


@dataclass
class ArchiveBuilder:
    """One build: files below `staging` become archives in `target`."""

    owner: str
    staging: AtomicFolder
    target: AtomicFolder
    password: str
    part_bytes: int
    stop: Stop
    report: Report
    _unreported: int = field(default=0, init=False)

    def pack(self, bundle: ArchiveRequest) -> list[FinishedArchive]:
        """Build, test and publish the archives of a bundle; return them in order.

        Removes first what an earlier build of this bundle has begun, even if that is still running.
        Calls `report` with each step, and with the names before they are visible. Raises
        StorageError, StorageFull, Stopped, and whatever `report` raises.
        """
        self.stop.check()
        self.target.remove_unfinished((), bundle.name)
        drafts: list[UnpublishedFile] = []
        packed: list[FinishedArchive] = []
        left = iter(bundle.staged_images)
        is_one = bundle.size_bytes <= self.part_bytes and bundle.images <= MAX_FILES
        following: StagedImage | None = next(left, None)
        try:
            while following is not None:
                number = len(drafts) + 1
                name = bundle.name if is_one else f"{bundle.name}-part{number}"
                drafts.append(self.target.create((name + SUFFIX,), group=bundle.name))
                part = _ArchivePart(following, left, self.part_bytes)
                checksum = self._write(drafts[-1], name, part, bundle)
                size = self._test(drafts[-1], checksum)
                packed.append(FinishedArchive(name + SUFFIX, size, part.images))
                following = part.following
            self.report(ArchivesTested(tuple(one.name for one in packed)))
            self.target.replace(drafts, self.stop)
            for draft in drafts:
                draft.file.close()
            drafts = []
        finally:
            self.target.discard(drafts)
        return packed

    def _report_progress(self, size_bytes: int) -> None:
        """Count each piece written or read back."""
        self.stop.check()
        self._unreported += size_bytes
        if self._unreported >= _STEP_BYTES:
            self.report(PackingProgress(self._unreported))
            self._unreported = 0

    # Writing -----------------------------------------------------------------------------------

    def _write(
        self, draft: UnpublishedFile, name: str, part: "_ArchivePart", bundle: ArchiveRequest
    ) -> bytes:
        """Write one archive and return the checksum of its members."""
        from adit_engine.nodes.sevenzip_file import SevenZipWriter

        with self._translate_errors(), ExitStack() as stack:
            file = stack.enter_context(open(draft.file.fileno(), "w+b", closefd=False))
            archive = SevenZipWriter(file, self.password)
            lists = [stack.enter_context(_open_scratch_file()) for _ in range(2)]
            with open_delivery_list(lists[0], lists[1], bundle.metadata) as listed:
                for one in part:
                    self._add(archive, one, listed)
                for line in bundle.other_lines if part.following is None else ():
                    listed.add(line)
            for ending, text in zip(("csv", "json"), lists, strict=True):
                text.flush()
                archive.add(f"contents-{name}.{ending}", self._pieces(text.buffer))
            archive.close()
            file.flush()
            os.fsync(file.fileno())
        return archive.checksum.digest()

    def _add(self, archive: "SevenZipWriter", one: StagedImage, listed: DeliveryListWriter) -> None:
        """Add one image, which must be the one that was staged."""
        file = self.staging.open(tuple(one.path.split("/")))
        if file is None:
            raise self._missing_error()
        with file:
            data_set = sha256()
            try:
                digest = archive.add(one.path, self._image(file, data_set.update))
            except Malformed:
                raise self._missing_error() from None
            size_bytes = file.tell()
        if data_set.hexdigest() != one.sha256:
            raise self._missing_error()
        uids = (one.ref.study_uid, one.ref.series_uid, one.ref.instance_uid)
        listed.add(
            DeliveryListLine(
                *uids, InstanceState.DELIVERED.value, "", one.path, size_bytes, digest.hex()
            )
        )

    def _image(
        self, file: BinaryIO, data_set: Callable[[memoryview], None]
    ) -> Iterator[memoryview]:
        """Yield pieces of a Part 10 file.

        `data_set` receives the data set, whose hash identifies an image.
        """
        start: int | None = None
        for piece in self._pieces(file):
            if start is None:
                _, start = part10.parse_file_meta(piece)
                data_set(piece[start:])
            else:
                data_set(piece)
            yield piece

    def _pieces(self, file: BinaryIO) -> Iterator[memoryview]:
        file.seek(0)
        buffer = memoryview(bytearray(_PIECE_BYTES))
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            self._report_progress(count)
            yield buffer[:count]

    def _missing_error(self) -> StorageError:
        return StorageError(self.owner, "archive.staged-images-changed")

    # Testing -----------------------------------------------------------------------------------

    def _test(self, draft: UnpublishedFile, checksum: bytes) -> int:
        """Read an archive back from the disk with the password; return its size."""
        from adit_engine.nodes.sevenzip_file import read_checksum

        with self._translate_errors(), self.target.open_unpublished(draft) as file:
            size = os.fstat(file.fileno()).st_size
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                found = read_checksum(file, self.password, self._report_progress)
            except (Malformed, InvalidInput):
                raise self._broken_error() from None
        if found != checksum:
            raise self._broken_error()
        return size

    def _broken_error(self) -> StorageError:
        return StorageError(self.owner, "archive.verification-failed")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise to_storage_error(self.owner, error) from error


class _ArchivePart:
    """The content of one archive: up to its size, or one larger image alone."""

    def __init__(self, first: StagedImage, left: Iterator[StagedImage], max_bytes: int) -> None:
        self.following: StagedImage | None = first
        self.images = 0
        self._left = left
        self._most_bytes = max_bytes
        self._size = 0

    def __iter__(self) -> Iterator[StagedImage]:
        """Yield images. Afterwards `following` is the first of the next part, or None."""
        while (one := self.following) is not None:
            self._size += one.size_bytes
            if self.images and (self._size > self._most_bytes or self.images >= MAX_FILES):
                return
            self.images += 1
            yield one
            self.following = next(self._left, None)


@contextmanager
def _open_scratch_file() -> Iterator[TextIO]:
    """Open an unnamed temporary file, of which nothing is left, whatever happens."""
    with tempfile.TemporaryFile() as file, TextIOWrapper(file, "utf-8", newline="") as text:
        yield text
