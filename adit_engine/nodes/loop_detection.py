"""Tell an endless search from one with many answers. Used by C-FIND and QIDO-RS."""

import time
from collections.abc import Hashable

MAX_ANSWERS = 1_000_000
"""More than any archive lists for one search."""

MAX_REPEATS = 50_000
"""After this many repeated answers in a row, nothing new will come.

An archive that answers once per image repeats itself thousands of times for a long study.
"""

_ALLOWED_REPEATS = 10


class LoopDetector:
    """Records the answers of one search. A repeated answer is no progress."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._seen: set[int] = set()
        self._in_a_row = 0
        self._fresh_at = time.monotonic()

    def is_endless(self, answer: Hashable) -> bool:
        """Record an answer; return whether the search has to be considered endless."""
        mark = hash(answer)
        if mark not in self._seen:
            self._seen.add(mark)
            self._in_a_row = 0
            self._fresh_at = time.monotonic()
            return len(self._seen) > MAX_ANSWERS
        self._in_a_row += 1
        is_late = time.monotonic() - self._fresh_at > self._timeout_s
        return self._in_a_row >= MAX_REPEATS or (is_late and self._in_a_row >= _ALLOWED_REPEATS)
