"""Web client: asks a DICOMweb node over HTTP/1.1, by rules that no answer can bend.

No redirect is followed, no cookie kept, no proxy asked; host and path come from the settings alone.
"""

import http.client
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from adit_engine import multipart
from adit_engine.elements import Buffer
from adit_engine.errors import AditError, ConnectionLost, Stopped, WrongInput
from adit_engine.nodes import web_status
from adit_engine.nodes.peer import Patience
from adit_engine.nodes.web_address import Address, Place, places
from adit_engine.nodes.web_line import HINT, READ_BYTES, WebLine

MAX_HEAD_BYTES = 256 * 1024 + READ_BYTES
MAX_RETRY_AFTER_TRIES = 3
_MOST_BYTES_A_PIECE = 1024 * 1024
"""More than one piece and all that frames it needs, so that no trailer goes on for ever."""
_MAX_IDLE = 2
_DRAIN_BYTES = 64 * 1024
_DRAIN_S = 1.0
_LOOK_S = 0.1


@dataclass(frozen=True)
class WebPeer:
    """Whom to ask, and how patiently. `name` is the node's, for errors."""

    name: str
    address: Address
    patience: Patience
    authorization: str = field(default="", repr=False)
    ca_file: str = ""
    client_certificate: str = ""
    client_key: str = ""
    allow_local: bool = False


