"""Attempt: one image fetched by one way, with its time and size, or the reason why it did not come."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from adit_engine.errors import AditError, Malformed, NodeError, NotFound, Stopped, WrongInput
from adit_engine.instance import Instance
from adit_engine.nodes.base import Finding, Grade
from adit_engine.reference import InstanceRef

_FAILURES = (NodeError, NotFound, WrongInput)
_NOTHING = "The PACS said that it was done, and sent nothing."


@dataclass(frozen=True, slots=True)
class Attempt:
    """`way` is such as C-GET. `reason` is a sentence; empty when the image came."""

    way: str
    seconds: float
    size_bytes: int = 0
    reason: str = ""
    error: AditError | None = None
    """What the node did not do, where it was that."""

    @property
    def came(self) -> bool:
        return not self.reason

    def finding(self, next_step: str = "") -> Finding:
        if self.came:
            size = f"{self.size_bytes / 1e6:.2f} MB" if self.size_bytes > 5000 else "a few kB"
            what = f"By {self.way} the image came: {size} in {_time(self.seconds)}."
            return Finding(Grade.GOOD, what)
        what = f"By {self.way} the image did not come ({_time(self.seconds)}). {self.reason}"
        return Finding(Grade.BAD, what, next_step)


@dataclass(frozen=True, slots=True)
class Limit:
    """How long an attempt may take. `break_off` ends the fetch, as a node's own does."""

    within_s: float
    break_off: Callable[[], None]


def attempted(
    way: str, image: InstanceRef, fetch: Callable[[], Iterator[Instance]], limit: Limit
) -> Attempt:
    """Fetches now. Raises Stopped where somebody else than the limit ended it."""
    over = threading.Event()

    def end() -> None:
        over.set()
        limit.break_off()

    timer = threading.Timer(limit.within_s, end)
    timer.daemon = True
    started = time.monotonic()
    timer.start()
    try:
        with closing(fetch()) as instances:  # type: ignore[type-var]  # generators all
            found = [one for one in instances if one.instance_uid == image.instance_uid]
    except _FAILURES as error:
        return Attempt(way, time.monotonic() - started, reason=str(error), error=error)
    except Stopped:
        if not over.is_set():
            raise
        reason = f"Nothing had come within {limit.within_s:g} s."
        return Attempt(way, time.monotonic() - started, reason=reason)
    finally:
        timer.cancel()
    reason = _what_is_wrong(found[0], image) if found else _NOTHING
    size_bytes = found[0].size_bytes if found else 0
    return Attempt(way, time.monotonic() - started, size_bytes, reason)


def _what_is_wrong(found: Instance, image: InstanceRef) -> str:
    if found.fault:
        return f"What came cannot be read: {found.fault}"
    try:
        is_it = found.in_header.ref == image
    except (Malformed, WrongInput) as error:
        return f"What came cannot be read: {error}"
    return "" if is_it else "What came is another image than its label says."


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
