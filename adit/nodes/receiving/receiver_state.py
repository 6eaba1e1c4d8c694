"""The receiver process: its view of nodes and pending C-MOVEs in the database, and its main loop.

Used by `adit receiver` and `adit up`.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from django.conf import settings
from django.db import Error, close_old_connections, connection

from adit.nodes.gateway import get_engine_settings
from adit.nodes.health import is_own_receiver_check
from adit.nodes.models import MoveInProgress, Node, receiver_nodes
from adit.nodes.receiving import commitment_reports, unexpected_senders
from adit.nodes.receiving.broker_sender import BrokerSender
from adit.nodes.receiving.certificates import load_receiver_tls, reload_certificates
from adit.nodes.receiving.retrievals import (
    close_thread_connection,
    live_moves,
    open_spool,
    row_to_move,
)
from adit.nodes.usage.metering import KB, get_move_rate
from adit_engine.errors import InvalidInput
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.storage_scp.pending_moves import AllowedSender, UnexpectedArrival, parse_senders
from adit_engine.storage_scp.pending_moves import PendingMove as Expected
from adit_engine.storage_scp.server import StorageScp, StorageScpSettings
from adit_engine.values.commitment_report import CommitmentReport, ReportReceipt

CACHE_S = 2.0
SENDERS_CACHE_S = 30.0
SWEEP_S = 60.0
RETRY_S = 10.0

log = logging.getLogger(__name__)


class DatabaseReceiverState:
    """The state that the Storage SCP asks for, read from the database.

    Called from many threads of the receiver; each closes its database connection afterwards.
    """

    def __init__(self, dispatch: BrokerSender | None = None) -> None:
        """Create the state. With several machines `dispatch` is informed of pending C-MOVEs."""
        self._lock = threading.Lock()
        self._dispatch = dispatch
        self._live: tuple[Expected, ...] = ()
        self._live_until = 0.0
        self._senders: dict[str, tuple[float, tuple[AllowedSender, ...]]] = {}
        self._naming: dict[str, bool] = {}
        self._unexpected = unexpected_senders.SenderCounter()

    def pending_moves(self, *, fresh: bool = False) -> Sequence[Expected]:
        with self._lock:
            if fresh or time.monotonic() > self._live_until:
                with _log_database_errors("expectations"):
                    rows = list(live_moves())
                    self._live = _make_moves(rows)
                    if self._dispatch is not None:
                        keys = {row.token: bytes.fromhex(row.key) for row in rows if row.key}
                        self._dispatch.follow(keys)
                    self._live_until = time.monotonic() + CACHE_S
            return self._live

    def record_arrival(self, pending_move: Expected, *, sends_move_originator: bool) -> None:
        """Store whether the node names the originator.

        After one image without the originator the node is never trusted in this again.
        """
        node = pending_move.target.source
        if self._naming.get(node) in (False, sends_move_originator):
            return
        self._naming[node] = sends_move_originator
        rows = Node.objects.filter(name=node)
        with _log_database_errors("nodes"):
            if sends_move_originator:
                rows = rows.filter(sends_move_originator=None)
            rows.update(sends_move_originator=sends_move_originator)

    def is_known_sender(self, ae_title: str, address: str) -> bool:
        """Return whether this caller may connect.

        Allowed are known nodes, senders of pending C-MOVEs, and `adit doctor` on this machine.
        """
        if is_own_receiver_check(ae_title, address):
            return True
        if self.is_stopped(ae_title, address):
            return False
        if any(sender.is_at(ae_title, address) for sender in self._find_senders(ae_title)):
            return True
        awaited = (one for e in self.pending_moves(fresh=True) for one in e.target.allowed_senders)
        return any(sender.is_at(ae_title, address) for sender in awaited)

    def is_stopped(self, ae_title: str, address: str) -> bool:
        """Return whether all nodes with this AE title and address were stopped by a user."""
        with _log_database_errors("nodes"):
            if not receiver_nodes().exclude(stopped_at=None).exists():
                return False
            rows = receiver_nodes()
            found = {
                row.stopped_at is not None
                for row in rows
                for one in _find_node_senders(row, ae_title)
                if one.is_at(ae_title, address)
            }
            return found == {True}
        return False

    def get_rate(self, ae_title: str, address: str) -> float | None:
        """Return the agreed rate in bytes per second of the nodes with this title and address."""
        with _log_database_errors("nodes"):
            rows = receiver_nodes().exclude(rate_kb_s=None)
            rates = [
                row.rate_kb_s * KB
                for row in rows
                if row.rate_kb_s is not None
                and any(one.is_at(ae_title, address) for one in _find_node_senders(row, ae_title))
            ]
            return float(min(rates)) if rates else None
        return None

    def record_unexpected(self, unexpected: UnexpectedArrival) -> None:
        if self._unexpected.add(unexpected):
            self.write_unexpected_senders()

    def take_report(self, report: CommitmentReport, ae_title: str, address: str) -> ReportReceipt:
        with _log_database_errors("questions"):
            return commitment_reports.store_report(report, ae_title, address)
        return ReportReceipt.NOT_NOW

    def write_unexpected_senders(self) -> None:
        """Write what was counted since the last write."""
        gathered = self._unexpected.take()
        if gathered:
            with _log_database_errors("strays"):
                unexpected_senders.write_counts(gathered)

    def _find_senders(self, ae_title: str) -> tuple[AllowedSender, ...]:
        """Resolve host names of nodes with this AE title only, so that no other caller waits."""
        until, known = self._senders.get(ae_title, (0.0, ()))
        if time.monotonic() < until:
            return known
        with _log_database_errors("nodes"):
            rows = list(receiver_nodes())
            known = tuple(one for row in rows for one in _find_node_senders(row, ae_title))
            if known:
                self._senders[ae_title] = (time.monotonic() + SENDERS_CACHE_S, known)
        return known


def run_receiver(end: threading.Event) -> None:
    """Run the receiver until `end` is set. If the port is in use, wait for it."""
    given = StorageScpSettings(
        settings.CALLING_AE_TITLE,
        settings.RECEIVER_HOST,
        settings.RECEIVER_PORT,
        throttle_from_bytes=settings.RECEIVER_MARK_MB * 1024 * 1024,
        quarantine_bytes=settings.RECEIVER_QUARANTINE_MB * 1024 * 1024,
    )
    url = settings.HAND_OVER_URL
    dispatch = BrokerSender(open_spool(), url) if url else None
    while not end.is_set():
        register = DatabaseReceiverState(dispatch)
        try:
            secured = replace(given, tls=load_receiver_tls())
            receiver = StorageScp(secured, open_spool(), register)
        except InvalidInput as error:
            log.error("no C-MOVE until this is fixed: %s", error)
            end.wait(RETRY_S)
            continue
        except OSError as error:
            log.error(
                "the receiver cannot use port %d (%s): no C-MOVE until this is fixed",
                given.port,
                error.strerror,
            )
            end.wait(RETRY_S)
            continue
        with receiver:
            how = "with TLS" if receiver.tls is not None else "without TLS"
            log.info("receives images as %s on port %d, %s", given.ae_title, receiver.port, how)
            _serve(register, receiver, end)
    if dispatch is not None:
        dispatch.stop()


def _serve(register: DatabaseReceiverState, receiver: StorageScp, end: threading.Event) -> None:
    """Do periodic work until `end`. With several machines pending C-MOVEs are polled as well."""
    sweep_at = time.monotonic() + SWEEP_S
    while not end.wait(CACHE_S):
        register.write_unexpected_senders()
        if receiver.abort_associations(register.is_stopped):
            log.warning("aborted connections of a stopped PACS")
        receiver.limit_rates(register.get_rate)
        if settings.HAND_OVER_URL:
            register.pending_moves()
        if time.monotonic() > sweep_at:
            sweep_at = time.monotonic() + SWEEP_S
            delete_expired()
            reload_certificates(receiver)
            close_old_connections()
    register.write_unexpected_senders()


def delete_expired() -> None:
    """Delete rows and spool folders that crashed workers left behind."""
    spool = open_spool()
    tokens = spool.tokens()
    with _log_database_errors("expectations"):
        live = set(live_moves().values_list("token", flat=True))
        for token in set(tokens) - live:
            spool.close(token)
        MoveInProgress.objects.exclude(token__in=live).delete()
        commitment_reports.delete_expired()
    spool.sweep_closed()


def _make_moves(rows: Sequence[MoveInProgress]) -> tuple[Expected, ...]:
    moves = Counter(row.node for row in rows)
    rates = {node.pk: get_move_rate(node, count) for node, count in moves.items()}
    found = []
    for row in rows:
        one = row_to_move(row)
        wanted = replace(one.target, rate_bytes_s=rates[row.node_id])
        found.append(replace(one, target=wanted))
    return tuple(found)


def _find_node_senders(row: Node, ae_title: str) -> tuple[AllowedSender, ...]:
    try:
        given = DimseSettings(**get_engine_settings(row))
        mine = parse_senders(given.senders) or (AllowedSender(given.called_ae_title),)
    except InvalidInput:
        return ()
    if ae_title not in {sender.ae_title for sender in mine}:
        return ()
    return given.resolve_senders()


@contextmanager
def _log_database_errors(what: str) -> Iterator[None]:
    """Log database errors and continue: the last known state stays, no new sender is admitted."""
    try:
        yield
    except Error as error:
        log.error("the receiver cannot read the %s (%s)", what, type(error).__name__)
        connection.close()
    finally:
        close_thread_connection()
