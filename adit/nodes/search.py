"""Search: looks into a node within a web request: bounded, cancelable, one or two at a time."""

import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.core.cache import cache
from django.utils.translation import gettext as _

from adit.accounts.rights import Person
from adit.audit.trail import record as record_event
from adit.nodes import cache as answers
from adit.nodes.connect import Purpose, open_node, require_still
from adit.nodes.models import Node
from adit.nodes.waits import NoSlot
from adit.nodes.watched import Watch, answer_of
from adit_engine.errors import WrongInput
from adit_engine.nodes.base import Answers
from adit_engine.query import Query
from adit_engine.record import Record
from adit_engine.reference import SeriesRef, StudyRef

MOST_SERIES = 5000
_CANCELED_S = 300
_NARROWS_NOTHING = frozenset({"ModalitiesInStudy", "Modality"})

T = TypeVar("T")

_asking = threading.BoundedSemaphore(settings.SEARCH_THREADS)


@dataclass(frozen=True, slots=True)
class Shape(Generic[T]):
    """What is made of a node's answers, and how that becomes JSON and itself again."""

    word: str
    made: Callable[[Iterator[Record], Answers], T]
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

    `cancelled` is an opaque key by which `cancel` ends it; `named` the trial or purpose that stands
    in the trail. Raises WrongInput for a search that narrows nothing, Refused, Waits, Stopped,
    TimedOut, NodeError.
    """
    _require_narrow(query)
    begun = time.monotonic()
    records, more, capped = _ask(user, node, query, _first(settings.SEARCH_LIMIT), cancelled)
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


def _ask(user: Person, node: Node, query: Query, shape: Shape[T], key: str = "") -> T:
    """Of the node, unless it answered just that a moment ago."""
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
        with turn(node), open_node(user, node, Purpose.SEARCH, holder=holder) as opened:
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


_First = tuple[tuple[Record, ...], bool, bool]


def _first(most: int) -> Shape[_First]:
    """So many records, whether there are more, and whether the node cut its answer."""

    def made(records: Iterator[Record], answers: Answers) -> _First:
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
        raise WrongInput(
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
