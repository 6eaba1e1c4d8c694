"""Pacing: at which pace a caller's images are taken: that of the source which is to send them."""

import threading
from collections.abc import Callable, Sequence

from adit_engine.rate_limit import Keeping, Pace
from adit_engine.storage_scp.pending_moves import Arrival, Expectation, Register, likely
from adit_engine.storage_scp.spool import Spool


class Pacing:
    """All associations by which one source sends share its rate; asked from many threads."""

    def __init__(self, register: Register, spool: Spool, ending: threading.Event) -> None:
        self._register = register
        self._spool = spool
        self._ending = ending
        self._of_sources: dict[str, Pace] = {}
        self._of_callers: dict[tuple[str, str], Pace] = {}
        self._last: dict[tuple[str, str], Pace] = {}

    def of(self, sent: Arrival, before: Keeping | None = None) -> Keeping:
        """For an image, or an association, of which only the beginning is known yet.

        Where it may be of several sources, the slowest counts. What nobody expects any more goes on
        at the pace of the source for which its caller sent last. `before` is the line's until now.
        """
        found = likely(self._register.live(), sent)
        found = found or likely(self._register.live(fresh=True), sent)
        caller = (sent.calling, sent.address)
        if found:
            self._note(found)
            slowest = min(found, key=lambda one: one.wanted.rate_bytes_s or float("inf"))
            self._last[caller] = self._of_sources[slowest.wanted.source]
        elif isinstance(before, _Turn) and before.ended_in_vain():
            return before
        pace = self._last.get(caller) or self._of_callers.setdefault(caller, Pace())
        if pace.rate_bytes_s is None:
            return pace
        return _Turn(pace, self._spool, [one.token for one in found], self._ending)

    def look(self, rate_of: Callable[[str, str], float | None]) -> None:
        """Keeps to the rates of now: to `rate_of` AE title and address where nothing is expected."""
        for who, pace in tuple(self._of_callers.items()):
            pace.rate_bytes_s = rate_of(*who)
        self._note(self._register.live())

    def _note(self, live: Sequence[Expectation]) -> None:
        for wanted in (one.wanted for one in live):
            pace = self._of_sources.setdefault(wanted.source, Pace())
            pace.rate_bytes_s = wanted.rate_bytes_s


class _Turn:
    """Of one image: waits while somebody awaits it, and lets who does know that it is on its way.

    Without a token it is of something that nobody awaited from the beginning, and waits alike.
    """

    def __init__(
        self, pace: Pace, spool: Spool, tokens: Sequence[str], ending: threading.Event
    ) -> None:
        self._pace = pace
        self._spool = spool
        self._tokens = tokens
        self._ending = ending
        self._in_vain = self._is_told = False

    def keep(self, count: int, is_over: Callable[[], bool]) -> float:
        """What is left of an image that nobody awaits any more must not hold up the next ones."""
        if self._in_vain:
            return 0.0
        return self._pace.keep(count, lambda: is_over() or self._is_in_vain())

    def ended_in_vain(self) -> bool:
        """Whether its wait did; true once, for the image of which it may have read the beginning."""
        told, self._is_told = self._is_told, True
        return self._in_vain and not told

    def _is_in_vain(self) -> bool:
        awaited = [self._spool.hold(token) for token in self._tokens]
        self._in_vain = self._ending.is_set() or (bool(awaited) and not any(awaited))
        return self._in_vain
