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
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpcore
import httpx

from adit_engine.dicom_ul.peer import MIN_BYTES_PER_S, Timeouts
from adit_engine.dicom_ul.tcp_connection import DnsLookup, SocketAddress
from adit_engine.dicom_ul.tls import ClientTls, TlsCredentials
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
from adit_engine.nodes.dicomweb import multipart

MAX_HEAD_BYTES = 96 * 1024
"""Less than what h11 accepts, so that the error is ours and states the cause."""
MAX_BUSY_TRIES = 3

_T = TypeVar("_T")
_HINT = "Retry; if it happens again, ask its administrator to look into its log."
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

# Cloud providers serve the credentials of the machine at these addresses; some are not link-local.
_METADATA = frozenset({"169.254.169.254", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def parse_root_url(url: str) -> httpx.URL:
    """Parse a root URL of the form http(s)://host[:port][/path].

    Raises InvalidInput for anything else.
    """
    if any(not 0x20 < ord(character) < 0x7F for character in url):
        raise InvalidInput("Root URL: no spaces, and plain letters only.")
    if "?" in url or "#" in url or ".." in url.split("/"):
        raise InvalidInput("Root URL: without ?, # and dots that climb.")
    try:
        root = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL:
        raise InvalidInput("Root URL: this is no URL.") from None
    if root.scheme not in ("http", "https") or not root.host:
        raise InvalidInput("Root URL: write https://host/path, or http:// where it must be.")
    if root.userinfo:
        raise InvalidInput("Root URL: user and password have fields of their own.")
    if root.port is not None and not 0 < root.port < 65536:
        raise InvalidInput("Root URL: the port is between 1 and 65535.")
    return root


def why_refused(ip: str, allow_local: bool) -> str:
    """Return why an address must not be called; empty if it is allowed."""
    one = _unwrap(ipaddress.ip_address(ip.partition("%")[0]))
    if one.is_multicast or one.is_unspecified or (one.version == 4 and one.is_reserved):
        return "no single machine"
    if allow_local:
        return ""
    if str(one) in _METADATA or one.is_link_local:
        return "a link-local or metadata address"
    return "this machine itself" if one.is_loopback else ""


def _unwrap(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 address embeds, if any."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return ip.ipv4_mapped
        if ip in _NAT64:
            return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if ip.sixtofour is not None:
            return ip.sixtofour
    return ip


# Statuses (RFC 9110) ---------------------------------------------------------------------------

NO_CONTENT = 204
_OK = frozenset({200, NO_CONTENT, 206})
_GONE = frozenset({404, 410})
_BUSY = frozenset({429, 503})
_AGAIN = frozenset({408, 425, 500, 502, 504, 507})
_MEANINGS = {
    400: "it did not understand the request. Check the root URL and the prefixes",
    401: "it did not accept our sign-in. Check user and password or token in its settings; "
    "a token may have expired",
    403: "our account may not do this. Ask its administrator for the right",
    404: "nothing is known under this address. Check the root URL and the prefixes",
    406: "it cannot answer in the form that we asked for. Ask its administrator whether it "
    "speaks DICOMweb",
    407: "a proxy stands between. Ask the network's administrator for a direct way",
    410: "what was asked for is gone. Search for it again",
    413: "this is too large for it. Ask its administrator to raise the limit",
    414: "the address is too long for it",
    415: "it does not take DICOM here. Check the root URL and the prefixes",
    421: "it does not answer under this name. Check the root URL",
    495: "it did not accept our client certificate",
    496: "it wants a client certificate. Give one in its settings",
}


# Requests and responses ------------------------------------------------------------------------


@dataclass(frozen=True)
class DicomwebServer:
    """Address, credentials and timeouts of the service.

    `name` is that of the node, for errors.
    """

    name: str
    root: httpx.URL
    patience: Timeouts
    authorization: str = field(default="", repr=False)
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
            found = DnsLookup(host, self.port).addresses(self.patience.connect_s)
        except TimeoutError:
            text = f"the name service did not answer for {host}. Check the network."
            raise Unreachable(self.name, text) from None
        if not found:
            raise Unreachable(self.name, f"the host name {host} is unknown. Check the root URL.")
        reasons = [why_refused(address[0], self.allow_local) for _, address in found]
        if all(reasons):
            raise NodeRefused(
                self.name,
                f"{host} leads to {reasons[0]}, which is not allowed. Check the root URL; an "
                "administrator can allow it in its settings.",
            )
        return [one for one, reason in zip(found, reasons, strict=True) if not reason]

    def load_tls(self) -> ssl.SSLContext | None:
        """Return the TLS context; None for http.

        Raises InvalidInput when a file named in the settings cannot be used.
        """
        if self.root.scheme != "https":
            return None
        try:
            credentials = TlsCredentials.of_files(
                ("Client certificate file", self.client_certificate),
                ("Client key file", self.client_key if self.client_certificate else ""),
                ("CA file", self.ca_file),
            )
            return ClientTls(credentials, self.root.host).context
        except InvalidInput as error:
            raise InvalidInput(f"{self.name}: {error}") from None


@dataclass(frozen=True)
class DicomwebRequest:
    """One request.

    `path` begins with a slash, below the root URL; it may contain patient data. `what` is such as
    "the search"; `within_s` is the time until the response begins. A body that is not a sequence is
    sent in chunks, and only once.
    """

    method: str
    path: str = field(repr=False)
    accept: str
    what: str
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

    def __init__(self, node: str, what: str, response: httpx.Response, exchange: "_Exchange"):
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
    def is_gone(self) -> bool:
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
            raise self.fault("answered in an encoding that nobody asked for")
        try:
            while piece := next(self._body, b""):
                yield piece
        except httpx.ProtocolError as error:
            raise self.fault("broke off in the middle") from error

    def read_all(self, limit_bytes: int) -> bytes:
        """Return the whole body of a response that has no reason to be large."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > limit_bytes:
                raise self.fault("sent a larger answer than any needs to be")
        return bytes(body)

    def expect_within(self, seconds: float, what: str) -> None:
        self.exchange.expect_within(seconds, what)

    def fault(self, what: str) -> AditError:
        """Return the error for an unreadable response; the connection is not used again."""
        return ConnectionLost(self._node, f"{what} in answer to {self._what}. {_HINT}")

    def error(self) -> AditError:
        """Return the error for a status other than success.

        The node's own text is not used: it may contain the name of a patient.
        """
        node, what, status = self._node, self._what, self.status
        if self.is_busy:
            after_s = self.retry_after_s
            when = "later" if after_s is None else f"in {after_s:.0f} s"
            return NodeBusy(node, f"is too busy for {what} (status {status}). Try again {when}.")
        if 300 <= status < 400:
            return NodeRefused(
                node,
                f"answered {what} with a redirect (status {status}); ADIT follows none. "
                "Enter the final address as root URL.",
            )
        if status in (405, 501):
            return NotSupported(node, f"does not offer {what} here (status {status}).")
        if status in _AGAIN or status > 507:
            return NodeBusy(
                node,
                f"failed at {what} (status {status}). Try again later; if it stays, ask its "
                "administrator to look into its log.",
            )
        meaning = _MEANINGS.get(status, "it gave no reason that we know")
        return NodeRefused(node, f"refused {what} (status {status}): {meaning}.")

    def type_error(self) -> NodeRefused:
        """Return the error for a success that is not DICOM, such as a sign-in page."""
        kind = "a web page" if "html" in self.media_type else "something else than DICOM"
        text = (
            f"answered {self._what} with {kind}. Check the root URL, the prefixes and the sign-in."
        )
        return NodeRefused(self._node, text)

    def drain(self) -> None:
        """Skip a small remainder, so that the connection can be used again."""
        self.exchange.expect_within(_DRAIN_S, "end its answer", firm=True)
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
        self._broken_off = False

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

    def break_off(self) -> None:
        """End every wait now, as `abort` does; after `resume` requests are possible again."""
        self._broken_off = True
        self._abort_exchanges()

    def resume(self) -> None:
        """Allow requests again. The caller must know that no interrupted wait is left."""
        self._broken_off = False

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
            raise exchange.cut or exchange.not_http() from error
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
        if self._aborted or self._broken_off:
            raise Stopped(f"{self.server.name}: the work was stopped.")


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
        self.cut: ConnectionLost | None = None
        """Why the request was not sent completely; the node may have responded before."""
        self._node = server.name
        self._patience = server.patience
        self._request = request
        self._aborted = False
        self._total_s = total_s
        self._head_left: int | None = None
        self._is_answered = False
        self.connect_until = time.monotonic() + server.patience.connect_s
        self.expect_within(self._patience.no_progress_s, f"take what we sent for {request.what}")

    def abort(self) -> None:
        self._aborted = True
        one = self.socket
        if one is not None:
            with suppress(OSError):
                # SSLSocket.shutdown would drop the TLS state that the waiting thread uses.
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def check_aborted(self) -> None:
        if self._aborted:
            raise Stopped(f"{self._node}: the work was stopped.")

    def expect_within(self, seconds: float, what: str, *, firm: bool = False) -> None:
        """Set the time for what comes next; progress extends it, unless it is firm."""
        self._phase_s = self._granted_s = seconds
        self._what = what
        self._firm = firm
        self._begun = False
        self._gathered = 0

    def expect_body(self) -> None:
        self._head_left = None
        self.expect_within(self._patience.no_progress_s, f"go on with {self._request.what}")

    def read(self, one: socket.socket) -> bytes:
        """Read some bytes; empty at the end. Raises ConnectionLost, TimedOut, Stopped."""
        if not self._is_answered:
            self._is_answered = True
            self._head_left = MAX_HEAD_BYTES
            what = f"answer {self._request.what}"
            self.expect_within(self._request.within_s, what, firm=True)
        size = _READ_BYTES if self._head_left is None else min(_READ_BYTES, self._head_left)
        if not size:
            raise self._lost("sent longer headers than any answer needs")
        one.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        data = self._wait(one, lambda: one.recv(size))
        self._note_progress(len(data))
        if self._head_left is not None:
            # h11 would wait for an empty line, which a mail server never sends.
            if self._head_left == MAX_HEAD_BYTES and not b"HTTP/".startswith(data[:5]):
                raise self.not_http()
            self._head_left -= len(data)
        return data

    def write(self, one: socket.socket, data: memoryview) -> int:
        count = self._wait(one, lambda: one.send(data))
        self._note_progress(count)
        return count

    def _wait(self, one: socket.socket, operation: Callable[[], _T]) -> _T:
        left_s = min(self._phase_s, self._total_s)
        if left_s <= 0:
            raise self._timed_out()
        started = time.monotonic()
        self.is_waiting = True
        try:
            self.check_aborted()
            one.settimeout(left_s)
            result = operation()
        except TimeoutError:
            raise self._timed_out() from None
        except OSError as error:
            raise self._lost("broke off the connection") from error
        finally:
            self.is_waiting = False
        self.check_aborted()
        spent_s = time.monotonic() - started
        self._phase_s -= spent_s
        self._total_s -= spent_s
        return result

    def _note_progress(self, count: int) -> None:
        self._gathered += count
        patience_s = self._patience.no_progress_s
        is_enough = self._gathered >= MIN_BYTES_PER_S * patience_s
        if not self._firm and (is_enough or not self._begun):
            self._begun = True
            self._gathered = 0
            self._phase_s = self._granted_s = patience_s
        self._patience.pace.keep(count, lambda: self._aborted)

    def not_http(self) -> AditError:
        what = self._request.what
        text = f"did not answer {what} as a web server does. Check the root URL, or retry."
        return ConnectionLost(self._node, text)

    def _lost(self, what: str) -> AditError:
        self.check_aborted()
        return ConnectionLost(self._node, f"{what}. {_HINT}")

    def _timed_out(self) -> AditError:
        self.check_aborted()
        if self._total_s < self._phase_s:
            text = "took longer in all than its time limit allows."
        else:
            text = f"did not {self._what} within {self._granted_s:g} s."
        return TimedOut(self._node, f"{text} {_HINT}")


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
            exchange.cut = error
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
    if isinstance(error, ssl.SSLCertVerificationError):
        return NodeRefused(
            server.name,
            f"its certificate is not trusted ({error.verify_message}). Give the CA file of whoever "
            "issued it, or check the host name in the root URL.",
        )
    place = f"{server.root.host} port {server.port}"
    if isinstance(error, ConnectionRefusedError):
        text = f"nothing listens on {place}. Check the root URL, and whether it is running."
    elif isinstance(error, TimeoutError):
        text = (
            f"{place} did not answer within {server.patience.connect_s:g} s. "
            "Check the root URL and the firewall."
        )
    elif isinstance(error, ssl.SSLError):
        text = f"{place} does not agree on an encrypted connection. Check the root URL and TLS."
    else:
        reason = error.strerror if error is not None else "no address"
        text = f"no connection to {place}: {reason}. Check the root URL and the network."
    return Unreachable(server.name, text)
