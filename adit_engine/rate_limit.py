"""Pace: how quickly bytes may travel to and from a node, and the wait that keeps them to it."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

BURST_S = 0.25
"""So much of the rate may be used at once after a rest."""

_POLL_S = 0.1


class Throttle(Protocol):
    """What a line asks after each piece that travelled."""

    def keep(self, count: int, is_over: Callable[[], bool]) -> float:
        """Waits as long as is due for so many bytes, or until it is over; for how long it had to."""
        ...


class RateLimiter:
    """Shared by all lines of one opened node; safe to use from any thread.

    `rate_bytes_s` may change while it is used; None: as fast as it goes.
    """

    def __init__(self, rate_bytes_s: float | None = None) -> None:
        self.rate_bytes_s = rate_bytes_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def keep(self, count: int, is_over: Callable[[], bool]) -> float:
        """Waits as long as is due for so many bytes, or until it is over; for how long it had to."""
        due_s = self._next_s(count)
        until = time.monotonic() + due_s
        while (left_s := until - time.monotonic()) > 0 and not is_over():
            time.sleep(min(left_s, _POLL_S))
        return due_s

    def due_s(self, count: int) -> float:
        """How long so many bytes take at this rate, when nothing else travels."""
        rate = self.rate_bytes_s
        return 0.0 if rate is None else count / max(rate, 1.0)

    def _next_s(self, count: int) -> float:
        if self.rate_bytes_s is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST_S) + self.due_s(count)
            return max(0.0, self._free_at - now)