@dataclass(frozen=True)
class Ask:
    """One request. `path` begins with a slash, below the root URL; it may name patients.

    `what` is such as "the search"; `within_s` is the time until the answer begins.
    """

    method: str
    path: str = field(repr=False)
    accept: str
    what: str
    within_s: float
    body: Sequence[Buffer] = field(default=(), repr=False)
    content_type: str = ""

    def head(self, peer: WebPeer) -> bytes:
        lines = [
            f"{self.method} {peer.address.path}{self.path} HTTP/1.1",
            f"Host: {peer.address.authority}",
            f"Accept: {self.accept}",
            "Accept-Encoding: identity",
            "User-Agent: ADIT",
        ]
        if peer.authorization:
            lines.append(f"Authorization: {peer.authorization}")
        if self.method == "POST":
            lines.append(f"Content-Type: {self.content_type}")
            lines.append(f"Content-Length: {sum(len(buffer) for buffer in self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class Answer:
    """An answer whose head has come; its body is read as it comes."""

    def __init__(self, node: str, line: WebLine, response: http.client.HTTPResponse, ask: Ask):
        self.status = response.status
        self._node = node
        self._line = line
        self._response = response
        self._ask = ask
        self._whole = False

    @property
    def content_type(self) -> str:
        return self._response.getheader("Content-Type") or ""

    @property
    def media_type(self) -> str:
        return multipart.media_type(self.content_type)

    @property
    def tells_its_length(self) -> bool:
        """Otherwise it lasts until the connection ends, however that comes about."""
        return self._response.chunked or self._response.length is not None

    @property
    def says_nothing(self) -> bool:
        """No body, and so no type either."""
        return not self.content_type and self._response.length == 0

    @property
    def warnings(self) -> list[str]:
        return self._response.headers.get_all("Warning") or []

    @property
    def retry_after_s(self) -> float | None:
        return web_status.retry_after_s(self._response.getheader("Retry-After"))

    def pieces(self) -> Iterator[bytes]:
        """The body, as it comes. Raises ConnectionLost where it is cut, TimedOut, Stopped."""
        encoding = (self._response.getheader("Content-Encoding") or "identity").lower()
        if encoding != "identity":
            raise self.fault("answered in an encoding that nobody asked for")
        # http.client takes the end of the connection for the end of the body, so we count.
        left = None if self._response.chunked else self._response.length
        while left != 0:
            self._line.allow_bytes(_MOST_BYTES_A_PIECE)
            try:
                piece = self._response.read1(READ_BYTES if left is None else min(READ_BYTES, left))
            except (http.client.HTTPException, ValueError) as error:
                raise self._cut() from error
            if not piece:
                break
            left = None if left is None else left - len(piece)
            yield piece
        self._line.allow_bytes(None)
        if left:
            raise self._cut()
        self._whole = True

    def whole(self, limit_bytes: int) -> bytes:
        """The whole body of an answer that has no reason to be large."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > limit_bytes:
                raise self.fault("sent a larger answer than any needs to be")
        return bytes(body)

    def expect_within(self, seconds: float, what: str) -> None:
        self._line.expect_within(seconds, what)

    def fault(self, what: str) -> AditError:
        """The error for an answer that cannot be read; the connection is not used again."""
        return ConnectionLost(self._node, f"{what} in answer to {self._ask.what}. {HINT}")

    def problem(self) -> AditError:
        """The error for a status that is no success."""
        return web_status.problem(self._node, self._ask.what, self.status, self.retry_after_s)

    def is_finished(self) -> bool:
        """Reads over the little that may be left. True when the line can be used again."""
        left = _DRAIN_BYTES
        self._line.expect_within(_DRAIN_S, "end its answer", firm=True)
        try:
            for piece in () if self._whole else self.pieces():
                left -= len(piece)
                if left < 0:
                    break
        except AditError:
            return False
        return self._whole and not self._response.will_close

    def close(self) -> None:
        self._response.close()

    def _cut(self) -> AditError:
        return self.fault("broke off in the middle")


class WebClient:
    """Keeps connections open between requests; ends them all at once, from any thread."""

    def __init__(self, peer: WebPeer, total_s: float) -> None:
        self.peer = peer
        self._total_s = total_s
        self._places: list[Place] = []
        self._tls: ssl.SSLContext | None = None
        self._idle: list[WebLine] = []
        self._busy: set[WebLine] = set()
        self._aborted = False
        self._broken_off = False

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
        for line in tuple(self._busy):
            line.abort()

    def abort(self) -> None:
        """Ends every wait now; whoever waits gets Stopped, and so does who asks later."""
        self._aborted = True
        for line in (*tuple(self._busy), *tuple(self._idle)):
            line.abort()

    def break_off(self) -> None:
        """Ends every wait now, as an abort does; `resume` lets the node be asked again."""
        self._broken_off = True
        for line in tuple(self._busy):
            line.abort()

    def resume(self) -> None:
        """For whoever knows that nobody is left whose wait was broken off."""
        self._broken_off = False

    @contextmanager
    def ask(self, ask: Ask, *, total_s: float | None = None) -> Iterator[Answer]:
        """The answer's head; its body is read inside the `with`.

        A node that says when to come again is asked again, as far as `within_s` reaches. Raises
        Unreachable, ConnectionLost, TimedOut, NodeBusy, NodeRefused, Stopped; other statuses than
        "too busy" are the caller's to judge.
        """
        line, answer = self._patiently(ask, self._total_s if total_s is None else total_s)
        try:
            yield answer
            if answer.is_finished() and len(self._idle) < _MAX_IDLE:
                self._keep(line)
        finally:
            answer.close()
            self._drop(line)

    def _patiently(self, ask: Ask, total_s: float) -> tuple[WebLine, Answer]:
        until = time.monotonic() + ask.within_s
        for tries_left in reversed(range(MAX_RETRY_AFTER_TRIES)):
            line, answer = self._once(ask, total_s)
            if answer.status not in web_status.BUSY:
                break
            error, pause_s = answer.problem(), answer.retry_after_s
            answer.close()
            self._drop(line)
            if not tries_left or pause_s is None or time.monotonic() + pause_s > until:
                raise error
            self._pause(pause_s)
        return line, answer

    def _once(self, ask: Ask, total_s: float) -> tuple[WebLine, Answer]:
        """Over a kept connection, or else afresh: the peer may have closed the kept one by now."""
        while True:
            line = self._line()
            fresh = not line.used
            try:
                return line, self._exchange(line, ask, total_s)
            except ConnectionLost:
                self._drop(line)
                if fresh:
                    raise
            except BaseException:
                self._drop(line)
                raise

    def _exchange(self, line: WebLine, ask: Ask, total_s: float) -> Answer:
        name = self.peer.name
        line.begin(total_s)
        cut: ConnectionLost | None = None
        try:
            patience_s = self.peer.patience.no_progress_s
            line.expect_within(patience_s, f"take what we sent for {ask.what}")
            line.send([ask.head(self.peer), *ask.body])
        except ConnectionLost as error:
            # A node that refuses an upload may answer and close before it has read all of it.
            cut = error
        line.expect_within(ask.within_s, f"answer {ask.what}", firm=True)
        line.allow_bytes(MAX_HEAD_BYTES)
        response = http.client.HTTPResponse(_socket_like(line), method=ask.method)
        try:
            response.begin()
        except AditError as error:
            response.close()
            raise cut or error from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            response.close()
            text = f"did not answer {ask.what} as a web server does. Check the root URL, or retry."
            raise cut or ConnectionLost(name, text) from error
        line.allow_bytes(None)
        line.expect_within(self.peer.patience.no_progress_s, f"go on with {ask.what}")
        return Answer(name, line, response, ask)

    # Connections -------------------------------------------------------------------------------

    def _line(self) -> WebLine:
        self._check_aborted()
        try:
            line = self._idle.pop()
        except IndexError:
            line = WebLine(self.peer.name, self.peer.patience)
        self._busy.add(line)
        # An abort between the check above and here has not seen this line.
        try:
            self._check_aborted()
            if not line.used:
                self._connect(line)
        except BaseException:
            self._drop(line)
            raise
        return line

    def _connect(self, line: WebLine) -> None:
        peer = self.peer
        if not self._places:
            self._places = places(
                peer.name,
                peer.address,
                allow_local=peer.allow_local,
                within_s=peer.patience.connect_s,
            )
        if peer.address.secure and self._tls is None:
            self._tls = _tls(peer)
        line.connect(peer.address, self._places, self._tls)

    def _keep(self, line: WebLine) -> None:
        line.used = True
        self._busy.discard(line)
        self._idle.append(line)

    def _drop(self, line: WebLine) -> None:
        if line in self._busy:
            self._busy.discard(line)
            line.close()

    def _pause(self, seconds: float) -> None:
        """Looks often, since `abort` may be called by a signal handler and take no lock."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._check_aborted()
            time.sleep(min(_LOOK_S, max(until - time.monotonic(), 0)))

    def _check_aborted(self) -> None:
        if self._aborted or self._broken_off:
            raise Stopped(f"{self.peer.name}: the work was stopped.")


def basic(user: str, password: str) -> str:
    """The Authorization header of RFC 7617, in UTF-8."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def _socket_like(line: WebLine) -> Any:
    """HTTPResponse takes a socket and only calls its makefile."""
    return line


def _tls(peer: WebPeer) -> ssl.SSLContext:
    """Raises WrongInput when a file of the settings cannot be read."""
    try:
        context = ssl.create_default_context(cafile=peer.ca_file or None)
    except OSError as error:
        raise WrongInput(f"{peer.name}: the CA file cannot be read: {error.strerror}.") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # From Python 3.13 on it is set; hospitals' own authorities often leave out what it asks for.
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    if peer.client_certificate:
        try:
            context.load_cert_chain(
                peer.client_certificate, peer.client_key or None, password=lambda: b""
            )
        except OSError as error:
            text = "the client certificate or its key cannot be read"
            raise WrongInput(f"{peer.name}: {text}: {error.strerror}.") from error
    return context
