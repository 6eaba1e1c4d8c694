"""Pending C-MOVE requests, and which of them a received image belongs to.

Defines the interfaces between nodes, receiver and registry. Used by all of them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Protocol

from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.values.commitment_report import CommitmentReport, ReportReceipt
from adit_engine.values.instance import Instance
from adit_engine.values.references import AETitle


@dataclass(frozen=True, slots=True)
class AllowedSender:
    """A permitted sender: AE title and networks. Without networks: from any address."""

    ae_title: str
    networks: tuple[str, ...] = ()

    def is_at(self, ae_title: str, address: str) -> bool:
        if ae_title != self.ae_title:
            return False
        here = _parse_address(address)
        return not self.networks or any(here in _parse_network(one) for one in self.networks)


# Called for each image that is received.
_parse_network = lru_cache(maxsize=256)(ip_network)


def parse_senders(text: str) -> tuple[AllowedSender, ...]:
    """Parse "PACS1, PACS2@10.0.0.0/24". Raise InvalidInput."""
    networks: dict[str, list[str]] = {}
    for part in filter(None, re.split(r"[,;\s]+", text)):
        title, at, network = part.partition("@")
        known = networks.setdefault(AETitle(title), [])
        if at:
            try:
                known.append(str(ip_network(network, strict=False)))
            except ValueError:
                raise InvalidInput("senders.invalid-address", network=network) from None
    return tuple(AllowedSender(title, tuple(known)) for title, known in networks.items())


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """What a C-MOVE requests. Empty series or instances: all of the level above."""

    source: str
    """The node's name; whether the node names the originator is remembered per name."""
    allowed_senders: tuple[AllowedSender, ...]
    calling: str
    """Our calling AE title; the archive repeats it as the originator."""
    study_uid: str
    series_uids: frozenset[str] = frozenset()
    instance_uids: frozenset[str] = frozenset()
    rate_bytes_s: float | None = None
    """Bytes per second for all moves of the source together; None: unlimited."""


@dataclass(frozen=True, slots=True)
class PendingMove:
    """One C-MOVE in progress. `token` is the name of its folder in the spool."""

    token: str
    message_id: int
    target: MoveTarget


@dataclass(frozen=True, slots=True)
class IncomingImage:
    """A received image: its sender, its originator and its UIDs."""

    calling: str
    address: str
    study_uid: str
    series_uid: str
    instance_uid: str
    originator: str = ""
    originator_id: int | None = None

    @property
    def sends_move_originator(self) -> bool:
        return bool(self.originator) and self.originator_id is not None


def find_owner(pending_moves: Iterable[PendingMove], arrival: IncomingImage) -> PendingMove | None:
    """Return the move to which an image belongs; None unless there is exactly one.

    If the originator is named, it decides (PS3.7 9.1.1.1), even if the data set does not identify
    the image. Otherwise the study decides, then the instance list or, without one, the series.
    """
    found = [e for e in pending_moves if _belongs_to(e, arrival)]
    return found[0] if len(found) == 1 else None


def find_candidates(pending_moves: Iterable[PendingMove], sent: IncomingImage) -> list[PendingMove]:
    """Return all possible moves by sender and originator, before the data set is read."""
    found = [e for e in pending_moves if _may_come_from(e, sent)]
    if not sent.sends_move_originator:
        return found
    theirs = (sent.originator, sent.originator_id)
    return [e for e in found if (e.target.calling, e.message_id) == theirs]


def find_intended(
    pending_moves: Iterable[PendingMove], arrival: IncomingImage
) -> PendingMove | None:
    """Return the only move that matches except for its sender; else None."""
    found = [e for e in pending_moves if _matches_target(e, arrival)]
    return found[0] if len(found) == 1 else None


class Disposition(StrEnum):
    """What the receiver did with an unexpected arrival."""

    REJECTED = "turned_away"  # the association, before any image
    REFUSED = "refused"
    QUARANTINED = "laid_apart"


