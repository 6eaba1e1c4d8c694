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
        self._papers = peer.tls
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # typeshed has a wrong signature for reading into a buffer.
        self._tls: Any = peer.tls.wrap(self._incoming, self._outgoing)
        self._raw = memoryview(bytearray(_READ_BYTES))
        self._ahead = b""
        self._broken: ssl.SSLError | None = None
        self._said = False
        self._shaken = False
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
        within_s = self.peer.patience.association_s
        self.expect_within(within_s, "clause.await-tls", firm=True)
        while not self._shaken:
            try:
                with self._sending:
                    self._tls.do_handshake()
                self._shaken = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise self._refused(error) from error
            self._flush()
            if not self._shaken:
                self._receive_more()

    @property
    def seal(self) -> TlsSession:
        shown = self._tls.getpeercert() or {}
        ends_at = None
        if "notAfter" in shown:
            ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
        return TlsSession(self._tls.version(), ends_at)

    def close(self) -> None:
        """Close the socket, with an A-ABORT if the association was not over."""
        one = self._socket
        if one is not None and not self._aborted:
            if not self.over:
                self._send_abort(one)
                self.over = True
            self._send_close_notify(one)
        super().close()

    def _send_abort(self, one: socket) -> None:
        if self._sending.acquire(blocking=False):
            try:
                if self._shaken and not self._torn:
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
                count = self._connected().recv_into(self._raw, 0, MSG_DONTWAIT)
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
        one = self._connected()
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
            raise self._lost("connection.lost") from error

    def _received(self, view: memoryview) -> int:
        if self._ahead:
            view[:1], self._ahead = self._ahead, b""
            self._begin()
            return 1
        while not (count := self._decrypted(view)):
            self._receive_more()
        self._begin()
        return count

    def _decrypted(self, view: memoryview) -> int:
        """Return what is decrypted already; 0 when more has to come first."""
        if self._broken is not None:
            raise self._refused(self._broken)
        try:
            with self._sending:
                count = int(self._tls.read(len(view), view))
        except ssl.SSLWantReadError:
            self._flush()
            return 0
        except ssl.SSLError as error:
            raise self._refused(error) from error
        if not count:
            raise self._lost("connection.closed")
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
        count = self._take(self._raw)
        if not self._said:
            self._said = True
            if self._raw[0] not in _TLS_RECORD_TYPES:
                self.over = self.faulty = True
                raise tls.not_tls_error(self.peer.name, self._papers)
        self._feed(count)

    def _feed(self, count: int) -> None:
        self._incoming.write(self._raw[:count])

    def _flush(self) -> None:
        """Send the pending messages of OpenSSL itself."""
        if self._outgoing.pending:
            one = self._connected()
            with self._sending:
                self._push_all(one)

    def _push_all(self, one: socket) -> None:
        self._torn = True
        self._push(one, deque([memoryview(self._outgoing.read())]))
        self._torn = False

    # Errors ------------------------------------------------------------------------------------

    def _lost(self, code: str, **values: Any) -> AditError:
        if not self._shaken and code in _LOSSES:
            code = "tls.handshake-lost" if self._said else "tls.closed-at-start"
        return super()._lost(code, **values)

    def _refused(self, error: ssl.SSLError) -> AditError:
        """Return the error for what OpenSSL rejects, or for what the peer rejected."""
        self.faulty = True
        if self._aborted:
            return self._stopped()
        fault = tls.to_untrusted(self.peer.name, self._papers, error)
        return fault or self._lost("tls.failed", reason=tls.format_ssl_error(error))

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
            return tls.to_untrusted(self.peer.name, self._papers, error)
        return None
