"""Write objects as files below a base folder, atomically, and verify what was written.

Used by the folder node and by the 7-Zip node for its staging folder. Files that were just written
are read back in a thread while the next ones are written.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from errno import ETIMEDOUT
from hashlib import file_digest
from io import BytesIO
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import TextIO

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import part10
from adit_engine.dicom_file.atomic import AtomicFolder, FileStamp, UnpublishedFile, read_stamp
from adit_engine.dicom_file.delivered_files import (
    DeliveredFile,
    FileState,
    delete_delivered_files,
)
from adit_engine.dicom_file.delivery_list import DeliveryListLine, open_delivery_list
from adit_engine.dicom_file.layout import make_path
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed, NodeError, Stopped, StorageFull
from adit_engine.messages import Message
from adit_engine.nodes.base import ArchiveRequest, StagedImage, StoreResult
from adit_engine.rate_limit import RateLimiter
from adit_engine.values.instance import (
    CHARACTER_SET,
    DEFLATED_LE,
    EXPLICIT_BE,
    EXPLICIT_LE,
    NAMING_TAGS,
    Instance,
    inflate_start,
)
from adit_engine.values.outcome import InstanceState
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

_READ_BYTES = 256 * 1024
MAX_WAIT_S = 600.0
"""How long reading a group back may take; a disk that needs longer is considered dead."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written; `parts` are the bytes that it has to contain."""

    draft: UnpublishedFile
    stored: StoreResult
    parts: Sequence[Buffer]


class WriteVerification:
    """Reads files back in groups and compares them byte by byte."""

    def __init__(self) -> None:
        self._wanted: SimpleQueue[Sequence[WrittenFile] | None] = SimpleQueue()
        self._found: dict[tuple[str, ...], tuple[FileStamp, str]] = {}
        self._idle = Event()
        self._thread: Thread | None = None
        self._left = False
        self._fault: BaseException | None = None

    def enqueue(self, files: Sequence[WrittenFile]) -> None:
        """Queue a group of files that have their names already.

        Each is closed once it is read. Waits for the previous group, so that no more than two are
        held in memory. Raises OSError when the disk does not respond, and the error of an earlier
        group.
        """
        if self._thread is None:
            self._left, self._fault = False, None
            self._idle.set()
            self._thread = Thread(target=self._read, name="read back", daemon=True)
            self._thread.start()
        try:
            self._require_idle()
        except BaseException:
            _close_files(files)
            raise
        self._idle.clear()
        self._wanted.put(files)

    def _require_idle(self) -> None:
        if not self._idle.wait(MAX_WAIT_S):
            raise TimeoutError(ETIMEDOUT, os.strerror(ETIMEDOUT))
        if self._fault is not None:
            raise self._fault

    def end(self, *, at_once: bool) -> None:
        """End the thread and wait for it; `at_once` leaves the rest unread."""
        self._left = at_once
        if self._thread is not None:
            self._wanted.put(None)
            self._thread.join(MAX_WAIT_S)
            self._thread = None

    def is_verified(self, names: tuple[str, ...], digest: str, tree: AtomicFolder) -> bool:
        """Return whether the file holds that data set; read it if unread or changed since."""
        known = self._found.pop(names, None)
        if known is not None and known == (tree.get_stamp(names), digest):
            return True
        file = tree.open(names)
        if file is None:
            return False
        with file:
            try:
                return part10.hash_data_set(file) == digest
            except Malformed:
                return False

    def _read(self) -> None:
        while (files := self._wanted.get()) is not None:
            try:
                for one in files:
                    with one.draft.file as held, suppress(OSError):
                        if not self._left:
                            self._read_one(one, held.fileno())
            except BaseException as error:  # noqa: BLE001 - it is raised where the next group begins
                self._fault = error
            finally:
                _close_files(files)
                self._idle.set()

    def _read_one(self, one: WrittenFile, descriptor: int) -> None:
        stamp = read_stamp(os.fstat(descriptor))
        same = stamp.size_bytes == one.draft.size_bytes and _begins_with(descriptor, one.parts)
        self._found[one.draft.names] = (stamp, one.stored.sha256 if same else "")


def _close_files(files: Sequence[WrittenFile]) -> None:
    for one in files:
        one.draft.file.close()


def _begins_with(descriptor: int, parts: Sequence[Buffer]) -> bool:
    """Return whether the file begins with these bytes."""
    read, position = bytearray(_READ_BYTES), 0
    for piece in _split_parts(parts):
        if len(read) != len(piece):
            read = bytearray(len(piece))
        # The left operand has to be the bytearray: its comparison is bytewise, a memoryview's by
        # item.
        if os.preadv(descriptor, [read], position) != len(piece) or read != piece:
            return False
        position += len(piece)
    return True


