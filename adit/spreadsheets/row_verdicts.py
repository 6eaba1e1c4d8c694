"""Judged: each row of a sheet with its verdict, what to do about it, and its value.
Crosswise: what rows say about each other; each finding names every line involved."""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Generic, TypeVar

from django.utils.translation import gettext as _

R = TypeVar("R")
_MAX_LINES_SHOWN = 30


class RowVerdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    LEFT_OUT = "left out"
    """Nothing to be done: an example of the template, or a row of an export that found nothing."""


@dataclass(frozen=True, slots=True)
class RowFinding:
    """One thing to know about a row. `text` says what and what to do, never what a cell says."""

    verdict: RowVerdict
    text: str
    lines: tuple[int, ...]
    column: str = ""
    """The header as it stands in the sheet; empty when the row as a whole is meant."""

    def __str__(self) -> str:
        """With line and column."""
        said = _("Line %(line)s") if len(self.lines) == 1 else _("Lines %(line)s")
        place = said % {"line": format_line_numbers(self.lines)}
        if self.column:
            place += ", " + _("column %(column)s") % {"column": self.column}
        return f"{place}: {self.text}"


@dataclass(frozen=True, slots=True)
class ValidatedRow(Generic[R]):
    """`row` is None when the verdict is error or left out. `own` stands beside `own_headers`."""

    line: int
    row: R | None
    findings: tuple[RowFinding, ...] = ()
    own: tuple[str, ...] = field(default=(), repr=False)
    shown: tuple[str, ...] = field(default=(), repr=False)
    """What the mapped columns say, in the order of Judged.columns."""

    @property
    def verdict(self) -> RowVerdict:
        found = {finding.verdict for finding in self.findings}
        return next(
            (v for v in (RowVerdict.LEFT_OUT, RowVerdict.ERROR, RowVerdict.WARNING) if v in found),
            RowVerdict.OK,
        )


@dataclass(frozen=True, slots=True)
class ValidatedSheet(Generic[R]):
    """A sheet's rows in order. `columns` and `own_headers` are headers as in the sheet."""

    file: str
    columns: tuple[str, ...]
    own_headers: tuple[str, ...]
    rows: tuple[ValidatedRow[R], ...]

    @property
    def good(self) -> tuple[ValidatedRow[R], ...]:
        """Rows that can be ordered: ok or with a warning."""
        return tuple(row for row in self.rows if row.row is not None)

    @property
    def counts(self) -> Counter[RowVerdict]:
        return Counter(row.verdict for row in self.rows)

    @property
    def findings(self) -> tuple[RowFinding, ...]:
        """All of them, each once, by line: a finding of several lines stands with each."""
        return tuple(dict.fromkeys(f for row in self.rows for f in row.findings))

    def without(self, lines: Iterable[int]) -> "ValidatedSheet[R]":
        """With rows that a person left out."""
        left_out = frozenset(lines)
        return replace(self, rows=tuple(row for row in self.rows if row.line not in left_out))


def format_line_numbers(lines: Sequence[int]) -> str:
    """3, 7–12 and 20."""
    runs: list[list[int]] = []
    for line in sorted(set(lines)):
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    said = [f"{a}" if a == b else f"{a}–{b}" for a, b in runs]
    if len(said) > _MAX_LINES_SHOWN:
        more = len(said) - _MAX_LINES_SHOWN
        return ", ".join(said[:_MAX_LINES_SHOWN]) + " " + _("and %(n)d more") % {"n": more}
    if len(said) > 1:
        return ", ".join(said[:-1]) + " " + _("and") + " " + said[-1]
    return said[0] if said else ""


T = TypeVar("T")
Key = Callable[[T], Hashable]


def find_conflicts(
    rows: Iterable[T], key: Key[T], value: Key[T], line: Callable[[T], int], text: str
) -> Iterator[RowFinding]:
    """An error where rows of one key have several values; empty keys and values do not count."""
    for group in _group_rows(rows, key):
        said = [row for row in group if value(row)]
        if len({value(row) for row in said}) > 1:
            yield RowFinding(RowVerdict.ERROR, text, tuple(line(row) for row in said))


def find_duplicates(
    rows: Iterable[T], key: Key[T], line: Callable[[T], int]
) -> Iterator[RowFinding]:
    """A warning where the same is asked more than once."""
    for group in _group_rows(rows, key):
        if len(group) > 1:
            yield RowFinding(
                RowVerdict.WARNING,
                _("The same row more than once: it is done once."),
                tuple(line(row) for row in group),
            )


def find_similar_ids(
    rows: Iterable[T], patient_id: Callable[[T], str], line: Callable[[T], int], column: str
) -> Iterator[RowFinding]:
    """A warning where ids differ only by leading zeros or upper and lower case."""

    def key(row: T) -> str:
        plain = patient_id(row).casefold()
        return plain.lstrip("0") or plain[:1]

    for group in _group_rows(rows, key):
        if len({patient_id(row) for row in group}) > 1:
            yield RowFinding(
                RowVerdict.WARNING,
                _("Ids that differ only by leading zeros or upper and lower case: one patient?"),
                tuple(line(row) for row in group),
                column,
            )


def _group_rows(rows: Iterable[T], key: Key[T]) -> Iterable[list[T]]:
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for row in rows:
        if name := key(row):
            groups[name].append(row)
    return groups.values()
