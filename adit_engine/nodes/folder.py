"""Folder node: a local or network folder of DICOM files."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from adit_engine import part10
from adit_engine.catalog import KEYWORDS, Catalog, Entry
from adit_engine.elements import elements
from adit_engine.errors import Malformed, Stopped, StorageFull, StorageTrouble, WrongInput
from adit_engine.instance import DEFLATED_LE, EXPLICIT_BE, IMPLICIT_LE, Instance
from adit_engine.layout import path_of
from adit_engine.nodes import identifier
from adit_engine.nodes.attempt import Limit, attempted
from adit_engine.nodes.base import Answers, Finding, Grade, Stored, setting
from adit_engine.nodes.ground import Ground
from adit_engine.query import Query
from adit_engine.readback import ReadBack
from adit_engine.record import Record
from adit_engine.reference import InstanceRef, Level, Ref
from adit_engine.tree import TEMP_PREFIX, Draft, Tree, storage_trouble

GROUP_FILES = 16
GROUP_BYTES = 32 * 1024 * 1024
_CHARACTER_SET = 0x00080005
_NAMING = {
    0x00080018: "SOPInstanceUID",
    0x00080020: "StudyDate",
    0x00080030: "StudyTime",
    0x00080060: "Modality",
    0x0008103E: "SeriesDescription",
    0x00100020: "PatientID",
    0x00120020: "ClinicalTrialProtocolID",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
    0x00200011: "SeriesNumber",
}
_LAST_NAMING = max(_NAMING)
_HEAD_BYTES = 64 * 1024
"""In so much of a file everything stands that is searched by, as a rule."""
_LISTED = identifier.tags_of(KEYWORDS)


@dataclass(frozen=True)
class FolderSettings:
    path: str = setting("", "Folder", help="As this machine sees it, such as /mnt/research.")
    shown_path: str = setting(
        "", "Folder as users see it", help=r"Such as \\server\share\research; shown on the pages."
    )
    network: bool = setting(
        False, "It is a network folder", help="Refuse to write while it is not mounted."
    )
    reserve_mb: int = setting(
        200, "Space to keep free (MB)", help="Below it nothing is written.", advanced=True
    )
    file_mode: str = setting("640", "Rights of new files", advanced=True)
    folder_mode: str = setting("750", "Rights of new folders", advanced=True)
    domain: str = setting(
        "", "Patient-ID domain", help="Places that share patient ids name the same.", advanced=True
    )
    contact: str = setting("", "Contact", help="Name, phone or mail of who looks after it.")

    def __post_init__(self) -> None:
        if not self.path or not os.path.isabs(self.path):
            raise WrongInput("Folder: give a full path that begins with /.")
        for name in ("file_mode", "folder_mode"):
            try:
                int(getattr(self, name), 8)
            except ValueError:
                raise WrongInput(f"{name}: give octal digits such as 640.") from None


class FolderNode:
    """Reads any tree of DICOM files below its folder; writes as layout.py names them."""

    Settings = FolderSettings

    def __init__(self, name: str, settings: FolderSettings) -> None:
        self.name = name
        self.settings = settings
        self.base = Path(settings.path)
        self._tree = Tree(
            name,
            self.base,
            folder_mode=int(settings.folder_mode, 8),
            file_mode=int(settings.file_mode, 8),
        )
        self._read_back = ReadBack(Tree(name, self.base))
        self._entries: dict[str, tuple[tuple[int, int], Entry | None]] = {}
        self._aborted = False

    def close(self) -> None:
        self._entries.clear()

    def abort(self) -> None:
        self._aborted = True

    # What lies there ------------------------------------------------------------------------

    def check(self) -> Iterator[Finding]:
        try:
            self._ready()
        except StorageTrouble as error:
            yield Finding(Grade.BAD, str(error), "Mend this before the folder is used.")
            return
        yield from self._ground().findings()

    def try_fetching(
        self, image: InstanceRef, *, within_s: float, patient_id: str = ""
    ) -> Iterator[Finding]:
        """By reading its file; what is slow here is to find it."""
        limit = Limit(within_s, self.break_off)
        yield attempted("reading the folder", image, lambda: self.fetch([image]), limit).finding()

    def try_writing(self) -> Iterator[Finding]:
        """A file that is removed again."""
        try:
            self._ready()
        except StorageTrouble as error:
            yield Finding(Grade.BAD, str(error), "Mend this before the folder is used.")
            return
        yield from self._ground().tried()

    def _ground(self) -> Ground:
        given = self.settings
        return Ground(self.name, self.base, given.network, given.reserve_mb)

    def find(self, query: Query) -> Answers:
        self._ready()
        return Answers(self._catalog().find(query))

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        self._ready()
        for ref, entries in self._catalog().below(refs).items():
            if self._aborted:
                raise Stopped(f"{self.name}: reading was stopped.")
            yield self._one(ref, [self.base / entry.place for entry in entries])

    def break_off(self) -> None:
        """Nothing to do: no file keeps anybody waiting for long."""

    def _one(self, ref: InstanceRef, paths: list[Path]) -> Instance:
        """One object. Several files of one UID count once when their data sets are the same."""
        try:
            first, *others = (part10.read(path) for path in paths)
        except (Malformed, OSError) as error:
            text = str(error) if isinstance(error, Malformed) else "the file cannot be read"
            return Instance("", ref.instance_uid, "", b"", fault=text)
        if any(other.sha256() != first.sha256() for other in others):
            fault = "Two different objects lie there under one UID."
            return Instance("", ref.instance_uid, "", b"", fault=fault)
        return first

    def _catalog(self) -> Catalog:
        """What lies there now; only new and changed files are opened."""
        seen: dict[str, tuple[tuple[int, int], Entry | None]] = {}
        for folder, folders, files in os.walk(self.base):
            folders.sort()
            for name in sorted(files):
                if name.startswith(TEMP_PREFIX):
                    continue
                path = Path(folder, name)
                try:
                    stat = path.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                place, stamp = str(path.relative_to(self.base)), (stat.st_mtime_ns, stat.st_size)
                known = self._entries.get(place)
                fresh = known is None or known[0] != stamp
                seen[place] = (stamp, _entry(path, place)) if fresh else known  # type: ignore[assignment]
        self._entries = seen
        return Catalog(entry for _, entry in seen.values() if entry is not None)

    # Writing --------------------------------------------------------------------------------

    def store(self, instances: Iterable[Instance]) -> Iterator[Stored]:
        """Files become visible in groups; an answer comes when its file is."""
        self._ready()
        self._has_room()
        drafts: list[tuple[Draft, Stored]] = []
        is_done = False
        try:
            with self._tree.staying():
                yield from self._files(instances, drafts)
            is_done = True
        finally:
            self._tree.discard(draft for draft, _ in drafts)
            self._read_back.end(at_once=not is_done)

    def _files(
        self, instances: Iterable[Instance], drafts: list[tuple[Draft, Stored]]
    ) -> Iterator[Stored]:
        """What is written and not yet visible stands in `drafts`, should this end early."""
        for instance in instances:
            if self._aborted:
                raise Stopped(f"{self.name}: writing was stopped.")
            written = self._write(instance)
            if isinstance(written, Stored):
                yield written
                continue
            drafts.append(written)
            size = sum(draft.size_bytes for draft, _ in drafts)
            if len(drafts) >= GROUP_FILES or size >= GROUP_BYTES:
                yield from self._publish(drafts)
        yield from self._publish(drafts)

    def confirm(self, stored: Sequence[Stored]) -> Iterator[str]:
        """Reads each file back: its length and sha256 must be those that were written."""
        tree, proves = self._tree, self._read_back.proves
        with tree.staying():
            kept = [one for one in stored if proves(_names(one), one.sha256, tree)]
        return iter([one.ref.instance_uid for one in kept])

    def _publish(self, drafts: list[tuple[Draft, Stored]]) -> Iterator[Stored]:
        self._has_room()
        self._tree.publish([draft for draft, _ in drafts])
        self._read_back.begin([draft.names for draft, _ in drafts])
        done = [stored for _, stored in drafts]
        drafts.clear()
        yield from done

    def _write(self, instance: Instance) -> tuple[Draft, Stored] | Stored:
        head = part10.file_head(instance)
        values = _naming_values(instance, head)
        names = path_of(values)
        digest = instance.sha256()
        stored = Stored(
            instance.in_header.ref,
            size_bytes=instance.size_bytes,
            sha256=digest,
            path="/".join(names),
        )
        there = self._digest(names)
        if there is None:
            return self._tree.write(names, (head, *instance.parts())), stored
        if there == digest:
            return stored
        error = "another object with the same UID lies there already, and is left as it is"
        return Stored(stored.ref, status=0x0111, error=error)

    def _digest(self, names: tuple[str, ...]) -> str | None:
        """The sha256 of a visible file's data set; None where there is no file, "" if broken."""
        file = self._tree.open(names)
        if file is None:
            return None
        with file:
            try:
                return part10.data_set_sha256(file)
            except Malformed:
                return ""

    def _has_room(self) -> None:
        if self._tree.free_bytes() < self.settings.reserve_mb * 1_000_000:
            raise StorageFull(self.name, "the disk is nearly full. Make room there, then retry.")

    def _ready(self) -> None:
        """Raises StorageTrouble when the folder is not there or its network share not mounted."""
        try:
            os.stat(self.base)
        except OSError as error:
            raise storage_trouble(self.name, error) from error
        if not self.base.is_dir():
            raise StorageTrouble(self.name, "there is a file where the folder should be.")
        if self.settings.network and not _is_mounted(self.base):
            raise StorageTrouble(
                self.name, "the network folder is not mounted. Mount it, then retry."
            )


