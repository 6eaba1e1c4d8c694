"""QIDO-RS: search a DICOMweb node page by page until nothing new comes (PS3.18 10.6).

Used by the DICOMweb node.
"""

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from urllib.parse import quote, urlencode

from pydicom.datadict import dictionary_VR

from adit_engine.errors import InvalidInput, Malformed, NodeRefused, NotSupported
from adit_engine.messages import Message
from adit_engine.nodes.base import FindResults
from adit_engine.nodes.dicomweb import dicom_json
from adit_engine.nodes.dicomweb.http import DicomwebClient, DicomwebRequest, DicomwebResponse
from adit_engine.nodes.loop_detection import LoopDetector
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import QueryLevel, SeriesRef, validate_uid

ACCEPT = "application/dicom+json"
UIDS_PER_REQUEST = 50
"""Keeps a URL below the 8 kB that most servers accept."""

MIN_CAP = 20
"""A page with fewer answers was not truncated: no node limits its searches to so few."""

_JSON_TYPES = frozenset({"application/dicom+json", "application/json"})
_RESOURCES = {
    QueryLevel.STUDY: "studies",
    QueryLevel.SERIES: "series",
    QueryLevel.IMAGE: "instances",
}
_OWN_UID = {
    QueryLevel.STUDY: "StudyInstanceUID",
    QueryLevel.SERIES: "SeriesInstanceUID",
    QueryLevel.IMAGE: "SOPInstanceUID",
}
MIN_PLAIN = 3
"""This many plain letters keep a broadened search from listing every patient."""

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._~,*-]|\*")
_WITH_WILDCARDS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"})
_UNRESERVED = ("fuzzy", "parameter", "timezone")
_WHAT = Message("clause.request-qido")


class Qido:
    """Searches through a client.

    `prefix` is the path of the service below the root URL.
    """

    def __init__(
        self, client: DicomwebClient, prefix: str, page_size: int, within_s: float
    ) -> None:
        self.page_size = page_size
        self._client = client
        self._prefix = prefix
        self.within_s = within_s

    def find(self, query: Query, cap: int | None) -> "QidoResults":
        """Search. Answers that do not match the query are dropped. Raises NotSupported."""
        if query.level not in _RESOURCES:
            name = self._client.server.name
            raise NotSupported(name, "qido.no-patient-level")
        return QidoResults(_Search(self, query), query, cap)

    def find_unfiltered(self, query: Query) -> FindResults:
        """Return what the node answers, whether it matches the query or not."""
        return FindResults(_Search(self, query).records())

    def request(
        self, target: str, parameters: Sequence[tuple[str, str]]
    ) -> AbstractContextManager[DicomwebResponse]:
        path = f"{self._prefix}/{target}?{urlencode(parameters, quote_via=quote, safe='*,')}"
        return self._client.send(DicomwebRequest("GET", path, ACCEPT, _WHAT, self.within_s))

    def read_objects(self, answer: DicomwebResponse) -> Iterator[dicom_json.Object]:
        """Yield the objects of a response that must be a list.

        Raises NodeRefused, ConnectionLost.
        """
        if not answer.is_ok:
            raise answer.error()
        if answer.is_empty:
            return
        if answer.media_type not in _JSON_TYPES:
            raise answer.type_error()
        try:
            yield from dicom_json.read_objects(answer.pieces())
        except Malformed as error:
            raise answer.protocol_error("dicomweb.invalid-json") from error


class QidoResults(FindResults):
    """The records of one search; `capped` also when the node indicates that it has more."""

    def __init__(self, search: "_Search", query: Query, cap: int | None) -> None:
        super().__init__(search.records(), cap)
        self._search = search
        self._query = query

    def __next__(self) -> Record:
        for record in self._records:
            if super().is_capped:
                break
            self.count += 1
            if self._query.matches(record):
                return record
        self.close()
        raise StopIteration

    @property
    def is_capped(self) -> bool:
        return super().is_capped or self._search.is_cut


class _Search:
    def __init__(self, qido: Qido, query: Query) -> None:
        self._qido = qido
        self._query = query
        self._seen: set[int] = set()
        self.is_cut = False

    def records(self) -> Iterator[Record]:
        for query in _split_uids(self._query):
            yield from self._pages(query)
        # Orthanc 1.12.7 with DICOMweb 1.20 (seen in 2026) does not decode percent-encoding, so that
        # a name with a caret or an umlaut is never found; other nodes differ in character sets.
        broad = None if self._seen else _broaden(self._query)
        if broad is not None:
            yield from self._pages(broad)

    def _pages(self, query: Query) -> Iterator[Record]:
        """Yield pages until one brings nothing new.

        Some nodes truncate their lists without indicating it.
        """
        offset, before = 0, _QidoPage()
        while True:
            page = _QidoPage()
            try:
                with closing(self._page(query, offset, page)) as records:
                    yield from records
            except NodeRefused:
                # A node that does not support offset: the first page is all that it returns.
                if not offset:
                    raise
                page.count = 1
            if not page.fresh:
                # Answers that are not new: a node that ignores offset repeats the first page.
                is_stuck = page.count > 0 and before.count == self._qido.page_size
                self.is_cut |= page.is_truncated or before.is_truncated or is_stuck
                return
            if page.count < min(MIN_CAP, self._qido.page_size) and not page.is_truncated:
                return
            offset += page.count
            before = page

    def _page(self, query: Query, offset: int, page: "_QidoPage") -> Generator[Record, None, None]:
        limit = [("limit", str(self._qido.page_size)), ("offset", str(offset))]
        with self._qido.request(_target(query), _parameters(query) + limit) as answer:
            if self._is_unknown(answer, query):
                return
            repeats = LoopDetector(self._qido.within_s)
            page.is_truncated = answer.status == 206 or _reports_truncation(answer.warnings)
            for item in self._qido.read_objects(answer):
                page.count += 1
                record = _fill_uids(dicom_json.decode_record(query.level, item), query)
                # Two patients may share a study UID, so records are compared by all their values.
                values = frozenset(record.values.items())
                if repeats.is_endless(values):
                    raise answer.protocol_error("dicomweb.endless-list")
                mark = hash(values)
                if mark not in self._seen:
                    self._seen.add(mark)
                    page.fresh += 1
                    yield record

    def _is_unknown(self, answer: DicomwebResponse, query: Query) -> bool:
        """Return whether the node lacks the study or series, as opposed to a wrong URL."""
        return answer.is_missing and "/" in _target(query)


