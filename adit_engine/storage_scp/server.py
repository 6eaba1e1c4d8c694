"""The Storage SCP: receives images of C-MOVE requests and Storage Commitment reports.

It answers Success only for what would survive its own end, and hands images only to the retrieval
that requested them: an unexpected image is refused or quarantined. Associations are slowed down to
the rate limit of their source. Used by the receiver process and `storage_scp.local`.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as but
from typing import TYPE_CHECKING

from adit_engine.dicom_ul import acceptor, statuses
from adit_engine.dicom_ul.acceptor import IncomingAssociateRequest
from adit_engine.dicom_ul.association import connection_class
from adit_engine.dicom_ul.command_set import CommandField, CommandSet, Operation, make_response
from adit_engine.dicom_ul.messages import MessageChannel
from adit_engine.dicom_ul.pdu import PduType, encode_pdu
from adit_engine.dicom_ul.peer import Peer, Timeouts
from adit_engine.dicom_ul.tcp_connection import TcpConnection
from adit_engine.errors import InvalidInput, Malformed, NodeError, Stopped, Untrusted
from adit_engine.nodes.dimse.storage_commitment import is_report, receive_report
from adit_engine.rate_limit import RateLimiter, Throttle
from adit_engine.storage_scp.pending_moves import (
    Disposition,
    IncomingImage,
    PendingMove,
    ReceiverRegistry,
    UnexpectedArrival,
    find_candidates,
    find_intended,
    find_owner,
)
from adit_engine.storage_scp.quarantine import Quarantine
from adit_engine.storage_scp.spool import IncomingInstance, Spool
from adit_engine.storage_scp.tcp_server import IncomingConnection, TcpServer
from adit_engine.values.commitment_report import CommitmentReport, ReportReceipt
from adit_engine.values.references import validate_uid

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import TlsSettings


class SourceRateLimits:
    """Rate limits shared by all associations of a source. Called from many threads."""

    def __init__(self, register: ReceiverRegistry, spool: Spool, ending: threading.Event) -> None:
        self._register = register
        self._spool = spool
        self._ending = ending
        self._of_sources: dict[str, RateLimiter] = {}
        self._of_callers: dict[tuple[str, str], RateLimiter] = {}
        self._last: dict[tuple[str, str], RateLimiter] = {}

    def throttle_for(self, sent: IncomingImage, before: Throttle | None = None) -> Throttle:
        """Return the throttle for an image or association, given its beginning.

        If several sources are possible, the slowest counts. Images without a pending move continue
        at the rate of the source for which the caller sent last. `before` is the connection's
        current throttle.
        """
        found = find_candidates(self._register.pending_moves(), sent)
        found = found or find_candidates(self._register.pending_moves(fresh=True), sent)
        caller = (sent.calling, sent.address)
        if found:
            self._remember(found)
            slowest = min(found, key=lambda one: one.target.rate_bytes_s or float("inf"))
            self._last[caller] = self._of_sources[slowest.target.source]
        elif isinstance(before, _ImageThrottle) and before.was_abandoned():
            return before
        pace = self._last.get(caller) or self._of_callers.setdefault(caller, RateLimiter())
        if pace.rate_bytes_s is None:
            return pace
        return _ImageThrottle(pace, self._spool, [one.token for one in found], self._ending)

    def apply_rates(self, rate_of: Callable[[str, str], float | None]) -> None:
        """Apply the current rate limits.

        `rate_of` AE title and address applies where no move is pending.
        """
        for who, pace in tuple(self._of_callers.items()):
            pace.rate_bytes_s = rate_of(*who)
        self._remember(self._register.pending_moves())

    def _remember(self, live: Sequence[PendingMove]) -> None:
        for wanted in (one.target for one in live):
            pace = self._of_sources.setdefault(wanted.source, RateLimiter())
            pace.rate_bytes_s = wanted.rate_bytes_s


class _ImageThrottle:
    """The throttle of one image: waits while its move is pending, and reports the delay.

    Without tokens the image was never expected; it waits all the same.
    """

    def __init__(
        self,
        rate_limiter: RateLimiter,
        spool: Spool,
        tokens: Sequence[str],
        ending: threading.Event,
    ) -> None:
        self._rate_limiter = rate_limiter
        self._spool = spool
        self._tokens = tokens
        self._ending = ending
        self._in_vain = self._is_told = False

    def throttle(self, count: int, is_over: Callable[[], bool]) -> float:
        """Wait as the rate limit requires; stop once no move is pending.

        The rest of an abandoned image must not delay the next ones.
        """
        if self._in_vain:
            return 0.0
        return self._rate_limiter.throttle(count, lambda: is_over() or self._is_abandoned())

    def was_abandoned(self) -> bool:
        """Return once whether the wait was abandoned.

        It may have read the beginning of the next image already.
        """
        told, self._is_told = self._is_told, True
        return self._in_vain and not told

    def _is_abandoned(self) -> bool:
        awaited = [self._spool.mark_throttled(token) for token in self._tokens]
        self._in_vain = self._ending.is_set() or (bool(awaited) and not any(awaited))
        return self._in_vain


_MAX_PDU = 131072
_DELAY_STEP_S = 0.1
_UNKNOWN_AE_REASONS = (acceptor.UNKNOWN_CALLED_TITLE, acceptor.UNKNOWN_CALLING_TITLE)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StorageScpSettings:
    """AE title, address and time limits of the receiver."""

    ae_title: str = "ADIT"
    host: str = "0.0.0.0"  # noqa: S104 - archives call from other machines
    port: int = 11112
    association_s: float = 15.0
    idle_s: float = 300.0
    """Maximum time between two images: an archive may have to fetch the next one from tape."""
    no_progress_s: float = 60.0
    throttle_from_bytes: int = 512 * 1024 * 1024
    """While more bytes than this wait in the spool for one move, each response is delayed."""
    max_delay_s: float = 20.0
    quarantine_bytes: int = 0
    """Size limit of the quarantine for unexpected images; beyond it they are refused."""
    tls: "TlsSettings | None" = None
    """None: no TLS; otherwise callers without TLS are refused."""


class StorageScp:
    """The receiver, a context manager; runs in threads of its own."""

    def __init__(
        self, settings: StorageScpSettings, spool: Spool, register: ReceiverRegistry
    ) -> None:
        """Listen at once, answer after `start`. Raise OSError if the port is taken."""
        self.settings = settings
        self.tls = settings.tls
        """May be replaced to renew certificates; existing connections continue."""
        self._spool = spool
        self._is_stopping = threading.Event()
        self._intake = _ImageIntake(settings, spool, register, self._is_stopping)
        self._register = register
        self._associations: dict[MessageChannel, tuple[str, str]] = {}
        self._rate_limits = SourceRateLimits(register, spool, self._is_stopping)
        spool.prepare()
        self._tcp_server = TcpServer(settings.host, settings.port, self._serve)
        self.port = self._tcp_server.port

    def start(self) -> None:
        self._spool.sweep_incoming()
        self._tcp_server.start()

    def stop(self) -> None:
        self._is_stopping.set()
        self._tcp_server.stop()
        self._spool.end_journals()

    def abort_associations(self, is_unwanted: Callable[[str, str], bool]) -> int:
        """Abort the associations for which the function is true; return their number.

        The function gets AE title and address.
        """
        talking = tuple(self._associations.items())
        unwanted = [conversation for conversation, who in talking if is_unwanted(*who)]
        for conversation in unwanted:
            conversation.abort()
        return len(unwanted)

    def limit_rates(self, rate_of: Callable[[str, str], float | None]) -> None:
        """Apply the current rate limits of pending moves, and `rate_of` otherwise.

        `rate_of` returns bytes per second for AE title and address; None: unlimited.
        """
        self._rate_limits.apply_rates(rate_of)

    def __enter__(self) -> "StorageScp":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _serve(self, caller: IncomingConnection) -> None:
        given = self.settings
        patience = Timeouts(association_s=given.association_s, no_progress_s=given.no_progress_s)
        name = f"Caller {caller.address}"
        peer = Peer(
            name, caller.address, caller.port, "", given.ae_title, _MAX_PDU, patience, self.tls
        )
        line = connection_class(peer).from_socket(caller.socket, peer)
        conversation = MessageChannel(peer, line)
        try:
            line.handshake()
            calling = self._negotiate(caller, line, conversation)
            if calling:
                who = (calling, caller.address)
                self._associations[conversation] = who
                line.rate_limiter = self._rate_limits.throttle_for(IncomingImage(*who, "", "", ""))
                self._serve_association(line, who, conversation)
        except Untrusted as error:
            log.warning("%s", error)
        except (NodeError, Stopped) as error:
            if not conversation.released:
                log.info("%s", error)
        finally:
            self._associations.pop(conversation, None)
            conversation.close()

    # Negotiation -------------------------------------------------------------------------------

    def _negotiate(
        self, caller: IncomingConnection, connection: TcpConnection, channel: MessageChannel
    ) -> str:
        """Return the calling AE title; empty if the association was refused."""
        within_s = self.settings.association_s
        connection.expect_within(within_s, "clause.await-association-request", firm=True)
        kind, body = connection.read_pdu()
        if kind is not PduType.ASSOCIATE_RQ:
            raise connection.protocol_error("association.request-expected")
        try:
            request = IncomingAssociateRequest.decode(bytes(body))
        except Malformed as error:
            raise connection.protocol_error("association.invalid-request") from error
        refusal = self._rejection_reason(caller, request)
        if refusal is not None:
            log.warning(
                "refused an association from %s as %.16r to %.16r",
                caller.address,
                request.calling,
                request.called,
            )
            if refusal in _UNKNOWN_AE_REASONS:
                # Record before the answer: it must be found by a search that follows the answer.
                self._register.record_unexpected(
                    UnexpectedArrival(
                        Disposition.REJECTED, request.calling, request.called, caller.address
                    )
                )
            connection.send([encode_pdu(PduType.ASSOCIATE_RJ, bytes((0, *refusal)))])
            connection.is_closed = True
            return ""
        channel.negotiated, accepted = request.accept(acceptor.choose_syntax, _MAX_PDU)
        connection.send([encode_pdu(PduType.ASSOCIATE_AC, accepted)])
        connection.mark_established()
        return request.calling

    def _rejection_reason(
        self, caller: IncomingConnection, request: IncomingAssociateRequest
    ) -> tuple[int, int, int] | None:
        if not request.is_version_1:
            return acceptor.UNSUPPORTED_PROTOCOL_VERSION
        if request.called != self.settings.ae_title:
            return acceptor.UNKNOWN_CALLED_TITLE
        if not self._register.is_known_sender(request.calling, caller.address):
            return acceptor.UNKNOWN_CALLING_TITLE
        if not self._tcp_server.can_accept(caller):
            return acceptor.LOCAL_LIMIT_EXCEEDED
        return None

    # Messages ----------------------------------------------------------------------------------

    def _serve_association(
        self, connection: TcpConnection, caller_name: tuple[str, str], channel: MessageChannel
    ) -> None:
        """Serve requests until the caller releases, times out or violates the protocol."""
        while True:
            context_id, command = channel.receive_command(
                self.settings.idle_s, "clause.await-next-request"
            )
            if command.operation == Operation.STORE and command.has_data:
                sent = _read_store_request(command, *caller_name)
                connection.rate_limiter = self._rate_limits.throttle_for(
                    sent, connection.rate_limiter
                )
                status = self._intake.receive(sent, channel, context_id, command)
            elif command.operation == Operation.ECHO and not command.has_data:
                status = statuses.SUCCESS
            elif is_report(command):
                receive_report(
                    channel,
                    context_id,
                    command,
                    lambda report: self._record_report(report, *caller_name),
                )
                continue
            elif command.operation == Operation.CANCEL:
                continue
            else:
                raise channel.protocol_error("receiver.unsupported-request")
            channel.send(context_id, make_response(command, status))

    def _record_report(self, report: CommitmentReport, calling: str, address: str) -> ReportReceipt:
        receipt = self._register.take_report(report, calling, address)
        if receipt is not ReportReceipt.TAKEN:
            log.warning("a report from %.16r at %s: %s", calling, address, receipt.value)
        return receipt


def _read_store_request(command: CommandSet, calling: str, address: str) -> IncomingImage:
    """Read what the C-STORE command says; the data set that follows has the UIDs."""
    originator = command.text(CommandField.ORIGINATOR), command.number(CommandField.ORIGINATOR_ID)
    return IncomingImage(calling, address, "", "", "", *originator)


class _ImageIntake:
    """Stores images in the spool, each for the one pending move that it belongs to."""

    def __init__(
        self,
        settings: StorageScpSettings,
        spool: Spool,
        register: ReceiverRegistry,
        ending: threading.Event,
    ) -> None:
        self._settings = settings
        self._is_stopping = ending
        self._spool = spool
        self._register = register
        self._quarantine = Quarantine(spool, settings.quarantine_bytes)
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, str]] = {}
        self._waiting: dict[str, int] = {}

    def receive(
        self,
        sent: IncomingImage,
        channel: MessageChannel,
        context_id: int,
        command: CommandSet,
    ) -> int:
        """Read the data set of one C-STORE request; return the status for the response."""
        class_uid, syntax = channel.negotiated.contexts[context_id]
        try:
            uid = validate_uid(command.text(CommandField.INSTANCE_UID))
        except InvalidInput:
            uid = ""
        arriving = self._spool.begin_instance(class_uid, uid, syntax)
        try:
            channel.receive_data(context_id, arriving)
            if not uid or command.text(CommandField.CLASS_UID) != class_uid:
                return statuses.NO_SUCH_CLASS
            if arriving.is_full:
                log.error("spool full: images are refused")
                return statuses.OUT_OF_RESOURCES
            return self._store_image(self._with_identity(sent, arriving, uid), arriving)
        except OSError as error:
            log.error("the spool cannot be written: %s", error.strerror)
            return statuses.OUT_OF_RESOURCES
        finally:
            arriving.discard()

    def _with_identity(
        self, sent: IncomingImage, incoming: IncomingInstance, uid: str
    ) -> IncomingImage:
        try:
            ref = incoming.ref()
            study_uid, series_uid = ref.study_uid, ref.series_uid
        except (Malformed, InvalidInput):
            study_uid = series_uid = ""
        return but(sent, study_uid=study_uid, series_uid=series_uid, instance_uid=uid)

    def _store_image(self, arrival: IncomingImage, incoming: IncomingInstance) -> int:
        """Try with the cached pending moves, then once more with the current ones."""
        for fresh in (False, True):
            expectation = find_owner(self._register.pending_moves(fresh=fresh), arrival)
            if expectation is None:
                continue
            try:
                status = self._publish(expectation, arrival, incoming)
            except FileNotFoundError:
                continue
            self._delay_sender(expectation)
            return status
        return self._handle_unexpected(arrival, incoming)

    def _publish(
        self, pending_move: PendingMove, arrival: IncomingImage, incoming: IncomingInstance
    ) -> int:
        """Raise FileNotFoundError if the move has ended."""
        token, uid, digest = pending_move.token, arrival.instance_uid, incoming.digest
        incoming.finish()
        with self._lock:
            self._spool.require_open(token)
            if token not in self._known:
                self._forget_ended()
                self._known[token] = self._spool.journal(token)
            before = self._known[token].get(uid)
            if before == digest:
                return statuses.SUCCESS
            incoming.publish(token)
            self._known[token].setdefault(uid, digest)
            if before is None:
                self._spool.add_to_journal(token, uid, digest)
            self._waiting[token] = self._waiting.get(token, 0) + incoming.size_bytes
        self._register.record_arrival(
            pending_move, sends_move_originator=arrival.sends_move_originator
        )
        if before is not None:
            # The retrieval gets both and handles the conflict.
            log.error("an archive sent two different objects under one UID; the second is refused")
            return statuses.CANNOT_UNDERSTAND
        return statuses.SUCCESS

    def _handle_unexpected(self, arrival: IncomingImage, incoming: IncomingInstance) -> int:
        intended = find_intended(self._register.pending_moves(), arrival)
        stray = UnexpectedArrival(
            Disposition.QUARANTINED,
            arrival.calling,
            self._settings.ae_title,
            arrival.address,
            incoming.class_uid,
            incoming.size_bytes,
            intended.target.source if intended is not None else "",
        )
        if self._quarantine.add(incoming, stray):
            log.warning("quarantined an unexpected image from %s", arrival.calling)
            status = statuses.SUCCESS
        else:
            log.warning("refused an unexpected image from %s", arrival.calling)
            stray, status = but(stray, disposition=Disposition.REFUSED), statuses.NOT_AUTHORISED
        self._register.record_unexpected(stray)
        return status

    def _delay_sender(self, pending_move: PendingMove) -> None:
        """Delay the response while the retrieval does not keep up."""
        token = pending_move.token
        until = time.monotonic() + self._settings.max_delay_s
        while (
            self._waiting.get(token, 0) > self._settings.throttle_from_bytes
            and time.monotonic() < until
        ):
            self._waiting[token] = self._spool.waiting_bytes(token)
            if self._waiting[token] > self._settings.throttle_from_bytes and self._is_stopping.wait(
                _DELAY_STEP_S
            ):
                break

    def _forget_ended(self) -> None:
        live = {expectation.token for expectation in self._register.pending_moves()}
        for known in (self._known, self._waiting):
            for token in known.keys() - live:
                del known[token]
                self._spool.end_journal(token)
