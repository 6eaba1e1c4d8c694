"""Read and write multipart/related bodies as streams (RFC 2046 5.1, PS3.18 8.6.1)."""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from email.message import Message

from adit_sdk.errors import IncompleteAnswer

DICOM_TYPE = "application/dicom"
MAX_HEADER_BYTES = 16 * 1024


class PartReader:
    """Yields (headers, body) for each part; header names are lower case.

    A body is an iterator of bytes, to be used before the next part. Raises IncompleteAnswer if the
    stream ends without the closing delimiter.
    """

    def __init__(self, pieces: Iterable[bytes], content_type: str) -> None:
        self._pieces = iter(pieces)
        self._delimiter = b"\r\n--" + _read_boundary(content_type).encode()
        self._buffer = bytearray(b"\r\n")  # the first delimiter has no line before it

    def __iter__(self) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
        self._drain(self._read_body())
        while self._read(2) != b"--":
            headers = self._read_headers()
            body = self._read_body()
            yield headers, body
            self._drain(body)
        self._drain(self._pieces)

    def read_rest(self, limit: int) -> bytes:
        """Return what is left of a stream that has failed, at most `limit` bytes."""
        try:
            while len(self._buffer) < limit:
                self._fill()
        except IncompleteAnswer:
            pass
        return bytes(self._buffer[:limit])

    def _drain(self, pieces: Iterator[bytes]) -> None:
        for _piece in pieces:
            pass

    def _fill(self) -> None:
        piece = next(self._pieces, None)
        if piece is None:
            raise IncompleteAnswer("The answer ended without its last boundary.", "sdk.cut")
        self._buffer += piece

    def _read(self, length: int) -> bytes:
        """Return the next bytes without removing them."""
        while len(self._buffer) < length:
            self._fill()
        return bytes(self._buffer[:length])

    def _read_headers(self) -> dict[str, str]:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise IncompleteAnswer("The answer is not multipart.", "sdk.not-multipart")
            self._fill()
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        pairs = (line.partition(":") for line in lines if ":" in line)
        return {name.strip().lower(): value.strip() for name, _colon, value in pairs}

    def _read_body(self) -> Iterator[bytes]:
        kept = len(self._delimiter) - 1
        while (end := self._buffer.find(self._delimiter)) < 0:
            if len(self._buffer) > kept:
                piece = bytes(self._buffer[:-kept])
                del self._buffer[:-kept]
                yield piece
            self._fill()
        piece = bytes(self._buffer[:end])
        del self._buffer[: end + len(self._delimiter)]
        if piece:
            yield piece


def _read_boundary(content_type: str) -> str:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/related" or not boundary:
        raise IncompleteAnswer("The answer is not multipart.", "sdk.not-multipart")
    return boundary


def new_boundary() -> str:
    return secrets.token_hex(24)


def encode_parts(bodies: Iterable[Iterable[bytes]], boundary: str) -> Iterator[bytes]:
    """Yield a body of DICOM parts. After an error of `bodies` the last boundary is missing."""
    for body in bodies:
        yield f"\r\n--{boundary}\r\nContent-Type: {DICOM_TYPE}\r\n\r\n".encode()
        yield from body
    yield f"\r\n--{boundary}--\r\n".encode()
