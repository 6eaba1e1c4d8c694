"""A PACS or any other DICOM application that is reached over the network (DIMSE).

Opened through `adit_engine.nodes.open_node`.
"""

import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace as but
from datetime import UTC, datetime
from functools import partial
from threading import Event

from adit_engine.dicom_ul.association import ClientAssociation, OpenAssociations
from adit_engine.dicom_ul.pdu import PresentationContext
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
from adit_engine.nodes.dimse.association_limits import AssociationLimits, LearnedLimit
from adit_engine.nodes.dimse.c_find import CFind, CFindResults
from adit_engine.nodes.dimse.c_get import (
    CLASSES_PER_ASSOCIATION,
    PATIENT_ROOT_GET,
    STUDY_ROOT_GET,
    UNCOMPRESSED,
    RetrieveBatch,
    RetrieveRequest,
    make_requests,
)
from adit_engine.nodes.dimse.c_move import PATIENT_ROOT_MOVE, STUDY_ROOT_MOVE
from adit_engine.nodes.dimse.c_store import CStore
from adit_engine.nodes.dimse.parallel_retrieve import ParallelRetrieval, are_shared
from adit_engine.nodes.dimse.retrieve import ImageRetrieval, RetrieveSettings
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.nodes.dimse.storage_commitment import StorageCommitment
from adit_engine.nodes.dimse.storage_proof import StorageProof
from adit_engine.storage_scp.pending_moves import MoveReceiver
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import (
    InstanceRef,
    Ref,
    SeriesRef,
    StudyRef,
)

_METHOD_LABELS = {"get": "C-GET", "move": "C-MOVE"}
_FIND_CLASSES = {"study": c_find.STUDY_ROOT, "patient": c_find.PATIENT_ROOT}


