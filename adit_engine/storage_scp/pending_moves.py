"""Expectation: who waits for which images of a C-MOVE, and to whom an image that came belongs."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from ipaddress import IPv4Network as _IPv4Network
from typing import Protocol

from adit_engine.errors import InvalidInput
from adit_engine.values.commitment_report import CommitmentReport, ReportReceipt
from adit_engine.values.instance import Instance
from adit_engine.values.references import AETitle

Network = _IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class AllowedSender:
    """Whose images are taken: an AE title, and where it calls from. No network: from anywhere."""

    ae_title: str
    networks: tuple[str, ...] = ()

    def is_at(self, ae_title: str, address: str) -> bool:
        if ae_title != self.ae_title:
            return False
        here = _parse_address(address)
        return not self.networks or any(here in _parse_network(one) for one in self.networks)


# Asked for each image that comes in.
_parse_network = lru_cache(maxsize=256)(ip_network)


def parse_senders(text: str) -> tuple[AllowedSender, ...]:
    """Reads "PACS1, PACS2@10.0.0.0/24". Raises WrongInput."""
    networks: dict[str, list[str]] = {}
    for part in filter(None, re.split(r"[,;\s]+", text)):
        title, at, network = part.partition("@")
        known = networks.setdefault(AETitle(title), [])
        if at:
            try:
                known.append(str(ip_network(network, strict=False)))
            except ValueError:
                text = f"{network} is no address; write 10.0.0.5 or 10.0.0.0/24."
                raise InvalidInput(text) from None
    return tuple(AllowedSender(title, tuple(known)) for title, known in networks.items())


@dataclass(frozen=True, slots=True)
class MoveTarget:
    """What a C-MOVE asks for. Empty series or instances: all of the level above."""

    source: str
    """The node's name; whether it names the originator is remembered under it."""
    senders: tuple[AllowedSender, ...]
    calling: str
    """As whom we ask; the archive repeats it as the originator."""
    study_uid: str
    series_uids: frozenset[str] = frozenset()
    instance_uids: frozenset[str] = frozenset()
    rate_bytes_s: float | None = None
    """What the source may send a second, by all its moves together; None: as fast as it goes."""


@dataclass(frozen=True, slots=True)
class PendingMove:
    """One C-MOVE under way. `token` names the folder in the spool where its images lie."""

    token: str
    message_id: int
    wanted: MoveTarget


@dataclass(frozen=True, slots=True)
class IncomingImage:
    """An image that somebody sent: from whom, on whose behalf, and what it is."""

    calling: str
    address: str
    study_uid: str
    series_uid: str
    instance_uid: str
    originator: str = ""
    originator_id: int | None = None

    @property
    def names_originator(self) -> bool:
        return bool(self.originator) and self.originator_id is not None


def find_owner(expectations: Iterable[PendingMove], arrival: IncomingImage) -> PendingMove | None:
    """The one whose image this is; None when there is none, or more than one could be.

    The originator decides where it is named (PS3.7 9.1.1.1); an image that its data set does not
    let us identify goes nowhere else. Else the study, and then the list or, without one, the series.
    """
    found = [e for e in expectations if _belongs_to(e, arrival)]
    return found[0] if len(found) == 1 else None


def find_candidates(expectations: Iterable[PendingMove], sent: IncomingImage) -> list[PendingMove]:
    """All whose image it may be, by who sends it and the originator, before its data set is read."""
    found = [e for e in expectations if _may_come_from(e, sent)]
    if not sent.names_originator:
        return found
    theirs = (sent.originator, sent.originator_id)
    return [e for e in found if (e.wanted.calling, e.message_id) == theirs]


def find_intended(
    expectations: Iterable[PendingMove], arrival: IncomingImage
) -> PendingMove | None:
    """Whose image it would be, had it come from one of her senders; only where that is sure."""
    found = [e for e in expectations if _matches_target(e, arrival)]
    return found[0] if len(found) == 1 else None


class Disposition(StrEnum):
    """What the receiver did with what nobody expected."""

    TURNED_AWAY = "turned_away"  # the association, before any image
    REFUSED = "refused"
    LAID_APART = "laid_apart"