@dataclass(frozen=True, slots=True)
class UnexpectedArrival:
    """An unexpected association or image. It names no patient, study or image."""

    disposition: Disposition
    calling: str
    called: str
    address: str
    class_uid: str = ""
    size_bytes: int = 0
    source: str = ""
    """The node whose C-MOVE it seems to answer: everything matches except the sender."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class PendingReport:
    """A Storage Commitment request to a node, and who may send its report."""

    node: str
    transaction_uid: str
    allowed_senders: tuple[AllowedSender, ...]

    def is_from(self, ae_title: str, address: str) -> bool:
        return any(sender.is_at(ae_title, address) for sender in self.allowed_senders)


class MoveImages(Protocol):
    """The images of one pending move, as they arrive."""

    message_id: int

    def take_images(self) -> Iterator[Instance]:
        """Yield the images present now, in order of arrival; does not wait."""
        ...

    def is_coming(self) -> bool:
        """Return whether an image is probably on its way at this moment."""
        ...

    def is_throttled(self) -> bool:
        """Return whether we delay an incoming image, to keep to the source's rate limit."""
        ...

    def check_space(self) -> None:
        """Raise StorageFull while images are refused for lack of space."""
        ...


class MoveReceiver(Protocol):
    """Where a node lets a C-MOVE send its images, and takes them from."""

    ae_title: str

    @property
    def address(self) -> str | Message:
        """Our address, for the administrator who registers us at the archive."""
        ...

    def expect(
        self, target: MoveTarget, check: Callable[[], None]
    ) -> AbstractContextManager[MoveImages]:
        """Accept images until the block ends, and refuse them afterwards.

        Waits for its turn if only the study UID could tell two moves apart, and calls `check` while
        waiting, which may raise. Raises NodeBusy, StorageError.
        """
        ...

    def unexpected_since(self, source: str, since: datetime) -> Sequence[UnexpectedArrival]:
        """Return unexpected arrivals since that time, for this node or turned away.

        It cannot be told for which node a caller was turned away. May search for some seconds.
        """
        ...

    def await_report(
        self, report_request: PendingReport, within_s: float
    ) -> AbstractContextManager[Callable[[], CommitmentReport | None]]:
        """Accept the report until the block ends, for at most `within_s`.

        Yields a function that returns the report, or None if it has not arrived. It does not wait.
        """
        ...


class ReceiverRegistry(Protocol):
    """What a receiver has to know. Called from many threads."""

    def pending_moves(self, *, fresh: bool = False) -> Sequence[PendingMove]:
        """Return the pending moves; unless `fresh`, they may be some seconds old."""
        ...

    def record_arrival(self, pending_move: PendingMove, *, sends_move_originator: bool) -> None:
        """Record that an image of the move arrived, and whether it named the originator.

        That decides how many moves may run at once.
        """
        ...

    def is_known_sender(self, ae_title: str, address: str) -> bool:
        """Return whether this AE title may open an association from this address."""
        ...

    def record_unexpected(self, unexpected: UnexpectedArrival) -> None:
        """Record an unexpected arrival; may be called a thousand times a second."""
        ...

    def take_report(self, report: CommitmentReport, ae_title: str, address: str) -> ReportReceipt:
        """Record a Storage Commitment report; the first one for a transaction counts."""
        ...


def normalize_address(text: str) -> str:
    """Return the address; IPv4-mapped IPv6 addresses are returned as IPv4."""
    return str(_parse_address(text))


@lru_cache(maxsize=256)
def _parse_address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _belongs_to(pending_move: PendingMove, arrival: IncomingImage) -> bool:
    return _may_come_from(pending_move, arrival) and _matches_target(pending_move, arrival)


def _may_come_from(pending_move: PendingMove, arrival: IncomingImage) -> bool:
    senders = pending_move.target.allowed_senders
    return any(one.is_at(arrival.calling, arrival.address) for one in senders)


def _matches_target(pending_move: PendingMove, arrival: IncomingImage) -> bool:
    wanted = pending_move.target
    if arrival.sends_move_originator:
        if arrival.originator_id != pending_move.message_id:
            return False
        if arrival.originator == wanted.calling:
            return arrival.study_uid in ("", wanted.study_uid)
        # pynetdicom 3.0, and software built on it, writes the archive's own AE title, not ours.
        return arrival.originator == arrival.calling and arrival.study_uid == wanted.study_uid
    if arrival.study_uid != wanted.study_uid:
        return False
    if arrival.instance_uid in wanted.instance_uids:
        return True
    # The list may be older than the newest image, but images of other series were not requested.
    if wanted.series_uids:
        return arrival.series_uid in wanted.series_uids
    return not wanted.instance_uids
