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
from adit_engine.nodes.base import SourceNode
from adit_engine.transfer.inventory import SeriesInventory
from adit_engine.transfer.retry import RetryPolicy
from adit_engine.values.instance import DEFLATED_LE, EXPLICIT_BE, Instance
from adit_engine.values.outcome import InstanceState
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, Ref, SeriesRef

KEY_OBJECT = "1.2.840.10008.5.1.4.1.1.88.59"

REASONS = {
    "113037": "for patient safety reasons",
    "113001": "for quality reasons",
    "113038": "because it was made with a wrong worklist entry",
    "113039": "because its time of retention has expired",
}
"""The titles of CID 7011 by their DCM code, as clauses."""

_TITLE, _CODE, _SCHEME = 0x0040A043, 0x00080100, 0x00080102
_ROOT_SEQUENCES = frozenset({0x0040A375, 0x0040A730})
_REFERENCE_SEQUENCES = frozenset({0x00081115, 0x00081199, 0x0040A730})
_INSTANCE_UID = 0x00081155

_NOTES_UNREADABLE = (
    "a key object series of this study could not be read, so images that were rejected at the "
    "source may be among these; ask the PACS administrator to look into it"
)


@dataclass(frozen=True, slots=True)
class RejectionNote:
    """A rejection note.

    `reason` is a clause such as "for quality reasons"; `rejects` are instance UIDs.
    """

    reason: str
    rejects: frozenset[str]

    @classmethod
    def of(cls, instance: Instance) -> "RejectionNote | None":
        """Read a key object document; return None if it has another title.

        References in the evidence and in the content both count: they should be the same. Raises
        Malformed.
        """
        if instance.fault:
            raise Malformed(str(instance.fault))
        if instance.transfer_syntax_uid in (DEFLATED_LE, EXPLICIT_BE):
            raise Malformed("The key object document is in a rare encoding.")
        code, uids, data = ("", ""), set[str](), instance.header
        for element in elements(data, instance.explicit):
            if element.tag == _TITLE:
                code = _read_code(data, instance.explicit, element)
            elif element.tag in _ROOT_SEQUENCES:
                uids.update(_referenced_uids(data, instance.explicit, element))
        if not code[0]:
            raise Malformed("The key object document has no title.")
        if code[1] != "DCM" or code[0] not in REASONS:
            return None
        if not uids:
            raise Malformed("The rejection note names no image.")
        return cls(REASONS[code[0]], frozenset(uids))


@dataclass
class Rejections:
    """The rejected images of one study; grows when a note arrives late."""

    source: SourceNode
    stop: Stop
    patient_id: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._notes: dict[str, str] = {}
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

    def learn(self, instance: Instance) -> None:
        """Read a received key object document, whether or not it was listed as one."""
        if instance.sop_class_uid != KEY_OBJECT or instance.instance_uid in self._notes:
            return
        try:
            note = RejectionNote.of(instance)
        except Malformed:
            self._has_unread = True
            return
        if note is not None:
            self._notes[instance.instance_uid] = note.reason
            for uid in note.rejects:
                self._reasons.setdefault(uid, note.reason)

    def find_end_state(self, instance_uid: str) -> tuple[InstanceState, str, str] | None:
        """Return how a rejected instance or a note ends; None for all other instances."""
        if reason := self._notes.get(instance_uid):
            text = f"a rejection note ({reason}), which stays at the source"
            return InstanceState.SKIPPED, "rejection-note", text
        if reason := self._reasons.get(instance_uid):
            return InstanceState.SKIPPED, "rejected", f"rejected at the source {reason}"
        return None

    def remarks(self, delivered: Iterable[str]) -> list[str]:
        """Return the remarks to report for a series, given the instance UIDs it delivered."""
        self._sent.update(delivered)
        overtaken = self._sent & self._reasons.keys() - self._told
        self._told |= overtaken
        late = (
            f"{len(overtaken)} images had been sent before they were known to be rejected at the "
            "source; ask whoever looks after the destination to remove them"
        )
        return [_NOTES_UNREADABLE] * self._has_unread + [late] * bool(overtaken)

    def _read(self, listing: SeriesInventory) -> None:
        listed, series = listing.first(), listing.ref
        kinds = listing.classes
        if not listing.record.modalities:
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
            self._has_unread, refs = True, [listing.ref]
        if refs:
            received = self._fetched(refs)
            if not wanted <= received:
                self._has_unread = True

    def _fetched(self, refs: list[Ref]) -> set[str]:
        """Fetch and read the notes; return the UIDs of what was received."""
        received = set[str]()
        try:
            for instance in self.source.fetch(refs, patient_id=self.patient_id):
                received.add(instance.instance_uid)
                if instance.fault:
                    self._has_unread = True
                self.learn(instance)
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
