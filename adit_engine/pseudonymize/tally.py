"""Tally: how many elements stayed, changed or went, by tag; never a value."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from adit_engine.elements import Buffer, Element
from adit_engine.pseudonymize.actions import DUMMIES
from adit_engine.pseudonymize.tables import dictionary, keywords


class Done(Enum):
    """What became of one element. REWRITTEN: the same in another form, or cleaned inside."""

    KEPT = "kept"
    REWRITTEN = "rewritten"
    NEW_UID = "new UID"
    MOVED = "date moved"
    REPLACED = "replaced"
    EMPTIED = "emptied"
    REMOVED = "removed"
    ADDED = "added"


@dataclass
class Tally:
    """Adds up over instances. Private elements are counted by group, under element 0000."""

    counts: Counter[tuple[int, Done]] = field(default_factory=Counter)
    instances: int = 0
    blanked: int = 0
    """Instances in which a pixel rule ran."""

    def add(self, other: "Tally") -> None:
        self.counts.update(other.counts)
        self.instances += other.instances
        self.blanked += other.blanked

    def level(self, data: Buffer, found: Iterable[Element], out: Mapping[int, bytes]) -> None:
        """One level of a data set: what stood there, and what of it leaves."""
        came = set()
        for element in found:
            tag = element.tag
            came.add(tag)
            key = tag & 0xFFFF0000 if tag & 0x10000 else tag
            self.counts[key, _done(data, element, out.get(tag))] += 1
        for tag in out.keys() - came:
            self.counts[tag, Done.ADDED] += 1

    def rows(self) -> list[dict[str, Any]]:
        """For a report: tag, name, action, count; in the order of the tags."""
        names = {tag: keyword for keyword, tag in keywords().items()}
        return [
            {
                "tag": f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
                "name": "private elements" if tag & 0x10000 else names.get(tag, ""),
                "action": done.value,
                "count": count,
            }
            for (tag, done), count in sorted(
                self.counts.items(), key=lambda cell: (cell[0][0], cell[0][1].value)
            )
        ]


def _done(data: Buffer, element: Element, new: bytes | None) -> Done:
    if new is None:
        return Done.REMOVED
    if new == data[element.start : element.end]:
        return Done.KEPT
    value = _value(new)
    vr = element.vr if element.vr not in ("", "UN") else dictionary().get(element.tag, "UN")[:2]
    if not value:
        return Done.EMPTIED if element.value != element.end else Done.KEPT
    if vr == "UI":
        return Done.NEW_UID
    if value == DUMMIES.get(vr):
        return Done.REPLACED
    return Done.MOVED if vr in ("DA", "DT") else Done.REWRITTEN


def _value(new: bytes) -> bytes:
    """The value of an encoded element, whose length tells how long its head is."""
    for head, width in ((8, 2), (8, 4), (12, 4)):
        if int.from_bytes(new[head - width : head], "little") == len(new) - head:
            return new[head:]
    return new
