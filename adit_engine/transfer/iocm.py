"""Find the images of a study that were rejected at the source, by its rejection notes.

A note is a key object document with a title of CID 7011 (IHE Imaging Object Change Management).
Used by `transfer.study` and, through the policy, by `transfer.series`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from adit_engine.bounded_stream import Stop
from adit_engine.elements import Buffer, Element, elements, items, nested_explicit
from adit_engine.errors import Malformed, NodeError, NotFound, TimedOut
from adit_engine.messages import Message
from adit_engine.nodes.base import SourceNode
from adit_engine.transfer.inventory import SeriesInventory
from adit_engine.transfer.retry import RetryPolicy
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, Instance
from adit_engine.values.outcome import InstanceState
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, Ref, SeriesRef

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"

REASONS = {
    "113037": Message("clause.rejected-for-patient-safety"),
    "113001": Message("clause.rejected-for-quality"),
    "113038": Message("clause.rejected-for-worklist-entry"),
    "113039": Message("clause.rejected-for-retention"),
}
"""The titles of CID 7011 by their DCM code, as clauses."""

_TITLE, _CODE, _SCHEME = 0x0040A043, 0x00080100, 0x00080102
_ROOT_SEQUENCES = frozenset({0x0040A375, 0x0040A730})
_REFERENCE_SEQUENCES = frozenset({0x00081115, 0x00081199, 0x0040A730})
_INSTANCE_UID = 0x00081155


@dataclass(frozen=True, slots=True)
class RejectionNote:
    """A rejection note. `reason` is one of REASONS, `rejects` are instance UIDs."""

    reason: Message
    rejects: frozenset[str]

    @classmethod
    def from_instance(cls, instance: Instance) -> "RejectionNote | None":
        """Read a key object document; return None if it has another title.

        References in the evidence and in the content both count: they should be the same. Raises
        Malformed.
        """
        if instance.defect:
            raise Malformed("key-object.unreadable", fault=instance.defect)
        if instance.transfer_syntax_uid in (DEFLATED_LE, EXPLICIT_BE):
            raise Malformed("key-object.rare-encoding")
        code, uids, data = ("", ""), set[str](), instance.header
        for element in elements(data, instance.explicit):
            if element.tag == _TITLE:
                code = _read_code(data, instance.explicit, element)
            elif element.tag in _ROOT_SEQUENCES:
                uids.update(_referenced_uids(data, instance.explicit, element))
        if not code[0]:
            raise Malformed("key-object.no-title")
        if code[1] != "DCM" or code[0] not in REASONS:
            return None
        if not uids:
            raise Malformed("key-object.no-images")
        return cls(REASONS[code[0]], frozenset(uids))


@dataclass
class Rejections:
    """The rejected images of one study; grows when a note arrives late."""

    source: SourceNode
    stop: Stop
    patient_id: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self._reasons: dict[str, Message] = {}
        self._notes: dict[str, Message] = {}
        self._sent: set[str] = set()
        self._told: set[str] = set()
        self._has_unread = False

    def read(self, series: Iterable[tuple[SeriesRef, Record]]) -> None:
        """Read the series that may contain notes; send no request if there are none.

        Raises Stopped.
        """
        for ref, record in series:
            if "KO" in record.modalities or not record.modalities:
                listing = SeriesInventory(ref, record, self.source, self.stop, self.patient_id)
                try:
                    RetryPolicy().call(partial(self._read, listing), self.stop)
                except (NodeError, NotFound):
                    self._has_unread = True

    def add_note(self, instance: Instance) -> None:
        """Read a received key object document, whether or not it was listed as one."""
        if instance.sop_class_uid != KEY_OBJECT or instance.instance_uid in self._notes:
            return
        try:
            note = RejectionNote.from_instance(instance)
        except Malformed:
            self._has_unread = True
            return
        if note is not None:
            self._notes[instance.instance_uid] = note.reason
            for uid in note.rejects:
                self._reasons.setdefault(uid, note.reason)

    def find_end_state(self, instance_uid: str) -> tuple[InstanceState, Message] | None:
        """Return how a rejected instance or a note ends; None for all other instances."""
        if reason := self._notes.get(instance_uid):
            return InstanceState.SKIPPED, Message("rejection-note", why=reason)
        if reason := self._reasons.get(instance_uid):
            return InstanceState.SKIPPED, Message("rejected", why=reason)
        return None

    def remarks(self, delivered: Iterable[str]) -> list[Message]:
        """Return the remarks to report for a series, given the instance UIDs it delivered."""
        self._sent.update(delivered)
        overtaken = self._sent & self._reasons.keys() - self._told
        self._told |= overtaken
        remarks = [Message("rejections.unreadable")] if self._has_unread else []
        if overtaken:
            remarks.append(Message("rejections.sent-before", images=len(overtaken)))
        return remarks

    def _read(self, contents: SeriesInventory) -> None:
        listed, series = contents.list_first(), contents.ref
        kinds = contents.classes
        if not contents.record.modalities:
            # The series may contain notes or not; fetch only what is listed as a key object
            # document.
            kinds = {uid: kind for uid, kind in kinds.items() if kind == KEY_OBJECT}
            if not kinds:
                return
        wanted = {uid for uid, kind in kinds.items() if kind in ("", KEY_OBJECT)}
        refs: list[Ref] = [
            InstanceRef(series.study_uid, series.series_uid, uid) for uid in sorted(wanted)
        ]
        if listed.expected is None:
            self._has_unread, refs = True, [contents.ref]
        if refs:
            received = self._fetch(refs)
            if not wanted <= received:
                self._has_unread = True

    def _fetch(self, refs: list[Ref]) -> set[str]:
        """Fetch and read the notes; return the UIDs of what was received."""
        received = set[str]()
        try:
            for instance in self.source.fetch(refs, patient_id=self.patient_id):
                received.add(instance.instance_uid)
                if instance.defect:
                    self._has_unread = True
                self.add_note(instance)
        except TimedOut:
            # The timeout has passed once; another attempt would take as long.
            self._has_unread = True
        return received


def _read_code(data: Buffer, explicit: bool, sequence: Element) -> tuple[str, str]:
    """Return value and scheme of the first code; empty if there is none."""
    found: dict[int, str] = {}
    for item in items(data, explicit, sequence):
        for element in elements(data, explicit, item.value, item.value_end):
            if element.tag in (_CODE, _SCHEME):
                found[element.tag] = _decode_text(data, element)
        break
    return found.get(_CODE, ""), found.get(_SCHEME, "")


def _referenced_uids(
    data: Buffer, explicit: bool, sequence: Element, depth: int = 0
) -> Iterator[str]:
    """Yield each Referenced SOP Instance UID below a sequence of the evidence or content."""
    inside = nested_explicit(sequence, explicit)
    for item in items(data, inside, sequence, depth):
        for element in elements(data, inside, item.value, item.value_end, depth + 1):
            if element.tag == _INSTANCE_UID:
                yield _decode_text(data, element)
            elif element.tag in _REFERENCE_SEQUENCES:
                yield from _referenced_uids(data, inside, element, depth + 1)


def _decode_text(data: Buffer, element: Element) -> str:
    return bytes(data[element.value : element.end]).decode("ascii", "replace").strip(" \0")
