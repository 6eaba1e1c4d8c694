"""The receiver in the same process, and the images that a retrieval takes from the spool.

Used by `storage_scp.local`; `adit/nodes/receiving` uses the spooled images and the rules as well.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from adit_engine.errors import NodeBusy, StorageFull
from adit_engine.messages import Message
from adit_engine.storage_scp.pending_moves import (
    AllowedSender,
    Disposition,
    MoveTarget,
    PendingMove,
    PendingReport,
    UnexpectedArrival,
)
from adit_engine.storage_scp.spool import RECEIVER_NAME, Spool
from adit_engine.values.commitment_report import CommitmentReport, ReportReceipt
from adit_engine.values.instance import Instance

CONFLICT_WAIT_S = 600.0
"""Maximum wait for another move whose images only the study UID could tell apart."""

MAX_UNEXPECTED = 1000
"""Number of unexpected arrivals that are remembered, the newest ones."""

_ACTIVE_WITHIN_S = 30.0
_POLL_S = 0.1


class SpooledImages:
    """The images of one pending move, taken from the spool of this machine."""

    def __init__(self, spool: Spool, pending_move: PendingMove) -> None:
        self.message_id = pending_move.message_id
        self._spool = spool
        self._token = pending_move.token

    def take_images(self) -> Iterator[Instance]:
        yield from self._spool.take(self._token)

    def is_coming(self) -> bool:
        return self.is_throttled() or self._spool.last_activity_s() < _ACTIVE_WITHIN_S

    def is_throttled(self) -> bool:
        return self._spool.is_throttled(self._token)

    def check_space(self) -> None:
        if not self._spool.has_space():
            raise spool_full_error()


class LocalMoveReceiver:
    """A receiver in the same process: its registry and the interface for nodes.

    `callers` may open associations even if no move is pending.
    """

    def __init__(
        self,
        spool: Spool,
        ae_title: str,
        address: str | Message,
        callers: Iterable[AllowedSender] = (),
    ) -> None:
        self.ae_title = ae_title
        self.address = address
        self._spool = spool
        self._callers = set(callers)
        self._lock = threading.Lock()
        self._pending_moves: tuple[PendingMove, ...] = ()
        # Late images of an earlier run must not match a message ID of this run.
        self._number = secrets.randbelow(0xFFFF)
        self._naming: dict[str, bool] = {}
        self._unexpected: deque[UnexpectedArrival] = deque(maxlen=MAX_UNEXPECTED)
        self._pending_reports: dict[str, PendingReport] = {}
        self._reports: dict[str, CommitmentReport] = {}

    # For nodes ---------------------------------------------------------------------------------

    @contextmanager
    def expect(self, target: MoveTarget, check: Callable[[], None]) -> Iterator[SpooledImages]:
        expectation = self._register_when_free(target, check)
        try:
            self._spool.open(expectation.token)
            yield SpooledImages(self._spool, expectation)
        finally:
            with self._lock:
                self._pending_moves = tuple(e for e in self._pending_moves if e is not expectation)
            self._spool.close(expectation.token)

    def _register_when_free(self, target: MoveTarget, check: Callable[[], None]) -> PendingMove:
        until = time.monotonic() + CONFLICT_WAIT_S
        while time.monotonic() < until:
            with self._lock:
                if not self._is_conflicting(target):
                    self._number = self._number % 0xFFFF + 1
                    expectation = PendingMove(secrets.token_hex(8), self._number, target)
                    self._pending_moves = (*self._pending_moves, expectation)
                    self._callers.update(target.allowed_senders)
                    return expectation
            check()
            time.sleep(_POLL_S)
        raise move_conflict_error(target)

    def _is_conflicting(self, target: MoveTarget) -> bool:
        return any(
            not can_run_together(e.target, target, self._naming.get(target.source))
            for e in self._pending_moves
        )

    def unexpected_since(self, source: str, since: datetime) -> Sequence[UnexpectedArrival]:
        return filter_unexpected(
            source, [one for one in tuple(self._unexpected) if one.at >= since]
        )

    @contextmanager
    def await_report(
        self, report_request: PendingReport, within_s: float
    ) -> Iterator[Callable[[], CommitmentReport | None]]:
        uid = report_request.transaction_uid
        with self._lock:
            self._pending_reports[uid] = report_request
            self._callers.update(report_request.allowed_senders)
        try:
            yield lambda: self._reports.get(uid)
        finally:
            with self._lock:
                del self._pending_reports[uid]
                self._reports.pop(uid, None)

    # For the receiver --------------------------------------------------------------------------

    def pending_moves(self, *, fresh: bool = False) -> Sequence[PendingMove]:
        return self._pending_moves

    def record_arrival(self, pending_move: PendingMove, *, sends_move_originator: bool) -> None:
        source = pending_move.target.source
        self._naming[source] = sends_move_originator and self._naming.get(source, True)

    def is_known_sender(self, ae_title: str, address: str) -> bool:
        with self._lock:
            return any(sender.is_at(ae_title, address) for sender in self._callers)

    def record_unexpected(self, unexpected: UnexpectedArrival) -> None:
        self._unexpected.append(unexpected)

    def take_report(self, report: CommitmentReport, ae_title: str, address: str) -> ReportReceipt:
        with self._lock:
            asked = self._pending_reports.get(report.transaction_uid)
            if asked is None:
                return ReportReceipt.UNKNOWN
            if not asked.is_from(ae_title, address):
                return ReportReceipt.STRANGER
            self._reports.setdefault(report.transaction_uid, report)
            return ReportReceipt.TAKEN


def filter_unexpected(
    source: str, unexpected_arrivals: Sequence[UnexpectedArrival]
) -> Sequence[UnexpectedArrival]:
    """Return the arrivals that match this node, and callers that were turned away.

    Of the latter nothing more is known.
    """
    return [
        one
        for one in unexpected_arrivals
        if one.source == source or one.disposition is Disposition.REJECTED
    ]


def can_run_together(
    one: MoveTarget, other: MoveTarget, sends_move_originator: bool | None
) -> bool:
    """Return whether two moves may run at once, as their images cannot be confused.

    Two moves of the same images may run at once only at one node that is known to name the
    originator.
    """
    if one.study_uid != other.study_uid:
        return True
    if not {s.ae_title for s in one.allowed_senders} & {s.ae_title for s in other.allowed_senders}:
        return True
    if one.series_uids and other.series_uids and not one.series_uids & other.series_uids:
        return True
    return one.source == other.source and bool(sends_move_originator)


def spool_full_error() -> StorageFull:
    return StorageFull(RECEIVER_NAME, "receiver.spool-full")


def move_conflict_error(target: MoveTarget) -> NodeBusy:
    return NodeBusy(target.source, "c-move.conflict")
