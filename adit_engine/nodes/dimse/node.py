"""A PACS or any other DICOM application that is reached over the network (DIMSE).

Opened through `adit_engine.nodes.open_node`.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace as but
from datetime import UTC, datetime
from functools import partial
from threading import Event

from adit_engine.dicom_ul.association import OpenAssociations, SharedAssociation
from adit_engine.errors import InvalidInput, NodeError, NotSupported
from adit_engine.messages import Message
from adit_engine.nodes.base import (
    NOT_OBSERVED,
    FindResults,
    Grade,
    NodeCapabilities,
    NodeFinding,
    SettingProposal,
    StorageConfirmation,
    StoreResult,
    TrafficObserver,
    observe_received,
    observe_sent,
)
from adit_engine.nodes.dimse import c_find
from adit_engine.nodes.dimse.c_find import CFind, CFindResults
from adit_engine.nodes.dimse.c_get import (
    CLASSES_PER_ASSOCIATION,
    PATIENT_ROOT_GET,
    STUDY_ROOT_GET,
    RetrieveBatch,
    RetrieveRequest,
    make_requests,
)
from adit_engine.nodes.dimse.c_move import PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE
from adit_engine.nodes.dimse.c_store import CStore
from adit_engine.nodes.dimse.retrieve import ImageRetrieval, RetrieveSettings
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.nodes.dimse.storage_commitment import StorageCommitment
from adit_engine.nodes.dimse.storage_proof import StorageProof
from adit_engine.storage_scp.pending_moves import MoveReceiver
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import InstanceRef, QueryLevel, Ref, SeriesRef

_METHOD_LABELS = {"get": "C-GET", "move": "C-MOVE"}
_FIND_CLASSES = {"study": c_find.STUDY_ROOT, "patient": c_find.PATIENT_ROOT}


class DimseNode(NodeCapabilities):
    """A DIMSE node. It opens an association per call and holds at most one per running iterator."""

    Settings = DimseSettings
    is_remote = True
    needs_hours = True
    uses_receiver = True

    def __init__(
        self,
        name: str,
        settings: DimseSettings,
        reception: MoveReceiver | None = None,
        *,
        observer: TrafficObserver = NOT_OBSERVED,
    ) -> None:
        self.name = name
        self._observer = observer
        self.settings = settings
        self._associations = OpenAssociations(settings.peer(name))
        self.rate_limiter = self._associations.peer.timeouts.rate_limiter
        patient_root = settings.query_root == "patient"
        self._find_class = _FIND_CLASSES[settings.query_root]
        self._get_class = PATIENT_ROOT_GET if patient_root else STUDY_ROOT_GET
        self._move_class = PATIENT_ROOT_MOVE if patient_root else STUDY_ROOT_MOVE
        self._reception = reception
        self._aborted = False
        self._shared: SharedAssociation | None = None
        self.lists_concurrently = False
        """Whether a second association may be held, to request a list while images arrive."""
        self._asking = Event()
        self._fetches: set[ImageRetrieval] = set()
        self._route = RetrieveSettings(
            settings.retrieve,
            self._get_class,
            self._move_class,
            settings.drain_s,
            settings.resolve_senders,
        )
        self._search = CFind(name, self._find_class, settings.character_set_fallback)
        committing = self._make_storage_commitment(settings.commitment_s)
        self._proving = StorageProof(settings.proof, self._associations, self._search, committing)

    def _make_storage_commitment(self, within_s: float) -> StorageCommitment:
        senders = self.settings.resolve_senders
        return StorageCommitment(self._associations, self._reception, senders, within_s)

    def close(self) -> None:
        """End whatever an unfinished iterator still holds open."""
        self._aborted = True
        self._associations.abort()
        for fetching in tuple(self._fetches):
            fetching.close()
        self._asking.set()
        self._search.clear()

    def abort(self) -> None:
        """End every wait at once.

        A C-MOVE is cancelled first, which may take some seconds.
        """
        self._aborted = True
        self._associations.abort()
        self.cancel_fetches()

    # Checks ------------------------------------------------------------------------------------

    def check(self) -> Iterator[NodeFinding]:
        """Check by one association that proposes everything, and about ten small searches."""
        from adit_engine.nodes.dimse.association_probe import AssociationProbe, ProbedSettings

        given = self.settings
        probed = ProbedSettings(
            given.query_root, given.retrieve, given.calling_ae_title, given.max_pdu, given.proof
        )
        probe = AssociationProbe(self._associations, probed)
        try:
            yield from probe.findings()
            if probe.root:
                yield from self._query_findings(probe.root)
        except NodeError as error:
            yield NodeFinding(Grade.BAD, error.message, Message("step.fix-pacs"))

    def _query_findings(self, root: str) -> Iterator[NodeFinding]:
        """Probe searches without the settings that the probe may propose to change."""
        from adit_engine.nodes.diagnostics import query_probe  # only a check needs these modules
        from adit_engine.nodes.diagnostics.query_probe import QueryProbe

        search = CFind(self.name, _FIND_CLASSES[root], query_probe.ASSUMED_CHARACTER_SET)

        def ask(query: Query) -> FindResults:
            return FindResults(self._find_records(query, search))

        probe = QueryProbe(ask, self.settings.result_cap, by_patient=root == "patient")
        yield from probe.findings()
        if probe.studies:
            yield from query_probe.check_character_set(
                probe.studies, self.settings.character_set_fallback
            )

    def try_fetching(
        self, image: InstanceRef, *, within_s: float, patient_id: str = ""
    ) -> Iterator[NodeFinding]:
        """Fetch by C-GET and, where a receiver runs, by C-MOVE.

        Proposes the method that works.
        """
        from adit_engine.nodes.diagnostics.image_probe import (
            FetchLimit,
            MoveDiagnosis,
            attempt_fetch,
        )

        came = []
        for by, way in _METHOD_LABELS.items():
            if by == "move" and self._reception is None:
                yield NodeFinding(Grade.WARNING, Message("test.no-receiver"))
                continue
            began = datetime.now(UTC)
            fetch = partial(self._fetch, but(self._route, method=by), [image], patient_id)
            attempt = attempt_fetch(way, image, fetch, FetchLimit(within_s, self.cancel_fetches))
            if attempt.is_successful:
                came.append(by)
            if attempt.is_successful or by == "get" or self._reception is None:
                yield attempt.finding()
                continue
            text, known = self.settings.senders, self.settings.resolve_senders()
            yield from MoveDiagnosis(self.name, text, known, self._reception).findings(
                attempt, began
            )
        yield from self._propose_retrieve_method(came)

    def _propose_retrieve_method(self, came: Sequence[str]) -> Iterator[NodeFinding]:
        """Propose a value for the setting Retrieve by from the results of the attempts."""
        chosen = self.settings.retrieve
        if not came or chosen in came or (chosen == "auto" and "get" in came):
            return
        method = _METHOD_LABELS[came[0]]
        why = Message("proposal.retrieve-by", method=method)
        step = Message("step.retrieve-by", method=came[0])
        what = Message("test.other-method", node=self.name, method=method)
        yield NodeFinding(Grade.WARNING, what, step, (SettingProposal("retrieve", came[0], why),))

    def try_writing(self) -> Iterator[NodeFinding]:
        """Store a made-up image by C-STORE, which stays there.

        Then check whether a search finds it and whether Storage Commitment reports it.
        """
        from adit_engine.nodes.diagnostics import image_probe
        from adit_engine.nodes.dimse import storage_commitment  # only a check needs these modules

        image, given = image_probe.make_test_image(self.settings.calling_ae_title), self.settings
        taken = yield from image_probe.send_test_image(self, image, self._proving.confirm_by_query)
        if taken:
            most_s = (
                storage_commitment.WITHOUT_RECEIVER_S
                if self._reception is None
                else storage_commitment.WITHIN_S
            )
            committing = self._make_storage_commitment(min(given.commitment_s, most_s))
            named = image.sop_class_uid, image.instance_uid
            yield from storage_commitment.check_storage_commitment(committing, named, given.proof)

    # Search ------------------------------------------------------------------------------------

    def find(self, query: Query) -> FindResults:
        """Search by C-FIND.

        Answers that do not match the query are dropped, but count for the result cap.
        """
        return CFindResults(self._find_records(query), query, self.settings.result_cap)

    @contextmanager
    def share_association(self) -> Iterator[None]:
        """Share one association among the searches in the block.

        The first search opens it. A new one is opened after a fault, after a search that was not
        read to its end, or when the peer has released it.
        """
        with SharedAssociation(self._associations, self._search.context()) as shared:
            self._shared = shared
            try:
                yield
            finally:
                self._shared = None

    def _find_records(self, query: Query, search: CFind | None = None) -> Iterator[Record]:
        asking = search or self._search
        if self._shared is not None and search is None and query.level is not QueryLevel.PATIENT:
            yield from self._shared.records(lambda association: asking.search(association, query))
            return
        with self._associations.open([asking.context(query.level)]) as association:
            self._asking.set()
            yield from asking.search(association, query)

    # Retrieval ---------------------------------------------------------------------------------

    def fetch(self, refs: Sequence[Ref], *, patient_id: str = "") -> Iterator[Instance]:
        """Fetch by C-GET or C-MOVE.

        Searches first for what will come, unless an earlier search has returned it.
        """
        if self.settings.retrieve == "move" and self._reception is None:
            raise NotSupported(self.name, "retrieval.no-receiver")
        return observe_received(self._fetch(self._route, refs, patient_id), self._observer)

    def prefetch(
        self,
        series: SeriesRef,
        *,
        patient_id: str,
        count: int | None,
        expected_uids: Callable[[str], bool],
    ) -> Iterator[Instance] | None:
        """Fetch by C-GET or, where configured, by C-MOVE.

        Proposes the SOP classes that an earlier search for the study returned.
        """
        classes = self._search.known_classes(series.study_uid)
        is_told = 0 < len(classes) <= CLASSES_PER_ASSOCIATION and all(map(expected_uids, classes))
        is_deaf = self._route.method == "move" and self._reception is None
        if not self.lists_concurrently or is_deaf or not is_told:
            return None
        fetching, wishes = self._make_retrieval(self._route, [series], patient_id)
        self._asking.clear()
        fetched = self._prefetch(fetching, RetrieveBatch(tuple(wishes), classes), count)
        return observe_received(fetched, self._observer)

    def _prefetch(
        self, fetching: ImageRetrieval, load: RetrieveBatch, count: int | None
    ) -> Generator[Instance, None, None]:
        """Start once the search has its association.

        A node that grants only one association then serves the search first.
        """
        came = False
        try:
            if self._asking.wait(self.settings.association_s):
                for instance in fetching.prefetch(load, count):
                    came = True
                    yield instance
        except NodeError:
            if came:
                raise
        finally:
            self._fetches.discard(fetching)

    def _fetch(
        self, route: RetrieveSettings, refs: Sequence[Ref], patient_id: str
    ) -> Generator[Instance, None, None]:
        fetching, wishes = self._make_retrieval(route, refs, patient_id)
        return self._track_fetch(fetching, wishes)

    def _make_retrieval(
        self, route: RetrieveSettings, refs: Sequence[Ref], patient_id: str
    ) -> tuple[ImageRetrieval, list[RetrieveRequest]]:
        if self._get_class == PATIENT_ROOT_GET and not patient_id:
            raise InvalidInput("retrieval.patient-id-required", node=self.name)
        # With a study root, the Patient ID is not a key of a retrieval (PS3.4 C.6.2.2).
        patient_root = self._get_class == PATIENT_ROOT_GET
        fetching = ImageRetrieval(self._associations.peer, route, self._search, self._reception)
        self._fetches.add(fetching)
        if self._aborted:
            fetching.stop()
        return fetching, make_requests(refs, patient_id if patient_root else "")

    def _track_fetch(
        self, fetching: ImageRetrieval, requests: Sequence[RetrieveRequest]
    ) -> Generator[Instance, None, None]:
        try:
            yield from fetching.images(requests)
        finally:
            self._fetches.discard(fetching)

    def cancel_fetches(self) -> None:
        """End the running fetches at once, from any thread; the node remains usable."""
        for fetching in tuple(self._fetches):
            fetching.stop()
        self._asking.set()

    # Storage -----------------------------------------------------------------------------------

    def store(self, instances: Iterable[Instance]) -> Iterator[StoreResult]:
        """Store by C-STORE.

        An instance that the node accepts in no possible transfer syntax has an error in its result.
        """
        c_store = CStore(self._associations, self.settings.store_associations)
        return c_store.store(observe_sent(instances, self._observer))

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[StorageConfirmation]:
        """Confirm by the method in the settings: a search, Storage Commitment, or none."""
        return self._proving.confirmations(stored)
