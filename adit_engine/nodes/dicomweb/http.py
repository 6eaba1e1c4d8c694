"""HTTP client of the DICOMweb node, used by QIDO-RS, WADO-RS, STOW-RS and the node's check.

httpx implements HTTP. Below it is a network backend of our own, because httpx has no deadline for a
whole request, no minimum rate, no check of addresses and no way to abort from another thread.
"""

import ipaddress
import logging
import select
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpcore
import httpx

from adit_engine.dicom_ul.peer import MIN_BYTES_PER_S, Timeouts
from adit_engine.dicom_ul.tcp_connection import DnsLookup, SocketAddress, unreachable_error
from adit_engine.dicom_ul.tls import ClientTls, Pem, TlsCredentials
from adit_engine.elements import Buffer
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    InvalidInput,
    NodeBusy,
    NodeError,
    NodeRefused,
    NotSupported,
    Stopped,
    TimedOut,
    Unreachable,
)
from adit_engine.messages import Message
from adit_engine.nodes.dicomweb import multipart

MAX_HEAD_BYTES = 96 * 1024
"""Less than what h11 accepts, so that the error is ours and states the cause."""
MAX_BUSY_TRIES = 3

_T = TypeVar("_T")
_HINT = Message("clause.hint-retry")
_READ_BYTES = 256 * 1024
_WRITE_BYTES = 256 * 1024
_MAX_IDLE = 2
_DRAIN_BYTES = 64 * 1024
_DRAIN_S = 1.0
_POLL_S = 0.1
# Set again before each read, because Linux resets it; other systems have no such option.
_QUICKACK = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)

# httpx logs the URL of each request, which can name a patient. A filter also holds where an
# application sets the level of these loggers.
for _name in ("httpx", "httpcore.connection", "httpcore.http11"):
    logging.getLogger(_name).addFilter(lambda record: False)


# Root URL and addresses ------------------------------------------------------------------------

