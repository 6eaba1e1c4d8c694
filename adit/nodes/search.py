"""Search: looks into a node within a web request: bounded, cancelable, one or two at a time."""

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
from django.utils.translation import gettext as _

from adit.accounts.permissions import Person
from adit.audit.trail import record as record_event
from adit.nodes import search_cache as answers
from adit.nodes.bounded_call import Watch, answer_of
from adit.nodes.gateway import Purpose, open_node, require_still
from adit.nodes.limits.unavailable import NoSlot
from adit.nodes.models import Node
from adit_engine.errors import AditError, InvalidInput
from adit_engine.nodes.base import FindResults
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import SeriesRef, StudyRef

MOST_SERIES = 5000
MOST_AT_ONCE = 8
"""So many nodes are asked at the same time for one search."""
_CANCELED_S = 300
_NARROWS_NOTHING = frozenset({"ModalitiesInStudy", "Modality"})

T = TypeVar("T")

_asking = threading.BoundedSemaphore(settings.SEARCH_THREADS)


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """What is made of a node's answers, and how that becomes JSON and itself again."""

    word: str
    made: Callable[[Iterator[Record], FindResults], T]
    plain: Callable[[T], Any]
    restored: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """`more`: there are more than these. `capped`: the node itself gives no more than it gave."""

    records: tuple[Record, ...]
    more: bool
    capped: bool
    seconds: float


def search(
    user: Person, node: Node, query: Query, *, cancelled: str = "", named: str = ""
) -> SearchResult:
    """The first studies that match, as many as the settings allow.

    `cancelled` is an opaque key by which `cancel` ends it; `named` the project or purpose that stands
    in the trail. Raises WrongInput for a search that narrows nothing, Refused, Waits, Stopped,
    TimedOut, NodeError.
    """
    return _searched(user, node, query, turn, cancelled, named)


def search_each(
    user: Person, nodes: Sequence[Node], query: Query, *, cancelled: str = ""
) -> list[SearchResult | AditError]:
    """Of each node what it found, or why not; all are asked at the same time, each over a
    connection of its own and with its own deadline, so that none waits for another.

    For the web server it is one search. Raises NoSlot where too many run already, WrongInput.
    """
    _require_narrow(query)
    if not nodes:
        return []

    def asked(node: Node) -> SearchResult | AditError:
        try:
            return _searched(user, node, query, _seated, cancelled)
        except AditError as error:
            return error

    with turn(nodes[0]):
        if len(nodes) == 1:
            return [asked(nodes[0])]
        return _side_by_side(asked, nodes)


def _side_by_side(
    asked: Callable[[Node], SearchResult | AditError], nodes: Sequence[Node]
) -> list[SearchResult | AditError]:
    def apart(node: Node) -> SearchResult | AditError:
        try:
            return asked(node)
        finally:
            connection.close()

    with ThreadPoolExecutor(min(len(nodes), MOST_AT_ONCE), thread_name_prefix="source") as pool:
        told = [pool.submit(copy_context().run, apart, node) for node in nodes]
        return [each.result() for each in told]


def _searched(
    user: Person, node: Node, query: Query, seat: "Seat", cancelled: str = "", named: str = ""
) -> SearchResult:
    _require_narrow(query)
    begun = time.monotonic()
    shape = _first(settings.SEARCH_LIMIT)
    records, more, capped = _ask(user, node, query, shape, cancelled, seat)
    seconds = round(time.monotonic() - begun, 3)
    details = {
        "node": node.name,
        "level": query.level.value,
        "keys": sorted(_used(query)),
        "found": len(records),
        "more": more,
        "seconds": seconds,
        "named": named,
    }
    record_event("search.run", user=user, about=f"node:{node.pk}", details=details)
    return SearchResult(records, more, capped, seconds)


def series_of(
    user: Person, node: Node, study: StudyRef, patient_id: str = ""
) -> tuple[Record, ...]:
    """The series of one study. Raises as `search` does."""
    return _ask(user, node, Query.series_of(study, patient_id), _first(MOST_SERIES))[0]


def classes_of(user: Person, node: Node, series: SeriesRef, patient_id: str = "") -> Counter[str]:
    """How many images of which SOP class a series holds. Raises as `search` does."""
    return _ask(user, node, Query.instances_of(series, patient_id), _CLASSES)


def cancel(key: str) -> None:
    """Ends the search that runs, or is about to run, under this key; within a second."""
    cache.set(_cache_key(key), True, _CANCELED_S)


def _ask(
    user: Person,
    node: Node,
    query: Query,
    shape: Shape[T],
    key: str = "",
    seat: "Seat | None" = None,
) -> T:
    """Of the node, unless it answered just that a moment ago; `seat` is taken while it is asked."""
    holder = f"search:{secrets.token_hex(8)}"
    watch = Watch(
        time.monotonic() + settings.SEARCH_DEADLINE_S,
        partial(_is_canceled, key),
        partial(require_still, node, Purpose.SEARCH, holder),
    )
    question = answers.Question(user, node, query, shape.word)
    with answers.turn(question, lambda: watch.check(node.name)) as held:
        if held is not None:
            return shape.restored(held)
        with (seat or turn)(node), open_node(user, node, Purpose.SEARCH, holder=holder) as opened:
            watch.check(node.name)
            answer = answer_of(opened, query, shape.made, watch)
        answers.keep(question, shape.plain(answer))
        return answer


@contextmanager
def turn(node: Node) -> Iterator[None]:
    """Searches use at most half of the web server's threads, so that pages stay quick."""
    if not _asking.acquire(blocking=False):
        raise NoSlot(node.name, _("many searches run just now. Try again in a moment"))
    try:
        yield
    finally:
        _asking.release()


Seat = Callable[[Node], AbstractContextManager[None]]


@contextmanager
def _seated(node: Node) -> Iterator[None]:
    """It is part of a search that has its turn already."""
    yield


_First = tuple[tuple[Record, ...], bool, bool]


def _first(most: int) -> Shape[_First]:
    """So many records, whether there are more, and whether the node cut its answer."""

    def made(records: Iterator[Record], answers: FindResults) -> _First:
        found = tuple(islice(records, most))
        more = next(records, None) is not None
        return found, more, answers.capped

    def plain(first: _First) -> Any:
        return [[record.to_json() for record in first[0]], *first[1:]]

    def restored(held: Any) -> _First:
        records, more, capped = held
        return tuple(map(Record.from_json, records)), more, capped

    return Shape(f"first {most}", made, plain, restored)


_CLASSES: Shape[Counter[str]] = Shape(
    "classes",
    lambda records, answers: Counter(record.sop_class_uid for record in records),
    dict,
    Counter,
)


def _require_narrow(query: Query) -> None:
    if query.study_date is None and not _used(query) - _NARROWS_NOTHING:
        raise InvalidInput(
            _(
                "Fill in one field more than the modality: "
                "patient ID, name, birth date, accession number, description or a date range."
            )
        )


def _used(query: Query) -> set[str]:
    """The keys that hold more than wildcards."""
    used = {
        keyword
        for keyword, value in query.keys.items()
        if any(part.strip("*? ") for part in ((value,) if isinstance(value, str) else value))
    }
    return used | ({"StudyDate"} if query.study_date is not None else set())


def _is_canceled(key: str) -> bool:
    # Asks only if there is a mark: what lies in the cache is never read back.
    return bool(key) and cache.has_key(_cache_key(key))


def _cache_key(key: str) -> str:
    return f"search-canceled:{key}"
