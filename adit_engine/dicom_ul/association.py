"""Client associations: opened, used, released or aborted. Used by the DIMSE node.

Also holds an association that several searches share, so that each costs only one request.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.messages import DimseMessage, MessageChannel
from adit_engine.dicom_ul.pdu import (
    AssociateRequest,
    NegotiatedAssociation,
    PduType,
    PresentationContext,
    encode_pdu,
)
from adit_engine.dicom_ul.peer import Peer, Timeouts
from adit_engine.dicom_ul.tcp_connection import TcpConnection
from adit_engine.errors import ConnectionLost, Malformed, NodeBusy, NodeError, Stopped
from adit_engine.values.record import Record

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import TlsSession

__all__ = ["ClientAssociation", "DimseMessage", "OpenAssociations", "Peer", "Timeouts"]

RELEASE_S = 5.0
BUSY_RETRY_PAUSES_S = (0.1, 1.0)
"""Pauses before the next request to a peer that had no free association."""
_POLL_S = 0.05


class ClientAssociation(MessageChannel):
    """An association that we request.

    Used by one thread. Only `abort` may be called from any other thread, or by a signal handler.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer, connection_class(peer)(peer))
        self._proposal: AssociateRequest
        self._is_agreed = False

    def open(self, contexts: Sequence[PresentationContext]) -> None:
        """Connect and negotiate.

        Raises Unreachable, Untrusted, TimedOut, AssociationRejected, NodeBusy, ConnectionLost, or
        Stopped after an abort.
        """
        self.request(contexts)
        self.finish_negotiation()

    def request(self, contexts: Sequence[PresentationContext]) -> None:
        """Connect and send the request. Raises as `open`.

        `finish_negotiation` waits for the response.
        """
        peer, line = self.peer, self._connection
        self._proposal = AssociateRequest(peer.called, peer.calling, tuple(contexts), peer.max_pdu)
        line.connect()
        line.expect_within(peer.timeouts.association_s, "clause.await-association", firm=True)
        line.send([encode_pdu(PduType.ASSOCIATE_RQ, self._proposal.encode())])

    def finish_negotiation(self) -> None:
        """Read the response to `request`. Raises as `open`."""
        peer, line = self.peer, self._connection
        kind, body = line.read_pdu()
        if kind is PduType.ASSOCIATE_RJ and len(body) == 4:
            line.is_closed = True
            raise statuses.rejection_error(peer.name, peer.calling, peer.called, *body[1:])
        if kind is not PduType.ASSOCIATE_AC:
            raise line.protocol_error("association.unexpected-answer")
        try:
            self.negotiated = NegotiatedAssociation.decode(bytes(body), self._proposal)
        except Malformed as error:
            raise line.protocol_error("association.invalid-answer") from error
        self._is_agreed = True
        line.mark_established()

    @property
    def tls_session(self) -> "TlsSession | None":
        """The TLS session; None for an unencrypted connection."""
        return self._connection.tls_session

    def release(self) -> None:
        """Release the association within RELEASE_S, or else close it. Raises nothing."""
        with suppress(NodeError, Stopped):
            if self._is_agreed and not self.is_closed:
                self._connection.expect_within(RELEASE_S, "clause.await-release", firm=True)
                self._connection.send([encode_pdu(PduType.RELEASE_RQ)])
                while self._connection.read_pdu()[0] is not PduType.RELEASE_RP:
                    pass
                self._connection.is_closed = True
        self.close()


def connection_class(peer: Peer) -> type[TcpConnection]:
    """Return the TCP or TLS connection class, depending on the settings of the peer."""
    if peer.tls is None:
        return TcpConnection
    from adit_engine.dicom_ul.tls_connection import TlsConnection

    return TlsConnection


class OpenAssociations:
    """The open associations of a node; can end them all at once, from any thread."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self._open: set[ClientAssociation] = set()
        self._aborted = False

    @contextmanager
    def open(self, contexts: Sequence[PresentationContext]) -> Iterator[ClientAssociation]:
        """Open an association; release it at a normal end and abort it at any other.

        Retried with pauses where the peer has none free: some still count an association that was
        released a moment ago. Raises as ClientAssociation.open.
        """
        with ExitStack() as stack:
            yield self._negotiate(contexts, stack)

    def _negotiate(
        self, contexts: Sequence[PresentationContext], stack: ExitStack
    ) -> ClientAssociation:
        for pause_s in BUSY_RETRY_PAUSES_S:
            try:
                return self._open_association(contexts, stack)
            except NodeBusy:
                self.pause(pause_s)
        return self._open_association(contexts, stack)

    def _open_association(
        self, contexts: Sequence[PresentationContext], stack: ExitStack
    ) -> ClientAssociation:
        with ExitStack() as attempt:
            association = attempt.enter_context(self.open_without_waiting(contexts))
            association.finish_negotiation()
            stack.push(attempt.pop_all())
        return association

    def pause(self, seconds: float) -> None:
        """Sleep. Raises Stopped after an abort.

        An abort may come from a signal handler, so it takes no lock.
        """
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            self.check_aborted()
            time.sleep(min(_POLL_S, left_s))

    @contextmanager
    def open_without_waiting(
        self, contexts: Sequence[PresentationContext]
    ) -> Iterator[ClientAssociation]:
        """Open without waiting for the response; otherwise as `open`.

        An association that was never accepted is aborted at the end.
        """
        association = ClientAssociation(self.peer)
        self._open.add(association)
        try:
            self.check_aborted()
            association.request(contexts)
            yield association
            association.release()
        finally:
            association.close()
            self._open.discard(association)

    def abort(self) -> None:
        self._aborted = True
        for association in tuple(self._open):
            association.abort()

    def check_aborted(self) -> None:
        """Raise Stopped after an abort."""
        if self._aborted:
            raise Stopped("node.stopped", node=self.peer.name)


AskOverAssociation = Callable[[ClientAssociation], Iterator[Record]]


class SharedAssociation:
    """One association for consecutive searches, one at a time.

    A context manager: the association is released at the end of the block.
    """

    def __init__(self, associations: OpenAssociations, context: PresentationContext) -> None:
        self._associations = associations
        self._context = context
        self._stack = ExitStack()
        self._association: ClientAssociation | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def records(self, search: AskOverAssociation) -> Iterator[Record]:
        """Yield the records of one search. Raises NodeError, Stopped.

        Peers close associations that were idle for long: a lost association is opened once more, as
        long as no record was received.
        """
        is_old = self._association is not None
        is_begun = False
        try:
            for record in search(self._get_association()):
                is_begun = True
                yield record
        except ConnectionLost:
            self._abort()
            if is_begun or not is_old:
                raise
        except BaseException:
            self._abort()
            raise
        else:
            return
        yield from self.records(search)

    def _get_association(self) -> ClientAssociation:
        self._associations.check_aborted()
        if self._association is None:
            opened = self._associations.open([self._context])
            self._association = self._stack.enter_context(opened)
        return self._association

    def _abort(self) -> None:
        """Abort an association that is broken or in the middle of a response: it is unusable."""
        if self._association is not None:
            self._association = None
            unusable = Stopped("node.stopped", node=self._associations.peer.name)
            self._stack.__exit__(type(unusable), unusable, None)
