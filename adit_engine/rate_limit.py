"""Limit the bytes per second to and from a node. Used by connections and the Storage SCP."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

BURST_S = 0.25
"""Seconds' worth of the rate that may be used at once after a pause."""

_POLL_S = 0.1


class Throttle(Protocol):
    """What a connection calls after each piece of data."""

    def throttle(self, count: int, is_over: Callable[[], bool]) -> float:
        """Wait as the rate requires for `count` bytes, or until `is_over`.

        Returns the seconds that were due.
        """
        ...


class RateLimiter:
    """A rate limit for all connections of one opened node. Thread-safe.

    `rate_bytes_s` may change while it is used; None: unlimited.
    """

    def __init__(self, rate_bytes_s: float | None = None) -> None:
        self.rate_bytes_s = rate_bytes_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def throttle(self, count: int, is_over: Callable[[], bool]) -> float:
        """Wait as the rate requires for `count` bytes, or until `is_over`.

        Returns the seconds that were due.
        """
        due_s = self._next_s(count)
        until = time.monotonic() + due_s
        while (left_s := until - time.monotonic()) > 0 and not is_over():
            time.sleep(min(left_s, _POLL_S))
        return due_s

    def transfer_time_s(self, count: int) -> float:
        """Return how long `count` bytes take at this rate, without other traffic."""
        rate = self.rate_bytes_s
        return 0.0 if rate is None else count / max(rate, 1.0)

    def _next_s(self, count: int) -> float:
        if self.rate_bytes_s is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - BURST_S) + self.transfer_time_s(count)
            return max(0.0, self._free_at - now)
