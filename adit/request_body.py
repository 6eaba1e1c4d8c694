"""Cut requests whose body stops arriving, so that they do not occupy the threads of a server.

Granian has a time limit for the header of a request, but none for its body. Gunicorn has neither,
and waits for the rest of a body that was not read. Both reset the connection of a client that is
still sending when the response is complete. Used by `wsgi.py` and `dicomweb_wsgi.py`.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from django.conf import settings

PIECE_BYTES = 16 * 1024
MIN_BYTES_PER_S = 4096
FLUSH_S = 0.2
DISCARD_PIECE_BYTES, DISCARD_BYTES = 256 * 1024, 64 * 1024 * 1024
DISCARD_S = 2.0

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_TEXT = b"The request did not arrive completely in time. Send it again.\n"


class BodyStalled(TimeoutError):
    """The body of a request stopped arriving, or arrives far too slowly."""


class TimedBody:
    """The body of a request, read with a time limit. Raises BodyStalled."""

    def __init__(self, body: Any, limit_s: float, size: int | None = 0) -> None:
        self.is_stalled = False
        self._unread = size
        self._body = body
        self._limit_s = limit_s
        self._left_s = limit_s

    @property
    def is_read(self) -> bool:
        """Whether nothing follows; unknown without a size until a read finds the end."""
        return self._unread is not None and self._unread <= 0

    def discard(self) -> None:
        """Read what is left, within limits, so that a client that is sending sees the response.

        Otherwise nginx may find that the connection was reset, and makes a 502 of it.
        """
        until, left = time.monotonic() + DISCARD_S, DISCARD_BYTES
        self._limit_s = self._left_s = min(DISCARD_S, self._left_s)
        with suppress(OSError):
            while not self.is_read and left > 0 and time.monotonic() < until:
                left -= len(self._read_piece(DISCARD_PIECE_BYTES))

    def read(self, size: int = -1) -> bytes:
        pieces = []
        while size:
            wanted = PIECE_BYTES if size < 0 else min(size, PIECE_BYTES)
            piece = self._read_piece(wanted)
            pieces.append(piece)
            if len(piece) < wanted:
                break
            size -= wanted if size > 0 else 0
        return b"".join(pieces)

    def readline(self, size: int = -1) -> bytes:
        return self._read_in_time(self._body.readline, size)

    def _read_piece(self, size: int) -> bytes:
        piece = self._read_in_time(self._body.read, size)
        if len(piece) < size:
            self._unread = 0
        return piece

    def _read_in_time(self, read: Callable[[int], bytes], size: int) -> bytes:
        """Read in another thread, because a read of Granian's body cannot be interrupted."""
        found: list[bytes] = []

        def read_piece() -> None:
            # An error would be printed with its text, which may quote the body.
            with suppress(Exception):
                found.append(read(size))

        reader = threading.Thread(target=read_piece, daemon=True)
        began = time.monotonic()
        reader.start()
        reader.join(max(0.0, min(self._left_s, self._limit_s)))
        if not found:
            self.is_stalled = True
            raise BodyStalled
        if self._unread is not None:
            self._unread -= len(found[0])
        self._left_s += len(found[0]) / MIN_BYTES_PER_S - (time.monotonic() - began)
        return found[0]


def cut_stalled_bodies(application: Application) -> Application:
    """Answer a request whose body has stalled with status 408, and close its connection."""

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = TimedBody(environ["wsgi.input"], settings.REQUEST_BODY_S, _get_size(environ))
        environ["wsgi.input"] = body
        started: list[tuple[Any, ...]] = []
        response = application(environ, lambda *head: started.append(head))
        client, has_stalled = environ.get("gunicorn.socket"), body.is_stalled
        if not has_stalled:
            body.discard()
            # Granian would wait for what still reads the body.
            has_stalled = client is None and body.is_stalled
        if not has_stalled:
            start_response(*started[0])
            if client is None or body.is_read:
                return response
            return _send_and_end(response, client)
        if client is not None:
            _end_reading(client)
        if hasattr(response, "close"):
            response.close()
        # Granian closes the connection only if a streamed response is shorter than stated.
        length = str(len(_TEXT) + 1)
        start_response(
            "408 Request Timeout",
            [("Content-Type", "text/plain"), ("Content-Length", length), ("Connection", "close")],
        )
        return _send_and_wait(_TEXT)

    return wrapped


def _get_size(environ: dict[str, Any]) -> int | None:
    """Return the length of the body, None if only its end will tell."""
    if environ.get("HTTP_TRANSFER_ENCODING"):
        return None
    return int(environ.get("CONTENT_LENGTH") or 0)


def _send_and_end(response: Iterable[bytes], client: Any) -> Iterator[bytes]:
    """Yield the response, then keep Gunicorn from waiting for the rest of the request."""
    try:
        yield from response
    finally:
        _end_reading(client)
        if hasattr(response, "close"):
            response.close()


def _end_reading(client: Any) -> None:
    with suppress(OSError):
        client.shutdown(socket.SHUT_RD)


def _send_and_wait(text: bytes) -> Iterator[bytes]:
    """Yield the text and give the server time to send it before it closes the connection."""
    yield text
    time.sleep(FLUSH_S)
