"""Outcome of every instance of a series, and the totals. Used by transfer, worker and results.

Also counts per tag what pseudonymization did to the elements; no values are kept.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any

from adit_engine.messages import Message
from adit_engine.values.device import ImagingDevice
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, SeriesRef

ChangeRow = tuple[int, str, int]
"""Tag, action (a value of pseudonymize.statistics.AppliedAction), number of elements."""


@dataclass(frozen=True, slots=True, eq=False)
class ElementChanges:
    """Changes to the elements of one instance. Most images of a series share the same changes."""

    rows: tuple[ChangeRow, ...]
    digest: str = field(init=False)
    """Equal for equal rows."""

    def __post_init__(self) -> None:
        digest = sha256(repr(self.rows).encode()).hexdigest()[:12]
        object.__setattr__(self, "digest", digest)

    def to_json(self) -> list[list[Any]]:
        return [list(row) for row in self.rows]

    @classmethod
    def from_json(cls, data: Iterable[Iterable[Any]]) -> "ElementChanges":
        return cls(tuple((tag, done, count) for tag, done, count in data))


def sum_changes(changes: Iterable[tuple[ElementChanges, int]]) -> list[ChangeRow]:
    """Add up changes, each given with its number of images. Sorted by tag and action."""
    sums: Counter[tuple[int, str]] = Counter()
    for treatment, images in changes:
        for tag, done, count in treatment.rows:
            sums[tag, done] += count * images
    return [(tag, done, count) for (tag, done), count in sorted(sums.items()) if count]


class InstanceState(StrEnum):
    """State of one instance.

    STORED precedes DELIVERED: the destination accepted the instance, but storage is not yet
    confirmed. The other four states are final.
    """

    STORED = "stored"
    DELIVERED = "delivered"
    WITHHELD = "withheld"
    FAILED = "failed"
    SKIPPED = "skipped"


class Completeness(StrEnum):
    COMPLETE = "complete"
    PARTIAL = "partial"
    UNVERIFIABLE = "unverifiable"


@dataclass(frozen=True, slots=True)
class InstanceEvent:
    """The result for one instance. `ref` holds the original UIDs, for internal use.

    `reason` says why it was not delivered, or which warning the destination gave. Reasons are
    counted by their category. `size_bytes` and `sha256` refer to the data set that was delivered.
    """

    ref: InstanceRef
    state: InstanceState
    reason: Message | None = None
    size_bytes: int = 0
    sha256: str = ""
    device: ImagingDevice | None = None
    """The device of an image that is withheld, or delivered although a pixel rule covers it.

    So images are reviewed by device, and what a rule delivered can be listed.
    """
    changes: ElementChanges | None = field(default=None, repr=False, compare=False)
    """The changes to its elements, if it was pseudonymized and accepted by the destination."""
    path: str = field(default="", repr=False)
    """Path of the file below the destination's folder; empty if there are no files."""


@dataclass(frozen=True, slots=True)
class SourceListing:
    """The instances of one series according to the source, before the first one is fetched.

    `expected` holds the instance UIDs, or None if the list is not reliable; `why` gives the reason.
    """

    ref: SeriesRef
    expected: frozenset[str] | None
    number: int | None = None
    modality: str = ""
    description: str = ""
    """As in the source; may contain identifying text."""
    reason: Message | None = None

    @classmethod
    def from_record(
        cls,
        ref: SeriesRef,
        record: Record,
        expected: frozenset[str] | None = None,
        reason: Message | None = None,
    ) -> "SourceListing":
        """Create a listing of the series that a record of the source describes."""
        return cls(
            ref,
            expected,
            number=record.series_number,
            modality="/".join(record.modalities),
            description=record.series_description,
            reason=reason,
        )


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The result for one instance in the ledger of its series."""

    state: InstanceState
    reason: Message | None = None
    size_bytes: int = 0
    sha256: str = ""
    device: ImagingDevice | None = None
    changes: ElementChanges | None = field(default=None, repr=False, compare=False)
    path: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return plain values. The series ledger holds the rows of the changes."""
        values = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        if self.reason is not None:
            values["reason"] = self.reason.to_json()
        if self.path:
            values["path"] = self.path
        if self.device is not None:
            values["device"] = self.device.to_json()
        if self.changes is not None:
            values["treatment"] = self.changes.digest
        return values

    @classmethod
    def from_json(
        cls, data: dict[str, Any], changes_by_digest: Mapping[str, ElementChanges]
    ) -> "LedgerEntry":
        reason = Message.from_json(data["reason"]) if "reason" in data else None
        device = ImagingDevice.from_json(data["device"]) if "device" in data else None
        treatment = changes_by_digest.get(data.get("treatment", ""))
        known = {
            **{name: value for name, value in data.items() if name != "treatment"},
            "state": InstanceState(data["state"]),
            "reason": reason,
            "device": device,
            "changes": treatment,
        }
        return cls(**known)


_PLAIN_FIELDS = ("state", "size_bytes", "sha256")


