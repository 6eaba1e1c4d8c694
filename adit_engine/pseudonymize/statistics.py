"""Tally: how many elements stayed, changed or went, by tag; never a value."""

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
    """What became of one element. REWRITTEN: the same in another form, or cleaned inside."""

    KEPT = "kept"
    REWRITTEN = "rewritten"
    NEW_UID = "new UID"
    MOVED = "date moved"
    REPLACED = "replaced"
    EMPTIED = "emptied"
    REMOVED = "removed"
    ADDED = "added"
    BLANKED = "blanked"
    """Of pixel data: a pixel rule ran."""
    FACE = "may show a face"
    """Of pixel data: thin slices that may show a head, which the trial accepts."""
    HEADER_WORD = "left on its header's word"
    """Of pixel data: nobody has looked for text in it, which the trial accepts."""


_ACTIONS = tuple(AppliedAction)
ACTION_BITS = 4
ACTION_CODES = {done: number for number, done in enumerate(_ACTIONS)}
"""A note is `tag << BITS | code`: many are made for each instance, and numbers cost least."""

LevelNotes = tuple[tuple[int, ...], tuple[int, ...]]
"""Of one level: what was done to elements that did not just stay, and the tags that leave."""


@dataclass(frozen=True, slots=True)
class InstanceChanges:
    """All that tells what was done to one instance; equal traces are one treatment.

    `top` is the data set itself before the stamp, `inside` each item of a sequence, `leaving` the
    tags of the data set as it leaves, `marks` what was done to the pixels.
    """

    top: LevelNotes
    inside: tuple[LevelNotes, ...]
    stamped: frozenset[int]
    leaving: tuple[int, ...]
    marks: tuple[AppliedAction, ...] = ()


@lru_cache(maxsize=64)
def count_changes(traces: InstanceChanges) -> ElementChanges:
    sums = _count_top_level(traces)
    for notes in traces.inside:
        sums.update(_count_level(notes))
    sums.update((PIXEL_DATA, mark) for mark in traces.marks)
    whole: Counter[tuple[int, str]] = Counter()
    for (tag, done), count in sums.items():
        whole[tag & 0xFFFF0000 if tag & 0x10000 else tag, done.value] += count
    return ElementChanges(tuple(sorted((tag, done, n) for (tag, done), n in whole.items())))


def _count_level(notes: LevelNotes) -> Counter[tuple[int, AppliedAction]]:
    changed, leaving = notes
    stays = set(leaving)
    known = [(note >> ACTION_BITS, _ACTIONS[note & (1 << ACTION_BITS) - 1]) for note in changed]
    # A private creator is taken along later, when an element of its block stays.
    told = [
        (tag, done) for tag, done in known if not (done is AppliedAction.REMOVED and tag in stays)
    ]
    tags = {tag for tag, _ in told}
    return Counter(told + [(tag, AppliedAction.KEPT) for tag in leaving if tag not in tags])


def _count_top_level(traces: InstanceChanges) -> Counter[tuple[int, AppliedAction]]:
    """What the stamp overwrote, added and took away comes on top of what the rules did."""
    sums: Counter[tuple[int, AppliedAction]] = Counter()
    leaving, before = set(traces.leaving), _count_level(traces.top)
    for (tag, done), count in before.items():
        if done is not AppliedAction.REMOVED and tag not in leaving:
            done = AppliedAction.REMOVED
        elif tag in traces.stamped:
            done = AppliedAction.REPLACED
        elif done is AppliedAction.REMOVED and tag in leaving:
            done = AppliedAction.EMPTIED
        sums[tag, done] += count
    came = {tag for tag, _ in before}
    sums.update((tag, AppliedAction.ADDED) for tag in leaving - came)
    return sums


@dataclass
class ChangeStatistics:
    """Adds up over instances. Private elements are counted by group, under element 0000."""

    treatments: Counter[ElementChanges] = field(default_factory=Counter)

    def note(self, treatment: ElementChanges) -> None:
        self.treatments[treatment] += 1

    @property
    def instances(self) -> int:
        return self.treatments.total()

    @property
    def counts(self) -> Counter[tuple[int, AppliedAction]]:
        summed = sum_changes(self.treatments.items())
        return Counter({(tag, AppliedAction(done)): count for tag, done, count in summed})

    @property
    def blanked(self) -> int:
        """Instances in which a pixel rule ran."""
        return self.counts[PIXEL_DATA, AppliedAction.BLANKED]

    def rows(self) -> list[dict[str, Any]]:
        return report_rows(sum_changes(self.treatments.items()))


def report_rows(rows: Iterable[ChangeRow]) -> list[dict[str, Any]]:
    """For a report: tag, name, action, count."""
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
