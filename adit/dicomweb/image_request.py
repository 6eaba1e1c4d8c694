"""Retrieve images for a program, as they come from the node: the same transfer as that of a job.

The views encode what `Retrieval.instances` yields.
"""

import secrets
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from adit.accounts.permissions import NotPermitted, order_right, require
from adit.audit.trail import record
from adit.blocklist import blocking
from adit.dicomweb.authentication import Caller
from adit.dicomweb.client_watch import ClientWatch, open_node_patiently
from adit.dicomweb.errors import InvalidParameter
from adit.dicomweb.parameters import RequestedPseudonym
from adit.dicomweb.retrieval_log import TOUCH_EVERY_S, RetrievalLog
from adit.dicomweb.stream_nodes import ClientDestination, SingleInstanceSource
from adit.nodes.access import get_domain
from adit.nodes.gateway import Purpose, require_still_available
from adit.nodes.limits.unavailable import NodePaused
from adit.nodes.models import Node
from adit.projects import pseudonyms, services
from adit.projects.models import Project
from adit_engine.bounded_stream import Stop
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    InstanceWithheld,
    NotFound,
    RuleViolation,
    Stopped,
)
from adit_engine.messages import Message
from adit_engine.nodes.base import SourceNode
from adit_engine.pseudonymize.parameters import Change
from adit_engine.transfer.study import StudyRequest, transfer
from adit_engine.values.instance import Instance
from adit_engine.values.outcome import InstanceState, SourceListing
from adit_engine.values.query import Query
from adit_engine.values.references import InstanceRef, Ref, StudyRef
from adit_engine.values.selection import Selection

PREFETCH_BYTES = 8 * 1024 * 1024
"""Small, since many requests are answered at once."""


