"""Retry a call after seconds, within one attempt, as long as it has yielded nothing.

Used by the modules of `transfer`. Retries after minutes are the task of the job queue.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from adit_engine.bounded_stream import Stop
from adit_engine.errors import AditError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """One more try than there are pauses."""

    pauses_s: tuple[float, ...] = (1.0, 4.0)

    def call(self, action: Callable[[], T], stop: Stop) -> T:
        """Return the action's value; repeat it after an error with `again`. Raise Stopped."""
        for pause_s in self.pauses_s:
            stop.check()
            try:
                return action()
            except AditError as error:
                if not error.is_transient or stop.is_set():
                    raise
            stop.wait(pause_s)
        stop.check()
        return action()
