"""Count which elements were kept, changed or removed, by tag, without values. For reports."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from adit_engine.pseudonymize.tables import keywords
from adit_engine.values.outcome import ChangeRow, ElementChanges, sum_changes

PIXEL_DATA = 0x7FE00010


class AppliedAction(Enum):
    """The action on one element. REWRITTEN: the same in another form, or cleaned inside."""

    KEPT = "kept"
    REWRITTEN = "rewritten"
    NEW_UID = "new UID"
    DATE_SHIFTED = "date shifted"
    REPLACED = "replaced"
    EMPTIED = "emptied"
    REMOVED = "removed"
    ADDED = "added"
    MASKED = "masked"
    """For pixel data: a pixel rule was applied."""
    FACE_RISK_ACCEPTED = "may show a face"
    """For pixel data: thin slices that may show a head, which the project accepts."""
    ANNOTATION_ACCEPTED = "burned-in text not ruled out"
    """For pixel data: not checked for burned-in text; the project accepts this risk."""
    TEXT_INSPECTED = "checked for text"
    """For pixel data: looked at by the text detection, which found none."""


_ACTIONS = tuple(AppliedAction)
ACTION_BITS = 4
ACTION_CODES = {done: number for number, done in enumerate(_ACTIONS)}
"""A note is `tag << ACTION_BITS | code`. Numbers are cheap, and each instance has many notes."""

LevelNotes = tuple[tuple[int, ...], tuple[int, ...]]
"""For one level: notes on elements that did not simply stay, and the tags that remain."""


@dataclass(frozen=True, slots=True)
class InstanceChanges:
    """Everything recorded about one instance. Equal objects yield equal changes.

    `top` is for the top level before the de-identification attributes are added, `inside` for each
    sequence item; `leaving` are the tags of the result, `marks` the actions on the pixels.
    """

    top: LevelNotes
    items: tuple[LevelNotes, ...]
    added_tags: frozenset[int]
    output_tags: tuple[int, ...]
    pixel_actions: tuple[AppliedAction, ...] = ()


@lru_cache(maxsize=64)
def count_changes(traces: InstanceChanges) -> ElementChanges:
    sums = _count_top_level(traces)
    for notes in traces.items:
        sums.update(_count_level(notes))
    sums.update((PIXEL_DATA, mark) for mark in traces.pixel_actions)
    whole: Counter[tuple[int, str]] = Counter()
    for (tag, done), count in sums.items():
        whole[tag & 0xFFFF0000 if tag & 0x10000 else tag, done.value] += count
    return ElementChanges(tuple(sorted((tag, done, n) for (tag, done), n in whole.items())))


def _count_level(notes: LevelNotes) -> Counter[tuple[int, AppliedAction]]:
    changed, leaving = notes
    stays = set(leaving)
    known = [(note >> ACTION_BITS, _ACTIONS[note & (1 << ACTION_BITS) - 1]) for note in changed]
    # A private creator is noted as removed first, and kept later if an element of its block stays.
    told = [
        (tag, done) for tag, done in known if not (done is AppliedAction.REMOVED and tag in stays)
    ]
    tags = {tag for tag, _ in told}
    return Counter(told + [(tag, AppliedAction.KEPT) for tag in leaving if tag not in tags])


def _count_top_level(traces: InstanceChanges) -> Counter[tuple[int, AppliedAction]]:
    """Combine the changes by rules with those by the de-identification attributes."""
    sums: Counter[tuple[int, AppliedAction]] = Counter()
    leaving, before = set(traces.output_tags), _count_level(traces.top)
    for (tag, done), count in before.items():
        if done is not AppliedAction.REMOVED and tag not in leaving:
            done = AppliedAction.REMOVED
        elif tag in traces.added_tags:
            done = AppliedAction.REPLACED
        elif done is AppliedAction.REMOVED and tag in leaving:
            done = AppliedAction.EMPTIED
        sums[tag, done] += count
    came = {tag for tag, _ in before}
    sums.update((tag, AppliedAction.ADDED) for tag in leaving - came)
    return sums


@dataclass
class ChangeStatistics:
    """Totals over instances. Private elements are counted by group, under element 0000."""

    changes: Counter[ElementChanges] = field(default_factory=Counter)

    def add(self, change: ElementChanges) -> None:
        self.changes[change] += 1

    @property
    def instances(self) -> int:
        return self.changes.total()

    @property
    def counts(self) -> Counter[tuple[int, AppliedAction]]:
        summed = sum_changes(self.changes.items())
        return Counter({(tag, AppliedAction(done)): count for tag, done, count in summed})

    @property
    def masked(self) -> int:
        """Number of instances to which a pixel rule was applied."""
        return self.counts[PIXEL_DATA, AppliedAction.MASKED]

    def rows(self) -> list[dict[str, Any]]:
        return report_rows(sum_changes(self.changes.items()))


def report_rows(rows: Iterable[ChangeRow]) -> list[dict[str, Any]]:
    """Return rows for a report: tag, name, action, count."""
    names = {tag: keyword for keyword, tag in keywords().items()}
    return [
        {
            "tag": f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
            "name": names.get(tag) or _group_name(tag),
            "action": done,
            "count": count,
        }
        for tag, done, count in rows
    ]


def _group_name(tag: int) -> str:
    if tag & 0x10000:
        return "private elements"
    return {0x5000: "curve", 0x6000: "overlay"}.get(tag >> 16 & 0xFF00, "")
