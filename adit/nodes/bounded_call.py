"""Watched: a question to a node that ends at its deadline or when somebody cancels, come what may."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TypeVar

from django.conf import settings
from django.utils.translation import gettext as _

from adit_engine.errors import Stopped, TimedOut
from adit_engine.nodes.base import FindResults, OpenedNode, Searchable
from adit_engine.values.query import Query
from adit_engine.values.record import Record

POLL_S = 0.5
RECHECK_S = 2.0
ABORT_GRACE_S = 2.0
"""How long an aborted node may take to let go, before it is left to its own deadlines."""

T = TypeVar("T")


class SearchableNode(Searchable, OpenedNode):
    """What can be searched, and stopped while it is."""


@dataclass
class CallGuard:
    """Until when (monotonic seconds) an answer is awaited, and who may end it before."""

    until: float
    is_canceled: Callable[[], bool]
    require: Callable[[], None] = lambda: None
    """Raises NodeUnavailable when the node may be used no longer; asked every two seconds."""
    _asked_at: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        now = time.monotonic()
        if now - self._asked_at > RECHECK_S:
            self._asked_at = now
            self.require()

    def check(self, node: str) -> None:
        """Raises Stopped when canceled, TimedOut past the deadline."""
        if self.is_canceled():
            raise Stopped(_("The search was canceled."))
        if time.monotonic() > self.until:
            seconds = settings.SEARCH_DEADLINE_S
            words = {"seconds": seconds}
            raise TimedOut(
                node, _("no full answer within %(seconds)d s. Narrow the search") % words
            )


def run_query(
    node: SearchableNode,
    query: Query,
    reduce: Callable[[Iterator[Record], FindResults], T],
    watch: CallGuard,
) -> T:
    """What `reduce` makes of the records that match by our own reading as well.

    Raises what the watch or the node raises.
    """

    def ask(stop: threading.Event) -> T:
        answers = node.find(query)
        try:
            return reduce(_filter_matching(answers, query, stop), answers)
        finally:
            answers.close()

    return run_bounded(node, ask, watch)


def run_bounded(node: OpenedNode, ask: Callable[[threading.Event], T], watch: CallGuard) -> T:
    """What `ask` gives, which runs in a thread and ends early when its event is set.

    So this one can look at the watch even while the node is silent. Raises what the watch or `ask`
    raises.
    """
    stop = threading.Event()
    asker = ThreadPoolExecutor(1, thread_name_prefix="search")
    try:
        answer = asker.submit(ask, stop)
        try:
            while not wait([answer], POLL_S).done:
                watch.check(node.name)
                watch.look()
        except BaseException:
            stop.set()
            node.abort()
            wait([answer], ABORT_GRACE_S)
            raise
        return answer.result()
    finally:
        asker.shutdown(wait=False)


def _filter_matching(answers: FindResults, query: Query, stop: threading.Event) -> Iterator[Record]:
    for record in answers:
        if stop.is_set():
            return
        if query.matches(record):
            yield record
