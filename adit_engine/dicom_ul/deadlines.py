"""Watch: the deadlines of a line, and what is said of a peer that misses one or errs.

A peer that only trickles does not move a deadline: bytes count as progress from MIN_BYTES_PER_S on.
"""

import socket
import time
from struct import Struct

from adit_engine.dicom_ul.peer import MIN_BYTES_PER_S, Peer
from adit_engine.errors import AditError, ConnectionLost, Stopped, TimedOut, Untrusted
from adit_engine.rate_limit import Throttle

_SLICE_S = 1.0
"""A wait in the kernel is at most so long; then it is seen whether there is more time."""
_TIMEVAL = Struct("@ll")
_NEGOTIATION_HINT = (
    "Check that it is a DICOM port, that it does not want TLS, and that the PACS knows our "
    "address and AE title."
)
_RETRY_HINT = "Retry; if it happens again, ask its administrator to look into its log."


class ConnectionDeadlines:
    """What each line stands on. It neither waits nor reads; whoever does asks it before and after."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.pace: Throttle = peer.patience.pace
        self.over = False
        """True once nothing more can be said: released, aborted, or broken off by the peer."""
        self.faulty = False
        """True once the peer has left the protocol, so that no answer of it can be trusted."""
        self._aborted = False
        self._hint = _NEGOTIATION_HINT
        self._slice_s = 0.0
        self._left_s = peer.patience.total_s
        self._deadline = 0.0
        self._within_s = 0.0
        self._what = ""
        self._begun = False
        self._firm = False
        self._gathered = 0

    def mark_established(self) -> None:
        """From now on a fault is one of the work, no longer of the settings."""
        self._hint = _RETRY_HINT

    # Deadlines ---------------------------------------------------------------------------------

    def expect_within(self, seconds: float, what: str, *, firm: bool = False) -> None:
        """The deadline of what comes next. `what` is such as "answer the search".

        Progress moves it, unless it is firm.
        """
        self._deadline = time.monotonic() + seconds
        self._firm = firm
        self._within_s = seconds
        self._what = what
        self._begun = False

    def limit_total_wait(self, total_s: float) -> None:
        """Bounds the time spent waiting for the peer from now on, in sum."""
        self._left_s = total_s

    def _arm(self, one: socket.socket) -> float:
        """Sees to it that the next wait ends in time, and says when it began."""
        now = time.monotonic()
        left_s = min(self._deadline - now, self._left_s)
        if left_s <= 0:
            raise self._timed_out()
        slice_s = min(left_s, _SLICE_S)
        if not slice_s / 2 <= self._slice_s <= slice_s:
            self._slice_s = slice_s
            seconds, part = divmod(max(int(slice_s * 1e6), 1000), 1_000_000)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                one.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(seconds, part))
        return now

    def _record_timeout(self, started: float) -> None:
        """Nothing has moved; whether there is more time is for the next wait to see."""
        self._check_aborted()
        self._left_s -= time.monotonic() - started

    def _progress(self, count: int, started: float) -> None:
        """The first bytes, and then only enough of them, move the deadline."""
        now = time.monotonic()
        self._left_s -= now - started
        self._gathered += count
        patience_s = self.peer.patience.no_progress_s
        far = self._gathered >= MIN_BYTES_PER_S * patience_s
        if not self._firm and (far or not self._begun):
            self._begun = True
            self._gathered = 0
            self._deadline = now + patience_s
            self._within_s = patience_s
        self._deadline += self.pace.keep(count, lambda: self._aborted)

    # Faults ------------------------------------------------------------------------------------

    def fault(self, what: str) -> AditError:
        """The error for a peer that does not keep to the protocol; ours, when we ended it."""
        self.faulty = True
        if self._aborted:
            return self._stopped()
        return ConnectionLost(self.peer.name, f"{what}. {self._hint}")

    def _tls_expected_error(self) -> AditError:
        self.over = self.faulty = True
        text = "speaks TLS, while our side is set to plain DICOM. Set both to TLS."
        return Untrusted(self.peer.name, text)

    def _lost(self, what: str) -> AditError:
        """The error for a peer that is gone; nothing more can be said to it."""
        self.over = True
        return self.fault(what)

    def _timed_out(self) -> AditError:
        self.faulty = True
        if self._aborted:
            return self._stopped()
        if self._deadline > time.monotonic():
            text = "took longer in all than its time limit allows."
        else:
            text = f"did not {self._what} within {self._within_s:g} s."
        return TimedOut(self.peer.name, f"{text} {self._hint}")

    def _stopped(self) -> Stopped:
        return Stopped(f"{self.peer.name}: the work was stopped.")

    def _check_aborted(self) -> None:
        if self._aborted:
            raise self._stopped()
