"""Treatment: what was done to the elements of one instance, by tag; never a value.
Outcome: what happened to each instance of a series, added up so that nothing goes missing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any

from adit_engine.values.device import Device
from adit_engine.values.references import InstanceRef, SeriesRef

Row = tuple[int, str, int]
"""Tag, what was done (a word of pseudonymize.tally.Done), how often."""


@dataclass(frozen=True, slots=True, eq=False)
class Treatment:
    """Images of one series are mostly treated alike, so that one treatment stands for many."""

    rows: tuple[Row, ...]
    digest: str = field(init=False)
    """The same rows give the same."""

    def __post_init__(self) -> None:
        digest = sha256(repr(self.rows).encode()).hexdigest()[:12]
        object.__setattr__(self, "digest", digest)

    def to_json(self) -> list[list[Any]]:
        return [list(row) for row in self.rows]

    @classmethod
    def from_json(cls, data: Iterable[Iterable[Any]]) -> "Treatment":
        return cls(tuple((tag, done, count) for tag, done, count in data))


def added_up(treated: Iterable[tuple[Treatment, int]]) -> list[Row]:
    """Of so many images each; sorted by tag and word."""
    sums: Counter[tuple[int, str]] = Counter()
    for treatment, images in treated:
        for tag, done, count in treatment.rows:
            sums[tag, done] += count * images
    return [(tag, done, count) for (tag, done), count in sorted(sums.items()) if count]


class State(StrEnum):
    """STORED is on the way to DELIVERED: taken by the destination, not yet proven kept. The other
    four are ends.
    """

    STORED = "stored"
    DELIVERED = "delivered"
    WITHHELD = "withheld"
    FAILED = "failed"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    COMPLETE = "complete"
    PARTIAL = "partial"
    UNVERIFIABLE = "unverifiable"


@dataclass(frozen=True, slots=True)
class Event:
    """What became of one instance. `ref` holds the original UIDs and stays with us.

    `code` is a short key to count by, `reason` the sentence for people; both empty when delivered
    without remark. `size_bytes` and `sha256` are those of the data set that was delivered.
    """

    ref: InstanceRef
    state: State
    code: str = ""
    reason: str = ""
    size_bytes: int = 0
    sha256: str = ""
    device: Device | None = None
    """Of what was withheld, so that people can judge it by device."""
    treatment: Treatment | None = field(default=None, repr=False, compare=False)
    """What was done to its elements, where it was pseudonymized and the destination took it."""
    path: str = field(default="", repr=False)
    """Where its file lies, below the destination's folder; empty where there are no files."""


@dataclass(frozen=True, slots=True)
class Listed:
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
class Entry:
    """One line of the ledger."""

    state: State
    code: str = ""
    reason: str = ""
    size_bytes: int = 0
    sha256: str = ""
    device: Device | None = None
    treatment: Treatment | None = field(default=None, repr=False, compare=False)
    path: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """Names its treatment by digest; the manifest says what that is."""
        values = {name: getattr(self, name) for name in _PLAIN}
        if self.path:
            values["path"] = self.path
        if self.device is not None:
            values["device"] = self.device.to_json()
        if self.treatment is not None:
            values["treatment"] = self.treatment.digest
        return values

    @classmethod
    def from_json(cls, data: dict[str, Any], treatments: Mapping[str, Treatment]) -> "Entry":
        device = Device.from_json(data["device"]) if "device" in data else None
        treatment = treatments.get(data.get("treatment", ""))
        known = {**data, "state": State(data["state"]), "device": device, "treatment": treatment}
        return cls(**known)


_PLAIN = ("state", "code", "reason", "size_bytes", "sha256")


