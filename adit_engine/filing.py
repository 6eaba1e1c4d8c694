"""Filing: lays objects down as files below a base folder, whole or not at all, and proves it."""

from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

from adit_engine import part10
from adit_engine.elements import elements
from adit_engine.errors import Malformed, Stopped, StorageFull
from adit_engine.instance import DEFLATED_LE, EXPLICIT_BE, Instance
from adit_engine.layout import path_of
from adit_engine.nodes.base import Stored
from adit_engine.readback import ReadBack
from adit_engine.record import Record
from adit_engine.reference import Level
from adit_engine.tree import Draft, Tree

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


class Filing:
    """Files are named as layout.py says. `owner` is the node's name, for errors."""

    def __init__(
        self,
        owner: str,
        base: Path,
        *,
        reserve_mb: int,
        folder_mode: int = 0o750,
        file_mode: int = 0o640,
    ) -> None:
        self.owner = owner
        self.reserve_mb = reserve_mb
        self.tree = Tree(owner, base, folder_mode=folder_mode, file_mode=file_mode)
        self._read_back = ReadBack(Tree(owner, base))
        self._aborted = False

    def abort(self) -> None:
        """A store under way raises Stopped at its next instance."""
        self._aborted = True

    def store(self, instances: Iterable[Instance]) -> Iterator[Stored]:
        """Files become visible in groups; an answer comes when its file is."""
        self.require_room()
        drafts: list[tuple[Draft, Stored]] = []
        is_done = False
        try:
            with self.tree.staying():
                yield from self._files(instances, drafts)
            is_done = True
        finally:
            self.tree.discard(draft for draft, _ in drafts)
            self._read_back.end(at_once=not is_done)

    def confirm(self, stored: Sequence[Stored]) -> Iterator[str]:
        """Reads each file back: its length and sha256 must be those that were written."""
        tree, proves = self.tree, self._read_back.proves
        with tree.staying():
            kept = [one for one in stored if proves(_names(one), one.sha256, tree)]
        return iter([one.ref.instance_uid for one in kept])

    def require_room(self, size_bytes: int = 0) -> None:
        """Raises StorageFull unless so much fits there besides what is to stay free."""
        if self.tree.free_bytes() < self.reserve_mb * 1_000_000 + size_bytes:
            raise StorageFull(self.owner, "the disk is nearly full. Make room there, then retry.")

    def _files(
        self, instances: Iterable[Instance], drafts: list[tuple[Draft, Stored]]
    ) -> Iterator[Stored]:
        """What is written and not yet visible stands in `drafts`, should this end early."""
        for instance in instances:
            if self._aborted:
                raise Stopped(f"{self.owner}: writing was stopped.")
            written = self._write(instance)
            if isinstance(written, Stored):
                yield written
                continue
            drafts.append(written)
            size = sum(draft.size_bytes for draft, _ in drafts)
            if len(drafts) >= GROUP_FILES or size >= GROUP_BYTES:
                yield from self._publish(drafts)
        yield from self._publish(drafts)

    def _publish(self, drafts: list[tuple[Draft, Stored]]) -> Iterator[Stored]:
        self.require_room()
        self.tree.publish([draft for draft, _ in drafts])
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
            return self.tree.write(names, (head, *instance.parts())), stored
        if there == digest:
            return stored
        error = "another object with the same UID lies there already, and is left as it is"
        return Stored(stored.ref, status=0x0111, error=error)

    def _digest(self, names: tuple[str, ...]) -> str | None:
        """The sha256 of a visible file's data set; None where there is no file, "" if broken."""
        file = self.tree.open(names)
        if file is None:
            return None
        with file:
            try:
                return part10.data_set_sha256(file)
            except Malformed:
                return ""


def _names(stored: Stored) -> tuple[str, ...]:
    return tuple(stored.path.split("/"))


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
