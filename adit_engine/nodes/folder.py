"""A local or network folder of DICOM files, as a source and a destination.

Opened through `adit_engine.nodes.open_node`.
"""

import grp
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adit_engine.bounded_stream import Stop
from adit_engine.dicom_file import part10
from adit_engine.dicom_file.delivered_files import DeliveredFile, FileState
from adit_engine.dicom_file.header_index import (
    INDEXED_KEYWORDS,
    IndexEntry,
    find_instances,
    find_records,
)
from adit_engine.dicom_ul import identifier
from adit_engine.errors import InvalidInput, Malformed, Stopped, StorageError
from adit_engine.messages import Message
from adit_engine.nodes.base import (
    NOT_OBSERVED,
    ArchiveRequest,
    FindResults,
    Grade,
    NodeCapabilities,
    NodeFinding,
    StoreResult,
    TrafficObserver,
    observe_sent,
    setting_field,
)
from adit_engine.nodes.diagnostics.disk_probe import DiskProbe, require_mounted
from adit_engine.nodes.file_writer import FileWriter
from adit_engine.nodes.folder_index import UNREADABLE, SourceIndex, Unreadable
from adit_engine.values.instance import (
    DEFLATED_LE,
    EXPLICIT_BE,
    IMPLICIT_LE,
    Instance,
    inflate_start,
)
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, Ref

_HEAD_BYTES = 64 * 1024
"""All indexed attributes are usually within this many bytes of a file."""
_INDEXED_TAGS = identifier.tags_of(INDEXED_KEYWORDS)
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_STARTS_WITHOUT_PREAMBLE = (b"\x02\0", b"\x08\0")
"""First bytes of files without a preamble: the file meta information, or the data set itself."""


@dataclass(frozen=True)
class FolderSettings:
    path: str = setting_field(
        "", "Folder", help="Path on this machine, such as /mnt/research.", example="/mnt/research"
    )
    shown_path: str = setting_field(
        "", "Folder as users see it", help=r"Such as \\server\share\research. Shown on the pages."
    )
    network: bool = setting_field(
        False, "Network folder", help="ADIT does not write while it is not mounted."
    )
    quota_gb: int = setting_field(
        0, "Size limit (GB)", help="Total size of the images that jobs deliver. 0: no limit."
    )
    reserve_mb: int = setting_field(
        200, "Space to keep free (MB)", help="ADIT writes nothing if less is free.", advanced=True
    )
    file_mode: str = setting_field("640", "Permissions of new files", advanced=True)
    folder_mode: str = setting_field("750", "Permissions of new folders", advanced=True)
    group: str = setting_field(
        "", "Group of new files", help="A group of this machine. Empty: default.", advanced=True
    )
    domain: str = setting_field(
        "",
        "Patient ID domain",
        help="Nodes that share patient IDs have the same domain.",
        advanced=True,
    )
    contact: str = setting_field(
        "", "Contact", help="Name, phone or mail address of its administrator."
    )

    def __post_init__(self) -> None:
        if not self.path or not os.path.isabs(self.path):
            raise InvalidInput("setting.absolute-path", setting="Folder")
        if self.quota_gb < 0:
            raise InvalidInput("setting.minimum", setting="Size limit (GB)", minimum=0)
        for label, mode in (
            ("Permissions of new files", self.file_mode),
            ("Permissions of new folders", self.folder_mode),
        ):
            try:
                int(mode, 8)
            except ValueError:
                raise InvalidInput("setting.octal", setting=label) from None


class FolderResults(FindResults):
    """The records in a folder.

    `unread` is how many files or folders could not be read.
    """

    def __init__(self, records: Iterator[Record], unread: int) -> None:
        super().__init__(records)
        self._unread = unread

    @property
    def is_capped(self) -> bool:
        """Whether files were unreadable; it is unknown to which study they belong."""
        return self._unread > 0

    @property
    def shortfall(self) -> Message:
        return Message("clause.unreadable-files", count=self._unread)