def _names(stored: Stored) -> tuple[str, ...]:
    return tuple(stored.path.split("/"))


def _is_mounted(path: Path) -> bool:
    return any(os.path.ismount(step) for step in (path, *path.parents) if step != Path("/"))


def _entry(path: Path, place: str) -> Entry | None:
    """The catalog's entry of a file; None for what is not DICOM or names no study."""
    try:
        entry = _plain_entry(path, place) or _rare_entry(path, place)
        if entry is not None:
            entry.ref  # noqa: B018 - raises where a UID is missing
    except (Malformed, WrongInput, OSError):
        return None
    return entry


def _plain_entry(path: Path, place: str) -> Entry | None:
    """From the start of the header alone; None where pydicom has to be asked."""
    with path.open("rb", buffering=0) as file:
        head = memoryview(file.read(_HEAD_BYTES))
    try:
        meta, start = part10.meta_and_start(head)
        syntax = meta[part10.META_SYNTAX]
        if syntax in (DEFLATED_LE, EXPLICIT_BE):
            return None
        explicit, level = syntax != IMPLICIT_LE, Level.IMAGE
        found = identifier.record(level, head[start:], explicit, "", _LISTED)
    except (KeyError, Malformed):
        return None
    return Entry(found.values, place)


def _rare_entry(path: Path, place: str) -> Entry | None:
    from pydicom import dcmread  # takes long to load
    from pydicom.errors import InvalidDicomError

    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS))
        return Entry.of(header, place)
    except (InvalidDicomError, ValueError, EOFError, NotImplementedError):
        return None


def _naming_values(instance: Instance, head: bytes) -> dict[str, str]:
    """The values that names are made of; plain and UTF-8 text without pydicom's help."""
    if instance.transfer_syntax_uid not in (DEFLATED_LE, EXPLICIT_BE):
        found = {}
        for element in elements(instance.header, instance.explicit):
            if element.tag > _LAST_NAMING:
                break
            if element.tag in _NAMING or element.tag == _CHARACTER_SET:
                value = bytes(instance.header[element.value : element.end])
                found[element.tag] = value.strip(b" \0")
        unicode = found.pop(_CHARACTER_SET, b"") == b"ISO_IR 192"
        if unicode or all(value.isascii() for value in found.values()):
            return {_NAMING[tag]: value.decode(errors="replace") for tag, value in found.items()}
    from pydicom import dcmread  # takes long to load

    header = dcmread(
        BytesIO(head + b"".join(instance.parts())),
        stop_before_pixels=True,
        specific_tags=list(_NAMING.values()),
    )
    record = Record.of(Level.IMAGE, header)
    return {keyword: record.text(keyword) for keyword in _NAMING.values()}