class _QidoPage:
    def __init__(self) -> None:
        self.count = 0
        self.fresh = 0
        self.is_truncated = False


def _target(query: Query) -> str:
    """Return the resource, such as `studies` or `studies/1.2/series`.

    It is all of a level where the query names no single study.
    """
    study, series = (_single_uid(query, level) for level in (QueryLevel.STUDY, QueryLevel.SERIES))
    resource = _RESOURCES[query.level]
    if query.level is QueryLevel.STUDY or not study:
        return resource
    if query.level is QueryLevel.IMAGE and series:
        return f"studies/{study}/series/{series}/instances"
    return f"studies/{study}/{resource}"


def _parameters(query: Query) -> list[tuple[str, str]]:
    """Return the matching keys that the resource does not contain yet, and the return keys.

    Several modalities cannot be requested at once, so the key is left out (universal matching).
    """
    in_target = set(_target(query).split("/"))
    found = []
    for keyword, value in query.keys.items():
        values = (value,) if isinstance(value, str) else value
        if len(values) == 1 and values[0] in in_target and keyword.endswith("UID"):
            continue
        if len(values) == 1 or keyword.endswith("UID"):
            found.append((keyword, ",".join(values)))
    if query.study_date is not None:
        found.append(("StudyDate", str(query.study_date)))
    found += [("includefield", name) for name in query.returned if name not in query.keys]
    return [(name, value) for name, value in found if value] + [("fuzzymatching", "false")]


def _single_uid(query: Query, level: QueryLevel) -> str:
    value = query.keys.get(_OWN_UID[level], "")
    values = (value,) if isinstance(value, str) else value
    try:
        return validate_uid(values[0]) if len(values) == 1 else ""
    except InvalidInput:
        return ""


def _split_uids(query: Query) -> Iterator[Query]:
    """Yield the query, or several where a list of UIDs is too long for one URL."""
    for keyword, value in query.keys.items():
        if not isinstance(value, str) and keyword.endswith("UID") and len(value) > UIDS_PER_REQUEST:
            for start in range(0, len(value), UIDS_PER_REQUEST):
                lot = value[start : start + UIDS_PER_REQUEST]
                yield from _split_uids(replace(query, keys={**query.keys, keyword: lot}))
            return
    yield query


def _broaden(query: Query) -> Query | None:
    """Return a wider query without characters that need encoding.

    Its answers have to be matched again. None where all characters are plain, or where too few
    would remain.
    """
    keys = dict(query.keys)
    for keyword, value in query.keys.items():
        if isinstance(value, str) and dictionary_VR(keyword) in _WITH_WILDCARDS:
            keys[keyword] = _NOT_PLAIN.sub("*", value)
            if keys[keyword] != value and len(value) - len(_NOT_PLAIN.findall(value)) < MIN_PLAIN:
                return None
    return replace(query, keys=keys) if keys != query.keys else None


def _fill_uids(record: Record, query: Query) -> Record:
    """Add the UIDs of the query: some nodes omit those of higher levels."""
    values = dict(record.values)
    for level in (QueryLevel.STUDY, QueryLevel.SERIES):
        uid = _single_uid(query, level)
        if uid and not values.get(_OWN_UID[level]):
            values[_OWN_UID[level]] = uid
    return Record(query.level, values)


def _reports_truncation(warnings: Sequence[str]) -> bool:
    """Whether the warnings say that the list was truncated.

    Warning 299 says so, but also that a key is not supported (PS3.18 8.3.4.4).
    """
    return any(not any(word in text.lower() for word in _UNRESERVED) for text in warnings)


def find_confirmed(qido: Qido, wanted: Sequence[tuple[SeriesRef, str]]) -> Iterator[str]:
    """Yield those instance UIDs that the node lists: by series, then the rest by UID."""
    series: dict[SeriesRef, set[str]] = {}
    for ref, uid in wanted:
        series.setdefault(ref, set()).add(uid)
    for ref, unproven in series.items():
        whole = Query.uids_of(ref)
        yield from _find_listed(qido, whole, unproven)
        before = len(unproven) + 1
        # A node may truncate these answers too.
        while 0 < len(unproven) < before:
            before = len(unproven)
            by_uid = Query(
                QueryLevel.IMAGE, {**whole.keys, "SOPInstanceUID": tuple(sorted(unproven))}
            )
            yield from _find_listed(qido, by_uid, unproven)


def _find_listed(qido: Qido, query: Query, unproven: set[str]) -> Iterator[str]:
    for record in qido.find(query, None):
        if record.instance_uid in unproven:
            unproven.discard(record.instance_uid)
            yield record.instance_uid
