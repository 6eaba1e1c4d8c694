"""How many associations a node has turned out to serve at once, for fetching and for sending.

Filled by the DIMSE node; a caller that keeps it spares the node the same attempts next time.
"""

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from adit_engine.messages import Message

USUAL_OF, MIN_USUAL = 20, 3
"""How many of the last fetches define what is usual, and how many are needed for that."""

MIN_SLOW_S = 0.5
"""A node is not slow if its first image takes less than this longer than usual."""


@dataclass
class LearnedLimit:
    """The most associations that proved useful in one direction; None: no limit is known."""

    most: int | None = None
    reason: Message | None = None
    """Why there are not more; its subject is the node."""
    slow_factor: float = 2.0
    """How many times the usual time a first image takes if the node is slow now; 0: not watched."""
    is_proven: bool = False
    """Whether several associations have turned out to be faster than one."""
    is_suspended: bool = False
    """Whether one association is used for now: several have brought nothing. Not to be kept."""
    is_slow: bool = False
    """Whether one association is used for now: the node is slow. Set by who knows its usual pace."""
    _first_s: deque[float] = field(default_factory=lambda: deque(maxlen=USUAL_OF), repr=False)
    """Seconds until the first image of the last fetches that were not slow."""

    def apply(self, allowed: int) -> int:
        """Return how many of the allowed associations to use."""
        if self.is_suspended or self.is_slow:
            return 1
        return allowed if self.most is None else min(allowed, self.most)

    def is_slow_now(self, first_s: float) -> bool:
        """Record the seconds until a first image; return whether that is far more than usual."""
        if self.slow_factor and len(self._first_s) >= MIN_USUAL:
            usual_s = median(self._first_s)
            if first_s > self.slow_factor * usual_s and first_s > usual_s + MIN_SLOW_S:
                return True
        self._first_s.append(first_s)
        return False

    def lower(self, most: int, reason: str) -> None:
        """Use at most `most` from now on (at least one). A higher number changes nothing."""
        most = max(1, most)
        if self.most is None or most < self.most:
            self.most, self.reason = most, Message(reason)


@dataclass
class AssociationLimits:
    """The learned limits of one node."""

    retrieve: LearnedLimit = field(default_factory=LearnedLimit)
    store: LearnedLimit = field(default_factory=LearnedLimit)


MIN_GAIN = 1.25
"""Several associations are kept unless one would be faster by more than this factor."""


def is_slower(single_s: float, parallel_s: float, count: int) -> bool:
    """Return whether `count` associations are slower than one.

    The values are seconds per image of one association, alone and beside the others.
    """
    return parallel_s > MIN_GAIN * count * single_s
