"""Folder node: a local or network folder of DICOM files."""

import grp
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adit_engine import part10
from adit_engine.catalog import KEYWORDS, Catalog, Entry
from adit_engine.errors import Malformed, Stopped, StorageTrouble, WrongInput
from adit_engine.filing import Filing
from adit_engine.handoff import Stop
from adit_engine.instance import DEFLATED_LE, EXPLICIT_BE, IMPLICIT_LE, Instance
from adit_engine.nodes import identifier
from adit_engine.nodes.base import Answers, Bundle, Finding, Grade, Stored, setting
from adit_engine.nodes.ground import Ground, require_mounted
from adit_engine.query import Query
from adit_engine.reference import InstanceRef, Level, Ref
from adit_engine.tree import TEMP_PREFIX

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
    quota_gb: int = setting(
        0, "At most (GB)", help="What jobs may lay down there in all; 0: no limit."
    )
    reserve_mb: int = setting(
        200, "Space to keep free (MB)", help="Below it nothing is written.", advanced=True
    )
    file_mode: str = setting("640", "Rights of new files", advanced=True)
    folder_mode: str = setting("750", "Rights of new folders", advanced=True)
    group: str = setting(
        "", "Group of new files", help="As this machine knows it; empty: as usual.", advanced=True
    )
    domain: str = setting(
        "", "Patient-ID domain", help="Places that share patient ids name the same.", advanced=True
    )
    contact: str = setting("", "Contact", help="Name, phone or mail of who looks after it.")

    def __post_init__(self) -> None:
        if not self.path or not os.path.isabs(self.path):
            raise WrongInput("Folder: give a full path that begins with /.")
        if self.quota_gb < 0:
            raise WrongInput("At most (GB): give 0 for no limit, or more.")
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
        self._filing = Filing(
            name,
            self.base,
            reserve_mb=settings.reserve_mb,
            folder_mode=int(settings.folder_mode, 8),
            file_mode=int(settings.file_mode, 8),
            group=_group_of(settings.group),
        )
        self.pace = self._filing.pace
        self._entries: dict[str, tuple[tuple[int, int], Entry | None]] = {}
        self._aborted = False

    def close(self) -> None:
        self._entries.clear()

    def abort(self) -> None:
        self._aborted = True
        self._filing.abort()

    def heed(self, stop: Stop) -> None:
        self._filing.heed(stop)

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
        from adit_engine.nodes.attempt import Limit, attempted  # only a check needs it

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
            instance = self._one(ref, [self.base / entry.place for entry in entries])
            self.pace.keep(instance.size_bytes, lambda: self._aborted)
            yield instance

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
        yield from self._filing.store(self._while_there(instances))

    def _while_there(self, instances: Iterable[Instance]) -> Iterator[Instance]:
        """A share that goes away in between leaves an empty folder, into which nothing is written."""
        for instance in instances:
            if self.settings.network:
                self._ready()
            yield instance

    def confirm(self, stored: Sequence[Stored]) -> Iterator[str]:
        """Reads each file back: its length and sha256 must be those that were written."""
        return self._filing.confirm(stored)

    def require_room(self, size_bytes: int) -> None:
        """Raises StorageTrouble unless it is there, mounted, and has room for so much."""
        self._ready()
        self._filing.require_room(size_bytes)

    def list_contents(self, bundle: Bundle) -> None:
        """See Filing.list_contents."""
        self._ready()
        self._filing.list_contents(bundle)

    def _ready(self) -> None:
        require_mounted(self.name, self.base, self.settings.network)


def _group_of(name: str) -> int:
    """Its number; -1 for none. Raises WrongInput."""
    if not name:
        return -1
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise WrongInput(f"Group of new files: this machine knows no group {name}.") from None


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