def _split_parts(parts: Sequence[Buffer]) -> Iterator[memoryview]:
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), _READ_BYTES):
            yield view[start : start + _READ_BYTES]


GROUP_FILES = 16
GROUP_BYTES = 16 * 1024 * 1024


class FileWriter:
    """Writes files named as in dicom_file/layout.py.

    `owner` is the name of the node, for errors.
    """

    def __init__(
        self,
        owner: str,
        base: Path,
        *,
        reserve_mb: int,
        folder_mode: int = 0o750,
        file_mode: int = 0o640,
        group: int = -1,
        rate_limiter: RateLimiter | None = None,
    ) -> None:
        self.owner = owner
        self.rate_limiter = rate_limiter or RateLimiter()
        self.reserve_mb = reserve_mb
        self.folder = AtomicFolder(
            owner, base, folder_mode=folder_mode, file_mode=file_mode, group=group
        )
        self._read_back = WriteVerification()
        self._aborted = False
        self._stop = Stop()

    def set_stop(self, stop: Stop) -> None:
        """Check `stop` before each file is named from now on."""
        self._stop = stop

    def abort(self) -> None:
        """Make a running store raise Stopped at its next instance."""
        self._aborted = True

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Store files, which become visible in groups.

        A result comes when its file is visible.
        """
        self.require_free_space()
        drafts: list[WrittenFile] = []
        is_done = False
        try:
            with self.folder.keep_folder_open():
                yield from self._write_files(instances, drafts)
            is_done = True
        finally:
            self.folder.discard(one.draft for one in drafts)
            self._read_back.end(at_once=not is_done)

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[str]:
        """Read each file back: its length and SHA-256 must be those that were written."""
        tree, proves = self.folder, self._read_back.is_verified
        with tree.keep_folder_open():
            kept = [one for one in stored if proves(_path_names(one), one.sha256, tree)]
        return iter([one.ref.instance_uid for one in kept])

    def require_free_space(self, size_bytes: int = 0) -> None:
        """Raise StorageFull unless this much fits in addition to the reserve."""
        free = self.folder.free_bytes() - self.reserve_mb * 1_000_000
        if free < size_bytes and free > 0:
            raise StorageFull(
                self.owner,
                "storage.insufficient-space",
                free=f"{free / 1e9:.1f}",
                needed=f"{size_bytes / 1e9:.1f}",
            )
        if free < size_bytes:
            raise StorageFull(self.owner, "storage.almost-full")

    def write_delivery_list(self, bundle: ArchiveRequest) -> None:
        """Write contents-NAME.csv and .json beside the images, replacing older ones.

        Reads each file, since people can compare only the SHA-256 of the file itself. It is written
        into the project's folder if there is one; the writer that begins last wins. Raises
        StorageError.
        """
        gathered = iter(bundle.staged_images)
        first = next(gathered, None)
        folder = _project_folder(first.path) if first is not None else ()
        name = f"contents-{bundle.name}"
        self.folder.remove_unfinished(folder, name)
        drafts: list[UnpublishedFile] = []
        try:
            with ExitStack() as stack, self.folder.translate_errors():
                for ending in ("csv", "json"):
                    drafts.append(self.folder.create((*folder, f"{name}.{ending}"), group=name))
                texts = [stack.enter_context(_open_text(draft)) for draft in drafts]
                with open_delivery_list(texts[0], texts[1], bundle.metadata) as listed:
                    for one in chain(() if first is None else (first,), gathered):
                        listed.add(self._make_line(one))
                    for line in bundle.other_lines:
                        listed.add(line)
            self.folder.replace(drafts, self._stop)
            for draft in drafts:
                draft.file.close()
            drafts = []
        finally:
            self.folder.discard(drafts)

    def delete_files(
        self, files: Iterable[DeliveredFile]
    ) -> Iterator[tuple[DeliveredFile, FileState]]:
        """Delete files that were delivered; see dicom_file/delivered_files.py. Lazy."""
        return delete_delivered_files(self.folder, files, self._stop)

    def delete_delivery_list(self, name: str, path: str) -> None:
        """Delete contents-NAME.csv and .json of the job that delivered a file with this path.

        The project's folder is removed if this leaves it empty. Raises StorageError.
        """
        folder = _project_folder(path)
        self.folder.remove_unfinished(folder, f"contents-{name}")
        for ending in ("csv", "json"):
            self.folder.remove_file((*folder, f"contents-{name}.{ending}"))
        if folder:
            with suppress(OSError):
                self.folder.remove_empty_folder(folder)

    def _make_line(self, one: StagedImage) -> DeliveryListLine:
        uids = (one.ref.study_uid, one.ref.series_uid, one.ref.instance_uid)
        file = self.folder.open(tuple(one.path.split("/")))
        if file is None:
            gone = str(Message("delivery-list.file-missing"))
            return DeliveryListLine(*uids, InstanceState.DELIVERED.value, gone, one.path)
        with file:
            digest = file_digest(file, "sha256").hexdigest()
            size = file.tell()
        return DeliveryListLine(*uids, InstanceState.DELIVERED.value, "", one.path, size, digest)

    def _write_files(
        self, instances: Iterable[Instance], drafts: list[WrittenFile]
    ) -> Iterator[StoreResult]:
        """Write instances.

        `drafts` holds the files that are not visible yet, in case this ends early.
        """
        size, stream = 0, iter(instances)
        while True:
            try:
                instance = next(stream, None)
            except NodeError:
                # Instances received before the source failed are valid and are published.
                yield from self._publish(drafts)
                raise
            if instance is None:
                break
            self.rate_limiter.throttle(instance.size_bytes, lambda: self._aborted)
            if self._aborted:
                raise Stopped("node.stopped", node=self.owner)
            written = self._write(instance)
            if isinstance(written, StoreResult):
                yield written
                continue
            drafts.append(written)
            size += written.draft.size_bytes
            if len(drafts) >= GROUP_FILES or size >= GROUP_BYTES:
                yield from self._publish(drafts)
                size = 0
        yield from self._publish(drafts)

    def _publish(self, drafts: list[WrittenFile]) -> Iterator[StoreResult]:
        """Make files visible.

        A file that another process has created meanwhile is left unchanged and compared.
        """
        self.require_free_space()
        taken = {d.names for d in self.folder.publish([one.draft for one in drafts], self._stop)}
        done = list(drafts)
        drafts.clear()
        with self.folder.translate_errors():
            self._read_back.enqueue([one for one in done if one.draft.names not in taken])
        for one in done:
            names = one.draft.names
            yield self._compare_existing(one.stored, names) if names in taken else one.stored

    def _write(self, instance: Instance) -> WrittenFile | StoreResult:
        head = part10.file_head(instance)
        values = _naming_values(instance, head)
        names = make_path(values)
        stored = StoreResult(
            instance.in_header.ref,
            size_bytes=instance.size_bytes,
            sha256=instance.sha256(),
            path="/".join(names),
        )
        if self.folder.get_stamp(names):
            return self._compare_existing(stored, names)
        parts = (head, *instance.parts())
        return WrittenFile(self.folder.write(names, parts), stored, parts)

    def _compare_existing(self, stored: StoreResult, names: tuple[str, ...]) -> StoreResult:
        """Compare with the existing file.

        An equal data set counts as stored; a different file is not replaced.
        """
        if self._digest(names) == stored.sha256:
            return stored
        error = Message("refused.different-object")
        return StoreResult(stored.ref, status=0x0111, error=error)

    def _digest(self, names: tuple[str, ...]) -> str:
        """Return the SHA-256 of the data set in a visible file; "" if it is broken or gone."""
        file = self.folder.open(names)
        if file is None:
            return ""
        with file:
            try:
                return part10.hash_data_set(file)
            except Malformed:
                return ""


def _project_folder(path: str) -> tuple[str, ...]:
    """Return the project's folder as in dicom_file/layout.py; the base itself without a project."""
    names = path.split("/")
    return (names[0],) if len(names) == 5 else ()