@dataclass
class Manifest:
    """The ledger of one series: each original instance UID exactly once, the latest end counts.

    `expected` are the UIDs which the source listed, or None when its list cannot be trusted.
    """

    series: SeriesRef
    expected: frozenset[str] | None = None
    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, event: Event) -> None:
        self.entries[event.ref.instance_uid] = Entry(
            event.state,
            event.code,
            event.reason,
            event.size_bytes,
            event.sha256,
            event.device,
            event.treatment,
            event.path,
        )

    def delivered_entries(self) -> dict[str, Entry]:
        """What arrived and was proven kept, by instance UID."""
        return {u: entry for u, entry in self.entries.items() if entry.state is State.DELIVERED}

    @property
    def treatments(self) -> Counter[Treatment]:
        """What was done to how many of the images that arrived."""
        by_digest: dict[str, Treatment] = {}
        images: Counter[str] = Counter()
        for entry in self.delivered_entries().values():
            if entry.treatment is not None:
                by_digest[entry.treatment.digest] = entry.treatment
                images[entry.treatment.digest] += 1
        return Counter({by_digest[digest]: n for digest, n in images.items()})

    def count(self, state: State) -> int:
        return sum(1 for entry in self.entries.values() if entry.state is state)

    def close(self, state: State, code: str, reason: str) -> None:
        """Gives every expected instance without an end this one. What was sent without proof fails."""
        for uid in (self.expected or frozenset()) | self.entries.keys():
            entry = self.entries.get(uid)
            if entry is None:
                self.entries[uid] = Entry(state, code, reason)
            elif entry.state is State.STORED:
                unproven = "sent, and not confirmed by the destination"
                self.entries[uid] = Entry(State.FAILED, "not-confirmed", unproven)

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
    def from_json(cls, data: dict[str, Any]) -> "Manifest":
        expected = data["expected"]
        known = data.get("treatments", {})
        treatments = {digest: Treatment.from_json(rows) for digest, rows in known.items()}
        return cls(
            SeriesRef(data["study_uid"], data["series_uid"]),
            None if expected is None else frozenset(expected),
            {uid: Entry.from_json(entry, treatments) for uid, entry in data["instances"].items()},
        )


@dataclass(frozen=True, slots=True)
class Outcome:
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
        cls, manifest: Manifest, notes: tuple[str, ...] = (), remarks: tuple[str, ...] = ()
    ) -> "Outcome":
        entries = manifest.entries.values()
        ends = Counter(entry.state for entry in entries)
        reasons = Counter((e.code, e.reason) for e in entries if e.code)
        return cls(
            series=manifest.series,
            expected=None if manifest.expected is None else len(manifest.expected),
            delivered=ends[State.DELIVERED],
            withheld=ends[State.WITHHELD],
            failed=ends[State.FAILED],
            skipped=ends[State.SKIPPED],
            reasons=tuple((code, reason, n) for (code, reason), n in reasons.most_common()),
            notes=notes,
            remarks=remarks,
        )

    @property
    def verdict(self) -> Verdict:
        if self.expected is None and not self.left_out:
            return Verdict.UNVERIFIABLE
        whole = self.delivered == (self.expected or 0)
        return Verdict.COMPLETE if whole and not self.notes else Verdict.PARTIAL


@dataclass(frozen=True, slots=True)
class Total:
    """The outcomes of several series added up; `expected` is None as soon as one of them is."""

    expected: int | None
    delivered: int
    withheld: int
    failed: int
    skipped: int
    verdict: Verdict


def total(outcomes: Iterator[Outcome] | list[Outcome]) -> Total:
    """Adds up. Nothing at all is unverifiable, never complete."""
    parts = [outcome for outcome in outcomes if not outcome.left_out]
    verdicts = {outcome.verdict for outcome in parts}
    if not parts or Verdict.UNVERIFIABLE in verdicts:
        verdict = Verdict.UNVERIFIABLE
    else:
        verdict = Verdict.PARTIAL if Verdict.PARTIAL in verdicts else Verdict.COMPLETE
    unknown = not parts or any(part.expected is None for part in parts)
    return Total(
        expected=None if unknown else sum(part.expected or 0 for part in parts),
        delivered=sum(part.delivered for part in parts),
        withheld=sum(part.withheld for part in parts),
        failed=sum(part.failed for part in parts),
        skipped=sum(part.skipped for part in parts),
        verdict=verdict,
    )
