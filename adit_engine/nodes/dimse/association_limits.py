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

SINGLE_IMAGES, PARALLEL_IMAGES = 8, 32
"""Images over one association, then over several, after which their paces are compared."""

MIN_GAIN = 1.25
"""Several associations are kept unless one would be faster by more than this factor."""


@dataclass
class _Pace:
    """Images that were transferred, their bytes, and the seconds that the node took for them."""

    images: int = 0
    size_bytes: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, images: int, size_bytes: int) -> None:
        self.seconds += seconds
        self.images += images
        self.size_bytes += size_bytes

    def is_slower(self, other: "_Pace") -> tuple[bool, bool]:
        """Return whether this pace is slower by more than MIN_GAIN, per image and per byte."""
        allowed_s = MIN_GAIN * other.seconds
        return (
            self.seconds * other.images > allowed_s * self.images,
            self.seconds * other.size_bytes > allowed_s * self.size_bytes,
        )


class PaceComparison:
    """The pace of a node over one association and over several, from one series to the next.

    Series may have images of different sizes. So several associations are slower only if they take
    longer per image and per byte; if one of both, their paces are measured again.
    """

    def __init__(self) -> None:
        self._single, self._parallel = _Pace(), _Pace()

    @property
    def single_images_left(self) -> int:
        """How many more images over one association are needed to know its pace."""
        return max(0, SINGLE_IMAGES - self._single.images)

    def add(self, associations: int, seconds: float, images: int = 0, size_bytes: int = 0) -> None:
        """Add what was transferred in `seconds` while so many associations delivered."""
        if associations > 1:
            self._parallel.add(seconds, images, size_bytes)
        elif self.single_images_left:
            self._single.add(seconds, images, size_bytes)

    def is_parallel_slower(self) -> bool | None:
        """Return whether several associations are slower than one; None if that is not known.

        After PARALLEL_IMAGES, both paces are measured anew.
        """
        if self.single_images_left:
            self._parallel = _Pace()
        if self._parallel.images < PARALLEL_IMAGES:
            return None
        is_slower = set(self._parallel.is_slower(self._single))
        self._single, self._parallel = _Pace(), _Pace()
        return is_slower.pop() if len(is_slower) == 1 else None


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
    pace: PaceComparison = field(default_factory=PaceComparison, repr=False)
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

    @property
    def single_images_left(self) -> int:
        """How many more images one association transfers before others are worth a try."""
        return 0 if self.is_proven else self.pace.single_images_left

    def compare_pace(self) -> bool:
        """Return whether several associations turn out to be slower than one; remember that."""
        if self.is_proven:
            return False
        is_slower = self.pace.is_parallel_slower()
        if is_slower:
            self.lower(1, "association-limit.slower")
        self.is_proven = is_slower is False
        return bool(is_slower)

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
