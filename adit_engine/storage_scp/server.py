"""Receiver: Storage SCP: takes what a C-MOVE sends and lays it in the spool; and reports of what
archives keep (Storage Commitment).

It answers "kept" only for what would outlive it, and hands nothing to anybody who did not ask for
it: an image that nobody expects is refused, or laid apart.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace as but
from typing import TYPE_CHECKING

from adit_engine.dicom_ul import acceptor, statuses
from adit_engine.dicom_ul.acceptor import Request
from adit_engine.dicom_ul.association import line_class
from adit_engine.dicom_ul.command_set import Command, Field, Operation, answer
from adit_engine.dicom_ul.messages import Conversation
from adit_engine.dicom_ul.pdu import Pdu, pdu
from adit_engine.dicom_ul.peer import Patience, Peer
from adit_engine.dicom_ul.tcp_connection import Line
from adit_engine.errors import Malformed, NodeError, Stopped, Untrusted, WrongInput
from adit_engine.nodes.dimse.storage_commitment import is_report, take_report
from adit_engine.storage_scp.pending_moves import (
    Arrival,
    Expectation,
    Fate,
    Register,
    Stray,
    meant_for,
    owner,
)
from adit_engine.storage_scp.quarantine import Quarantine
from adit_engine.storage_scp.receiver_rate import Pacing
from adit_engine.storage_scp.spool import Arriving, Spool
from adit_engine.storage_scp.tcp_server import Caller, Doorway
from adit_engine.values.commitment_report import Receipt, Report
from adit_engine.values.references import checked_uid

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import Tls

_MAX_PDU = 131072
_DELAY_STEP_S = 0.1
_OF_STRANGERS = (acceptor.UNKNOWN_CALLED_TITLE, acceptor.UNKNOWN_CALLING_TITLE)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """What the receiver is called, where it listens, and how patient it is."""

    ae_title: str = "ADIT"
    host: str = "0.0.0.0"  # noqa: S104 - archives call from other machines
    port: int = 11112
    association_s: float = 15.0
    idle_s: float = 300.0
    """Between two images: an archive may have to fetch the next one from a tape."""
    no_progress_s: float = 60.0
    mark_bytes: int = 512 * 1024 * 1024
    """While more lies untaken for one expectation, each answer to its sender is delayed."""
    longest_delay_s: float = 20.0
    quarantine_bytes: int = 0
    """Images that nobody expects are laid apart up to so many bytes; above that, refused."""
    tls: "Tls | None" = None
    """None: in the clear; else whoever calls in the clear is turned away."""


class Receiver:
    """Use it with `with`; it runs in threads of its own until the block ends."""

    def __init__(self, settings: ReceiverSettings, spool: Spool, register: Register) -> None:
        """Listens at once, answers from `start` on. Raises OSError when the port is taken."""
        self.settings = settings
        self.tls = settings.tls
        """May be replaced by one with renewed certificates; who is connected stays."""
        self._spool = spool
        self._ending = threading.Event()
        self._desk = _Desk(settings, spool, register, self._ending)
        self._register = register
        self._talking: dict[Conversation, tuple[str, str]] = {}
        self._pacing = Pacing(register, spool, self._ending)
        spool.prepare()
        self._doorway = Doorway(settings.host, settings.port, self._serve)
        self.port = self._doorway.port

    def start(self) -> None:
        self._spool.sweep_incoming()
        self._doorway.start()

    def stop(self) -> None:
        self._ending.set()
        self._doorway.stop()
        self._spool.end_journals()

    def cut(self, is_unwanted: Callable[[str, str], bool]) -> int:
        """Aborts the associations of those AE titles at those addresses; how many."""
        talking = tuple(self._talking.items())
        unwanted = [conversation for conversation, who in talking if is_unwanted(*who)]
        for conversation in unwanted:
            conversation.abort()
        return len(unwanted)

    def keep_pace(self, rate_of: Callable[[str, str], float | None]) -> None:
        """From now on takes what each source may send a second as its expectations say, and so
        much from a caller of whom nothing is expected; None: all it gets.
        """
        self._pacing.look(rate_of)

    def __enter__(self) -> "Receiver":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _serve(self, caller: Caller) -> None:
        given = self.settings
        patience = Patience(association_s=given.association_s, no_progress_s=given.no_progress_s)
        name = f"The caller at {caller.address}"
        peer = Peer(
            name, caller.address, caller.port, "", given.ae_title, _MAX_PDU, patience, self.tls
        )
        line = line_class(peer).accepted(caller.socket, peer)
        conversation = Conversation(peer, line)
        try:
            line.shake_hands()
            calling = self._negotiate(caller, line, conversation)
            if calling:
                who = (calling, caller.address)
                self._talking[conversation] = who
                line.pace = self._pacing.of(Arrival(*who, "", "", ""))
                self._talk(line, who, conversation)
        except Untrusted as error:
            log.warning("%s", error)
        except (NodeError, Stopped) as error:
            if not conversation.released:
                log.info("%s", error)
        finally:
            self._talking.pop(conversation, None)
            conversation.close()

    # Negotiation -------------------------------------------------------------------------------

    def _negotiate(self, caller: Caller, line: Line, conversation: Conversation) -> str:
        """The calling AE title; empty when the association was refused."""
        within_s = self.settings.association_s
        line.expect_within(within_s, "request an association", firm=True)
        kind, body = line.read_pdu()
        if kind is not Pdu.ASSOCIATE_RQ:
            raise line.fault("sent something else than an association request")
        try:
            request = Request.decode(bytes(body))
        except Malformed as error:
            raise line.fault("sent a broken association request") from error
        refusal = self._why_refused(caller, request)
        if refusal is not None:
            log.warning(
                "refused an association from %s as %.16r to %.16r",
                caller.address,
                request.calling,
                request.called,
            )
            if refusal in _OF_STRANGERS:
                # Before the answer: whoever looks for it next must find it.
                self._register.strayed(
                    Stray(Fate.TURNED_AWAY, request.calling, request.called, caller.address)
                )
            line.send([pdu(Pdu.ASSOCIATE_RJ, bytes((0, *refusal)))])
            line.over = True
            return ""
        conversation.agreement, accepted = request.accept(acceptor.syntax_for, _MAX_PDU)
        line.send([pdu(Pdu.ASSOCIATE_AC, accepted)])
        line.established()
        return request.calling

    def _why_refused(self, caller: Caller, request: Request) -> tuple[int, int, int] | None:
        if not request.is_version_1:
            return acceptor.OTHER_PROTOCOL
        if request.called != self.settings.ae_title:
            return acceptor.UNKNOWN_CALLED_TITLE
        if not self._register.admits(request.calling, caller.address):
            return acceptor.UNKNOWN_CALLING_TITLE
        if not self._doorway.has_room_for(caller):
            return acceptor.NO_ROOM_NOW
        return None

    # Messages ----------------------------------------------------------------------------------

    def _talk(self, line: Line, who: tuple[str, str], conversation: Conversation) -> None:
        """Until the caller releases, falls silent or leaves the protocol."""
        while True:
            context_id, command = conversation.receive_command(
                self.settings.idle_s, "go on with its association"
            )
            if command.operation == Operation.STORE and command.has_data:
                sent = _announced(command, *who)
                line.pace = self._pacing.of(sent, line.pace)
                status = self._desk.take(sent, conversation, context_id, command)
            elif command.operation == Operation.ECHO and not command.has_data:
                status = statuses.SUCCESS
            elif is_report(command):
                take_report(
                    conversation,
                    context_id,
                    command,
                    lambda report: self._reported(report, *who),
                )
                continue
            elif command.operation == Operation.CANCEL:
                continue
            else:
                raise conversation.fault("asked for something else than to store images")
            conversation.send(context_id, answer(command, status))

    def _reported(self, report: Report, calling: str, address: str) -> Receipt:
        receipt = self._register.reported(report, calling, address)
        if receipt is not Receipt.TAKEN:
            log.warning("a report from %.16r at %s: %s", calling, address, receipt.value)
        return receipt


def _announced(command: Command, calling: str, address: str) -> Arrival:
    """What the command of a C-STORE tells; the data set, which follows, tells the rest."""
    originator = command.text(Field.ORIGINATOR), command.number(Field.ORIGINATOR_ID)
    return Arrival(calling, address, "", "", "", *originator)


class _Desk:
    """Where images are laid into the spool, each for the one expectation whose it is."""

    def __init__(
        self,
        settings: ReceiverSettings,
        spool: Spool,
        register: Register,
        ending: threading.Event,
    ) -> None:
        self._settings = settings
        self._ending = ending
        self._spool = spool
        self._register = register
        self._quarantine = Quarantine(spool, settings.quarantine_bytes)
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, str]] = {}
        self._untaken: dict[str, int] = {}

    def take(
        self, sent: Arrival, conversation: Conversation, context_id: int, command: Command
    ) -> int:
        """Reads the data of one C-STORE request, and gives the status to answer with."""
        class_uid, syntax = conversation.agreement.contexts[context_id]
        try:
            uid = checked_uid(command.text(Field.INSTANCE_UID))
        except WrongInput:
            uid = ""
        arriving = self._spool.arriving(class_uid, uid, syntax)
        try:
            conversation.receive_data(context_id, arriving)
            if not uid or command.text(Field.CLASS_UID) != class_uid:
                return statuses.NO_SUCH_CLASS
            if arriving.is_full:
                log.error("no room in the spool: images are refused until there is")
                return statuses.OUT_OF_RESOURCES
            return self._lay_down(self._identified(sent, arriving, uid), arriving)
        except OSError as error:
            log.error("the spool cannot be written: %s", error.strerror)
            return statuses.OUT_OF_RESOURCES
        finally:
            arriving.drop()

    def _identified(self, sent: Arrival, arriving: Arriving, uid: str) -> Arrival:
        try:
            ref = arriving.ref()
            study_uid, series_uid = ref.study_uid, ref.series_uid
        except (Malformed, WrongInput):
            study_uid = series_uid = ""
        return but(sent, study_uid=study_uid, series_uid=series_uid, instance_uid=uid)

    def _lay_down(self, arrival: Arrival, arriving: Arriving) -> int:
        """Tries with what is known of the expectations, then once more with what is true now."""
        for fresh in (False, True):
            expectation = owner(self._register.live(fresh=fresh), arrival)
            if expectation is None:
                continue
            try:
                status = self._place(expectation, arrival, arriving)
            except FileNotFoundError:
                continue
            self._hold_back(expectation)
            return status
        return self._nobodys(arrival, arriving)

    def _place(self, expectation: Expectation, arrival: Arrival, arriving: Arriving) -> int:
        """Raises FileNotFoundError when the expectation has ended."""
        token, uid, digest = expectation.token, arrival.instance_uid, arriving.digest
        arriving.finish()
        with self._lock:
            self._spool.require_open(token)
            if token not in self._known:
                self._forget_ended()
                self._known[token] = self._spool.journal(token)
            before = self._known[token].get(uid)
            if before == digest:
                return statuses.SUCCESS
            arriving.place(token)
            self._known[token].setdefault(uid, digest)
            if before is None:
                self._spool.note(token, uid, digest)
            self._untaken[token] = self._untaken.get(token, 0) + arriving.size_bytes
        self._register.came(expectation, names_originator=arrival.names_originator)
        if before is not None:
            # The retrieval gets both, and sees for itself.
            log.error("an archive sent two different objects under one UID; the second is refused")
            return statuses.CANNOT_UNDERSTAND
        return statuses.SUCCESS

    def _nobodys(self, arrival: Arrival, arriving: Arriving) -> int:
        near = meant_for(self._register.live(), arrival)
        stray = Stray(
            Fate.LAID_APART,
            arrival.calling,
            self._settings.ae_title,
            arrival.address,
            arriving.class_uid,
            arriving.size_bytes,
            near.wanted.source if near is not None else "",
        )
        if self._quarantine.take(arriving, stray):
            log.warning("laid apart an image from %s that nobody expects", arrival.calling)
            status = statuses.SUCCESS
        else:
            log.warning("refused an image from %s that nobody expects", arrival.calling)
            stray, status = but(stray, fate=Fate.REFUSED), statuses.NOT_AUTHORISED
        self._register.strayed(stray)
        return status

    def _hold_back(self, expectation: Expectation) -> None:
        """Slows the sender down while the retrieval does not keep up."""
        token = expectation.token
        until = time.monotonic() + self._settings.longest_delay_s
        while self._untaken.get(token, 0) > self._settings.mark_bytes and time.monotonic() < until:
            self._untaken[token] = self._spool.waiting_bytes(token)
            if self._untaken[token] > self._settings.mark_bytes and self._ending.wait(
                _DELAY_STEP_S
            ):
                break

    def _forget_ended(self) -> None:
        live = {expectation.token for expectation in self._register.live()}
        for known in (self._known, self._untaken):
            for token in known.keys() - live:
                del known[token]
                self._spool.end_journal(token)
