"""A connection whose bytes are encrypted by TLS; deadlines and shutdown as in `tcp_connection`.

Used by `association` and our Storage SCP where TLS is configured.
"""

import ssl
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from socket import MSG_DONTWAIT, socket
from typing import Any

from adit_engine.dicom_ul import tls
from adit_engine.dicom_ul.pdu import PduType, encode_pdu
from adit_engine.dicom_ul.peer import Peer
from adit_engine.dicom_ul.tcp_connection import TcpConnection
from adit_engine.dicom_ul.tls import TlsSession
from adit_engine.elements import Buffer
from adit_engine.errors import AditError, ConnectionLost

_READ_BYTES = 256 * 1024
_WRITE_BYTES = 1024 * 1024
_TLS_RECORD_TYPES = (0x14, 0x15, 0x16)
"""Possible values of the first byte of a TLS connection (RFC 8446 5.1)."""


_LOSSES = frozenset({"connection.lost", "connection.closed"})


class TlsConnection(TcpConnection):
    """A TLS connection.

    OpenSSL works between two buffers in memory and never waits: TcpConnection does all waiting.
    `_sending` also guards the state of OpenSSL, so that another thread can still send an A-ABORT.
    """

    def __init__(self, peer: Peer) -> None:
        """Raise InvalidInput when the certificates cannot be used."""
        super().__init__(peer)
        assert peer.tls is not None
        self._credentials = peer.tls
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # typeshed has a wrong signature for reading into a buffer.
        self._tls: Any = peer.tls.wrap(self._incoming, self._outgoing)
        self._raw = memoryview(bytearray(_READ_BYTES))
        self._ahead = b""
        self._broken: ssl.SSLError | None = None
        self._said = False
        self._is_established = False
        self._torn = False
        self._hint = tls.describe_tls_hint(peer.tls)

    # Opening and closing -----------------------------------------------------------------------

    def connect(self) -> None:
        """Connect and finish the handshake.

        Raises Unreachable, Untrusted, TimedOut, ConnectionLost, Stopped.
        """
        super().connect()
        self.handshake()

    def handshake(self) -> None:
        within_s = self.peer.timeouts.association_s
        self.expect_within(within_s, "clause.await-tls", firm=True)
        while not self._is_established:
            try:
                with self._sending:
                    self._tls.do_handshake()
                self._is_established = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise self._rejection_error(error) from error
            self._flush()
            if not self._is_established:
                self._receive_more()

    @property
    def tls_session(self) -> TlsSession:
        shown = self._tls.getpeercert() or {}
        ends_at = None
        if "notAfter" in shown:
            ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
        return TlsSession(self._tls.version(), ends_at)

    def close(self) -> None:
        """Close the socket, with an A-ABORT if the association was not over."""
        one = self._socket
        if one is not None and not self._aborted:
            if not self.is_closed:
                self._send_abort(one)
                self.is_closed = True
            self._send_close_notify(one)
        super().close()

    def _send_abort(self, one: socket) -> None:
        if self._sending.acquire(blocking=False):
            try:
                if self._is_established and not self._torn:
                    with suppress(OSError):
                        self._tls.write(encode_pdu(PduType.ABORT))
                        self._send_pending_now(one)
            finally:
                self._sending.release()

    def _send_close_notify(self, one: socket) -> None:
        """Send the close_notify, or a pending alert (RFC 8446 6.1), as far as possible at once."""
        if self._sending.acquire(blocking=False):
            try:
                if not self._torn:
                    # It always waits for a response, which we do not read.
                    with suppress(OSError, ValueError):
                        self._tls.unwrap()
                    with suppress(OSError):
                        self._send_pending_now(one)
            finally:
                self._sending.release()

    def _send_pending_now(self, one: socket) -> None:
        said = self._outgoing.read()
        if said:
            one.setblocking(False)
            self._torn = one.send(said) < len(said)

    # Reading and writing -----------------------------------------------------------------------

    def poll(self, within_s: float) -> bool:
        """Return whether bytes of a message, or the end, have come in time.

        Messages of TLS itself do not count.
        """
        until = time.monotonic() + within_s
        while not self._has_more():
            left_s = until - time.monotonic()
            if not self._readable(max(left_s, 0)):
                return False
            try:
                count = self._require_socket().recv_into(self._raw, 0, MSG_DONTWAIT)
            except BlockingIOError:
                continue
            except OSError:
                count = 0
            if not count:
                # The next read reports the end.
                return True
            self._feed(count)
        return True

    def send(self, buffers: Sequence[Buffer]) -> None:
        one = self._require_socket()
        plain = memoryview(b"".join(buffers))
        try:
            with self._sending:
                for start in range(0, len(plain), _WRITE_BYTES):
                    self._encrypt(plain[start : start + _WRITE_BYTES])
                    self._push_all(one)
        except ConnectionLost as error:
            raise self._read_last_alert() or error from error

    def _encrypt(self, plain: memoryview) -> None:
        """Encrypt. OpenSSL accepts one record at a time."""
        try:
            while plain:
                plain = plain[self._tls.write(plain) :]
        except ssl.SSLError as error:
            raise self._lost_error("connection.lost") from error

    def _receive_into(self, view: memoryview) -> int:
        if self._ahead:
            view[:1], self._ahead = self._ahead, b""
            self._count_first_byte()
            return 1
        while not (count := self._read_decrypted(view)):
            self._receive_more()
        self._count_first_byte()
        return count

    def _read_decrypted(self, view: memoryview) -> int:
        """Return what is decrypted already; 0 when more has to come first."""
        if self._broken is not None:
            raise self._rejection_error(self._broken)
        try:
            with self._sending:
                count = int(self._tls.read(len(view), view))
        except ssl.SSLWantReadError:
            self._flush()
            return 0
        except ssl.SSLError as error:
            raise self._rejection_error(error) from error
        if not count:
            raise self._lost_error("connection.closed")
        return count

    def _has_more(self) -> bool:
        """Return whether the next read will find a byte, or the end."""
        if self._start < self._end or self._ahead or self._broken is not None:
            return True
        try:
            with self._sending:
                self._ahead = self._tls.read(1)
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self._broken = error
        return True

    def _receive_more(self) -> None:
        """Wait for more bytes from the peer."""
        count = self._read_available(self._raw)
        if not self._said:
            self._said = True
            if self._raw[0] not in _TLS_RECORD_TYPES:
                self.is_closed = self.has_protocol_error = True
                raise tls.not_tls_error(self.peer.name, self._credentials)
        self._feed(count)

    def _feed(self, count: int) -> None:
        self._incoming.write(self._raw[:count])

    def _flush(self) -> None:
        """Send the pending messages of OpenSSL itself."""
        if self._outgoing.pending:
            one = self._require_socket()
            with self._sending:
                self._push_all(one)

    def _push_all(self, one: socket) -> None:
        self._torn = True
        self._send_queue(one, deque([memoryview(self._outgoing.read())]))
        self._torn = False

    # Errors ------------------------------------------------------------------------------------

    def _lost_error(self, code: str, **values: Any) -> AditError:
        if not self._is_established and code in _LOSSES:
            code = "tls.handshake-lost" if self._said else "tls.closed-at-start"
        return super()._lost_error(code, **values)

    def _rejection_error(self, error: ssl.SSLError) -> AditError:
        """Return the error for what OpenSSL rejects, or for what the peer rejected."""
        self.has_protocol_error = True
        if self._aborted:
            return self._stopped_error()
        fault = tls.to_untrusted(self.peer.name, self._credentials, error)
        return fault or self._lost_error("tls.failed", reason=tls.format_ssl_error(error))

    def _read_last_alert(self) -> AditError | None:
        """Return why the peer closed while we were sending, if it has sent an alert.

        In TLS 1.3 it verifies our certificate only after the handshake has ended for us.
        """
        one = self._socket
        if one is None or self._aborted:
            return None
        with suppress(OSError):
            one.setblocking(False)
            while count := one.recv_into(self._raw):
                self._feed(count)
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLError as error:
            return tls.to_untrusted(self.peer.name, self._credentials, error)
        return None
