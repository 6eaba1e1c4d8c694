"""Treatment: what was done to the elements of one instance, by tag; never a value."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

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
