"""Peer: whom to call, as whom, and how patiently."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adit_engine.rate_limit import RateLimiter

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import TlsSettings

MIN_BYTES_PER_S = 1000
"""From here on bytes count as progress: a peer that only trickles does not move a deadline."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds. `total_s` bounds the waiting of one association in sum."""

    connect_s: float = 5
    association_s: float = 15
    first_byte_s: float = 600
    no_progress_s: float = 60
    total_s: float = 24 * 3600
    pace: RateLimiter = field(default_factory=RateLimiter, compare=False)
    """How quickly bytes may travel; waiting for that is on nobody's account."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to call, as whom, and how patiently. `name` is the node's, for errors."""

    name: str
    host: str
    port: int
    called: str
    calling: str
    max_pdu: int
    patience: Timeouts
    tls: "TlsSettings | None" = None
    """None: in the clear."""
