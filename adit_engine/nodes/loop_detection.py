"""Repeats: tells a search that goes on for ever from one that has much to tell."""

import time
from collections.abc import Hashable

MAX_ANSWERS = 1_000_000
"""More than any archive lists for one search."""

MAX_REPEATS = 50_000
"""So many answers in a row that were given before: nothing new will come. An archive that answers
once for each image says the same of a long study thousands of times."""

_ALLOWED_REPEATS = 10


class LoopDetector:
    """Notes the answers of one search. Being told the same again is no progress."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._seen: set[int] = set()
        self._in_a_row = 0
        self._fresh_at = time.monotonic()

    def is_endless(self, answer: Hashable) -> bool:
        """Whether this answer shows that no end is to be expected."""
        mark = hash(answer)
        if mark not in self._seen:
            self._seen.add(mark)
            self._in_a_row = 0
            self._fresh_at = time.monotonic()
            return len(self._seen) > MAX_ANSWERS
        self._in_a_row += 1
        is_late = time.monotonic() - self._fresh_at > self._patience_s
        return self._in_a_row >= MAX_REPEATS or (is_late and self._in_a_row >= _ALLOWED_REPEATS)
