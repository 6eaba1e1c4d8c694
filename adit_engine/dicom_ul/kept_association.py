"""Idle associations, kept for the next requests to the same node. Used by `association`."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.errors import NodeError, TimedOut

if TYPE_CHECKING:
    from adit_engine.dicom_ul.association import ClientAssociation

KEPT_S = 3.0
"""How long an association is kept for the next use; then it is released."""

MAX_LOST_WHILE_KEPT = 2
"""None is kept any more after so many were lost at their next use."""

ENDS_WITHIN_S = 10.0
"""The thread that releases idle associations has ended by then: a release has a deadline."""


@dataclass(eq=False)
class IdleAssociation:
    """An association without a use, and the stack that releases it."""

    association: "ClientAssociation"
    stack: ExitStack
    until: float = 0.0


class KeptAssociations:
    """The idle associations that all users of a node share."""

    def __init__(self) -> None:
        self.get_limit: Callable[[], int] = lambda: 1
        """How many associations may be open at once for one of them to be kept."""
        self._idle: list[IdleAssociation] = []
        self._open = 0
        self._lock = threading.RLock()
        """Held while an association is kept, taken or released because it was idle for too long."""
        self._blocks = 0
        self._lost = 0
        self._is_aborted = False
        self._blocks_ended = threading.Event()
        self._expiry: threading.Thread | None = None

    @property
    def is_keeping(self) -> bool:
        return self._blocks > 0 and self._lost < MAX_LOST_WHILE_KEPT

    @property
    def has_idle(self) -> bool:
        """Whether an association is kept now."""
        return bool(self._idle)

    @contextmanager
    def keep(self) -> Iterator[None]:
        """Keep associations for the next use in the block, and release them at its end.

        Each is kept for KEPT_S. Blocks may be nested.
        """
        with self._lock:
            self._blocks += 1
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                is_last = not self._blocks
            if is_last:
                self._end_keeping()

    def _end_keeping(self) -> None:
        self.release()
        with self._lock:
            ended, expiry = self._blocks_ended, self._expiry
            self._blocks_ended, self._expiry = threading.Event(), None
        ended.set()
        if expiry is not None:
            expiry.join(ENDS_WITHIN_S)

    @contextmanager
    def count_open(self) -> Iterator[None]:
        """Count an association as open in the block, in use or idle."""
        with self._lock:
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    def put(self, used: IdleAssociation) -> None:
        """Keep this association, instead of an earlier one if too many are open, or release it."""
        with self._lock:
            while self._idle and self._open > self.get_limit():
                self._idle.pop(0).stack.close()
            if (
                not self.is_keeping
                or self._is_aborted
                or not used.association.is_usable
                or self._open > self.get_limit()
            ):
                used.stack.close()
                return
            used.until = time.monotonic() + KEPT_S
            self._idle.append(used)
            if self._is_aborted:
                used.association.abort()
            if self._expiry is None:
                self._expiry = threading.Thread(
                    target=self._release_expired,
                    args=(self._blocks_ended,),
                    name="release idle association",
                    daemon=True,
                )
                self._expiry.start()

    def take(self, contexts: Sequence[PresentationContext]) -> IdleAssociation | None:
        """Return a kept association that serves these contexts; if none does, release all."""
        with self._lock:
            self._end_expired()
            for idle in reversed(self._idle):
                if idle.association.serves(contexts):
                    self._idle.remove(idle)
                    return idle
            self.release()
        return None

    def release(self) -> None:
        """Release what is kept; returns when that is done."""
        with self._lock:
            for idle in self._idle:  # all at once: each may take as long as the peer may
                idle.association.request_release()
            while self._idle:
                self._idle.pop().stack.close()

    def record_lost(self, error: NodeError) -> None:
        """Record that a kept association was lost at its next use; after some, keep none.

        A time-out costs so much that one is enough.
        """
        self._lost += MAX_LOST_WHILE_KEPT if isinstance(error, TimedOut) else 1

    def abort(self) -> None:
        """End what is kept, and keep nothing any more. Takes no lock."""
        self._is_aborted = True
        for idle in tuple(self._idle):
            idle.association.abort()

    def _release_expired(self, blocks_ended: threading.Event) -> None:
        while not blocks_ended.wait(KEPT_S / 2):
            with self._lock:
                self._end_expired()

    def _end_expired(self) -> None:
        while self._idle and time.monotonic() > self._idle[0].until:
            self._idle.pop(0).stack.close()
