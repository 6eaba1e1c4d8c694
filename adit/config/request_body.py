"""Cut requests whose body stops arriving, so that they do not occupy the threads of the web server.

Granian has a time limit for the header of a request, but none for its body. Used by `wsgi.py`.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from django.conf import settings

PIECE_BYTES = 16 * 1024
MIN_BYTES_PER_S = 4096
FLUSH_S = 0.2

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_TEXT = b"The request did not arrive completely in time. Send it again.\n"


class BodyStalled(TimeoutError):
    """The body of a request stopped arriving, or arrives far too slowly."""


class TimedBody:
    """The body of a request, read with a time limit. Raises BodyStalled."""

    def __init__(self, body: Any, limit_s: float) -> None:
        self.is_stalled = False
        self._body = body
        self._limit_s = limit_s
        self._left_s = limit_s

    def read(self, size: int = -1) -> bytes:
        pieces = []
        while size:
            wanted = PIECE_BYTES if size < 0 else min(size, PIECE_BYTES)
            piece = self._read_in_time(self._body.read, wanted)
            pieces.append(piece)
            if len(piece) < wanted:
                break
            size -= wanted if size > 0 else 0
        return b"".join(pieces)

    def readline(self, size: int = -1) -> bytes:
        return self._read_in_time(self._body.readline, size)

    def _read_in_time(self, read: Callable[[int], bytes], size: int) -> bytes:
        """Read in another thread, because a read of Granian's body cannot be interrupted."""
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(read(size)), daemon=True)
        began = time.monotonic()
        reader.start()
        reader.join(max(0.0, min(self._left_s, self._limit_s)))
        if not found:
            self.is_stalled = True
            raise BodyStalled
        self._left_s += len(found[0]) / MIN_BYTES_PER_S - (time.monotonic() - began)
        return found[0]


def cut_stalled_bodies(application: Application) -> Application:
    """Answer a request whose body has stalled with status 408, and close its connection."""

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"] = TimedBody(environ["wsgi.input"], settings.REQUEST_BODY_S)
        started: list[tuple[Any, ...]] = []
        response = application(environ, lambda *head: started.append(head))
        if not body.is_stalled:
            start_response(*started[0])
            return response
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


def _send_and_wait(text: bytes) -> Iterator[bytes]:
    """Yield the text and give the server time to send it before it closes the connection."""
    yield text
    time.sleep(FLUSH_S)
