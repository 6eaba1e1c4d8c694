"""Retrieve images from a PACS by C-GET or C-MOVE, whichever it supports; can be interrupted.

Used by the DIMSE node.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.association import (
    BUSY_RETRY_PAUSES_S,
    ClientAssociation,
    OpenAssociations,
)
from adit_engine.errors import ConnectionLost, NodeBusy, NodeRefused, NotFound, NotSupported
from adit_engine.nodes.dimse.c_find import CFind, KnownContents
from adit_engine.nodes.dimse.c_get import (
    CLASSES_PER_ASSOCIATION,
    COMMON_CLASSES,
    CGet,
    FailureTimer,
    RetrieveBatch,
    RetrieveRequest,
    batch_requests,
    split_uids,
)
from adit_engine.nodes.dimse.c_move import CMove
from adit_engine.storage_scp.pending_moves import AllowedSender, MoveReceiver
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel, SeriesRef, StudyRef


@dataclass(frozen=True, slots=True)
class RetrieveSettings:
    """How images of a node are retrieved. `by` is get, move, or auto for either."""

    method: str
    get_class: str
    move_class: str
    drain_s: float
    senders: Callable[[], tuple[AllowedSender, ...]]
    """The senders whose images are accepted after a C-MOVE; may query the name service."""
    notify_answer: Callable[[float], None] = lambda seconds: None
    """Called once per fetch with the seconds from the request until the first image."""


class ImageRetrieval:
    """One fetch, which can be interrupted alone. It shares the kept association of the node."""

    def __init__(
        self,
        associations: OpenAssociations,
        route: RetrieveSettings,
        search: CFind,
        reception: MoveReceiver | None,
    ) -> None:
        self._associations = associations.share()
        self._route = route
        self._search = search
        self._reception = reception
        self._moving: CMove | None = None
        self._is_answered = False

    def make_dispensable(self) -> None:
        """Try hardly more than once to open an association: there are others for the same fetch."""
        self._is_answered = True
        self._associations.busy_pauses_s = BUSY_RETRY_PAUSES_S[:1]

    def release_kept(self) -> None:
        """Release the associations of the node that are kept for further requests."""
        self._associations.kept.release()

    def _notify_answer(self, seconds: float) -> None:
        if not self._is_answered:
            self._is_answered = True
            self._route.notify_answer(seconds)

    def stop(self) -> None:
        """End every wait at once.

        A C-MOVE is cancelled first, which may take some seconds.
        """
        self._associations.abort()
        if self._moving is not None:
            self._moving.stop()

    def close(self) -> None:
        """End everything that is still open, without a C-CANCEL."""
        self._associations.abort()
        if self._moving is not None:
            self._moving.associations.abort()

    def images(self, requests: Sequence[RetrieveRequest]) -> Iterator[Instance]:
        """Yield the images. Lazy. Raises NodeError, Stopped.

        Searches first for what will come, unless an earlier search has returned it.
        """
        listed = self._list_contents(requests)
        if self._route.method == "move":
            yield from self._move([wish for wish, _ in listed])
            return
        counts = {wish: len(wish.instance_uids) or listing.count for wish, listing in listed}
        pairs = ((wish, frozenset(it.classes or COMMON_CLASSES)) for wish, it in listed)
        retrieval = self._new_c_get()
        for load in batch_requests(pairs):
            got = False
            try:
                total = sum(counts[wish] for wish in load.requests) or None
                for instance in retrieval.images(load, total):
                    got = True
                    yield instance
            except (NotSupported, ConnectionLost, NodeBusy, NodeRefused) as error:
                # Some archives close the connection instead of rejecting the context of C-GET.
                cannot_send = statuses.is_retrieve_failure(getattr(error, "status", None))
                if got or (isinstance(error, NodeBusy) and not cannot_send):
                    raise
                singly = self._split_batch_by_image(load) if retrieval.has_tried else load
                if not self._may_move() and singly == load:
                    raise
                if not self._may_move():
                    yield from retrieval.images(singly, total)
                    got = True
            if not got and self._may_move():
                yield from self._move(load.requests)

    def _split_batch_by_image(self, load: RetrieveBatch) -> RetrieveBatch:
        """Split by the images that a search returned: one unsendable image may block the others."""
        wishes = [
            replace(wish, instance_uids=lot)
            for wish in load.requests
            for lot in split_uids(sorted(self._known_uids(wish)))
            if len(self._known_uids(wish)) > 1
        ]
        return replace(load, requests=tuple(wishes)) if wishes else load

    def prefetch(self, load: RetrieveBatch, count: int | None) -> Iterator[Instance]:
        """Yield images without a search of its own. Raises as `images`.

        A search that runs meanwhile may list them.
        """
        if self._route.method == "move":
            return self._move(load.requests, count)
        return self._new_c_get().images(load, count)

    def block_images(
        self, blocks: Iterator[RetrieveRequest], classes: tuple[str, ...], count: int
    ) -> Generator[Instance, None, None]:
        """Yield the images of blocks that are taken one by one. Raises as `images`.

        By C-GET, the first block is taken once the association is open. `count` is the number of
        images in all blocks.
        """
        if self._route.method == "move":
            yield from self._move(blocks)
        else:
            retrieval = self._new_c_get()
            yield from retrieval.images(RetrieveBatch((), classes), count, blocks)

    def known_images(self, request: RetrieveRequest) -> tuple[tuple[str, ...], frozenset[str]]:
        """Return the instance UIDs of a request and their SOP classes, as an earlier list named.

        No UIDs if the node may hold more images of the series than its list named.
        """
        listing = self._search.known_contents(request.series_uid)
        if listing is None:
            return (), frozenset()
        uids = request.instance_uids
        if not uids and self._search.is_list_complete(request.series_uid):
            uids = tuple(sorted(listing.uids))
        return uids, frozenset(listing.classes)

    def _new_c_get(self) -> CGet:
        return CGet(self._associations, self._route.get_class, self._search, self._notify_answer)

    def _may_move(self) -> bool:
        return self._route.method == "auto" and self._reception is not None

    def _move(
        self, requests: Iterable[RetrieveRequest], count: int | None = None
    ) -> Iterator[Instance]:
        """Retrieve by C-MOVE, one request after the other."""
        assert self._reception is not None
        self._moving = CMove(
            self._associations.share(),
            self._route.move_class,
            self._search.context(),
            self._reception,
            self._route.senders(),
            self._route.drain_s,
            self._notify_answer,
        )
        self._moving.associations.busy_pauses_s = self._associations.busy_pauses_s
        self._associations.check_aborted()
        for wish in requests:
            came: set[str] = set()
            refusal = None
            try:
                for instance in self._moving.images(wish, partial(self._known_uids, wish), count):
                    came.add(instance.instance_uid)
                    yield instance
            except (NodeBusy, NodeRefused) as error:
                is_list = len(wish.instance_uids) > 1 and not came
                if not (is_list or statuses.is_retrieve_failure(error.status)):
                    raise
                refusal = error
            if refusal is not None or not came:
                yield from self._move_single_images(self._moving, wish, refusal)

    def _move_single_images(
        self, moving: CMove, request: RetrieveRequest, refusal: NodeBusy | NodeRefused | None
    ) -> Iterator[Instance]:
        """Move images one by one that neither a series nor a list of UIDs returned.

        Raises `refusal` if none of them arrives.
        """
        uids = self._known_uids(request)
        singles = replace(request, instance_uids=tuple(sorted(uids))).split_by_image()
        got, in_vain = False, FailureTimer()
        for single in singles if refusal is not None or request.instance_uids else ():
            came, said = False, None
            try:
                for instance in moving.images(single, partial(self._known_uids, single)):
                    came = got = True
                    yield instance
            except (NodeBusy, NodeRefused) as error:
                if not statuses.is_retrieve_failure(error.status):
                    raise
                refusal = said = error
            if said is None and not came:
                break
            in_vain.record(said, came)
        if refusal is not None and not got:
            raise refusal

    def _known_uids(self, request: RetrieveRequest) -> frozenset[str]:
        """Return the instance UIDs of a request, as far as they are known by now."""
        listing = self._search.known_contents(request.series_uid)
        return frozenset(request.instance_uids or (listing.uids if listing is not None else ()))

    def _list_contents(
        self, requests: Sequence[RetrieveRequest]
    ) -> list[tuple[RetrieveRequest, KnownContents]]:
        """Return what is known of each request, with a search where nothing is known."""
        known = [(wish, self._search.known_contents(wish.series_uid)) for wish in requests]
        if all(listing is not None for _, listing in known):
            return [(wish, listing) for wish, listing in known if listing is not None]

        def ask(association: ClientAssociation) -> Iterator[tuple[RetrieveRequest, KnownContents]]:
            for wish in requests:
                yield from self._query_contents(association, wish)

        return list(self._associations.request([self._search.context()], ask))

    def _query_contents(
        self, association: ClientAssociation, request: RetrieveRequest
    ) -> Iterator[tuple[RetrieveRequest, KnownContents]]:
        """Yield a request and its contents; by series for a study of unknown or too many classes.

        Raises NotFound.
        """
        if request.level is not QueryLevel.STUDY:
            yield request, self._list_series_contents(association, request)
            return
        study, listing = StudyRef(request.study_uid), KnownContents()
        for record in self._search.search(association, Query.study(study, request.patient_id)):
            listing.classes.update(record.texts("SOPClassesInStudy"))
            listing.count += record.instance_count or 0
        if 0 < len(listing.classes) <= CLASSES_PER_ASSOCIATION:
            yield request, listing
            return
        answers = list(self._search.search(association, Query.series_of(study, request.patient_id)))
        if not answers:
            raise self._not_found_error("retrieval.study-not-found")
        for record in answers:
            part = replace(request, series_uid=record.series_uid)
            yield part, self._list_series_contents(association, part)

    def _list_series_contents(
        self, association: ClientAssociation, request: RetrieveRequest
    ) -> KnownContents:
        known = self._search.known_contents(request.series_uid)
        if known is not None:
            return known
        ref, listing = SeriesRef(request.study_uid, request.series_uid), KnownContents()
        query = Query.instances_of(ref, request.patient_id)
        try:
            for record in self._search.search(association, query):
                listing.add(record)
        except NodeRefused as refusal:
            if not statuses.is_find_unsupported(refusal.status):
                raise
        if not listing.count:
            # Not every node lists single images: a series that it knows can still be fetched.
            series = Query(QueryLevel.SERIES, query.keys)
            if not any(series.matches(r) for r in self._search.search(association, series)):
                raise self._not_found_error("retrieval.series-not-found")
        return listing

    def _not_found_error(self, code: str) -> NotFound:
        return NotFound(code, node=self._associations.peer.name)
