"""Treatment: what was done to the elements of one instance, by tag; never a value.
Outcome: what happened to each instance of a series, added up so that nothing goes missing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any

from adit_engine.values.device import ImagingDevice
from adit_engine.values.references import InstanceRef, SeriesRef

ChangeRow = tuple[int, str, int]
"""Tag, what was done (a word of pseudonymize.tally.Done), how often."""


@dataclass(frozen=True, slots=True, eq=False)
class ElementChanges:
    """Images of one series are mostly treated alike, so that one treatment stands for many."""

    rows: tuple[ChangeRow, ...]
    digest: str = field(init=False)
    """The same rows give the same."""

    def __post_init__(self) -> None:
        digest = sha256(repr(self.rows).encode()).hexdigest()[:12]
        object.__setattr__(self, "digest", digest)

    def to_json(self) -> list[list[Any]]:
        return [list(row) for row in self.rows]

    @classmethod
    def from_json(cls, data: Iterable[Iterable[Any]]) -> "ElementChanges":
        return cls(tuple((tag, done, count) for tag, done, count in data))


def sum_changes(treated: Iterable[tuple[ElementChanges, int]]) -> list[ChangeRow]:
    """Of so many images each; sorted by tag and word."""
    sums: Counter[tuple[int, str]] = Counter()
    for treatment, images in treated:
        for tag, done, count in treatment.rows:
            sums[tag, done] += count * images
    return [(tag, done, count) for (tag, done), count in sorted(sums.items()) if count]


class InstanceState(StrEnum):
    """STORED is on the way to DELIVERED: taken by the destination, not yet proven kept. The other
    four are ends.
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
    """What became of one instance. `ref` holds the original UIDs and stays with us.

    `code` is a short key to count by, `reason` the sentence for people; both empty when delivered
    without remark. `size_bytes` and `sha256` are those of the data set that was delivered.
    """

    ref: InstanceRef
    state: InstanceState
    code: str = ""
    reason: str = ""
    size_bytes: int = 0
    sha256: str = ""
    device: ImagingDevice | None = None
    """Of what was withheld, so that people can judge it by device."""
    treatment: ElementChanges | None = field(default=None, repr=False, compare=False)
    """What was done to its elements, where it was pseudonymized and the destination took it."""
    path: str = field(default="", repr=False)
    """Where its file lies, below the destination's folder; empty where there are no files."""


