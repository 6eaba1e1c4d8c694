"""Search a node for a patient name as a person types it, in any spelling and order.

Used by interactive searches. Rows of a sheet are answered by `search`.
"""

import fnmatch
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from adit_engine.nodes.base import FindResults, Searchable
from adit_engine.patient_search.name_matching import TypedName
from adit_engine.values.query import Query
from adit_engine.values.record import Record

FURTHER_QUERIES_S = 10.0
"""After this time no further query is sent, and the answer to one that runs is cut."""


def find(
    node: Searchable, query: Query, clock: Callable[[], float] = time.monotonic
) -> FindResults:
    """Search the node; the patient name of the query, if any, is a name as typed by a person.

    Such a name takes at most six queries, usually one or two: one per order of its words, one more
    for spellings with accents, and each again in capitals unless the node ignores case. Records
    that do not match are dropped. Raises like `node.find`.
    """
    typed = query.keys.get("PatientName", "")
    if not isinstance(typed, str) or not typed:
        return _MatchingRecords(node.find(query), query)
    return _NameResults(node, query, TypedName(typed), clock)


class _MatchingRecords(FindResults):
    """The records of one search that match by our own comparison."""

    def __init__(self, answers: FindResults, query: Query) -> None:
        super().__init__(record for record in answers if query.matches(record))
        self._answers = answers

    @property
    def is_capped(self) -> bool:
        return self._answers.is_capped

    def close(self) -> None:
        self._answers.close()


class _NameResults(FindResults):
    """The records of all queries for a name, each once; lazy."""

    def __init__(
        self, node: Searchable, query: Query, name: TypedName, clock: Callable[[], float]
    ) -> None:
        super().__init__(self._find_all())
        self._node = node
        self._name = name
        self._keys = {key: value for key, value in query.keys.items() if key != "PatientName"}
        self._query = replace(query, keys=self._keys)
        self._clock = clock
        self._until = clock() + FURTHER_QUERIES_S
        self._ignores_case = False
        self._is_cut = False

    @property
    def is_capped(self) -> bool:
        return self._is_cut

    def _find_all(self) -> Iterator[Record]:
        seen: set[int] = set()
        first, *further = self._name.wildcards()
        for record in self._find(first, is_further=False):
            seen.add(_digest(record))
            yield record
        for key in further:
            if self._ignores_case and key == key.upper():
                continue
            for record in self._find(key, is_further=True):
                if _digest(record) not in seen:
                    seen.add(_digest(record))
                    yield record

    def _find(self, key: str, *, is_further: bool) -> Iterator[Record]:
        if is_further and self._is_late():
            return
        answers = self._node.find(replace(self._query, keys={**self._keys, "PatientName": key}))
        try:
            for record in answers:
                if is_further and self._is_late():
                    return
                name = record.patient_name
                self._ignores_case |= bool(name) and not fnmatch.fnmatchcase(name, key)
                if (not name or self._name.matches(name)) and self._query.matches(record):
                    yield record
        finally:
            self._is_cut |= answers.is_capped
            answers.close()

    def _is_late(self) -> bool:
        late = self._clock() > self._until
        self._is_cut |= late
        return late


def _digest(record: Record) -> int:
    """Two patients may share a study UID, so records are compared by all their values."""
    return hash(frozenset(record.values.items()))
