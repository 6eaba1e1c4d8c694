"""Client associations: opened, used, kept for the next use, released or aborted.

Used by the DIMSE node.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from adit_engine.dicom_ul import statuses
from adit_engine.dicom_ul.kept_association import IdleAssociation, KeptAssociations
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
from adit_engine.errors import (
    ConnectionLost,
    Malformed,
    NodeBusy,
    NodeError,
    Stopped,
    TimedOut,
)

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import TlsSession

__all__ = ["ClientAssociation", "DimseMessage", "OpenAssociations", "Peer", "Timeouts"]

RELEASE_S = 5.0
BUSY_RETRY_PAUSES_S = (0.1, 1.0)
"""Pauses before the next request to a peer that had no free association."""
_POLL_S = 0.05

Answer = TypeVar("Answer")


class ClientAssociation(MessageChannel):
    """An association that we request.

    Used by one thread. Only `abort` may be called from any other thread, or by a signal handler.
    """

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer, connection_class(peer)(peer))
        self._proposal: AssociateRequest
        self._is_agreed = False
        self._is_releasing = False
        self.is_unproven = False
        """Whether it was kept since an earlier use, and the peer has not responded since."""

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

    @property
    def is_usable(self) -> bool:
        """Whether it is negotiated and neither closed nor being released."""
        return self._is_agreed and not self.is_closed and not self._is_releasing

    def serves(self, contexts: Sequence[PresentationContext]) -> bool:
        """Return whether it proposed these contexts, and the peer accepted one of their classes."""
        return set(contexts) <= set(self._proposal.contexts) and any(
            self.negotiated.context_of(one.class_uid) is not None for one in contexts
        )

    def receive(self, within_s: float, awaited: str) -> DimseMessage:
        message = super().receive(within_s, awaited)
        self.is_unproven = False
        return message

    def request_release(self) -> None:
        """Request the release without waiting for the response. Raises nothing."""
        with suppress(NodeError, Stopped):
            if self.is_usable:
                self._is_releasing = True
                self._connection.expect_within(RELEASE_S, "clause.await-release", firm=True)
                self._connection.send([encode_pdu(PduType.RELEASE_RQ)])

    def release(self) -> None:
        """Release the association within RELEASE_S, or else close it. Raises nothing."""
        until = time.monotonic() + RELEASE_S
        self.request_release()
        with suppress(NodeError, Stopped):
            # Our own rate extends the deadline of the connection.
            while self._is_releasing and not self.is_closed and time.monotonic() < until:
                if self._connection.read_pdu()[0] is PduType.RELEASE_RP:
                    self._connection.is_closed = True
        self.close()


def connection_class(peer: Peer) -> type[TcpConnection]:
    """Return the TCP or TLS connection class, depending on the settings of the peer."""
    if peer.tls is None:
        return TcpConnection
    from adit_engine.dicom_ul.tls_connection import TlsConnection

    return TlsConnection


class OpenAssociations:
    """The open associations of one user of a node; can end them all at once, from any thread."""

    def __init__(self, peer: Peer, kept: KeptAssociations | None = None) -> None:
        """`kept` is what several users share; see `share`."""
        self.peer = peer
        self.busy_pauses_s: Sequence[float] = BUSY_RETRY_PAUSES_S
        self.kept = kept or KeptAssociations()
        self._open: set[ClientAssociation] = set()
        self._aborted = False

    def share(self) -> "OpenAssociations":
        """Return the associations of another user, who can be aborted alone.

        Both use the same kept associations.
        """
        return OpenAssociations(self.peer, self.kept)

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
        for pause_s in self.busy_pauses_s:
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

        An association that was never accepted is aborted at the end. Those that are kept are
        released first, so that no more are open than are used.
        """
        self.kept.release()
        with self.kept.count_open():
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
        """End every wait of this user at once; what is kept belongs to nobody and remains."""
        self._aborted = True
        for association in tuple(self._open):
            association.abort()

    def check_aborted(self) -> None:
        """Raise Stopped after an abort."""
        if self._aborted:
            raise Stopped("node.stopped", node=self.peer.name)

    @contextmanager
    def reuse(
        self, contexts: Sequence[PresentationContext], *, waits: bool = True
    ) -> Iterator[ClientAssociation]:
        """Use a kept association that serves these contexts, otherwise open one.

        At a normal end it is kept in a block of `kept.keep`, otherwise released; at any other end
        it is aborted. Opens as `open`, or as `open_without_waiting` if it does not wait.
        """
        self.check_aborted()
        idle = self._take(contexts)
        with ExitStack() if idle is None else idle.stack as stack:
            if idle is not None:
                association = idle.association
            elif waits:
                association = self._negotiate(contexts, stack)
            else:
                association = stack.enter_context(self.open_without_waiting(contexts))
            self._open.add(association)
            try:
                self.check_aborted()
                yield association
            finally:
                self._open.discard(association)
            self.check_aborted()
            self.kept.put(IdleAssociation(association, stack.pop_all()))

    def _take(self, contexts: Sequence[PresentationContext]) -> IdleAssociation | None:
        while (idle := self.kept.take(contexts)) is not None:
            association = idle.association
            if not association.is_closed and not association.poll(0):
                association.is_unproven = True
                association.limit_total_wait(self.peer.timeouts.total_s)
                return idle
            # The peer has released, aborted or closed it.
            association.close()
            idle.stack.close()
        return None

    def request(
        self,
        contexts: Sequence[PresentationContext],
        ask: Callable[[ClientAssociation], Iterator[Answer]],
    ) -> Iterator[Answer]:
        """Yield what one request yields over an association of `reuse`. Raises NodeError, Stopped.

        Peers close associations that were idle: a request over a kept association is repeated over
        a new one, as long as the peer has not responded.
        """
        association = None
        try:
            with self.reuse(contexts) as association:
                yield from ask(association)
        except (ConnectionLost, TimedOut) as error:
            if association is None or not association.is_unproven:
                raise
            self.kept.record_lost(error)
        else:
            return
        yield from self.request(contexts, ask)
