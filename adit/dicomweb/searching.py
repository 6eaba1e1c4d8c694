"""Search a node for the DICOMweb API, through the same limits as the pages (PS3.18 10.6)."""

from dataclasses import dataclass, replace
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from adit.dicomweb.authentication import Caller
from adit.dicomweb.parameters import MAX_LIMIT, SERIES_KEYS, STUDY_KEYS, SearchParameters
from adit.nodes import search
from adit.nodes.models import Node
from adit_engine.messages import Message
from adit_engine.values.query import DateRange, Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel

RECENT_DAYS = 7
MANY_RECENT = 100
"""With as many results of the last days, a search without a narrowing key returns only these."""
MAX_STUDIES = 50
"""Studies whose series are listed for one search that names no study."""


@dataclass(frozen=True, slots=True)
class FoundPage:
    """The wanted part of a result, sorted by UID. A warning says if the result is incomplete."""

    records: tuple[Record, ...]
    warnings: tuple[Message, ...]


def find_page(caller: Caller, node: Node, wanted: SearchParameters) -> FoundPage:
    """Search the node, or use its recent answer. Raise AditError."""
    warnings = wanted.warnings
    found, is_cut = _find_recent(caller, node, wanted.query) if wanted.is_broad else ([], False)
    if found:
        warnings += (Message("dicomweb.only-recent", days=RECENT_DAYS),)
    else:
        found, is_cut = _find_all(caller, node, wanted.query)
    ordered = sorted(found, key=lambda r: (r.study_uid, r.series_uid, r.instance_uid))
    end = None if wanted.limit is None else wanted.offset + wanted.limit
    if is_cut:
        warnings += (Message("dicomweb.result-cut", node=node.name, number=len(found)),)
    remaining = 0 if end is None else len(ordered) - end
    if remaining > 0:  # PS3.18 8.3.4.4.1
        warnings += (Message("dicomweb.more-results", number=remaining),)
    return FoundPage(tuple(ordered[wanted.offset : end]), warnings)


def _find_recent(caller: Caller, node: Node, query: Query) -> tuple[list[Record], bool]:
    """Search the last days; nothing if they are too few results for a work list."""
    first = timezone.localdate() - timedelta(days=RECENT_DAYS - 1)
    found, is_cut = _find_all(caller, node, replace(query, study_date=DateRange(first, None)))
    return (found, is_cut) if len(found) >= MANY_RECENT else ([], False)


def _find_all(caller: Caller, node: Node, query: Query) -> tuple[list[Record], bool]:
    """Search one level after the other where the levels above are not named (PS3.4 C.4.1.2.1)."""
    has_study = isinstance(query.keys.get("StudyInstanceUID"), str)
    if query.level is QueryLevel.STUDY:
        return _find(caller, node, query, settings.SEARCH_LIMIT)
    if not has_study:
        studies, is_cut = _find(caller, node, _study_query(query), MAX_STUDIES)
        below = {k: value for k, value in query.keys.items() if k not in STUDY_KEYS}
        found = []
        for study in studies:
            keys = {**below, "StudyInstanceUID": study.study_uid}
            part, is_part_cut = _find_all(caller, node, replace(query, keys=keys, study_date=None))
            found += part
            is_cut |= is_part_cut
        return found, is_cut
    has_series = isinstance(query.keys.get("SeriesInstanceUID"), str)
    if query.level is QueryLevel.SERIES or has_series:
        return _find(caller, node, query, MAX_LIMIT)
    wanted = query.keys["StudyInstanceUID"]
    of_series = {k: value for k, value in query.keys.items() if k in SERIES_KEYS}
    below = {k: value for k, value in query.keys.items() if k not in of_series}
    above = replace(query, level=QueryLevel.SERIES, keys=of_series, study_date=None, only=None)
    series, is_cut = _find(caller, node, above, MAX_LIMIT)
    found = []
    for one in series:
        keys = {**below, "StudyInstanceUID": wanted, "SeriesInstanceUID": one.series_uid}
        part, is_part_cut = _find(caller, node, replace(query, keys=keys), MAX_LIMIT)
        found += part
        is_cut |= is_part_cut
    return found, is_cut


def _study_query(query: Query) -> Query:
    keys = {k: value for k, value in query.keys.items() if k in STUDY_KEYS}
    return replace(query, level=QueryLevel.STUDY, keys=keys, only=None)


def _find(caller: Caller, node: Node, query: Query, most: int) -> tuple[list[Record], bool]:
    result = search.search_records(caller.user, node, query, most=most, named=caller.label)
    return list(result.records), result.more or result.is_capped
