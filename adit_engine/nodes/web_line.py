"""Web line: one network connection to a DICOMweb node; every wait on it has a deadline.

Only time spent waiting counts. A peer that trickles does not move a deadline: bytes count as
progress from MIN_BYTES_PER_S on.
"""

import io
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress

from adit_engine.elements import Buffer
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    NodeRefused,
    Stopped,
    TimedOut,
    Unreachable,
)
from adit_engine.nodes.peer import MIN_BYTES_PER_S, Patience
from adit_engine.nodes.web_address import Address, Place

READ_BYTES = 256 * 1024
HINT = "Retry; if it happens again, ask its administrator to look into its log."

_MOST_BUFFERS = 64
_TLS_WRITE = 256 * 1024
# Set again before each wait, since Linux forgets it; other systems have nothing like it.
_QUICKACK = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)


class WebLine:
    """Used by one thread; only `abort` may be called from any other, even by a signal handler."""

    def __init__(self, node: str, patience: Patience) -> None:
        self.node = node
        self.used = False
        """True once it has carried a whole exchange: the peer may have closed it meanwhile."""
        self._patience = patience
        self._socket: socket.socket | None = None
        self._aborted = False
        self._what = ""
        self._phase_s = self._granted_s = self._total_s = 0.0
        self._firm = self._begun = False
        self._gathered = 0
        self._may_read: int | None = None

    # Opening and ending ------------------------------------------------------------------------

    def connect(
        self, address: Address, places: Iterable[Place], tls: ssl.SSLContext | None
    ) -> None:
        """To the first place that answers. Raises Unreachable, NodeRefused, Stopped."""
        until = time.monotonic() + self._patience.connect_s
        error: OSError | None = None
        left = list(places)
        while left:
            family, place = left.pop(0)
            self._socket = one = socket.socket(family, socket.SOCK_STREAM)
            try:
                self.check_aborted()
                # One address that swallows everything leaves time for the others.
                one.settimeout(max((until - time.monotonic()) / (1 + len(left)), 0.001))
                one.connect(place)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls is not None:
                    one.settimeout(max(until - time.monotonic(), 0.001))
                    self._socket = tls.wrap_socket(one, server_hostname=address.host)
                return
            except ssl.SSLCertVerificationError as failed:
                self.close()
                raise self._untrusted(failed) from failed
            except OSError as failed:
                error = failed
                one.close()
                self.close()
        self.check_aborted()
        raise self._unreachable(address, error)

    def close(self) -> None:
        one, self._socket = self._socket, None
        if one is not None:
            one.close()

    def abort(self) -> None:
        """Ends every wait of this line now; the thread in it gets Stopped."""
        self._aborted = True
        one = self._socket
        if one is not None:
            with suppress(OSError):
                # SSLSocket.shutdown would take the TLS state from under the waiting thread.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def check_aborted(self) -> None:
        """Raises Stopped after an abort."""
        if self._aborted:
            raise self._stopped()

    # Deadlines ---------------------------------------------------------------------------------

    def begin(self, total_s: float) -> None:
        """Bounds the waiting of the exchange that begins now, in sum."""
        self._total_s = total_s

    def expect_within(self, seconds: float, what: str, *, firm: bool = False) -> None:
        """The time for what comes next. `what` is such as "answer the search".

        Progress gives more, unless it is firm.
        """
        self._phase_s = self._granted_s = seconds
        self._what = what
        self._firm = firm
        self._begun = False
        self._gathered = 0

    def allow_bytes(self, count: int | None) -> None:
        """How much may be read from now on; None: any amount."""
        self._may_read = count

    def _arm(self, one: socket.socket) -> float:
        """Sets the time that the next wait may take, and says when it began."""
        left_s = min(self._phase_s, self._total_s)
        if left_s <= 0:
            raise self._timed_out()
        one.settimeout(left_s)
        return time.monotonic()

    def _progress(self, count: int, started: float) -> None:
        """The first bytes, and then only enough of them, give more time."""
        spent = time.monotonic() - started
        self._phase_s -= spent
        self._total_s -= spent
        self._gathered += count
        patience_s = self._patience.no_progress_s
        far = self._gathered >= MIN_BYTES_PER_S * patience_s
        if not self._firm and (far or not self._begun):
            self._begun = True
            self._gathered = 0
            self._phase_s = self._granted_s = patience_s
        self._patience.pace.keep(count, lambda: self._aborted)

    # Bytes -------------------------------------------------------------------------------------

    def send(self, buffers: Sequence[Buffer]) -> None:
        """All of it, without joining. Raises ConnectionLost, TimedOut, Stopped."""
        queue = deque(memoryview(buffer) for buffer in buffers if len(buffer))
        one = self._connected()
        while queue:
            started = self._arm(one)
            try:
                if isinstance(one, ssl.SSLSocket):
                    count = one.send(queue[0][:_TLS_WRITE])
                else:
                    count = one.sendmsg([queue[i] for i in range(min(len(queue), _MOST_BUFFERS))])
            except TimeoutError:
                raise self._timed_out() from None
            except OSError as error:
                raise self._lost("broke off the connection") from error
            self._progress(count, started)
            while queue and count >= len(queue[0]):
                count -= len(queue.popleft())
            if count:
                queue[0] = queue[0][count:]

    def read_into(self, view: memoryview) -> int:
        """0 at the end. Raises ConnectionLost, TimedOut, Stopped."""
        one = self._connected()
        started = self._arm(one)
        try:
            one.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            count = one.recv_into(view)
        except TimeoutError:
            raise self._timed_out() from None
        except OSError as error:
            raise self._lost("broke off the connection") from error
        self.check_aborted()
        self._progress(count, started)
        if self._may_read is not None:
            self._may_read -= count
            if self._may_read < 0:
                raise self._lost("sent longer headers than any answer needs")
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client.HTTPResponse reads from."""
        assert mode == "rb"
        return io.BufferedReader(_Raw(self), READ_BYTES)

    def _connected(self) -> socket.socket:
        self.check_aborted()
        if self._socket is None:
            raise self._lost("is not connected any more")
        return self._socket

    # Faults ------------------------------------------------------------------------------------

    def _lost(self, what: str) -> AditError:
        if self._aborted:
            return self._stopped()
        return ConnectionLost(self.node, f"{what}. {HINT}")

    def _timed_out(self) -> AditError:
        if self._aborted:
            return self._stopped()
        if self._total_s < self._phase_s:
            text = "took longer in all than its time limit allows."
        else:
            text = f"did not {self._what} within {self._granted_s:g} s."
        return TimedOut(self.node, f"{text} {HINT}")

    def _stopped(self) -> Stopped:
        return Stopped(f"{self.node}: the work was stopped.")

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> NodeRefused:
        return NodeRefused(
            self.node,
            f"its certificate is not trusted ({error.verify_message}). Give the CA file of whoever "
            "issued it, or check the host name in the root URL.",
        )

    def _unreachable(self, address: Address, error: OSError | None) -> Unreachable:
        place = f"{address.host} port {address.port}"
        if isinstance(error, ConnectionRefusedError):
            text = f"nothing listens on {place}. Check the root URL, and whether it is running."
        elif isinstance(error, TimeoutError):
            text = (
                f"{place} did not answer within {self._patience.connect_s:g} s. "
                "Check the root URL and the firewall."
            )
        elif isinstance(error, ssl.SSLError):
            text = f"{place} does not agree on an encrypted connection. Check the root URL and TLS."
        else:
            reason = error.strerror if error is not None else "no address"
            text = f"no connection to {place}: {reason}. Check the root URL and the network."
        return Unreachable(self.node, text)


class _Raw(io.RawIOBase):
    def __init__(self, line: WebLine) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # what BufferedReader hands in
        return self._line.read_into(buffer)
