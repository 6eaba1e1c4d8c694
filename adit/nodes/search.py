"""Search nodes within a web request: with a deadline, cancelable, and a few at a time.

Used by orders, sample images and tests of nodes.
"""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.core.cache import cache
from django.db import connection

from adit.accounts.permissions import AnyUser
from adit.audit.trail import record as record_event
from adit.nodes import search_cache as answers
from adit.nodes.bounded_call import CallGuard, run_query
from adit.nodes.gateway import Purpose, open_node, require_still_available
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Node
from adit_engine.errors import AditError, InvalidInput
from adit_engine.nodes.base import FindResults
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import SeriesRef, StudyRef

MAX_SERIES = 5000
MAX_PARALLEL = 8
"""How many nodes one search queries at the same time."""
_CANCELED_S = 300
_BROAD_KEYS = frozenset({"ModalitiesInStudy", "Modality"})

T = TypeVar("T")

_search_threads = threading.BoundedSemaphore(settings.SEARCH_THREADS)


@dataclass(frozen=True, slots=True)
class AnswerFormat(Generic[T]):
    """How the answers of a node are reduced, and how the result is converted to JSON and back."""

    key: str
    build: Callable[[Iterator[Record], FindResults], T]
    to_json: Callable[[T], Any]
    from_json: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The records found. `more`: there are more than these; `capped`: the node cut its answer."""

    records: tuple[Record, ...]
    more: bool
    is_capped: bool
    seconds: float


def search_studies(
    user: AnyUser, node: Node, query: Query, *, cancelled: str = "", named: str = ""
) -> SearchResult:
    """Return the first matching studies, up to the limit in the settings.

    `cancelled` is an opaque key for `cancel_search`; `named` is the project or purpose for the
    audit trail. Raise InvalidInput for a search that is too broad, NotPermitted, NodeUnavailable,
    Stopped, TimedOut, NodeError.
    """
    _require_narrowing_key(query)
    return _search_and_record(user, node, query, acquire_search_thread, cancelled, named)


def search_records(
    user: AnyUser, node: Node, query: Query, *, most: int, named: str = ""
) -> SearchResult:
    """Return the first `most` matching records of any level, even if no key narrows the search.

    Raise like `search_studies`.
    """
    return _search_and_record(user, node, query, acquire_search_thread, "", named, most)


def search_nodes(
    user: AnyUser, nodes: Sequence[Node], query: Query, *, cancelled: str = ""
) -> list[SearchResult | AditError]:
    """Return for each node what it found, or the error.

    Up to `MAX_PARALLEL` nodes are queried at the same time, each with its own connection and
    deadline. The web server counts this as one search. Raise NoSlot if too many searches run
    already, InvalidInput.
    """
    _require_narrowing_key(query)
    if not nodes:
        return []

    def query_node(node: Node) -> SearchResult | AditError:
        try:
            return _search_and_record(user, node, query, _keep_search_thread, cancelled)
        except AditError as error:
            return error

    with acquire_search_thread(nodes[0]):
        if len(nodes) == 1:
            return [query_node(nodes[0])]
        return _search_parallel(query_node, nodes)


def _search_parallel(
    query_node: Callable[[Node], SearchResult | AditError], nodes: Sequence[Node]
) -> list[SearchResult | AditError]:
    def query_in_thread(node: Node) -> SearchResult | AditError:
        try:
            return query_node(node)
        finally:
            connection.close()

    with ThreadPoolExecutor(min(len(nodes), MAX_PARALLEL), thread_name_prefix="source") as pool:
        futures = [pool.submit(copy_context().run, query_in_thread, node) for node in nodes]
        return [future.result() for future in futures]


def _search_and_record(
    user: AnyUser,
    node: Node,
    query: Query,
    thread: "ThreadGuard",
    cancelled: str = "",
    named: str = "",
    most: int | None = None,
) -> SearchResult:
    begun = time.monotonic()
    shape = _take_first(settings.SEARCH_LIMIT if most is None else most)
    records, more, capped = _query_cached(user, node, query, shape, cancelled, thread)
    seconds = round(time.monotonic() - begun, 3)
    details = {
        "node": node.name,
        "level": query.level.value,
        "keys": sorted(_get_used_keys(query)),
        "found": len(records),
        "more": more,
        "seconds": seconds,
        "named": named,
    }
    record_event("search.run", user=user, about=f"node:{node.pk}", details=details)
    return SearchResult(records, more, capped, seconds)


def list_series(
    user: AnyUser, node: Node, study: StudyRef, patient_id: str = ""
) -> tuple[Record, ...]:
    """Return the series of one study. Raise like `search_studies`."""
    return _query_cached(user, node, Query.series_of(study, patient_id), _take_first(MAX_SERIES))[0]


def count_sop_classes(
    user: AnyUser, node: Node, series: SeriesRef, patient_id: str = ""
) -> Counter[str]:
    """Return the number of images of each SOP class in a series. Raise like `search_studies`."""
    return _query_cached(user, node, Query.instances_of(series, patient_id), _SOP_CLASS_COUNTS)


def cancel_search(key: str) -> None:
    """End the search that runs, or is about to run, under this key, within a second."""
    cache.set(_cache_key(key), True, _CANCELED_S)


def _query_cached(
    user: AnyUser,
    node: Node,
    query: Query,
    shape: AnswerFormat[T],
    key: str = "",
    thread: "ThreadGuard | None" = None,
) -> T:
    """Query the node, or return its recent answer. `seat` is held while the node is queried."""
    holder = f"search:{secrets.token_hex(8)}"
    watch = CallGuard(
        time.monotonic() + settings.SEARCH_DEADLINE_S,
        partial(_is_canceled, key),
        partial(require_still_available, node, Purpose.SEARCH, holder),
    )
    question = answers.CachedQuery(user, node, query, shape.key)
    with answers.reuse_answer(question, lambda: watch.check(node.name)) as held:
        if held is not None:
            return shape.from_json(held)
        with (
            (thread or acquire_search_thread)(node),
            open_node(user, node, Purpose.SEARCH, holder=holder) as opened,
        ):
            watch.check(node.name)
            answer = run_query(opened, query, shape.build, watch)
        answers.store_answer(question, shape.to_json(answer))
        return answer


@contextmanager
def acquire_search_thread(node: Node) -> Iterator[None]:
    """Hold one of the threads for searches. Raise NoSlot if all are in use.

    Searches use at most half of the threads of the web server, so that pages stay fast.
    """
    if not _search_threads.acquire(blocking=False):
        raise NoSlot(node.name, "node-unavailable.too-many-searches")
    try:
        yield
    finally:
        _search_threads.release()


ThreadGuard = Callable[[Node], AbstractContextManager[None]]


@contextmanager
def _keep_search_thread(node: Node) -> Iterator[None]:
    """Do nothing: the search has a thread already."""
    yield


_FirstRecords = tuple[tuple[Record, ...], bool, bool]


def _take_first(most: int) -> AnswerFormat[_FirstRecords]:
    """Take the first `most` records, whether there are more, and whether the answer was cut."""

    def build(records: Iterator[Record], answers: FindResults) -> _FirstRecords:
        found = tuple(islice(records, most))
        more = next(records, None) is not None
        return found, more, answers.is_capped

    def plain(first: _FirstRecords) -> Any:
        return [[record.to_json() for record in first[0]], *first[1:]]

    def restored(held: Any) -> _FirstRecords:
        records, more, capped = held
        return tuple(map(Record.from_json, records)), more, capped

    return AnswerFormat(f"first {most}", build, plain, restored)


_SOP_CLASS_COUNTS: AnswerFormat[Counter[str]] = AnswerFormat(
    "classes",
    lambda records, answers: Counter(record.sop_class_uid for record in records),
    dict,
    Counter,
)


def _require_narrowing_key(query: Query) -> None:
    if query.study_date is None and not _get_used_keys(query) - _BROAD_KEYS:
        raise InvalidInput("node-search.too-broad")


def _get_used_keys(query: Query) -> set[str]:
    """The keys that hold more than wildcards."""
    used = {
        keyword
        for keyword, value in query.keys.items()
        if any(part.strip("*? ") for part in ((value,) if isinstance(value, str) else value))
    }
    return used | ({"StudyDate"} if query.study_date is not None else set())


def _is_canceled(key: str) -> bool:
    # Only checks for the key; the value in the cache is never read.
    return bool(key) and cache.has_key(_cache_key(key))


def _cache_key(key: str) -> str:
    return f"search-canceled:{key}"