class DimseNode(NodeCapabilities):
    """A DIMSE node.

    It opens its associations per call and holds at most as many per running iterator as its
    settings allow.
    """

    Settings = DimseSettings
    is_remote = True
    needs_hours = True
    uses_receiver = True
    uses_several_associations = True
    answers_echo = True

    def __init__(
        self,
        name: str,
        settings: DimseSettings,
        reception: MoveReceiver | None = None,
        *,
        observer: TrafficObserver = NOT_OBSERVED,
        learned: AssociationLimits | None = None,
    ) -> None:
        """`learned` is what earlier nodes of the same name have learned; it is kept up to date."""
        self.name = name
        self.learned = learned or AssociationLimits()
        self.learned.retrieve.slow_factor = settings.slow_factor
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
        self.lists_concurrently = False
        """Whether a second association may be held, to request a list while images arrive."""
        self._storing: CStore | None = None
        self._asking = Event()
        self._fetches: set[ImageRetrieval | ParallelRetrieval] = set()
        self._route = RetrieveSettings(
            settings.retrieve,
            self._get_class,
            self._move_class,
            settings.drain_s,
            settings.resolve_senders,
            observer.retrieval_answered,
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
        self._abort_associations()
        for fetching in tuple(self._fetches):
            fetching.close()
        self._asking.set()
        self._search.clear()

    def abort(self) -> None:
        """End every wait at once.

        A C-MOVE is cancelled first, which may take some seconds.
        """
        self._aborted = True
        self._abort_associations()
        self.cancel_fetches()

    def _abort_associations(self) -> None:
        self._associations.abort()
        self._associations.kept.abort()

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

    def measure_echo(self) -> float:
        """Return the seconds that a C-ECHO takes, once its association is open.

        Raises NodeError.
        """
        from adit_engine.nodes.dimse import association_probe  # only a measurement needs it

        contexts = [PresentationContext(association_probe.VERIFICATION, UNCOMPRESSED)]
        with self._associations.open(contexts) as association:
            began = time.monotonic()
            association_probe.echo(association)
            return time.monotonic() - began

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

    def measure_fetching(
        self, image: InstanceRef, *, most: int, within_s: float, patient_id: str = ""
    ) -> Iterator[NodeFinding]:
        """Fetch images of the largest series of the study by the method in the settings."""
        from adit_engine.nodes.diagnostics import parallel_probe  # only a check needs this module

        try:
            images = self._images_of_largest_series(StudyRef(image.study_uid), patient_id)
        except NodeError as error:
            yield NodeFinding(Grade.WARNING, error.message)
            return

        def fetch(refs: Sequence[InstanceRef], count: int) -> Iterator[Instance]:
            learned = LearnedLimit(is_proven=True)  # without the images that one fetches alone
            new = partial(self._new_retrieval, self._route)
            fetching = ParallelRetrieval(new, count, learned)
            self._track(fetching)
            return self._track_fetch(fetching, self._make_requests(refs, patient_id))

        yield from parallel_probe.measure_fetching(fetch, images, most, within_s)

    def measure_storing(self, *, most: int, within_s: float) -> Iterator[NodeFinding]:
        """Store made-up images of 256 kB; the same ones each time, so a repetition adds none."""
        from adit_engine.nodes.diagnostics import (  # only a check needs these modules
            image_probe,
            parallel_probe,
        )

        def store(images: Sequence[Instance], count: int) -> Iterator[StoreResult]:
            return CStore(self._associations, count).store(images)

        sender = self.settings.calling_ae_title
        made = (image_probe.make_test_image(sender, number, 512) for number in itertools.count(2))
        yield from parallel_probe.measure_storing(store, made, most, within_s)

    def _images_of_largest_series(self, study: StudyRef, patient_id: str) -> list[InstanceRef]:
        series = list(self.find(Query.series_of(study, patient_id)))
        largest = max(series, key=lambda record: record.instance_count or 0, default=None)
        if largest is None:
            return []
        ref = SeriesRef(study.study_uid, largest.series_uid)
        images = self.find(Query.instances_of(ref, patient_id))
        return [
            InstanceRef(study.study_uid, ref.series_uid, one.instance_uid)
            for one in images
            if one.instance_uid
        ]

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

    def share_association(self) -> AbstractContextManager[None]:
        """Use the same associations for consecutive requests of all kinds in the block.

        As many are kept as may be open for the last fetch or store. A new one is opened after a
        fault, after a search that was not read to its end, after some seconds without use, when the
        peer has closed it, or where none proposed what is needed.
        """
        return self._associations.kept.keep()

    def _find_records(self, query: Query, search: CFind | None = None) -> Iterator[Record]:
        asking = search or self._search

        def ask(association: ClientAssociation) -> Iterator[Record]:
            self._asking.set()
            return asking.search(association, query)

        yield from self._associations.request([asking.context(query.level)], ask)

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
        # Several associations share out what the list names.
        is_shared = self._retrieve_associations > 1 and (count is None or are_shared(count))
        if not self.lists_concurrently or is_deaf or not is_told or is_shared:
            return None
        wishes = self._make_requests([series], patient_id)
        fetching = self._new_retrieval(self._route)
        self._track(fetching)
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
        requests = self._make_requests(refs, patient_id)
        new, most = partial(self._new_retrieval, route), self._retrieve_associations
        self._associations.kept.get_limit = lambda: self._retrieve_associations
        fetching = ParallelRetrieval(new, most, self.learned.retrieve) if most > 1 else new()
        self._track(fetching)
        return self._track_fetch(fetching, requests)

    @property
    def _retrieve_associations(self) -> int:
        return self.learned.retrieve.apply(self.settings.retrieve_associations)

    def _new_retrieval(self, route: RetrieveSettings) -> ImageRetrieval:
        return ImageRetrieval(self._associations, route, self._search, self._reception)

    def _make_requests(self, refs: Sequence[Ref], patient_id: str) -> list[RetrieveRequest]:
        if self._get_class == PATIENT_ROOT_GET and not patient_id:
            raise InvalidInput("retrieval.patient-id-required", node=self.name)
        # With a study root, the Patient ID is not a key of a retrieval (PS3.4 C.6.2.2).
        return make_requests(refs, patient_id if self._get_class == PATIENT_ROOT_GET else "")

    def _track(self, fetching: ImageRetrieval | ParallelRetrieval) -> None:
        """Have the fetch ended by `cancel_fetches`, `abort` and `close`."""
        self._fetches.add(fetching)
        if self._aborted:
            fetching.stop()

    def _track_fetch(
        self, fetching: ImageRetrieval | ParallelRetrieval, requests: Sequence[RetrieveRequest]
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
        count, learned = self.settings.store_associations, self.learned.store
        self._associations.kept.get_limit = lambda: learned.apply(count)
        is_searched = self._associations.kept.is_keeping and self.settings.proof == "find"
        contexts = [self._search.context()] if is_searched else []
        self._storing = CStore(self._associations, count, learned, contexts)
        return self._storing.store(observe_sent(instances, self._observer))

    def confirm(self, stored: Sequence[StoreResult]) -> Iterator[StorageConfirmation]:
        """Confirm by the method in the settings: a search, Storage Commitment, or none.

        While images are stored over several associations, one of them makes room for that.
        """
        if self._storing is not None and self.settings.proof != "none":
            self._storing.make_room()
        return self._proving.confirmations(stored)
