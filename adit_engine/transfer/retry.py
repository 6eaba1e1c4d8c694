"""RetryPolicy: waits seconds inside one attempt, and only round calls that have yielded nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from adit_engine.bounded_stream import Stop
from adit_engine.errors import AditError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """As many tries as there are pauses, plus one. Minutes are the queue's business, not ours."""

    pauses_s: tuple[float, ...] = (1.0, 4.0)

    def call(self, action: Callable[[], T], stop: Stop) -> T:
        """The action's value; an error that says `again` is tried again. Raises Stopped."""
        for pause_s in self.pauses_s:
            stop.check()
            try:
                return action()
            except AditError as error:
                if not error.again or stop.is_set():
                    raise
            stop.wait(pause_s)
        stop.check()
        return action()
