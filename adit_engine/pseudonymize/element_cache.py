"""Memory: what became of each element of the image before; images of a series say much alike."""

from collections.abc import Hashable, Iterator
from typing import NamedTuple

from adit_engine.pseudonymize.change import Pseudonymized
from adit_engine.pseudonymize.statistics import Notes

_CONTEXTS = 8
LONGEST = 1 << 14
"""Bytes of the longest element that is remembered."""


class Known(NamedTuple):
    """An element as it stood, what left in its place (None: nothing), and what was noted of it."""

    raw: bytes
    made: bytes | None
    top: tuple[int, ...]
    inside: tuple[Notes, ...]


class Memory:
    """Of images changed one after another by one `change`. Not thread-safe.

    What an element becomes depends on its own bytes and on a context (its rules, how it is encoded,
    the character set, the words of the patient's name). Only where all of that is the same, byte
    for byte, is it known again; of each context the last value of a tag is kept.
    """

    def __init__(self, change: Pseudonymized) -> None:
        self.change = change
        self._contexts: dict[Hashable, dict[int, Known]] = {}

    def within(self, context: Hashable) -> dict[int, Known]:
        """By tag, of the data set itself; to be added to."""
        known = self._contexts.get(context)
        if known is None:
            if len(self._contexts) >= _CONTEXTS:
                self._contexts.clear()
            known = self._contexts[context] = {}
        return known

    def contexts(self) -> Iterator[dict[int, Known]]:
        """All that is remembered, by context."""
        yield from self._contexts.values()