class FolderNode(NodeCapabilities):
    """A folder node. It reads any tree of DICOM files.

    It names files as dicom_file/layout.py does.
    """

    Settings = FolderSettings
    has_delivery_list = True
    folder_settings = ("path",)

    def __init__(
        self, name: str, settings: FolderSettings, *, observer: TrafficObserver = NOT_OBSERVED
    ) -> None:
        self.name = name
        self._observer = observer
        self.settings = settings
        self.base = Path(settings.path)
        self._writer = FileWriter(
            name,
            self.base,
            reserve_mb=settings.reserve_mb,
            folder_mode=int(settings.folder_mode, 8),
            file_mode=int(settings.file_mode, 8),
            group=_resolve_group(settings.group),
        )
        self.rate_limiter = self._writer.rate_limiter
        self._index = SourceIndex(name, self.base, _read_header, self._check)
        self._aborted = False

    def close(self) -> None:
        self._index.close()

    def abort(self) -> None:
        self._aborted = True
        self._writer.abort()

    def set_stop(self, stop: Stop) -> None:
        self._writer.set_stop(stop)

    # Reading --------------------------------------------------------------------------------

    def check(self) -> Iterator[NodeFinding]:
        try:
            self._require_mounted()
        except StorageError as error:
            yield NodeFinding(Grade.BAD, error.message, Message("step.fix-folder"))
            return
        yield from self._disk_probe().findings()

    def try_fetching(
        self, image: InstanceRef, *, within_s: float, patient_id: str = ""
    ) -> Iterator[NodeFinding]:
        """Fetch by reading the file; the slow part is to find it."""
        from adit_engine.nodes.diagnostics.image_probe import FetchLimit, attempt_fetch

        limit = FetchLimit(within_s, self.cancel_fetches)
        method = Message("clause.by-reading")
        yield attempt_fetch(method, image, lambda: self.fetch([image]), limit).finding()

    def try_writing(self) -> Iterator[NodeFinding]:
        """Write a test file, which is removed again."""
        try:
            self._require_mounted()
        except StorageError as error:
            yield NodeFinding(Grade.BAD, error.message, Message("step.fix-folder"))
            return
        yield from self._disk_probe().test_writing()

    def _disk_probe(self) -> DiskProbe:
        given = self.settings
        return DiskProbe(self.name, self.base, given.network, given.reserve_mb)

    def find(self, query: Query) -> FindResults:
        self._require_mounted()
        uid = query.keys.get("StudyInstanceUID")
        studies = {uid} if isinstance(uid, str) and uid else set(uid or ()) or None
        found = self._index.search(lambda entries: list(find_records(entries, query)), studies)
        return FolderResults(iter(found), self._index.unread)

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        self._require_mounted()
        studies = {ref.study_uid for ref in refs}
        found = self._index.search(lambda entries: find_instances(entries, refs), studies)
        for ref, entries in found.items():
            self._check()
            instance = self._read_one(ref, [self.base / entry.path for entry in entries])
            self.rate_limiter.throttle(instance.size_bytes, lambda: self._aborted)
            self._observer.instance_received(instance)
            yield instance

    def cancel_fetches(self) -> None:
        """Do nothing: reading a file never waits for long."""

    def _read_one(self, ref: InstanceRef, paths: list[Path]) -> Instance:
        """Return one object. Several files of one UID count once if their data sets are equal."""
        try:
            first, *others = (self._read(path) for path in paths)
        except (Malformed, OSError) as error:
            fault = (
                error.message if isinstance(error, Malformed) else Message("folder.file-unreadable")
            )
            return Instance("", ref.instance_uid, "", b"", defect=fault)
        if any(other.sha256() != first.sha256() for other in others):
            fault = Message("folder.two-objects")
            return Instance("", ref.instance_uid, "", b"", defect=fault)
        return first

    def _read(self, path: Path) -> Instance:
        """Read a file. Raises Malformed, OSError, StorageFull, Stopped."""
        return part10.read_shared_file(path, self.name, self._check)

    def _check(self) -> None:
        if self._aborted:
            raise Stopped("node.stopped", node=self.name)

    # Writing --------------------------------------------------------------------------------

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Store files, which become visible in groups.

        A result comes when its file is visible.
        """
        self._require_mounted()
        yield from self._writer.store(
            self._require_mount_for_each(observe_sent(instances, self._observer))
        )

    def _require_mount_for_each(self, instances: Iterable[Instance]) -> Iterator[Instance]:
        """Check the mount before each instance.

        A share that goes away leaves an empty folder, into which nothing must be written.
        """
        for instance in instances:
            if self.settings.network:
                self._require_mounted()
            yield instance

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[str]:
        """Read each file back: its length and SHA-256 must be those that were written."""
        return self._writer.confirm(stored)

    def require_free_space(self, size_bytes: int) -> None:
        """Raise StorageError unless the folder is mounted and has this much free space."""
        self._require_mounted()
        self._writer.require_free_space(size_bytes)

    def write_delivery_list(self, bundle: ArchiveRequest) -> None:
        """Write the delivery list; see FileWriter.write_delivery_list."""
        self._require_mounted()
        self._writer.write_delivery_list(bundle)

    def delete_files(
        self, files: Iterable[DeliveredFile]
    ) -> Iterator[tuple[DeliveredFile, FileState]]:
        """Delete files that were delivered to the folder; see FileWriter.delete_files. Lazy."""
        self._require_mounted()
        for result in self._writer.delete_files(files):
            # In the empty folder that an unmounted share leaves, every file seems to be gone.
            self._require_mounted()
            yield result

    def delete_delivery_list(self, name: str, path: str) -> None:
        """Delete the delivery list of a job; see FileWriter.delete_delivery_list."""
        self._require_mounted()
        self._writer.delete_delivery_list(name, path)

    def _require_mounted(self) -> None:
        require_mounted(self.name, self.base, self.settings.network)


def _resolve_group(name: str) -> int:
    """Return the group ID; -1 for none. Raises InvalidInput."""
    if not name:
        return -1
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise InvalidInput(
            "setting.unknown-group", setting="Group of new files", group=name
        ) from None


def _read_header(path: Path, place: str) -> IndexEntry | Unreadable | None:
    """Return the index entry of a file; None for what is not DICOM, or a DICOMDIR."""
    try:
        with path.open("rb", buffering=0) as file:
            head = memoryview(file.read(_HEAD_BYTES))
        plain = _read_entry_fast(head, place)
        entry = plain or _read_entry_with_pydicom(path, head, place)
    except OSError:
        return UNREADABLE
    if entry is not None and _has_uids(entry):
        return entry
    # A complete file that belongs to no study, such as a hanging protocol, is not missed.
    broken = plain is None and _is_dicom(path, head) and not _is_dicomdir(path, head)
    return UNREADABLE if broken else None


def _has_uids(entry: IndexEntry) -> bool:
    try:
        return bool(entry.ref)
    except InvalidInput:
        return False


def _is_dicom(path: Path, head: memoryview) -> bool:
    if not head:
        return path.suffix.lower() == ".dcm"
    begins_bare = bytes(head[:2]) in _STARTS_WITHOUT_PREAMBLE and bytes(head[4:6]).isalpha()
    return bytes(head[128:132]) == b"DICM" or begins_bare


def _is_dicomdir(path: Path, head: memoryview) -> bool:
    """CDs hold a DICOMDIR that lists their images."""
    return (
        path.name.upper() == "DICOMDIR"
        or _read_file_meta(head).get(part10.META_CLASS) == _DIRECTORY_CLASS
    )


def _read_file_meta(head: memoryview) -> dict[int, str]:
    try:
        return part10.parse_file_meta(head)[0]
    except Malformed:
        return {}


def _read_entry_fast(head: memoryview, place: str) -> IndexEntry | None:
    """Read the start of the header only; None where pydicom is needed."""
    try:
        meta, start = part10.parse_file_meta(head)
        syntax = meta[part10.META_SYNTAX]
        if syntax == EXPLICIT_BE:
            return None
        explicit, level = syntax != IMPLICIT_LE, QueryLevel.IMAGE
        # Never inflate the whole: a small file may expand to gigabytes.
        data = inflate_start(head[start:]) if syntax == DEFLATED_LE else head[start:]
        found = identifier.decode_record(level, data, explicit, "", _INDEXED_TAGS)
    except (KeyError, Malformed):
        return None
    return IndexEntry(found.values, place)


def _read_entry_with_pydicom(path: Path, head: memoryview, place: str) -> IndexEntry | None:
    if _read_file_meta(head).get(part10.META_SYNTAX) == DEFLATED_LE:
        return None
    from pydicom import dcmread  # slow to load

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(INDEXED_KEYWORDS))
        return IndexEntry.from_header(header, place)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - one broken file must not hide the others
        # pydicom documents no errors: nesting ends in RecursionError, a length in MemoryError.
        return None