@dataclass
class ImageRequest:
    """Images of one study that a caller wants, and in which form they may leave.

    `wanted` is None for identified data. `client` is the socket of the client, if known,
    or a function that returns whether all clients have left.
    """

    caller: Caller
    node: Node
    target: Ref
    wanted: RequestedPseudonym | None
    syntaxes: tuple[str, ...] | None = None
    only_headers: bool = False
    client: Any = None
    log: RetrievalLog | None = field(default=None, init=False)
    """Set before the first image is yielded."""

    def check(self) -> None:
        """Raise the error of a request that is refused before the node is asked."""
        require(self.caller.user, order_right("selective"))
        if self.wanted is None and not self.caller.may_be_identified:
            raise InvalidParameter("pseudonym", "dicomweb.pseudonym-needed")
        self._project = self._find_project()
        if self._project.second_person:
            raise NotPermitted("dicomweb.second-person", project=self._project.protocol_id)

    @property
    def project(self) -> Project:
        """Known after `check`."""
        return self._project

    @property
    def patient_id(self) -> str:
        """As the node lists the study; known with the first image."""
        return self._patient_id

    def instances(self) -> Generator[Instance, None, None]:
        """Yield the images as they may leave, one at a time; lazy.

        A normal end means that all were yielded that may leave. Raise AditError otherwise.
        """
        self._holder = f"web:{secrets.token_hex(8)}"
        self._stop = Stop()
        with ExitStack() as stack:
            source = open_node_patiently(
                stack, self.caller, self.node, Purpose.RETRIEVE, self._holder, self.client
            )
            patient_id = self._find_patient(source)
            self._require_patient_allowed(patient_id)
            change = self._determine_change(patient_id)
            self._patient_id = patient_id
            self._modalities = self._find_modalities()
            self._touch_at = time.monotonic() + TOUCH_EVERY_S
            self.log = RetrievalLog(
                self.caller,
                self.node,
                self._project,
                patient_id,
                change,
                only_headers=self.only_headers,
            )
            stack.enter_context(
                ClientWatch(self.client, self._holder, self._stop, self._recheck, source.abort)
            )
            error: Message | None = Message("task.internal-error")
            try:
                yield from self._transfer(source, change, source.abort)
                self._require_complete()
                error = None
            except GeneratorExit:
                error = Message("dicomweb.client-left")
                raise
            except AditError as raised:
                error = raised.message
                raise
            finally:
                self.log.end(error)

    def _transfer(
        self, source: SourceNode, change: Change, abort: Callable[[], None]
    ) -> Iterator[Instance]:
        assert self.log is not None
        destination = ClientDestination(self.syntaxes)
        target = self.target
        series = () if isinstance(target, StudyRef) else (target.series_uid,)
        order = StudyRequest(
            StudyRef(target.study_uid),
            self._patient_id,
            Selection(series, self._modalities),
        )
        if isinstance(target, InstanceRef):
            source = SingleInstanceSource(source, target)
        with closing(_as_generator(order, source, destination, change, self._stop)) as outputs:
            for output in outputs:
                self.log.add(output)
                if isinstance(output, SourceListing):
                    self._require_not_blocked(self._patient_id)
                while destination.outgoing:
                    try:
                        yield destination.outgoing.popleft()
                    except BaseException:  # nobody reads any more: wait for nothing of the node
                        self._stop.set(Message("dicomweb.client-left"))
                        abort()
                        raise
                if destination.failed_check is not None:
                    raise destination.failed_check

    # Before the first image ----------------------------------------------------------------------

    def _find_project(self) -> Project:
        """Return the project of the parameters, else the default project. Raise AditError."""
        user, wanted = self.caller.user, self.wanted
        if wanted is None or not wanted.protocol_id:
            if wanted is not None and wanted.protocol_name:
                raise InvalidParameter("trial_protocol_id", "dicomweb.project-id-missing")
            return services.default_project()
        project = services.visible_projects(user).filter(protocol_id=wanted.protocol_id).first()
        if project is None or project.is_default:
            raise InvalidParameter(
                "trial_protocol_id", "dicomweb.unknown-project", project=wanted.protocol_id
            )
        if wanted.protocol_name and wanted.protocol_name != project.protocol_name:
            raise InvalidParameter(
                "trial_protocol_name", "dicomweb.other-project-name", project=project.protocol_id
            )
        return project

    def _find_patient(self, source: SourceNode) -> str:
        """Return the patient ID under which the node lists the study. Raise NotFound."""
        study = StudyRef(self.target.study_uid)
        found = {record.patient_id for record in source.find(Query.study(study))}
        if not found:
            raise NotFound("study.not-found", node=source.name)
        if len(found) > 1:
            raise RuleViolation("study.second-patient")
        return found.pop()

    def _require_patient_allowed(self, patient_id: str) -> None:
        """Raise PatientBlocked, and record it, if nothing of the patient may be given out."""
        try:
            self._require_not_blocked(patient_id)
        except blocking.PatientBlocked as error:
            details = {"caller": self.caller.label, "reason": error.message.code}
            record(
                "dicomweb.refused",
                user=self.caller.user,
                about=f"node:{self.node.pk}",
                details={**details, "project": self._project.protocol_id},
                patient=pseudonyms.seal_patient_of_node(self._project, self.node, patient_id),
            )
            raise

    def _determine_change(self, patient_id: str) -> Change:
        user = self.caller.user
        if self.wanted is None:
            return pseudonyms.allow_identified(
                user, self._project, self.node, None, reason=f"DICOMweb, {self.caller.label}"
            )
        return pseudonyms.make_change(
            user,
            self._project,
            self.node,
            None,
            patient_id,
            pseudonym=self.wanted.pseudonym,
        )

    def _find_modalities(self) -> tuple[str, ...]:
        return blocking.find_modalities(self._project, get_domain(self.node), self._patient_id)

    def _require_not_blocked(self, patient_id: str) -> None:
        blocking.require_not_blocked(self._project, get_domain(self.node), patient_id)

    # While images are sent -----------------------------------------------------------------------

    def _recheck(self) -> None:
        """Raise the error that ends the retrieval, if something changed meanwhile."""
        self.caller.require_valid()
        self._require_not_blocked(self._patient_id)
        if self._find_modalities() != self._modalities:
            raise NotPermitted("consent.scope-changed")
        self._touch()
        project = Project.objects.get(pk=self._project.pk)
        ended = services.explain_ended(project)
        if ended is not None:
            raise NotPermitted(ended.code, **ended.values)
        try:
            require_still_available(self.node, Purpose.RETRIEVE, self._holder)
        except NodePaused as pause:
            self._stop.set_after_series(pause.message)

    def _touch(self) -> None:
        if self.log is not None and time.monotonic() >= self._touch_at:
            self._touch_at = time.monotonic() + TOUCH_EVERY_S
            self.log.touch()

    def _require_complete(self) -> None:
        """Raise the reason unless all images were yielded that may leave."""
        assert self.log is not None
        counts = self.log.counts
        missing = counts[InstanceState.FAILED] + counts[InstanceState.SKIPPED]
        if missing:
            raise ConnectionLost(self.node.name, "dicomweb.images-missing", number=missing)
        if self.log.delivered:
            return
        reasons = self.log.reasons
        if reasons:
            raise InstanceWithheld("dicomweb.all-withheld", reason=reasons[0][0])
        raise NotFound("dicomweb.no-image", node=self.node.name)


@contextmanager
def open_images(images: Generator[Instance, None, None]) -> Iterator[Iterator[Instance]]:
    """Close the images at the end. They learn of an error of their reader, so that it is recorded."""
    try:
        yield images
    except Exception as error:
        images.throw(error)
        raise
    finally:
        images.close()


def _as_generator(
    order: StudyRequest,
    source: SourceNode,
    destination: ClientDestination,
    change: Change,
    stop: Stop,
) -> Any:
    """Wrap the transfer in a generator, so that it can be closed."""
    try:
        yield from transfer(order, source, destination, change, {}, stop, PREFETCH_BYTES)
    except ConnectionLost:
        # The abort of a stopped transfer is no fault of the node.
        if stop.is_set() and stop.reason is not None:
            raise Stopped(stop.reason.code, **stop.reason.values) from None
        raise