@dataclass(frozen=True, slots=True)
class UnexpectedArrival:
    """An association or an image that nobody expected. It names no patient, study or image."""

    fate: Disposition
    calling: str
    called: str
    address: str
    class_uid: str = ""
    size_bytes: int = 0
    source: str = ""
    """The node whose C-MOVE it seems to answer: all fits but the sender."""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class PendingReport:
    """A question to a node what it keeps (Storage Commitment), and who may bring its report."""

    node: str
    transaction_uid: str
    senders: tuple[AllowedSender, ...]

    def is_from(self, ae_title: str, address: str) -> bool:
        return any(sender.is_at(ae_title, address) for sender in self.senders)


class MoveImages(Protocol):
    """The images of one expectation, as they come."""

    message_id: int

    def arrived(self) -> Iterator[Instance]:
        """Those that lie there now, in order of arrival; does not wait."""
        ...

    def is_coming(self) -> bool:
        """Whether some image is on its way at this moment, as far as can be told."""
        ...

    def is_throttled(self) -> bool:
        """Whether one is on its way that we ourselves slow down, to keep to the source's rate."""
        ...

    def check_room(self) -> None:
        """Raises StorageFull while images are refused because we have no room for them."""
        ...


class MoveReceiver(Protocol):
    """Where a node lets a C-MOVE send its images, and takes them from."""

    ae_title: str
    address: str
    """Where we listen, in words for the person who registers us at the archive."""

    def expect(
        self, wanted: MoveTarget, check: Callable[[], None]
    ) -> AbstractContextManager[MoveImages]:
        """Images are taken as long as the block lasts, and refused afterwards.

        Waits for its turn where only the study could tell two moves apart, and calls `check`
        meanwhile, which may raise. Raises NodeBusy, StorageTrouble.
        """
        ...

    def strays(self, source: str, since: datetime) -> Sequence[UnexpectedArrival]:
        """What came since then that nobody expected: for this node as far as can be told, or from
        a caller who was turned away before that could be told. May look for some seconds.
        """
        ...

    def await_report(
        self, asked: PendingReport, within_s: float
    ) -> AbstractContextManager[Callable[[], CommitmentReport | None]]:
        """The report is taken as long as the block lasts, `within_s` at most; what the block gets
        says whether it has come. It does not wait.
        """
        ...


class ReceiverRegistry(Protocol):
    """What a receiver has to know; asked from many threads."""

    def live(self, *, fresh: bool = False) -> Sequence[PendingMove]:
        """Who expects something now; unless `fresh`, an answer may be some seconds old."""
        ...

    def came(self, expectation: PendingMove, *, names_originator: bool) -> None:
        """An image for it came; whether with the originator tells how many moves fit together."""
        ...

    def admits(self, ae_title: str, address: str) -> bool:
        """Whether this application may open an association from there."""
        ...

    def record_unexpected(self, stray: UnexpectedArrival) -> None:
        """Something came that nobody expected; may be told a thousand times a second."""
        ...

    def reported(self, report: CommitmentReport, ae_title: str, address: str) -> ReportReceipt:
        """A report came from this application there; the first one of a question counts."""
        ...


def normalize_address(text: str) -> str:
    """The address without the clothes in which IPv6 sockets show IPv4."""
    return str(_parse_address(text))


@lru_cache(maxsize=256)
def _parse_address(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _belongs_to(expectation: PendingMove, arrival: IncomingImage) -> bool:
    return _may_come_from(expectation, arrival) and _matches_target(expectation, arrival)


def _may_come_from(expectation: PendingMove, arrival: IncomingImage) -> bool:
    senders = expectation.wanted.senders
    return any(one.is_at(arrival.calling, arrival.address) for one in senders)


def _matches_target(expectation: PendingMove, arrival: IncomingImage) -> bool:
    wanted = expectation.wanted
    if arrival.names_originator:
        if arrival.originator_id != expectation.message_id:
            return False
        if arrival.originator == wanted.calling:
            return arrival.study_uid in ("", wanted.study_uid)
        # pynetdicom 3.0 and what is built on it write the archive's own AE title, not ours.
        return arrival.originator == arrival.calling and arrival.study_uid == wanted.study_uid
    if arrival.study_uid != wanted.study_uid:
        return False
    if arrival.instance_uid in wanted.instance_uids:
        return True
    # A list may be older than the newest image; but of another series nobody asked for any.
    if wanted.series_uids:
        return arrival.series_uid in wanted.series_uids
    return not wanted.instance_uids
