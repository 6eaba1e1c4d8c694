"""Run a call to a node in a thread and end it at a deadline or when it is canceled.

Used by searches, sample images and tests of nodes.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from django.conf import settings
from django.db import connection

from adit_engine.errors import Stopped, TimedOut
from adit_engine.nodes.base import FindResults, OpenedNode, Searchable
from adit_engine.patient_search import name_search
from adit_engine.values.query import Query
from adit_engine.values.record import Record

POLL_S = 0.5
RECHECK_S = 2.0
ABORT_GRACE_S = 2.0
"""How long to wait for an aborted node. After that its own deadlines end the call."""

T = TypeVar("T")


class SearchableNode(Searchable, OpenedNode):
    """A node that can be searched, and aborted meanwhile."""


@dataclass
class CallGuard:
    """The deadline of a call (monotonic seconds), and what may end it earlier."""

    deadline: float
    is_canceled: Callable[[], bool]
    require_available: Callable[[], None] = lambda: None
    """Raises NodeUnavailable if the node may no longer be used. Called every two seconds."""
    _asked_at: float = field(default_factory=time.monotonic)

    def recheck(self) -> None:
        now = time.monotonic()
        if now - self._asked_at > RECHECK_S:
            self._asked_at = now
            self.require_available()

    def check(self, node: str) -> None:
        """Raise Stopped if canceled, TimedOut after the deadline."""
        if self.is_canceled():
            raise Stopped("node-search.canceled")
        if time.monotonic() > self.deadline:
            raise TimedOut(node, "node-search.too-slow", seconds=settings.SEARCH_DEADLINE_S)


def run_query(
    node: SearchableNode,
    query: Query,
    reduce: Callable[[Iterator[Record], FindResults], T],
    guard: CallGuard,
) -> T:
    """Return the result of `reduce` for the matching records.

    A patient name in the query is found in any spelling. Records that do not match by our own check
    are dropped. Raises what `watch` or the node raises.
    """

    def ask(stop: threading.Event) -> T:
        answers = name_search.find(node, query)
        try:
            return reduce(_until_stopped(answers, stop), answers)
        finally:
            answers.close()

    return run_bounded(node, ask, guard)


def run_bounded(node: OpenedNode, ask: Callable[[threading.Event], T], guard: CallGuard) -> T:
    """Run `ask` in a thread and return its result. It should end early if its event is set.

    The calling thread checks `watch` even while the node is silent. Raises what `watch` or `ask`
    raises.
    """

    def ask_in_thread() -> T:
        try:
            return ask(stop)
        finally:
            connection.close()

    stop = threading.Event()
    asker = ThreadPoolExecutor(1, thread_name_prefix="search")
    try:
        answer = asker.submit(ask_in_thread)
        try:
            while not wait([answer], POLL_S).done:
                guard.check(node.name)
                guard.recheck()
        except BaseException:
            stop.set()
            node.abort()
            wait([answer], ABORT_GRACE_S)
            raise
        return answer.result()
    finally:
        asker.shutdown(wait=False)


def _until_stopped(answers: FindResults, stop: threading.Event) -> Iterator[Record]:
    for record in answers:
        if stop.is_set():
            return
        yield record
