"""Request Storage Commitment and wait for the report (PS3.7 10.1.1, PS3.4 J.3.3).

Used by `storage_proof` and by the check of the DIMSE node; `receive_report` also by our Storage
SCP.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.association import ClientAssociation, OpenAssociations
from adit_engine.dicom_ul.command_set import (
    CommandField,
    CommandSet,
    Operation,
    make_action_request,
    make_response,
)
from adit_engine.dicom_ul.message_buffer import MessageBuffer
from adit_engine.dicom_ul.messages import MessageChannel
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.errors import ConnectionLost, Malformed, NodeError, NotSupported, TimedOut
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding, SettingProposal
from adit_engine.nodes.dimse.c_get import UNCOMPRESSED
from adit_engine.storage_scp.pending_moves import AllowedSender, MoveReceiver, PendingReport
from adit_engine.values.commitment_report import (
    EVENT_ALL_STORED,
    EVENT_FAILURES_EXIST,
    MAX_REPORT_BYTES,
    REQUEST_ACTION_TYPE,
    STORAGE_COMMITMENT_PUSH_MODEL,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    ReportReceipt,
    SopReference,
    encode_request,
    generate_transaction_uid,
)
from adit_engine.values.instance import EXPLICIT_LE

_STATUSES = {
    ReportReceipt.TAKEN: statuses.SUCCESS,
    ReportReceipt.UNKNOWN: statuses.INVALID_VALUE,
    ReportReceipt.STRANGER: statuses.NOT_AUTHORISED,
    ReportReceipt.NOT_NOW: statuses.PROCESSING_FAILURE,
}


def is_report(command: CommandSet) -> bool:
    return command.operation == Operation.EVENT_REPORT and command.has_data


def receive_report(
    channel: MessageChannel,
    context_id: int,
    command: CommandSet,
    accept: Callable[[CommitmentReport], ReportReceipt],
) -> None:
    """Read a report whose command was received, pass it to `take`, and respond."""
    body = MessageBuffer(MAX_REPORT_BYTES)
    try:
        channel.receive_data(context_id, body)
        data = body.get_content()
    except Malformed as error:
        raise channel.protocol_error("commitment.report-too-large") from error
    finally:
        body.discard()
    class_uid, syntax = channel.negotiated.contexts[context_id]
    if class_uid != STORAGE_COMMITMENT_PUSH_MODEL:
        status = statuses.NO_SUCH_CLASS
    elif command.number(CommandField.EVENT_TYPE) not in (EVENT_ALL_STORED, EVENT_FAILURES_EXIST):
        status = statuses.NO_SUCH_EVENT
    else:
        try:
            status = _STATUSES[accept(CommitmentReport.decode(data, syntax == EXPLICIT_LE))]
        except Malformed:
            status = statuses.INVALID_VALUE
    channel.send(context_id, make_response(command, status))


KEEP_OPEN_S = 5.0
"""How long the association of the request stays open for the report.