def _open_text(draft: UnpublishedFile) -> TextIO:
    return open(draft.file.fileno(), "w", encoding="utf-8", newline="", closefd=False)


def _path_names(stored: StoreResult) -> tuple[str, ...]:
    return tuple(stored.path.split("/"))


def _naming_values(instance: Instance, head: bytes) -> dict[str, str]:
    """Return the values that file names are made of; pydicom is needed for some encodings only."""
    if instance.transfer_syntax_uid != EXPLICIT_BE:
        identity = instance.in_header
        found = {word: identity.trimmed(tag) for tag, word in NAMING_TAGS.items()}
        unicode = identity.trimmed(CHARACTER_SET) == b"ISO_IR 192"
        if unicode or all(value.isascii() for value in found.values()):
            return {word: value.decode(errors="replace") for word, value in found.items()}
    from pydicom import dcmread  # slow to load

    data = b"".join(instance.parts())
    if instance.transfer_syntax_uid == DEFLATED_LE:
        # Never inflate the whole: a small file may expand to gigabytes.
        instance = replace(instance, transfer_syntax_uid=EXPLICIT_LE, header=inflate_start(data))
        head, data = part10.file_head(instance), bytes(instance.header)
    header = dcmread(
        BytesIO(head + data),
        stop_before_pixels=True,
        specific_tags=list(NAMING_TAGS.values()),
    )
    record = Record.from_dataset(QueryLevel.IMAGE, header)
    return {keyword: record.text(keyword) for keyword in NAMING_TAGS.values()}