@dataclass(frozen=True, slots=True)
class SourceListing:
    """The source's list of one series, told before its first instance is fetched.

    `expected` are the instance UIDs, or None when the list cannot be trusted; `why` then says so.
    """

    series: SeriesRef
    expected: frozenset[str] | None
    number: int | None = None
    modality: str = ""
    description: str = ""
    """As the source calls it; identifying text may stand here."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of the ledger."""

    state: InstanceState
    code: str = ""
    reason: str = ""
    size_bytes: int = 0
    sha256: str = ""
    device: ImagingDevice | None = None
    treatment: ElementChanges | None = field(default=None, repr=False, compare=False)
    path: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Names its treatment by digest; the manifest says what that is."""
        values = {name: getattr(self, name) for name in _PLAIN_FIELDS}
        if self.path:
            values["path"] = self.path
        if self.device is not None:
            values["device"] = self.device.to_json()
        if self.treatment is not None:
            values["treatment"] = self.treatment.digest
        return values

    @classmethod
    def from_json(
        cls, data: dict[str, Any], treatments: Mapping[str, ElementChanges]
    ) -> "LedgerEntry":
        device = ImagingDevice.from_json(data["device"]) if "device" in data else None
        treatment = treatments.get(data.get("treatment", ""))
        known = {
            **data,
            "state": InstanceState(data["state"]),
            "device": device,
            "treatment": treatment,
        }
        return cls(**known)


_PLAIN_FIELDS = ("state", "code", "reason", "size_bytes", "sha256")


@dataclass
class SeriesLedger:
    """The ledger of one series: each original instance UID exactly once, the latest end counts.

    `expected` are the UIDs which the source listed, or None when its list cannot be trusted.
    """

    series: SeriesRef
    expected: frozenset[str] | None = None
    entries: dict[str, LedgerEntry] = field(default_factory=dict)

    def add(self, event: InstanceEvent) -> None:
        self.entries[event.ref.instance_uid] = LedgerEntry(
            event.state,
            event.code,
            event.reason,
            event.size_bytes,
            event.sha256,
            event.device,
            event.treatment,
            event.path,
        )

    def delivered_entries(self) -> dict[str, LedgerEntry]:
        """What arrived and was proven kept, by instance UID."""
        return {
            u: entry for u, entry in self.entries.items() if entry.state is InstanceState.DELIVERED
        }

    @property
    def treatments(self) -> Counter[ElementChanges]:
        """What was done to how many of the images that arrived."""
        by_digest: dict[str, ElementChanges] = {}
        images: Counter[str] = Counter()
        for entry in self.delivered_entries().values():
            if entry.treatment is not None:
                by_digest[entry.treatment.digest] = entry.treatment
                images[entry.treatment.digest] += 1
        return Counter({by_digest[digest]: n for digest, n in images.items()})

    def count(self, state: InstanceState) -> int:
        return sum(1 for entry in self.entries.values() if entry.state is state)

    def close(self, state: InstanceState, code: str, reason: str) -> None:
        """Gives every expected instance without an end this one. What was sent without proof fails."""
        for uid in (self.expected or frozenset()) | self.entries.keys():
            entry = self.entries.get(uid)
            if entry is None:
                self.entries[uid] = LedgerEntry(state, code, reason)
            elif entry.state is InstanceState.STORED:
                unproven = "sent, and not confirmed by the destination"
                self.entries[uid] = LedgerEntry(InstanceState.FAILED, "not-confirmed", unproven)

    def to_json(self) -> dict[str, Any]:
        return {
            "study_uid": self.series.study_uid,
            "series_uid": self.series.series_uid,
            "expected": None if self.expected is None else sorted(self.expected),
            "instances": {uid: entry.to_json() for uid, entry in sorted(self.entries.items())},
            "treatments": {
                entry.treatment.digest: entry.treatment.to_json()
                for entry in self.entries.values()
                if entry.treatment is not None
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
    """What happened to one series. `expected` is None when the source gave no list to trust.

    `skipped_series` says why a whole series was left out by Selection; then nothing was expected.
    """

    series: SeriesRef
    expected: int | None
    delivered: int = 0
    withheld: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: tuple[tuple[str, str, int], ...] = ()
    """(code, sentence, how many instances), most frequent first."""
    notes: tuple[str, ...] = ()
    """Sentences about the series as a whole: still growing, new, vanished. Each is a gap."""
    remarks: tuple[str, ...] = ()
    """Sentences that somebody may want to know, and that leave nothing open."""
    left_out: str = ""
    """Why Selection left the whole series out; empty when it came along."""

    @classmethod
    def of(
        cls, manifest: SeriesLedger, notes: tuple[str, ...] = (), remarks: tuple[str, ...] = ()
    ) -> "SeriesOutcome":
        entries = manifest.entries.values()
        ends = Counter(entry.state for entry in entries)
        reasons = Counter((e.code, e.reason) for e in entries if e.code)
        return cls(
            series=manifest.series,
            expected=None if manifest.expected is None else len(manifest.expected),
            delivered=ends[InstanceState.DELIVERED],
            withheld=ends[InstanceState.WITHHELD],
            failed=ends[InstanceState.FAILED],
            skipped=ends[InstanceState.SKIPPED],
            reasons=tuple((code, reason, n) for (code, reason), n in reasons.most_common()),
            notes=notes,
            remarks=remarks,
        )

    @property
    def verdict(self) -> Completeness:
        if self.expected is None and not self.left_out:
            return Completeness.UNVERIFIABLE
        whole = self.delivered == (self.expected or 0)
        return Completeness.COMPLETE if whole and not self.notes else Completeness.PARTIAL


@dataclass(frozen=True, slots=True)
class OutcomeTotal:
    """The outcomes of several series added up; `expected` is None as soon as one of them is."""

    expected: int | None
    delivered: int
    withheld: int
    failed: int
    skipped: int
    verdict: Completeness


def sum_outcomes(outcomes: Iterator[SeriesOutcome] | list[SeriesOutcome]) -> OutcomeTotal:
    """Adds up. Nothing at all is unverifiable, never complete."""
    parts = [outcome for outcome in outcomes if not outcome.left_out]
    verdicts = {outcome.verdict for outcome in parts}
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
        verdict=verdict,
    )
