"""Web: a DICOMweb service that lies on purpose, and keeps a log of what it truly did."""

import hashlib
import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from pydicom.datadict import dictionary_VR, tag_for_keyword

from adit.demo import matching
from adit.demo.holdings import Arrival, Held
from adit_engine import part10
from lab.lies import Kind, Liar, Sent

_LEVELS = {"studies": "STUDY", "series": "SERIES", "instances": "IMAGE"}
_JSON = "application/dicom+json"
_BOUNDARY = "lab-edge"
_RELATED = f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"'
_REASONS = {Kind.NO_ROOM: 0xA700, Kind.COERCE: 0xB000}
_GONE = (OSError, ValueError)


class _Over(Exception):
    """The connection is not used any more."""


@dataclass(frozen=True)
class Request:
    """`resources` is the path below the root, as pairs: ("studies", "1.2"), ("series", "")."""

    method: str
    resources: dict[str, str]
    parameters: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def level(self) -> str:
        return _LEVELS[list(self.resources)[-1]]

    @property
    def keys(self) -> dict[str, str]:
        """What is asked for, as the keys of a C-FIND."""
        keys = {"QueryRetrieveLevel": self.level}
        for name, value in self.parameters:
            if name == "includefield":
                keys.setdefault(value, "")
            elif name not in ("limit", "offset", "fuzzymatching"):
                keys[name] = value.replace(",", "\\") if name.endswith("UID") else value
        named = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        for keyword, resource in zip(named, _LEVELS, strict=True):
            if self.resources.get(resource):
                keys[keyword] = self.resources[resource]
        return keys


class LyingWeb(Liar):
    """QIDO-RS, WADO-RS and STOW-RS at the root URL, over some holdings. Use it with `with`."""

    def converse(self, one: socket.socket) -> None:
        with suppress(*_GONE, _Over), one.makefile("rb") as stream:
            while (request := _read(stream)) is not None:
                if self.tells(Kind.BUSY):
                    one.sendall(_answer(503, "text/plain", b"busy"))
                else:
                    self._way(request)(request, one)

    def _way(self, request: Request) -> Callable[[Request, socket.socket], None]:
        if request.method == "POST":
            return self._store
        return self._retrieve if "multipart" in request.headers["accept"] else self._find

    # Searches ----------------------------------------------------------------------------------

    def _find(self, request: Request, one: socket.socket) -> None:
        found = matching.answers(self.site.holdings, request.keys, self.site.ae_title)
        found = self.cut_list(request.level, found)
        asked = dict(request.parameters)
        first = int(asked.get("offset", 0))
        page = found[first : first + int(asked.get("limit", len(found)))]
        one.sendall(_answer(200, _JSON, json.dumps([_as_json(values) for values in page]).encode()))

    # Retrieval ---------------------------------------------------------------------------------

    def _retrieve(self, request: Request, one: socket.socket) -> None:
        held = matching.retrieved(self.site.holdings, request.keys)
        if self.tells(Kind.REFUSE):
            one.sendall(_answer(405, "text/plain", b"not here"))
        elif not held:
            one.sendall(_answer(404, "text/plain", b"nothing"))
        else:
            if self.tells(Kind.NOTHING):
                held = []
            one.sendall(_head(200, _RELATED) + _chunk(b"\r\n"))
            for at, instance in enumerate(held):
                self._break(one, at)
                for kind in self.ways(at):
                    self._send(one, instance, kind)
            one.sendall(_chunk(f"--{_BOUNDARY}--\r\n".encode()) + _chunk(b""))

    def _send(self, one: socket.socket, held: Held, kind: Kind | None) -> None:
        going = self.altered(held, kind)
        content = going.path.read_bytes()
        one.sendall(_chunk(f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()))
        one.sendall(_chunk(content) + _chunk(b"\r\n"))
        digest = hashlib.sha256(content[going.offset :]).hexdigest()
        self.log.sent.append(Sent(held.uid, digest, kind, 0))

    def _break(self, one: socket.socket, at: int) -> None:
        """Falls silent, breaks off, goes on for ever without an image, or tells the truth."""
        if self.tells(Kind.STALL, at):
            self.stay_silent(one)
            raise _Over
        if self.tells(Kind.ABORT, at):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise _Over
        if self.tells(Kind.ENDLESS, at):
            while not self._ending.wait(0.05):
                one.sendall(_chunk(b"\r\n"))
            raise _Over

    # Storage -----------------------------------------------------------------------------------

    def _store(self, request: Request, one: socket.socket) -> None:
        kept: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for content in _parts(request):
            self._break(one, len(self.log.stored))
            instance = part10.parse(content)
            arrival = Arrival(
                instance.sop_class_uid,
                instance.instance_uid,
                instance.transfer_syntax_uid,
                b"".join(instance.parts()),
            )
            lied = self.keep(arrival)
            item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [instance.instance_uid]}}
            if lied in _REASONS:
                tag = "00081197" if lied is Kind.NO_ROOM else "00081196"
                item[tag] = {"vr": "US", "Value": [_REASONS[lied]]}
            (failed if lied is Kind.NO_ROOM else kept).append(item)
        body = {
            "00081199": {"vr": "SQ", "Value": kept},
            "00081198": {"vr": "SQ", "Value": failed},
        }
        status = 200 if not failed else 202 if kept else 409
        one.sendall(_answer(status, _JSON, json.dumps(body).encode()))


# HTTP, as far as it is needed -------------------------------------------------------------------


def _read(stream: BinaryIO) -> Request | None:
    line = stream.readline().decode()
    if not line:
        return None
    method, target, _ = line.split()
    headers: dict[str, str] = {}
    while line := stream.readline().decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    path, _, query = target.partition("?")
    parts = path.strip("/").split("/")
    resources = dict(zip(parts[::2], [*parts[1::2], ""], strict=False))
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(method, resources, parse_qsl(query), headers, body)


def _parts(request: Request) -> Iterator[bytes]:
    edge = request.headers["content-type"].partition('boundary="')[2].partition('"')[0]
    for part in request.body.split(f"\r\n--{edge}".encode())[1:-1]:
        yield part.partition(b"\r\n\r\n")[2]


def _head(status: int, kind: str, length: int | None = None) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 {status} Lab\r\nContent-Type: {kind}\r\n{size}\r\n\r\n".encode()


def _answer(status: int, kind: str, body: bytes) -> bytes:
    return _head(status, kind, len(body)) + body


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _as_json(values: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword, text in values.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            continue
        vr = dictionary_VR(tag)[:2]
        held: list[Any] = text.split("\\") if text else []
        if vr == "PN":
            held = [{"Alphabetic": one} for one in held]
        found[f"{tag:08X}"] = {"vr": vr, "Value": held}
    return found
