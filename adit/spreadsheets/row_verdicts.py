"""Verdicts and findings for the rows of a sheet, and checks that compare rows with each other.

Used by the row checks and by the upload pages.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Generic, TypeVar

from django.utils.translation import gettext as _

from adit.spreadsheets.columns import SheetField
from adit_engine.messages import Message

R = TypeVar("R")
_MAX_LINES_SHOWN = 30
DUPLICATE = "sheet-row.duplicate"
"""The code of the finding for rows that ask for the same, whose first line is the first of them."""


class RowVerdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"
    LEFT_OUT = "left out"
    """Nothing to do: an example of the template, or a row of an export without a result."""


@dataclass(frozen=True, slots=True)
class RowFinding:
    """One finding about a row. The message never contains the content of a cell."""

    verdict: RowVerdict
    message: Message
    lines: tuple[int, ...]
    column: str = ""
    """The header as in the sheet; empty if the finding concerns the row as a whole."""

    def __str__(self) -> str:
        """Return the sentence with lines and column."""
        values = {"count": len(self.lines), "lines": format_line_numbers(self.lines)}
        if not self.column:
            return str(Message("sheet-row.in-lines", finding=self.message, **values))
        return str(
            Message("sheet-row.in-cells", finding=self.message, column=self.column, **values)
        )

    def describe_for(self, line: int) -> Message:
        """Return the sentence next to this line, with the column and the other lines."""
        message = self.message
        if len(self.lines) > 1:
            others = format_line_numbers([number for number in self.lines if number != line])
            message = Message("sheet-row.with-other-lines", finding=message, lines=others)
        if self.column:
            message = Message("sheet-row.in-column", finding=message, column=self.column)
        return message


@dataclass(frozen=True, slots=True)
class ValidatedRow(Generic[R]):
    """A checked row of a sheet.

    `row` is None if the verdict is error or left out. `own` has the order of `own_headers`.
    """

    line: int
    row: R | None
    findings: tuple[RowFinding, ...] = ()
    user_cells: tuple[str, ...] = field(default=(), repr=False)
    values: tuple[str, ...] = field(default=(), repr=False)
    """The values of the mapped columns, in the order of `ValidatedSheet.columns`."""

    @property
    def verdict(self) -> RowVerdict:
        found = {finding.verdict for finding in self.findings}
        return next(
            (v for v in (RowVerdict.LEFT_OUT, RowVerdict.ERROR, RowVerdict.WARNING) if v in found),
            RowVerdict.OK,
        )


@dataclass(frozen=True, slots=True)
class ValidatedSheet(Generic[R]):
    """The rows of a sheet, in order.

    `columns` and `own_headers` are headers as in the sheet.
    """

    file: str
    fields: tuple[SheetField, ...]
    """The fields of the columns."""
    columns: tuple[str, ...]
    own_headers: tuple[str, ...]
    rows: tuple[ValidatedRow[R], ...]

    @property
    def valid_rows(self) -> tuple[ValidatedRow[R], ...]:
        """Return the rows that can be ordered: ok or with a warning."""
        return tuple(row for row in self.rows if row.row is not None)

    def get_requested(self, row: ValidatedRow[R]) -> dict[str, str]:
        """Return the values of a row as uploaded, by the headers of the template."""
        values = dict(zip(self.fields, row.values, strict=True))
        names = [values.pop(field, "") for field in (SheetField.FAMILY_NAME, SheetField.GIVEN_NAME)]
        if any(names):
            values[SheetField.PATIENT_NAME] = ", ".join(filter(None, names))
        return {str(field): text for field, text in values.items() if text}

    @property
    def counts(self) -> Counter[RowVerdict]:
        return Counter(row.verdict for row in self.rows)

    @property
    def findings(self) -> tuple[RowFinding, ...]:
        """Return each finding once, in the order of lines."""
        return tuple(dict.fromkeys(f for row in self.rows for f in row.findings))

    def without(self, lines: Iterable[int]) -> "ValidatedSheet[R]":
        """Return a copy without the rows that the user left out."""
        left_out = frozenset(lines)
        return replace(self, rows=tuple(row for row in self.rows if row.line not in left_out))


def format_line_numbers(lines: Sequence[int]) -> str:
    """Return the line numbers as text, such as "3, 7–12 and 20"."""
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
    rows: Iterable[T], key: Key[T], value: Key[T], line: Callable[[T], int], message: Message
) -> Iterator[RowFinding]:
    """Yield an error for each key that has several values.

    Empty keys and values do not count.
    """
    for group in _group_rows(rows, key):
        said = [row for row in group if value(row)]
        if len({value(row) for row in said}) > 1:
            yield RowFinding(RowVerdict.ERROR, message, tuple(line(row) for row in said))


def find_duplicates(
    rows: Iterable[T], key: Key[T], line: Callable[[T], int]
) -> Iterator[RowFinding]:
    """Yield a warning for rows that ask for the same."""
    for group in _group_rows(rows, key):
        if len(group) > 1:
            yield RowFinding(
                RowVerdict.WARNING,
                Message(DUPLICATE),
                tuple(line(row) for row in group),
            )


def find_similar_ids(
    rows: Iterable[T], patient_id: Callable[[T], str], line: Callable[[T], int], column: str
) -> Iterator[RowFinding]:
    """Yield a warning for IDs that differ only by leading zeros or case."""

    def key(row: T) -> str:
        plain = patient_id(row).casefold()
        return plain.lstrip("0") or plain[:1]

    for group in _group_rows(rows, key):
        if len({patient_id(row) for row in group}) > 1:
            yield RowFinding(
                RowVerdict.WARNING,
                Message("sheet-row.similar-ids"),
                tuple(line(row) for row in group),
                column,
            )


def _group_rows(rows: Iterable[T], key: Key[T]) -> Iterable[list[T]]:
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for row in rows:
        if name := key(row):
            groups[name].append(row)
    return groups.values()
