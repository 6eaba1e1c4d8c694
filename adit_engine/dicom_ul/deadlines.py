"""Deadlines of a connection, and the errors for a peer that misses one or violates the protocol.

A peer that sends only a trickle does not extend a deadline: bytes count as progress from
MIN_BYTES_PER_S on. Used by the TCP and TLS connections.
"""

import socket
import time
from struct import Struct
from typing import Any

from adit_engine.dicom_ul.peer import MIN_BYTES_PER_S, Peer
from adit_engine.errors import AditError, ConnectionLost, Stopped, TimedOut, Untrusted
from adit_engine.messages import Message
from adit_engine.rate_limit import Throttle

_SLICE_S = 1.0
"""Longest wait in the kernel; after it the deadline is checked."""
_TIMEVAL = Struct("@ll")


class ConnectionDeadlines:
    """Base class of the connections.

    It neither waits nor reads; they call it before and after.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.rate_limiter: Throttle = peer.timeouts.rate_limiter
        self.is_closed = False
        """True once nothing more can be sent: released, aborted, or closed by the peer."""
        self.has_protocol_error = False
        """True once the peer has violated the protocol, so that its responses cannot be trusted."""
        self._aborted = False
        self._hint = Message("clause.hint-negotiation")
        self._slice_s = 0.0
        self._left_s = peer.timeouts.total_s
        self._deadline = 0.0
        self._within_s = 0.0
        self._awaited = ""
        self._begun = False
        self._firm = False
        self._gathered = 0

    def mark_established(self) -> None:
        """Attribute further faults to the running work and no longer to the settings."""
        self._hint = Message("clause.hint-retry")

    # Deadlines ---------------------------------------------------------------------------------

    def expect_within(self, seconds: float, awaited: str, *, firm: bool = False) -> None:
        """Set the deadline of what comes next. `awaited` is the code of a clause.

        Progress extends it, unless it is firm.
        """
        self._deadline = time.monotonic() + seconds
        self._firm = firm
        self._within_s = seconds
        self._awaited = awaited
        self._begun = False

    def limit_total_wait(self, total_s: float) -> None:
        """Limit the total time spent waiting for the peer from now on."""
        self._left_s = total_s

    def _arm(self, one: socket.socket) -> float:
        """Ensure that the next wait ends in time; return when it began."""
        now = time.monotonic()
        left_s = min(self._deadline - now, self._left_s)
        if left_s <= 0:
            raise self._timeout_error()
        slice_s = min(left_s, _SLICE_S)
        if not slice_s / 2 <= self._slice_s <= slice_s:
            self._slice_s = slice_s
            seconds, part = divmod(max(int(slice_s * 1e6), 1000), 1_000_000)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                one.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(seconds, part))
        return now

    def _record_timeout(self, started: float) -> None:
        """Record a wait without progress. The next wait checks whether time is left."""
        self._check_aborted()
        self._left_s -= time.monotonic() - started

    def _progress(self, count: int, started: float) -> None:
        """Extend the deadline for the first bytes, and then only for enough of them."""
        now = time.monotonic()
        self._left_s -= now - started
        self._gathered += count
        patience_s = self.peer.timeouts.no_progress_s
        far = self._gathered >= MIN_BYTES_PER_S * patience_s
        if not self._firm and (far or not self._begun):
            self._begun = True
            self._gathered = 0
            self._deadline = now + patience_s
            self._within_s = patience_s
        self._deadline += self.rate_limiter.throttle(count, lambda: self._aborted)

    # Errors ------------------------------------------------------------------------------------

    def protocol_error(self, code: str, **values: Any) -> AditError:
        """Return the error for a protocol violation; Stopped if we ended the connection."""
        self.has_protocol_error = True
        if self._aborted:
            return self._stopped_error()
        return ConnectionLost(self.peer.name, code, hint=self._hint, **values)

    def _tls_expected_error(self) -> AditError:
        self.is_closed = self.has_protocol_error = True
        return Untrusted(self.peer.name, "tls.expected-by-peer")

    def _lost_error(self, code: str, **values: Any) -> AditError:
        """Return the error for a closed connection. Nothing more can be sent."""
        self.is_closed = True
        return self.protocol_error(code, **values)

    def _timeout_error(self) -> AditError:
        self.has_protocol_error = True
        if self._aborted:
            return self._stopped_error()
        if self._deadline > time.monotonic():
            return TimedOut(self.peer.name, "connection.total-time-exceeded", hint=self._hint)
        return TimedOut(
            self.peer.name,
            "connection.timed-out",
            awaited=Message(self._awaited),
            seconds=f"{self._within_s:g}",
            hint=self._hint,
        )

    def _stopped_error(self) -> Stopped:
        return Stopped("node.stopped", node=self.peer.name)

    def _check_aborted(self) -> None:
        if self._aborted:
            raise self._stopped_error()
