"""A node that keeps objects in memory until the process ends.

Used for tests and demonstrations.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

from pydicom import dcmread

from adit_engine.dicom_file import part10
from adit_engine.dicom_file.header_index import IndexEntry, find_instances, find_records
from adit_engine.messages import Message
from adit_engine.nodes.base import (
    NOT_OBSERVED,
    FindResults,
    Grade,
    NodeCapabilities,
    NodeFinding,
    StoreResult,
    TrafficObserver,
    observe_sent,
    setting_field,
)
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import Ref


@dataclass(frozen=True)
class MemorySettings:
    shelf: str = setting_field("", "Shelf", help="Nodes with the same shelf share their objects.")
    domain: str = setting_field("", "Patient ID domain")


class MemoryNode(NodeCapabilities):
    Settings = MemorySettings
    is_for_tests = True
    rate_limiter = None
    shelves: ClassVar[dict[str, dict[str, Instance]]] = {}
    """Instances by SOP Instance UID, by shelf."""

    def __init__(
        self, name: str, settings: MemorySettings, *, observer: TrafficObserver = NOT_OBSERVED
    ) -> None:
        self.name = name
        self._observer = observer
        self.held = self.shelves.setdefault(settings.shelf or name, {})

    def check(self) -> Iterator[NodeFinding]:
        yield NodeFinding(Grade.GOOD, Message("test.memory", node=self.name, count=len(self.held)))

    def find(self, query: Query) -> FindResults:
        return FindResults(find_records(self._entries(), query))

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        for ref in find_instances(self._entries(), refs):
            instance = self.held[ref.instance_uid]
            self._observer.instance_received(instance)
            yield instance

    def cancel_fetches(self) -> None:
        pass

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        for instance in observe_sent(instances, self._observer):
            ref = instance.in_header.ref
            kept = Instance.from_data_set(
                instance.sop_class_uid,
                instance.instance_uid,
                instance.transfer_syntax_uid,
                b"".join(instance.parts()),
            )
            self.held[ref.instance_uid] = kept
            yield StoreResult(ref, size_bytes=instance.size_bytes, sha256=kept.sha256())

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[str]:
        return (s.ref.instance_uid for s in stored if s.ref.instance_uid in self.held)

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def _entries(self) -> Iterator[IndexEntry]:
        for uid, instance in list(self.held.items()):
            file = BytesIO(b"".join(part10.file_parts(instance)))
            yield IndexEntry.from_header(dcmread(file, stop_before_pixels=True), uid)
