"""A DICOMweb service with configurable faults that logs what it really did."""

import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from pydicom.datadict import dictionary_VR, tag_for_keyword

from adit.demo.pacs_index import StoredInstance, find, select
from adit_engine.dicom_file import part10
from lab.lies import Kind, Liar, Over, Part, Sent, presentation_state

_LEVELS = {"studies": "STUDY", "series": "SERIES", "instances": "IMAGE"}
_JSON = "application/dicom+json"
_BOUNDARY = "lab-edge"
_RELATED = f'multipart/related; type="application/dicom"; boundary="{_BOUNDARY}"'
_WARNINGS = {Kind.COERCE: 0xB000}
_REASONS = {Kind.NO_ROOM: 0xA700, Kind.ADMIT: 0xA700, Kind.DUPLICATE: 0x0111}
_GONE = (Over, OSError, ValueError)
_REFUSALS = {
    Kind.BUSY: 503,
    Kind.EXHAUSTED: 507,
    Kind.REJECT: 403,
    Kind.NO_CLASS: 415,
    Kind.REFUSE: 405,
}


@dataclass(frozen=True)
class Request:
    """A request; `resources` is its path as pairs: ("studies", "1.2"), ("series", "")."""

    method: str
    resources: dict[str, str]
    parameters: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def about(self) -> Part:
        if self.method == "POST":
            return Part.STORE
        return Part.GET if "multipart" in self.headers["accept"] else Part.FIND

    @property
    def level(self) -> str:
        return _LEVELS[list(self.resources)[-1]]

    @property
    def keys(self) -> dict[str, str]:
        """The query as keys of a C-FIND."""
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
    """QIDO-RS, WADO-RS and STOW-RS at the root URL. Use it with `with`."""

    def converse(self, one: socket.socket) -> None:
        with suppress(*_GONE), one.makefile("rb") as stream:
            while (request := _read(stream)) is not None:
                if (status := self._refusal(request.about)) is not None:
                    one.sendall(_answer(status, "text/plain", b"no"))
                elif request.about is Part.STORE:
                    self._store(request, one)
                elif request.about is Part.GET:
                    self._retrieve(request, one)
                else:
                    self._find(request, one)

    def _refusal(self, on: Part) -> int | None:
        for kind, status in _REFUSALS.items():
            if (kind is not Kind.REFUSE or on is Part.GET) and self.tells(kind, on=on):
                return status
        return None

    def _say(self, one: socket.socket, on: Part, at: int, whole: bytes) -> None:
        """Send a response, or the part of it that a fault lets through. Raises Over."""
        how = self.breaks(at, on)
        if how is None:
            one.sendall(whole)
        else:
            huge = (
                _head(200, _JSON if on is not Part.GET else _RELATED, 2**32) + b"[" + bytes(65536)
            )
            self.break_off(one, how, whole, huge=huge)

    def _continue(self, one: socket.socket) -> None:
        """Send "100 Continue" responses endlessly."""
        while not self._ending.wait(0.02):
            one.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        raise Over

    # Searches ----------------------------------------------------------------------------------

    def _find(self, request: Request, one: socket.socket) -> None:
        found = find(self.site.index, request.keys, self.site.ae_title)
        found = self.cut_list(request.level, found)
        asked = dict(request.parameters)
        first = int(asked.get("offset", 0))
        page = found[first : first + int(asked.get("limit", len(found)))]
        if self.tells(Kind.ENDLESS, on=Part.FIND):
            self._continue(one)
        text = json.dumps([_as_json(values) for values in page]).encode()
        if self.tells(Kind.NO_STATUS, on=Part.FIND):
            text = text[:-1]
        self._say(one, Part.FIND, 0, _answer(200, _JSON, text))

    # Retrieval ---------------------------------------------------------------------------------

    def _retrieve(self, request: Request, one: socket.socket) -> None:
        held = select(self.site.index, request.keys)
        if not held:
            one.sendall(_answer(404, "text/plain", b"nothing"))
            return
        if self.tells(Kind.NOTHING, on=Part.GET):
            held = []
        if held and self.tells(Kind.PRESENTS, on=Part.GET):
            held = [*held, presentation_state(held[0], self._scratch)]
        self.wait_for_tape(Part.GET)
        said = [_head(200, _RELATED) + _chunk(b"\r\n")]
        for at, instance in enumerate(held):
            if self.tells(Kind.ENDLESS, at, Part.GET):
                self._say_line_ends(one, b"".join(said))
            said += [self._part(instance, kind) for kind in self.ways(at, Part.GET)]
            self._say(one, Part.GET, at, b"".join(said))
            said = []
        if not self.tells(Kind.NO_STATUS, on=Part.GET):
            said.append(_chunk(f"--{_BOUNDARY}--\r\n".encode()))
        one.sendall(b"".join([*said, _chunk(b"")]))

    def _part(self, held: StoredInstance, kind: Kind | None) -> bytes:
        going = self.altered(held, kind)
        content = going.path.read_bytes()
        digest = hashlib.sha256(content[going.offset :]).hexdigest()
        self.log.sent.append(Sent(held.uid, digest, kind, 0))
        head = f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        return _chunk(head) + _chunk(content) + _chunk(b"\r\n")

    def _say_line_ends(self, one: socket.socket, before: bytes) -> None:
        """Send line ends endlessly instead of images."""
        one.sendall(before)
        while not self._ending.wait(0.05):
            one.sendall(_chunk(b"\r\n"))
        raise Over

    # Storage -----------------------------------------------------------------------------------

    def _store(self, request: Request, one: socket.socket) -> None:
        if self.tells(Kind.ENDLESS, on=Part.STORE):
            self._continue(one)
        kept: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        admitted = False
        for content in _parts(request):
            instance = part10.parse_file(content)
            lied = self.keep(instance)
            admitted |= lied is Kind.ADMIT
            item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [instance.instance_uid]}}
            for tag, reasons in (("00081196", _WARNINGS), ("00081197", _REASONS)):
                if lied in reasons:
                    item[tag] = {"vr": "US", "Value": [reasons[lied]]}
            (failed if lied in _REASONS else kept).append(item)
        body = {
            "00081199": {"vr": "SQ", "Value": kept},
            "00081198": {"vr": "SQ", "Value": failed},
        }
        status = 200 if not failed or admitted else 202 if kept else 409
        text = b"" if self.tells(Kind.NO_STATUS, on=Part.STORE) else json.dumps(body).encode()
        self._say(one, Part.STORE, 0, _answer(status, _JSON, text))


# HTTP -------------------------------------------------------------------------------------------


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