The report may also come over an association that the PACS opens. Where such an association cannot
reach us, the first one stays open until the end.
"""

_MIN_POLL_S, _MAX_POLL_S = 0.01, 0.25


class StorageCommitment:
    """One transaction after the other.

    `reception` receives reports over associations of the PACS.
    """

    def __init__(
        self,
        associations: OpenAssociations,
        reception: MoveReceiver | None,
        senders: Callable[[], tuple[AllowedSender, ...]],
        within_s: float,
    ) -> None:
        # The report goes to the AE title that requested it. It cannot arrive at our receiver if
        # that has another AE title.
        reachable = reception is not None and reception.ae_title == associations.peer.calling
        self._reception = reception if reachable else None
        self._associations = associations
        self._senders = senders
        self._within_s = within_s

    @property
    def is_reachable(self) -> bool:
        """Whether the report may come over an association of its own."""
        return self._reception is not None

    def report(self, images: Sequence[SopReference]) -> CommitmentReport:
        """Return the report on at most MAX_REFERENCES images. Raises NodeError, Stopped."""
        asked = PendingReport(
            self._associations.peer.name, generate_transaction_uid(), self._senders()
        )
        with self._await_report(asked) as come:
            asking = _CommitmentTransaction(self._associations, asked, come, self._within_s)
            return asking.get_report(images, may_arrive_later=self.is_reachable)

    def _await_report(
        self, requested: PendingReport
    ) -> "AbstractContextManager[Callable[[], CommitmentReport | None]]":
        if self._reception is None:
            return nullcontext(lambda: None)
        return self._reception.await_report(requested, self._within_s)


class _CommitmentTransaction:
    """One transaction: one request, answered over its association or over one of the PACS."""

    def __init__(
        self,
        associations: OpenAssociations,
        requested: PendingReport,
        come: Callable[[], CommitmentReport | None],
        within_s: float,
    ) -> None:
        self._associations = associations
        self._name = associations.peer.name
        self._requested = requested
        self._is_received = come
        self._within_s = within_s
        self._report: CommitmentReport | None = None

    def get_report(
        self, images: Sequence[SopReference], *, may_arrive_later: bool
    ) -> CommitmentReport:
        """Return the report.

        `may_come_later`: over an association of its own, after this one has ended.
        """
        hold_s = KEEP_OPEN_S if may_arrive_later else self._within_s
        with self._associations.open(
            [PresentationContext(STORAGE_COMMITMENT_PUSH_MODEL, UNCOMPRESSED)]
        ) as association:
            self._send_request(association, images)
            until = time.monotonic() + self._within_s
            held_until = min(until, time.monotonic() + hold_s)
            try:
                self._wait(held_until, lambda look_s: self._poll_association(association, look_s))
            except (ConnectionLost, TimedOut):
                # The PACS may end it and report over another one.
                association.close()
        if may_arrive_later:
            self._wait(until, time.sleep)
        if self._report is None:
            raise TimedOut(self._name, "commitment.no-report", seconds=f"{self._within_s:g}")
        return self._report

    def _send_request(self, association: ClientAssociation, images: Sequence[SopReference]) -> None:
        agreement = association.negotiated
        context_id = agreement.context_of(STORAGE_COMMITMENT_PUSH_MODEL)
        if context_id is None:
            raise statuses.not_offered_error(self._name, "Storage Commitment")
        number = association.next_message_id()
        explicit = agreement.contexts[context_id][1] == EXPLICIT_LE
        command = make_action_request(
            number, STORAGE_COMMITMENT_PUSH_MODEL, WELL_KNOWN_INSTANCE, REQUEST_ACTION_TYPE
        )
        data = encode_request(self._requested.transaction_uid, images, explicit)
        association.send(context_id, command, [data])
        status = self._receive_status(association, number)
        if status != statuses.SUCCESS:
            raise statuses.status_error(self._name, "clause.request-commitment", status)

    def _receive_status(self, association: ClientAssociation, number: int) -> int:
        """Return the status of the response. Some nodes send the report before they respond."""
        within_s = association.peer.timeouts.no_progress_s
        until = time.monotonic() + within_s
        while (left_s := until - time.monotonic()) > 0:
            context_id, command = association.receive_command(left_s, "clause.await-commitment")
            if is_report(command):
                receive_report(association, context_id, command, self._accept_report)
                continue
            status = command.number(CommandField.STATUS)
            is_mine = command.is_response_to(Operation.ACTION, number) and not command.has_data
            if not is_mine or status is None:
                break
            return status
        raise association.protocol_error(
            "association.wrong-response", request=Message("clause.request-commitment")
        )

    def _poll_association(self, association: ClientAssociation, look_s: float) -> None:
        if association.poll(look_s):
            within_s = association.peer.timeouts.no_progress_s
            context_id, command = association.receive_command(
                within_s, "clause.await-commitment-report"
            )
            if not is_report(command):
                raise association.protocol_error("commitment.report-expected")
            receive_report(association, context_id, command, self._accept_report)

    def _accept_report(self, report: CommitmentReport) -> ReportReceipt:
        """Take a report.

        The first one counts; a PACS that missed our response may send it again.
        """
        if report.transaction_uid != self._requested.transaction_uid:
            return ReportReceipt.UNKNOWN
        self._report = self._report or report
        return ReportReceipt.TAKEN

    def _wait(self, until: float, poll: Callable[[float], object]) -> None:
        """Wait until the report has come either way, or the time is over. Raises Stopped."""
        look_s = _MIN_POLL_S
        while True:
            self._associations.check_aborted()
            self._report = self._report or self._is_received()
            left_s = until - time.monotonic()
            if self._report is not None or left_s <= 0:
                return
            poll(min(look_s, left_s))
            look_s = min(2 * look_s, _MAX_POLL_S)


WITHIN_S = 20.0
WITHOUT_RECEIVER_S = 3.0
"""How long a check waits for the report at most.

Without a receiver, the report can only come over the association of the request: it comes soon or
never.
"""

_PROPOSE_FIND = SettingProposal("proof", "find", Message("proposal.find"))


def check_storage_commitment(
    committing: StorageCommitment, image: SopReference, settings: str
) -> Iterator[NodeFinding]:
    """Check whether a report comes for the test image. Never raises NodeError.

    `chosen` is the setting `proof`. Proposes Storage Commitment where a report came, and a search
    where commitment was chosen and no report came.
    """
    started = time.monotonic()
    try:
        report = committing.report([image])
    except NotSupported as error:
        if settings == "commitment":
            yield _unsuitable_finding(error)
        return
    except NodeError as error:
        if settings == "commitment":
            yield _unsuitable_finding(error)
        else:
            what = Message("test.commitment-without-report", error=error.message)
            yield NodeFinding(Grade.GOOD, what)
        return
    took_ms = (time.monotonic() - started) * 1000
    if not report.confirms(image):
        yield NodeFinding(
            Grade.WARNING,
            Message("test.commitment-negative", reason=report.failure_reason(image)),
            Message("step.commitment-negative"),
            (_PROPOSE_FIND,) if settings == "commitment" else (),
        )
        return
    what = Message("test.commitment-reported", milliseconds=f"{took_ms:.0f}")
    proposal = SettingProposal("proof", "commitment", Message("proposal.commitment"))
    yield NodeFinding(Grade.GOOD, what, None, () if settings == "commitment" else (proposal,))


def _unsuitable_finding(error: NodeError) -> NodeFinding:
    what = Message("test.commitment-unusable", error=error.message)
    step = Message("step.commitment-unusable")
    return NodeFinding(Grade.WARNING, what, step, (_PROPOSE_FIND,))
