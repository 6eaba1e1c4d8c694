"""Format comparisons as lines of a table: medians, their ratio, and whether they meet a target."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

_HEAD = ("work", "data", "engine", "other", "ratio", "at most", "ambition", "")


@dataclass(frozen=True, slots=True)
class Promise:
    """The maximum that is allowed, and the target."""

    at_most: float
    ambition: float

    def verdict(self, value: float) -> str:
        if value <= self.ambition:
            return "ambition met"
        return "met" if value <= self.at_most else "MISSED"


@dataclass(frozen=True, slots=True)
class Line:
    """One comparison; `ours` and `theirs` are seconds, one per round."""

    work: str
    data: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    promise: Promise

    @property
    def ratio(self) -> float:
        """The ratio of the medians."""
        return median(self.ours) / median(self.theirs)

    def cells(self) -> tuple[str, ...]:
        return (
            self.work,
            self.data,
            f"{median(self.ours):.2f} s",
            f"{median(self.theirs):.2f} s",
            f"{self.ratio:.2f}",
            f"{self.promise.at_most:.2f}",
            f"{self.promise.ambition:.2f}",
            self.promise.verdict(self.ratio),
        )


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value without another tool."""

    work: str
    data: str
    value: float
    unit: str
    promise: Promise

    def cells(self) -> tuple[str, ...]:
        limits = (f"{self.promise.at_most:g}", f"{self.promise.ambition:g}")
        value = f"{self.value:.2f} {self.unit}"
        return (self.work, self.data, value, "", "", *limits, self.promise.verdict(self.value))


@dataclass(frozen=True, slots=True)
class NotYet:
    """A planned line."""

    work: str
    why: str

    def cells(self) -> tuple[str, ...]:
        return (self.work, self.why, "", "", "", "", "", "not yet")


def markdown(lines: Iterable[Line | Figure | NotYet]) -> str:
    """Return the table in Markdown, as used in docs/performance.md."""
    rows = [_HEAD, *(line.cells() for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    texts = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])