@dataclass
class SeriesLedger:
    """The results of one series. Each original instance UID occurs once; the latest event counts.

    `expected` holds the UIDs that the source listed, or None if its list is not reliable.
    """

    ref: SeriesRef
    expected: frozenset[str] | None = None
    entries: dict[str, LedgerEntry] = field(default_factory=dict)

    def add(self, event: InstanceEvent) -> None:
        self.entries[event.ref.instance_uid] = LedgerEntry(
            event.state,
            event.reason,
            event.size_bytes,
            event.sha256,
            event.device,
            event.changes,
            event.path,
        )

    def delivered_entries(self) -> dict[str, LedgerEntry]:
        """Return the instances that arrived and were confirmed, by instance UID."""
        return {
            u: entry for u, entry in self.entries.items() if entry.state is InstanceState.DELIVERED
        }

    @property
    def all_changes(self) -> Counter[ElementChanges]:
        """The changes to elements, each with the number of delivered images."""
        by_digest: dict[str, ElementChanges] = {}
        images: Counter[str] = Counter()
        for entry in self.delivered_entries().values():
            if entry.changes is not None:
                by_digest[entry.changes.digest] = entry.changes
                images[entry.changes.digest] += 1
        return Counter({by_digest[digest]: n for digest, n in images.items()})

    def count(self, state: InstanceState) -> int:
        return sum(1 for entry in self.entries.values() if entry.state is state)

    def close(self, state: InstanceState, reason: Message) -> None:
        """Set this state for every expected instance without a result.

        An instance that was sent but not confirmed becomes FAILED.
        """
        for uid in (self.expected or frozenset()) | self.entries.keys():
            entry = self.entries.get(uid)
            if entry is None:
                self.entries[uid] = LedgerEntry(state, reason)
            elif entry.state is InstanceState.STORED:
                self.entries[uid] = LedgerEntry(InstanceState.FAILED, Message("not-confirmed"))

    def to_json(self) -> dict[str, Any]:
        return {
            "study_uid": self.ref.study_uid,
            "series_uid": self.ref.series_uid,
            "expected": None if self.expected is None else sorted(self.expected),
            "instances": {uid: entry.to_json() for uid, entry in sorted(self.entries.items())},
            "treatments": {
                entry.changes.digest: entry.changes.to_json()
                for entry in self.entries.values()
                if entry.changes is not None
            },
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "SeriesLedger":
        expected = data["expected"]
        known = data.get("treatments", {})
        treatments = {digest: ElementChanges.from_json(rows) for digest, rows in known.items()}
        return cls(
            SeriesRef(data["study_uid"], data["series_uid"]),
            None if expected is None else frozenset(expected),
            {
                uid: LedgerEntry.from_json(entry, treatments)
                for uid, entry in data["instances"].items()
            },
        )


@dataclass(frozen=True, slots=True)
class SeriesOutcome:
    """Totals of one series. `expected` is None if the source gave no reliable list.

    A series that the selection excludes has the reason in `skip_reason`; no instance was expected.
    """

    ref: SeriesRef
    expected: int | None
    delivered: int = 0
    withheld: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: tuple[tuple[Message, int], ...] = ()
    """The reasons with their number of instances, most frequent first."""
    notes: tuple[Message, ...] = ()
    """Notes on the series as a whole: still growing, new, vanished. Each means a gap."""
    remarks: tuple[Message, ...] = ()
    """Remarks for information, which do not mean a gap."""
    skip_reason: Message | None = None
    """Why the selection excludes the series; None if it is included."""
    listing: SourceListing | None = field(default=None, repr=False)
    """What the source says about an excluded series, for which there is no SourceListing before."""

    @classmethod
    def from_ledger(
        cls,
        ledger: SeriesLedger,
        notes: tuple[Message, ...] = (),
        remarks: tuple[Message, ...] = (),
    ) -> "SeriesOutcome":
        entries = ledger.entries.values()
        ends = Counter(entry.state for entry in entries)
        reasons = Counter(entry.reason for entry in entries if entry.reason is not None)
        return cls(
            ref=ledger.ref,
            expected=None if ledger.expected is None else len(ledger.expected),
            delivered=ends[InstanceState.DELIVERED],
            withheld=ends[InstanceState.WITHHELD],
            failed=ends[InstanceState.FAILED],
            skipped=ends[InstanceState.SKIPPED],
            reasons=tuple(reasons.most_common()),
            notes=notes,
            remarks=remarks,
        )

    @property
    def completeness(self) -> Completeness:
        if self.expected is None and self.skip_reason is None:
            return Completeness.UNVERIFIABLE
        whole = self.delivered == (self.expected or 0)
        return Completeness.COMPLETE if whole and not self.notes else Completeness.PARTIAL


@dataclass(frozen=True, slots=True)
class OutcomeTotal:
    """The totals of several series. `expected` is None if it is None for any series."""

    expected: int | None
    delivered: int
    withheld: int
    failed: int
    skipped: int
    completeness: Completeness


def sum_outcomes(outcomes: Iterator[SeriesOutcome] | list[SeriesOutcome]) -> OutcomeTotal:
    """Add up the outcomes. Without any, the result is unverifiable, never complete."""
    parts = [outcome for outcome in outcomes if outcome.skip_reason is None]
    verdicts = {outcome.completeness for outcome in parts}
    if not parts or Completeness.UNVERIFIABLE in verdicts:
        verdict = Completeness.UNVERIFIABLE
    else:
        verdict = (
            Completeness.PARTIAL if Completeness.PARTIAL in verdicts else Completeness.COMPLETE
        )
    unknown = not parts or any(part.expected is None for part in parts)
    return OutcomeTotal(
        expected=None if unknown else sum(part.expected or 0 for part in parts),
        delivered=sum(part.delivered for part in parts),
        withheld=sum(part.withheld for part in parts),
        failed=sum(part.failed for part in parts),
        skipped=sum(part.skipped for part in parts),
        completeness=verdict,
    )
