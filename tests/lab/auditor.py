"""Auditor: compares the ledger with what really happened, and counts violations."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.parameters import Change
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import (
    Completeness,
    InstanceEvent,
    InstanceState,
    LedgerEntry,
    SeriesLedger,
    SeriesOutcome,
    SourceListing,
)
from adit_engine.values.references import StudyRef
from lab.lies import Kind, Sent

NOT_HELD = "called delivered, and not held"
OTHER_CONTENT = "called delivered, and held with other content"
FALSE_COMPLETE = "called complete, and not all of it is there"
MISROUTED = "held, and not of this order"
FOREIGN = "held, and of another patient"
SUMS = "sums that do not add up"
TWICE = "counted twice"
UNNAMED = "told of an instance that was never listed or of another series"
TWINS = "called complete, though two different objects came under one UID"

ENDS = (
    InstanceState.DELIVERED,
    InstanceState.WITHHELD,
    InstanceState.FAILED,
    InstanceState.SKIPPED,
)

Told = SourceListing | InstanceEvent | SeriesOutcome


def _is_warning(entry: LedgerEntry) -> bool:
    return entry.reason is not None and entry.reason.category == "warning"


@dataclass(frozen=True, slots=True)
class Expected:
    """What one instance of the source must be at the destination."""

    series_uid: str
    uid: str
    sha256: str
    patient_id: bytes
    study_uid: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What the destination stores under one UID, as read from its files."""

    sha256: str
    patient_id: bytes
    study_uid: str


@dataclass
class Ledger:
    """What a runner stores: all events of each attempt, and the ledgers of the series."""

    attempts: list[list[Told]] = field(default_factory=list)
    manifests: dict[str, SeriesLedger] = field(default_factory=dict)
    delivered_then: dict[tuple[int, str], frozenset[str]] = field(default_factory=dict)
    """What the ledger of a series listed as delivered when its outcome was reported, by attempt.

    An error that a later attempt corrects is still an error."""

    def begin(self) -> None:
        self.attempts.append([])

    def flush(self, told: Told) -> None:
        self.attempts[-1].append(told)
        if isinstance(told, SourceListing):
            uid = told.ref.series_uid
            # Only what was delivered stays: an attempt decides again about all others.
            before = self.manifests.get(uid)
            delivered = before.delivered_entries() if before else {}
            self.manifests[uid] = SeriesLedger(told.ref, told.expected, delivered)
        elif isinstance(told, InstanceEvent):
            self.manifests[told.ref.series_uid].add(told)
        elif told.ref.series_uid in self.manifests:
            manifest = self.manifests[told.ref.series_uid]
            then = len(self.attempts) - 1, told.ref.series_uid
            self.delivered_then[then] = frozenset(manifest.delivered_entries())


def expectations(
    images: Iterable[Instance], study: StudyRef, change: Change
) -> dict[str, Expected]:
    """Return what is expected of one study, by original instance UID."""
    truth = {}
    for one in images:
        ref = one.in_header.ref
        if ref.study_uid == study.study_uid:
            out = apply(change, one)
            seen = out.in_header
            truth[ref.instance_uid] = Expected(
                ref.series_uid,
                out.instance_uid,
                out.sha256(),
                seen.patient_id,
                seen.ref.study_uid,
            )
    return truth


