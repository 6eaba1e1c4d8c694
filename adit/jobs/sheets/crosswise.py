"""Crosswise: what rows say about each other; each finding names every line involved."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import TypeVar

from django.utils.translation import gettext as _

from adit.jobs.sheets.judged import Finding, Verdict

R = TypeVar("R")
Key = Callable[[R], Hashable]


def several(
    rows: Iterable[R], key: Key[R], value: Key[R], line: Callable[[R], int], text: str
) -> Iterator[Finding]:
    """An error where rows of one key have several values; empty keys and values do not count."""
    for group in _groups(rows, key):
        said = [row for row in group if value(row)]
        if len({value(row) for row in said}) > 1:
            yield Finding(Verdict.ERROR, text, tuple(line(row) for row in said))


def twice(rows: Iterable[R], key: Key[R], line: Callable[[R], int]) -> Iterator[Finding]:
    """A warning where the same is asked more than once."""
    for group in _groups(rows, key):
        if len(group) > 1:
            yield Finding(
                Verdict.WARNING,
                _("The same row more than once: it is done once."),
                tuple(line(row) for row in group),
            )


def alike(
    rows: Iterable[R], patient_id: Callable[[R], str], line: Callable[[R], int], column: str
) -> Iterator[Finding]:
    """A warning where ids differ only by leading zeros or upper and lower case."""

    def key(row: R) -> str:
        plain = patient_id(row).casefold()
        return plain.lstrip("0") or plain[:1]

    for group in _groups(rows, key):
        if len({patient_id(row) for row in group}) > 1:
            yield Finding(
                Verdict.WARNING,
                _("Ids that differ only by leading zeros or upper and lower case: one patient?"),
                tuple(line(row) for row in group),
                column,
            )


def _groups(rows: Iterable[R], key: Key[R]) -> Iterable[list[R]]:
    groups: dict[Hashable, list[R]] = defaultdict(list)
    for row in rows:
        if name := key(row):
            groups[name].append(row)
    return groups.values()
