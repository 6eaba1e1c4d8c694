"""A peer: its address, both AE titles, timeouts and TLS.

Used by associations and nodes.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adit_engine.rate_limit import RateLimiter

if TYPE_CHECKING:
    from adit_engine.dicom_ul.tls import TlsSettings

MIN_BYTES_PER_S = 1000
"""The rate from which bytes count as progress: a slow trickle does not extend a deadline."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    `total_s` limits the total waiting time of one association.
    """

    connect_s: float = 5
    association_s: float = 15
    first_byte_s: float = 600
    no_progress_s: float = 60
    total_s: float = 24 * 3600
    rate_limiter: RateLimiter = field(default_factory=RateLimiter, compare=False)
    """Limits the byte rate; waiting for it does not count against the peer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The address, AE titles and timeouts of a peer.

    `name` is that of the node, for errors.
    """

    name: str
    host: str
    port: int
    called: str
    calling: str
    max_pdu: int
    timeouts: Timeouts
    tls: "TlsSettings | None" = None
    """None: unencrypted."""
