"""Read and write multipart/related bodies of DICOM objects as streams.

As in RFC 2046 5.1, RFC 2387 and PS3.18 8.6.1. Used by WADO-RS, STOW-RS and the probe of a service.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from adit_engine.dicom_ul.message_buffer import MessageBuffer
from adit_engine.elements import Buffer
from adit_engine.errors import Malformed

DICOM_MEDIA_TYPE = "application/dicom"

MAX_PREAMBLE_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024
_MAX_PADDING = 256

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)')
_BOUNDARY = re.compile(r"[\x20-\x7e]{0,199}[\x21-\x7e]")
_AFTER_BOUNDARY = re.compile(rb"(--)?[ \t]*\r?\n")
_PARTIAL_LINE_END = re.compile(rb"-?-?[ \t]*\r?")
_END_OF_HEADERS = re.compile(rb"(?:\A|\n)\r?\n")


@dataclass(frozen=True, slots=True)
class BodyPart:
    """One part. Header names are lower case.

    A large body is mapped from an unnamed file.
    """

    headers: Mapping[str, str]
    body: Buffer = field(repr=False)

    @property
    def media_type(self) -> str:
        return media_type(self.headers.get("content-type", ""))


def media_type(content_type: str) -> str:
    """Return the media type in lower case: `text/html` of `Text/HTML; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def read_parameter(content_type: str, name: str) -> str:
    """Return the value of one parameter without quotes; empty if it is missing."""
    for key, value in _PARAMETER.findall(content_type):
        if key.lower() == name:
            text: str = value.strip()
            return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
    return ""


# Reading ---------------------------------------------------------------------------------------


def read_parts(pieces: Iterable[Buffer], content_type: str) -> Iterator[BodyPart]:
    """Yield the parts of a body. Lazy, one part in memory at a time.

    The pieces may have any size. Bare line feeds are accepted as line ends. Raises Malformed for a
    type that is not multipart and for a body that ends before its last boundary, OSError when the
    temporary folder is full.
    """
    boundary = read_parameter(content_type, "boundary")
    if not media_type(content_type).startswith("multipart/") or not _BOUNDARY.fullmatch(boundary):
        raise Malformed("multipart.no-boundary")
    return _MultipartReader(pieces, boundary.encode()).parts()


class _MultipartReader:
    """Holds a window of the body: what was not passed on yet, from `_at` on."""

    def __init__(self, pieces: Iterable[Buffer], boundary: bytes) -> None:
        self._pieces = iter(pieces)
        self._mark = b"\n--" + boundary
        # A boundary in the first line then looks like any other.
        self._window = b"\r\n"
        self._at = 0
        self._ended = False

    def parts(self) -> Iterator[BodyPart]:
        preamble = _Preamble()
        last = self._read_to_boundary(preamble.add)
        while not last:
            headers = self._read_headers()
            body = MessageBuffer(None)
            try:
                last = self._read_to_boundary(body.add)
                yield BodyPart(headers, body.get_content())
            finally:
                body.discard()

    def _read_to_boundary(self, add: Callable[[memoryview], None]) -> bool:
        """Pass on what precedes the next boundary; return True if that was the last one."""
        while True:
            found = self._window.find(self._mark, self._at)
            if found < 0:
                # Keep what may be the beginning of a boundary, with the CR before it.
                self._emit(add, len(self._window) - len(self._mark) - 1)
                self._read_more()
                continue
            line = found + len(self._mark)
            end = _AFTER_BOUNDARY.match(self._window, line, line + _MAX_PADDING)
            if end or self._is_closing_boundary(line):
                is_cr = found > self._at and self._window[found - 1] == 0x0D
                self._emit(add, found - is_cr)
                self._at = end.end() if end else len(self._window)
                return end is None or end[1] is not None
            if self._may_become_boundary(line):
                self._emit(add, found - 1)
                self._read_more()
            else:
                self._emit(add, found + 1)

    def _may_become_boundary(self, line: int) -> bool:
        rest = self._window[line : line + _MAX_PADDING]
        return len(rest) < _MAX_PADDING and bool(_PARTIAL_LINE_END.fullmatch(rest))

    def _is_closing_boundary(self, line: int) -> bool:
        """Return whether this is a closing boundary at the end of the body, without a line end."""
        return self._ended and self._window[line:].rstrip(b" \t\r") == b"--"

    def _read_headers(self) -> dict[str, str]:
        while True:
            block = self._window[self._at : self._at + MAX_HEADER_BYTES]
            end = _END_OF_HEADERS.search(block)
            if end:
                self._at += end.end()
                return _parse_headers(block[: end.end()])
            if len(block) == MAX_HEADER_BYTES:
                raise Malformed("multipart.headers-too-long")
            self._read_more()

    def _emit(self, add: Callable[[memoryview], None], end: int) -> None:
        if end > self._at:
            add(memoryview(self._window)[self._at : end])
            self._at = end

    def _read_more(self) -> None:
        """Read another piece. Raises Malformed when the body has ended for the second time."""
        if self._ended:
            raise Malformed("multipart.truncated")
        piece = next(self._pieces, None)
        if piece is None:
            self._ended = True
        else:
            self._window = self._window[self._at :] + piece
            self._at = 0


class _Preamble:
    """Text before the first boundary. It is ignored, and limited in size."""

    def __init__(self) -> None:
        self._left = MAX_PREAMBLE_BYTES

    def add(self, piece: memoryview) -> None:
        self._left -= len(piece)
        if self._left < 0:
            raise Malformed("multipart.wrong-boundary")


def _parse_headers(block: bytes) -> dict[str, str]:
    text = re.sub(r"\r?\n[ \t]+", " ", block.decode("latin-1"))
    lines = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, _, value in lines}


# Writing ---------------------------------------------------------------------------------------


def new_boundary() -> str:
    """Return a random boundary, which no object contains."""
    return f"adit-{secrets.token_hex(20)}"


def content_type(boundary: str) -> str:
    return f'multipart/related; type="{DICOM_MEDIA_TYPE}"; boundary="{boundary}"'


def make_part_head(boundary: str, part_type: str = DICOM_MEDIA_TYPE) -> bytes:
    """Return what precedes the body of a part, including the boundary."""
    return f"\r\n--{boundary}\r\nContent-Type: {part_type}\r\n\r\n".encode()


def closing_boundary(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode()


def encode_parts(bodies: Iterable[Iterable[Buffer]], boundary: str) -> Iterator[Buffer]:
    """Yield a body of DICOM parts. Lazy; copies nothing.

    `bodies` gives the buffers of each part. When it raises, the last boundary is never written, so
    that the reader notices the cut.
    """
    for body in bodies:
        yield make_part_head(boundary)
        yield from body
    yield closing_boundary(boundary)