class Auditor:
    """`violations` counts them by kind; `found` describes each in words."""

    def __init__(self) -> None:
        self.violations: Counter[str] = Counter()
        self.found: list[str] = []
        self.complete = 0
        self.delivered = 0

    def audit(
        self,
        truth: Mapping[str, Expected],
        ledger: Ledger,
        kept: Sequence[Mapping[str, Kept]],
        sent: Sequence[Sequence[Sent]] = (),
    ) -> None:
        """Audit one order after its last attempt.

        `kept` is what the destination stored after each attempt, `sent` the log of the source.
        """
        self._delivered(truth, ledger, kept[-1])
        self._destination(truth, kept[-1], ledger)
        for number, told in enumerate(ledger.attempts):
            self._counted_once(told)
            self._completes(truth, ledger, kept[number], number)
            if number < len(sent):
                self._twins(told, sent[number])
        self._sums(ledger)

    def _count(self, kind: str, about: str) -> None:
        self.violations[kind] += 1
        self.found.append(f"{kind}: {about}")

    def _delivered(
        self, truth: Mapping[str, Expected], ledger: Ledger, kept: Mapping[str, Kept]
    ) -> None:
        for manifest in ledger.manifests.values():
            for uid, entry in manifest.delivered_entries().items():
                self.delivered += 1
                expected = truth.get(uid)
                if expected is None or expected.series_uid != manifest.ref.series_uid:
                    self._count(UNNAMED, uid)
                    continue
                held = kept.get(expected.uid)
                if held is None:
                    self._count(NOT_HELD, uid)
                elif not _is_warning(entry) and {held.sha256, entry.sha256} != {expected.sha256}:
                    self._count(OTHER_CONTENT, uid)

    def _destination(
        self, truth: Mapping[str, Expected], kept: Mapping[str, Kept], ledger: Ledger
    ) -> None:
        by_output = {one.uid: (uid, one) for uid, one in truth.items()}
        warned = {
            uid
            for manifest in ledger.manifests.values()
            for uid, entry in manifest.entries.items()
            if _is_warning(entry)
        }
        for uid, held in kept.items():
            origin, expected = by_output.get(uid, ("", None))
            if expected is None or held.study_uid != expected.study_uid:
                self._count(MISROUTED, uid)
            elif held.patient_id != expected.patient_id and origin not in warned:
                self._count(FOREIGN, uid)

    def _counted_once(self, told: Sequence[Told]) -> None:
        ends = Counter(
            one.ref.instance_uid
            for one in told
            if isinstance(one, InstanceEvent) and one.state in ENDS
        )
        outcomes = Counter(one.ref.series_uid for one in told if isinstance(one, SeriesOutcome))
        for uid, count in (ends + outcomes).items():
            if count > 1:
                self._count(TWICE, uid)
        listed = {one.ref.series_uid for one in told if isinstance(one, SourceListing)}
        for event in told:
            if isinstance(event, InstanceEvent) and event.ref.series_uid not in listed:
                self._count(UNNAMED, event.ref.instance_uid)

    def _completes(
        self,
        truth: Mapping[str, Expected],
        ledger: Ledger,
        kept: Mapping[str, Kept],
        number: int,
    ) -> None:
        for one in ledger.attempts[number]:
            if not isinstance(one, SeriesOutcome) or one.skip_reason:
                continue
            if one.completeness is not Completeness.COMPLETE:
                continue
            self.complete += 1
            uid = one.ref.series_uid
            delivered = ledger.delivered_then.get((number, uid), frozenset())
            series = {u: e for u, e in truth.items() if e.series_uid == uid}
            lost = [u for u, e in series.items() if e.uid not in kept]
            lost += sorted(series.keys() - delivered)
            lost += sorted((ledger.manifests[uid].expected or frozenset()) - delivered)
            for uid in dict.fromkeys(lost):
                self._count(FALSE_COMPLETE, uid)

    def _twins(self, told: Sequence[Told], sent: Sequence[Sent]) -> None:
        """Count series reported complete that had twins, except twins sent after success."""
        contents: dict[str, set[str]] = {}
        for one in sent:
            told_late = one.kind is Kind.TWIN and one.late
            if one.kind in (None, Kind.TWIN) and one.status is not None and not told_late:
                contents.setdefault(one.instance_uid, set()).add(one.sha256)
        twins = {uid for uid, digests in contents.items() if len(digests) > 1}
        for outcome in told:
            if isinstance(outcome, SeriesOutcome) and outcome.completeness is Completeness.COMPLETE:
                fresh = {
                    one.ref.instance_uid
                    for one in told
                    if isinstance(one, InstanceEvent) and one.ref.series == outcome.ref
                }
                for uid in sorted(fresh & twins):
                    self._count(TWINS, uid)

    def _sums(self, ledger: Ledger) -> None:
        last = {
            one.ref.series_uid: (number, one)
            for number, told in enumerate(ledger.attempts)
            for one in told
            if isinstance(one, SeriesOutcome) and not one.skip_reason
        }
        begun = {
            one.ref.series_uid: number
            for number, told in enumerate(ledger.attempts)
            for one in told
            if isinstance(one, SourceListing)
        }
        for uid, (number, outcome) in last.items():
            if outcome.expected is None or begun.get(uid) != number:
                continue
            ends = (outcome.delivered, outcome.withheld, outcome.failed, outcome.skipped)
            if outcome.expected != sum(ends):
                self._count(SUMS, f"{uid}: expected {outcome.expected}, ended {ends}")
            manifest = ledger.manifests[uid]
            if ends != tuple(manifest.count(state) for state in ENDS):
                self._count(SUMS, f"{uid}: outcome and ledger differ")