_ROOT_URL = "Root URL"
"""The label of the setting."""
# Cloud providers serve the credentials of the machine at these addresses; some are not link-local.
_METADATA = frozenset({"169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def parse_root_url(url: str) -> httpx.URL:
    """Parse a root URL of the form http(s)://host[:port][/path].

    Raises InvalidInput for anything else.
    """
    if any(not 0x20 < ord(character) < 0x7F for character in url):
        raise InvalidInput("setting.ascii", setting=_ROOT_URL)
    if "?" in url or "#" in url or ".." in url.split("/"):
        raise InvalidInput("root-url.forbidden-characters", setting=_ROOT_URL)
    try:
        root = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL:
        raise InvalidInput("root-url.invalid", setting=_ROOT_URL) from None
    if root.scheme not in ("http", "https") or not root.host:
        raise InvalidInput("root-url.scheme", setting=_ROOT_URL)
    if root.userinfo:
        raise InvalidInput("root-url.credentials", setting=_ROOT_URL)
    if root.port is not None and not 0 < root.port < 65536:
        raise InvalidInput("root-url.port", setting=_ROOT_URL)
    return root


def explain_refusal(ip: str, allow_local: bool) -> Message | None:
    """Return the kind of an address that must not be called; None if it is allowed."""
    one = unwrap_address(ip)
    if one.is_multicast or one.is_unspecified or (one.version == 4 and one.is_reserved):
        return Message("clause.address-of-many")
    if str(one) in _METADATA or one.is_link_local:
        return Message("clause.address-link-local")
    return Message("clause.address-loopback") if one.is_loopback and not allow_local else None


def unwrap_address(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address, or the IPv4 address that an IPv6 address embeds. A zone is ignored."""
    one = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(one, ipaddress.IPv6Address):
        if one.ipv4_mapped is not None:
            return one.ipv4_mapped
        if one in _NAT64:
            return ipaddress.IPv4Address(int(one) & 0xFFFFFFFF)
        if one.sixtofour is not None:
            return one.sixtofour
    return one


# Statuses (RFC 9110) ---------------------------------------------------------------------------

NO_CONTENT = 204
_OK = frozenset({200, NO_CONTENT, 206})
_GONE = frozenset({404, 410})
_BUSY = frozenset({429, 503})
_AGAIN = frozenset({408, 425, 500, 502, 504, 507})
_REASONS = {
    400: "clause.http-400",
    401: "clause.http-401",
    403: "clause.http-403",
    404: "clause.http-404",
    406: "clause.http-406",
    407: "clause.http-407",
    410: "clause.http-410",
    413: "clause.http-413",
    414: "clause.http-414",
    415: "clause.http-415",
    421: "clause.http-421",
    495: "clause.http-495",
    496: "clause.http-496",
}


# Requests and responses ------------------------------------------------------------------------


@dataclass(frozen=True)
class DicomwebServer:
    """Address, credentials and timeouts of the service.

    `name` is that of the node, for errors.
    """

    name: str
    root: httpx.URL
    timeouts: Timeouts
    authorization: str = field(default="", repr=False)
    ca_certificate: str = ""
    """PEM text; used instead of `ca_file` if both are given."""
    ca_file: str = ""
    client_certificate: str = ""
    client_key: str = ""
    allow_local: bool = False

    @property
    def port(self) -> int:
        return self.root.port or (443 if self.root.scheme == "https" else 80)

    def resolve(self) -> list[SocketAddress]:
        """Return the allowed addresses of the host. Raises Unreachable.

        Raises NodeRefused where no address is allowed.
        """
        host = self.root.host
        try:
            found = DnsLookup(host, self.port).addresses(self.timeouts.connect_s)
        except TimeoutError:
            raise Unreachable(self.name, "host.no-dns-answer", host=host) from None
        if not found:
            raise Unreachable(self.name, "host.unknown", host=host)
        reasons = [explain_refusal(address[0], self.allow_local) for _, address in found]
        if all(reasons):
            raise NodeRefused(self.name, "host.not-allowed", host=host, kind=reasons[0])
        return [one for one, reason in zip(found, reasons, strict=True) if reason is None]

    def load_tls(self) -> ssl.SSLContext | None:
        """Return the TLS context; None for http.

        Raises InvalidInput when a file named in the settings cannot be used.
        """
        if self.root.scheme != "https":
            return None
        try:
            credentials = TlsCredentials.from_files(
                ("Client certificate file", self.client_certificate),
                ("Client key file", self.client_key if self.client_certificate else ""),
                ("CA file", "" if self.ca_certificate else self.ca_file),
            )
            if self.ca_certificate:
                pem = Pem("CA certificate", self.ca_certificate)
                credentials = replace(credentials, trusted_certificates=pem)
            return ClientTls(credentials, self.root.host).context
        except InvalidInput as error:
            raise InvalidInput("setting.invalid", setting=self.name, error=error.message) from None


@dataclass(frozen=True)
class DicomwebRequest:
    """One request.

    `path` begins with a slash, below the root URL; it may contain patient data. `what` is a clause
    that names the request; `within_s` is the time until the response begins. A body that is not a
    sequence is sent in chunks, and only once.
    """

    method: str
    path: str = field(repr=False)
    accept: str
    what: Message
    within_s: float
    body: Iterable[Buffer] = field(default=(), repr=False)
    content_type: str = ""

    @property
    def is_repeatable(self) -> bool:
        return isinstance(self.body, Sequence)

    def to_httpx(self, server: DicomwebServer, exchange: "_Exchange") -> httpx.Request:
        headers = {
            "Accept": self.accept,
            "Accept-Encoding": "identity",
            "User-Agent": "ADIT",
        }
        if server.authorization:
            headers["Authorization"] = server.authorization
        if self.method == "POST":
            headers["Content-Type"] = self.content_type
            if isinstance(self.body, Sequence):
                headers["Content-Length"] = str(sum(len(buffer) for buffer in self.body))
        return httpx.Request(
            self.method,
            f"{server.root}{self.path}",
            headers=headers,
            content=_slices(self.body) if self.method == "POST" else None,
            # httpcore passes these to the network backend unchanged.
            extensions={"timeout": dict.fromkeys(("connect", "read", "write"), exchange)},
        )


def _slices(body: Iterable[Buffer]) -> Iterator[bytes]:
    """Copy a large buffer in slices, since it may be a mapped file."""
    for buffer in body:
        view = memoryview(buffer)
        for start in range(0, len(view), _WRITE_BYTES):
            yield bytes(view[start : start + _WRITE_BYTES])


class DicomwebResponse:
    """A response whose head has been read.

    The body is streamed, and never decompressed.
    """

    def __init__(
        self, node: str, what: Message, response: httpx.Response, exchange: "_Exchange"
    ) -> None:
        self.status = response.status_code
        self.exchange = exchange
        self._node = node
        self._what = what
        self._response = response
        self._headers = response.headers
        self._body = response.iter_raw()

    @property
    def content_type(self) -> str:
        return str(self._headers.get("Content-Type", ""))

    @property
    def media_type(self) -> str:
        return multipart.media_type(self.content_type)

    @property
    def has_length(self) -> bool:
        """Whether the response states its length.

        If not, the body ends with the connection, whatever the reason.
        """
        return "Content-Length" in self._headers or "Transfer-Encoding" in self._headers

    @property
    def is_empty(self) -> bool:
        """Whether there is no body, and so no media type."""
        has_none = self._headers.get("Content-Length") == "0" or self.status == NO_CONTENT
        return has_none and not self.content_type

    @property
    def warnings(self) -> list[str]:
        return self._headers.get_list("Warning")

    @property
    def is_ok(self) -> bool:
        return self.status in _OK

    @property
    def is_missing(self) -> bool:
        return self.status in _GONE

    @property
    def is_busy(self) -> bool:
        return self.status in _BUSY

    @property
    def retry_after_s(self) -> float | None:
        """Seconds to wait, from a number or a date (RFC 9110 10.2.3); None without either."""
        value = self._headers.get("Retry-After", "").strip()
        if value.isdecimal():
            return float(value[:9])
        try:
            return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
        except (ValueError, OverflowError):
            return None

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives. Raises ConnectionLost, TimedOut, Stopped."""
        if self._headers.get("Content-Encoding", "identity").lower() != "identity":
            raise self.protocol_error("dicomweb.encoding")
        try:
            while piece := next(self._body, b""):
                yield piece
        except httpx.ProtocolError as error:
            raise self.protocol_error("dicomweb.truncated") from error

    def read_all(self, limit_bytes: int) -> bytes:
        """Return the whole body of a response that has no reason to be large."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > limit_bytes:
                raise self.protocol_error("dicomweb.response-too-large")
        return bytes(body)

    def expect_within(self, seconds: float, awaited: Message) -> None:
        self.exchange.expect_within(seconds, awaited)

    def protocol_error(self, code: str, **values: Any) -> AditError:
        """Return the error for an unreadable response; the connection is not used again."""
        return ConnectionLost(self._node, code, request=self._what, hint=_HINT, **values)

    def error(self) -> AditError:
        """Return the error for a status other than success.

        The node's own text is not used: it may contain the name of a patient.
        """
        node = self._node
        about: dict[str, Any] = {"request": self._what, "http_status": self.status}
        if self.is_busy:
            after_s = self.retry_after_s
            if after_s is None:
                return NodeBusy(node, "dicomweb.busy", **about)
            return NodeBusy(node, "dicomweb.busy-until", seconds=f"{after_s:.0f}", **about)
        if 300 <= self.status < 400:
            return NodeRefused(node, "dicomweb.redirect", **about)
        if self.status in (405, 501):
            return NotSupported(node, "dicomweb.not-offered", **about)
        if self.status in _AGAIN or self.status > 507:
            return NodeBusy(node, "dicomweb.failed", **about)
        reason = Message(_REASONS.get(self.status, "clause.status-unknown"))
        return NodeRefused(node, "dicomweb.refused", reason=reason, **about)

    def type_error(self) -> NodeRefused:
        """Return the error for a success that is not DICOM, such as a sign-in page."""
        code = "dicomweb.web-page" if "html" in self.media_type else "dicomweb.not-dicom"
        return NodeRefused(self._node, code, request=self._what)

    def drain(self) -> None:
        """Skip a small remainder, so that the connection can be used again."""
        awaited = Message("clause.await-response-end", request=self._what)
        self.exchange.expect_within(_DRAIN_S, awaited, firm=True)
        left = _DRAIN_BYTES
        with suppress(AditError, httpx.ProtocolError):
            for piece in self._body:
                left -= len(piece)
                if left < 0:
                    break

    def close(self) -> None:
        """Close the response. The connection is kept if all of it was read, else closed."""
        self._response.close()


class DicomwebClient:
    """Keeps connections open between requests; ends all of them at once, from any thread.

    It calls only the configured host: it follows no redirect, uses no proxy and sends no cookie.
    """

    def __init__(self, server: DicomwebServer, total_s: float) -> None:
        self.server = server
        self._total_s = total_s
        self._http: httpx.Client | None = None
        self._opening = threading.Lock()
        self._exchanges: set[_Exchange] = set()
        self._aborted = False
        self._is_canceled = False

    def close(self) -> None:
        """End every wait and close all connections."""
        self._abort_exchanges()
        with self._opening:
            http, self._http = self._http, None
        if http is not None:
            http.close()

    def abort(self) -> None:
        """End every wait now. Waits and all later requests raise Stopped."""
        self._aborted = True
        self._abort_exchanges()

    def cancel_requests(self) -> None:
        """End every wait now, as `abort` does; after `resume` requests are possible again."""
        self._is_canceled = True
        self._abort_exchanges()

    def allow_requests(self) -> None:
        """Allow requests again. The caller must know that no interrupted wait is left."""
        self._is_canceled = False

    @contextmanager
    def send(self, request: DicomwebRequest) -> Iterator[DicomwebResponse]:
        """Yield the response once its head is read; the body is read inside the `with`.

        A node that says when to retry gets the request again, as far as `within_s` reaches. Raises
        Unreachable, ConnectionLost, TimedOut, NodeBusy, NodeRefused, Stopped. The caller handles
        statuses other than "too busy".
        """
        response = self._send_until_taken(request)
        try:
            yield response
            response.drain()
        finally:
            self._finish(response)

    def _send_until_taken(self, request: DicomwebRequest) -> DicomwebResponse:
        until = time.monotonic() + request.within_s
        for tries_left in reversed(range(MAX_BUSY_TRIES)):
            response = self._send_once(request)
            if not response.is_busy:
                break
            error, pause_s = response.error(), response.retry_after_s
            self._finish(response)
            is_late = pause_s is None or time.monotonic() + pause_s > until
            if not tries_left or is_late or not request.is_repeatable:
                raise error
            self._pause(pause_s or 0)
        return response

    def _send_once(self, request: DicomwebRequest) -> DicomwebResponse:
        """Send over a kept connection, or again over a new one.

        The peer may have closed the kept one.
        """
        while True:
            exchange = _Exchange(self.server, self._total_s, request)
            self._exchanges.add(exchange)
            try:
                return self._exchange(request, exchange)
            except BaseException as error:
                self._exchanges.discard(exchange)
                is_stale = isinstance(error, ConnectionLost) and exchange.is_reused
                if not is_stale or not request.is_repeatable:
                    raise

    def _exchange(self, request: DicomwebRequest, exchange: "_Exchange") -> DicomwebResponse:
        name = self.server.name
        self._check_aborted()
        try:
            response = self._open().send(request.to_httpx(self.server, exchange), stream=True)
        except httpx.ProtocolError as error:
            raise exchange.is_cut or exchange.not_http_error() from error
        exchange.expect_body()
        return DicomwebResponse(name, request.what, response, exchange)

    def _open(self) -> httpx.Client:
        with self._opening:
            if self._http is None:
                transport = _Transport(self.server)
                self._http = httpx.Client(
                    transport=transport, trust_env=False, follow_redirects=False
                )
            return self._http

    def _finish(self, response: DicomwebResponse) -> None:
        response.close()
        self._exchanges.discard(response.exchange)

    def _abort_exchanges(self) -> None:
        for exchange in tuple(self._exchanges):
            exchange.abort()

    def _pause(self, seconds: float) -> None:
        """Poll, because a signal handler may call `abort`, which takes no lock."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check_aborted()
            time.sleep(min(_POLL_S, max(until - time.monotonic(), 0)))

    def _check_aborted(self) -> None:
        if self._aborted or self._is_canceled:
            raise Stopped("node.stopped", node=self.server.name)


def basic_authorization(user: str, password: str) -> str:
    """Return the Authorization header of RFC 7617, in UTF-8."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


# Below httpx -----------------------------------------------------------------------------------


class _Transport(httpx.HTTPTransport):
    def __init__(self, server: DicomwebServer) -> None:
        # HTTPTransport has no parameter for the network backend, so its __init__ is not called.
        self._pool = httpcore.ConnectionPool(
            ssl_context=server.load_tls(),
            max_connections=None,
            max_keepalive_connections=_MAX_IDLE,
            network_backend=_Backend(server),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        # httpx reads this header even when it does not follow redirects, and fails if it is
        # malformed.
        response.headers.pop("Location", None)
        return response


class _Exchange:
    """The deadlines of one request and its response, and the way to abort it.

    Only time spent waiting counts. Bytes count as progress from MIN_BYTES_PER_S on, so a slow
    trickle does not extend a deadline. Used by one thread; only `abort` may be called from any
    thread.
    """

    def __init__(self, server: DicomwebServer, total_s: float, request: DicomwebRequest) -> None:
        self.socket: socket.socket | None = None
        self.is_reused = False
        self.is_waiting = False
        self.is_cut: ConnectionLost | None = None
        """Why the request was not sent completely; the node may have responded before."""
        self._node = server.name
        self._timeouts = server.timeouts
        self._request = request
        self._aborted = False
        self._total_s = total_s
        self._head_left: int | None = None
        self._is_answered = False
        self.connect_until = time.monotonic() + server.timeouts.connect_s
        self.expect_within(
            self._timeouts.no_progress_s,
            Message("clause.await-accept-request", request=request.what),
        )

    def abort(self) -> None:
        self._aborted = True
        one = self.socket
        if one is not None:
            with suppress(OSError):
                # SSLSocket.shutdown would drop the TLS state that the waiting thread uses.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def check_aborted(self) -> None:
        if self._aborted:
            raise Stopped("node.stopped", node=self._node)

    def expect_within(self, seconds: float, awaited: Message, *, firm: bool = False) -> None:
        """Set the time for what comes next; progress extends it, unless it is firm."""
        self._phase_s = self._granted_s = seconds
        self._awaited = awaited
        self._firm = firm
        self._begun = False
        self._gathered = 0

    def expect_body(self) -> None:
        self._head_left = None
        self.expect_within(
            self._timeouts.no_progress_s,
            Message("clause.await-response-end", request=self._request.what),
        )

    def read(self, one: socket.socket) -> bytes:
        """Read some bytes; empty at the end. Raises ConnectionLost, TimedOut, Stopped."""
        if not self._is_answered:
            self._is_answered = True
            self._head_left = MAX_HEAD_BYTES
            awaited = Message("clause.await-response", request=self._request.what)
            self.expect_within(self._request.within_s, awaited, firm=True)
        size = _READ_BYTES if self._head_left is None else min(_READ_BYTES, self._head_left)
        if not size:
            raise self._lost_error("dicomweb.headers-too-long")
        one.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        data = self._wait(one, lambda: one.recv(size))
        self._note_progress(len(data))
        if self._head_left is not None:
            # h11 would wait for an empty line, which a mail server never sends.
            if self._head_left == MAX_HEAD_BYTES and not b"HTTP/".startswith(data[:5]):
                raise self.not_http_error()
            self._head_left -= len(data)
        return data

    def write(self, one: socket.socket, data: memoryview) -> int:
        count = self._wait(one, lambda: one.send(data))
        self._note_progress(count)
        return count

    def _wait(self, one: socket.socket, operation: Callable[[], _T]) -> _T:
        left_s = min(self._phase_s, self._total_s)
        if left_s <= 0:
            raise self._timeout_error()
        started = time.monotonic()
        self.is_waiting = True
        try:
            self.check_aborted()
            one.settimeout(left_s)
            result = operation()
        except TimeoutError:
            raise self._timeout_error() from None
        except OSError as error:
            raise self._lost_error("connection.lost") from error
        finally:
            self.is_waiting = False
        self.check_aborted()
        spent_s = time.monotonic() - started
        self._phase_s -= spent_s
        self._total_s -= spent_s
        return result

    def _note_progress(self, count: int) -> None:
        self._gathered += count
        patience_s = self._timeouts.no_progress_s
        is_enough = self._gathered >= MIN_BYTES_PER_S * patience_s
        if not self._firm and (is_enough or not self._begun):
            self._begun = True
            self._gathered = 0
            self._phase_s = self._granted_s = patience_s
        self._timeouts.rate_limiter.throttle(count, lambda: self._aborted)

    def not_http_error(self) -> AditError:
        return ConnectionLost(self._node, "dicomweb.not-http", request=self._request.what)

    def _lost_error(self, code: str) -> AditError:
        self.check_aborted()
        return ConnectionLost(self._node, code, hint=_HINT)

    def _timeout_error(self) -> AditError:
        self.check_aborted()
        if self._total_s < self._phase_s:
            return TimedOut(self._node, "connection.total-time-exceeded", hint=_HINT)
        return TimedOut(
            self._node,
            "connection.timed-out",
            awaited=self._awaited,
            seconds=f"{self._granted_s:g}",
            hint=_HINT,
        )


class _Backend(httpcore.NetworkBackend):
    """Opens connections to the addresses that the host had when it was first called."""

    def __init__(self, server: DicomwebServer) -> None:
        self._server = server
        self._addresses: list[SocketAddress] = []

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that responds.

        Raises Unreachable, NodeRefused, Stopped.
        """
        exchange: _Exchange = timeout
        if not self._addresses:
            self._addresses = self._server.resolve()
        error: OSError | None = None
        for number, (family, address) in enumerate(self._addresses):
            exchange.check_aborted()
            one = exchange.socket = socket.socket(family, socket.SOCK_STREAM)
            try:
                # An address that does not respond must leave time for the others.
                left_s = exchange.connect_until - time.monotonic()
                one.settimeout(max(left_s / (len(self._addresses) - number), 0.001))
                one.connect(address)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return _Stream(self._server, one)
            except OSError as failed:
                error = failed
                one.close()
        exchange.check_aborted()
        raise _unreachable(self._server, error)


class _Stream(httpcore.NetworkStream):
    """A connection. `timeout` is the exchange that uses it now."""

    def __init__(self, server: DicomwebServer, one: socket.socket) -> None:
        self._server = server
        self._socket = one
        self._exchange: _Exchange | None = None

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        return self._lend_to(timeout).read(self._socket)

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        exchange = self._lend_to(timeout)
        view = memoryview(buffer)
        try:
            while view:
                view = view[exchange.write(self._socket, view[:_WRITE_BYTES]) :]
        except ConnectionLost as error:
            # httpcore then reads what the node may have sent before it closed.
            exchange.is_cut = error
            raise httpcore.WriteError from error

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None
    ) -> httpcore.NetworkStream:
        exchange: _Exchange = timeout
        try:
            self._socket = exchange.socket = ssl_context.wrap_socket(
                self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
            )
            self._socket.settimeout(max(exchange.connect_until - time.monotonic(), 0.001))
            self._socket.do_handshake()
        except OSError as error:
            self.close()
            exchange.check_aborted()
            raise _unreachable(self._server, error) from error
        return self

    def close(self) -> None:
        """Close the socket, unless a thread still waits for it.

        That thread closes it itself; the client has aborted its wait.
        """
        if self._exchange is None or not self._exchange.is_waiting:
            self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        if info != "is_readable":
            return None
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def _lend_to(self, exchange: "_Exchange") -> "_Exchange":
        if exchange is not self._exchange:
            exchange.is_reused = self._exchange is not None
            exchange.socket = self._socket
            self._exchange = exchange
        return exchange


def _unreachable(server: DicomwebServer, error: OSError | None) -> NodeError:
    host, port = server.root.host, server.port
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message
        return NodeRefused(server.name, "dicomweb.certificate-untrusted", reason=reason)
    if isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError):
        return Unreachable(server.name, "host.tls-failed", host=host, port=port)
    return unreachable_error(server.name, host, port, server.timeouts.connect_s, error)
