"""Peers for the DICOMweb tests: Orthanc with its web service, and a scripted server."""

import json
import os
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import SHUT_RDWR, SO_LINGER, SOL_SOCKET, create_server, socket
from struct import pack
from time import monotonic
from typing import Any

import pytest

from adit_engine.errors import AditError
from adit_engine.nodes.base import NOT_OBSERVED, StoreResult, TrafficObserver
from adit_engine.nodes.dicomweb import multipart
from adit_engine.nodes.dicomweb.node import DicomwebNode, DicomwebSettings
from adit_engine.values.query import Query
from adit_engine.values.record import Record
from adit_engine.values.references import SeriesRef, StudyRef
from lab import peers
from lab.instances import images
from lab.samples import ROOT, ct, file_bytes

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
needs_orthanc = pytest.mark.skipif(
    peers.ORTHANC is None or not PLUGIN.exists(),
    reason="needs Orthanc with DICOMweb: apt install orthanc orthanc-dicomweb",
)

TIMES = {"connect_s": 30.0, "first_byte_s": 30.0, "no_progress_s": 30.0}
"""Limits that a slow machine does not reach. Tests of a time limit set a short one."""
TYPE = 'multipart/related; type="application/dicom"; boundary="edge"'


def node(
    port: int,
    root: str = "/dicom-web",
    observer: TrafficObserver = NOT_OBSERVED,
    **settings: Any,
) -> DicomwebNode:
    """Return a node on this machine, with the time limits of these tests."""
    scheme = settings.pop("scheme", "http")
    url = f"{scheme}://localhost:{port}{root}"
    values = {"url": url, "allow_local": True, **TIMES, **settings}
    return DicomwebNode("PACS1", DicomwebSettings(**values), observer=observer)


@contextmanager
def orthanc(folder: Path, called: str, **more: Any) -> Iterator[peers.Orthanc]:
    web = {"Enable": True, "Root": "/dicom-web/", "QidoCaseSensitive": False}
    with peers.orthanc(folder, called, Plugins=[str(PLUGIN)], DicomWeb=web, **more) as one:
        yield one


# Scripted server -------------------------------------------------------------------------------

CLOSE, RESET = None, -1
Said = bytes | int | float | None
"""Bytes to send; CLOSE; RESET; a float: seconds of silence, at most until the server ends."""


@dataclass(frozen=True)
class Request:
    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = field(repr=False)


class Liar:
    """A web server that reads requests in order and sends what a script defines."""

    def __init__(
        self, say: Callable[[Request], Iterable[Said]], tls: ssl.SSLContext | None = None
    ) -> None:
        self._say = say
        self._tls = tls
        self.requests: list[Request] = []
        self.failures: list[BaseException] = []
        self.over = threading.Event()
        self.connections = 0
        self._open: list[socket] = []
        self._listener = create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> "Liar":
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for one in (self._listener, *self._open):
            with suppress(OSError):
                one.shutdown(SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not self.failures, self.failures

    def node(self, **settings: Any) -> DicomwebNode:
        return node(self.port, **settings)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self.connections += 1
                self._open.append(one)
                thread = threading.Thread(target=self._serve, args=(one,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, one: socket) -> None:
        try:
            if self._tls is not None:
                one = self._tls.wrap_socket(one, server_side=True)
                self._open.append(one)
            with one.makefile("rb") as file:
                while request := self._read(file):
                    self.requests.append(request)
                    for said in self._say(request):
                        if not self._utter(one, said):
                            return
        except OSError:
            pass
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            one.close()

    def _utter(self, one: socket, said: Said) -> bool:
        if isinstance(said, bytes):
            one.sendall(said)
            return True
        if isinstance(said, float):
            return not self.over.wait(said)
        if said == RESET:
            one.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", 1, 0))
        else:
            one.shutdown(SHUT_RDWR)
        return False

    def _read(self, file: Any) -> Request | None:
        line = file.readline().decode()
        if not line:
            return None
        method, path, _ = line.split()
        headers = {}
        while (line := file.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = file.read(int(headers.get("content-length", 0)))
        return Request(len(self.requests), method, path, headers, body)


def head(status: int = 200, kind: str = "", length: int | None = None, **headers: str) -> bytes:
    """Return the header of a response; without a length it is chunked."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    if kind:
        lines.append(f"Content-Type: {kind}")
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(status: int, kind: str = "", body: bytes = b"", **headers: str) -> list[Said]:
    return [head(status, kind, len(body), **headers), body]


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def related(*files: bytes) -> bytes:
    """Return a complete multipart body with these files."""
    return b"".join(
        bytes(buffer) for buffer in multipart.encode_parts(([f] for f in files), "edge")
    )


def open_sockets() -> int:
    """Return the number of open sockets of this process."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


# Helpers for tests of faults --------------------------------------------------------------------

STUDY = StudyRef(f"{ROOT}.1")
SERIES = SeriesRef(STUDY.study_uid, f"{ROOT}.1.1")
PATIENT_WORDS = ("Mustermann", "4711", "1956", "ACC2024", "Geheim-Token", ROOT)
JSON = "application/dicom+json"
FILES = [file_bytes(ct(number)) for number in range(1, 4)]
BODY = related(*FILES)


@pytest.fixture(autouse=True)
def nothing_left(same_threads: None) -> Iterator[None]:
    before = open_sockets()
    yield
    peers.wait_until(lambda: open_sockets() <= before, "sockets are closed")


def scripted(*answers: Iterable[Said]) -> Callable[[Request], Iterable[Said]]:
    """Give each request the next response; the last one is repeated."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def find(node: DicomwebNode) -> list[Record]:
    return list(node.find(Query.series_of(STUDY)))


def fetch(node: DicomwebNode) -> list[object]:
    return list(node.fetch([SERIES]))


def store(node: DicomwebNode) -> list[StoreResult]:
    return list(node.store(images(3)))


def failed(
    action: Callable[[DicomwebNode], object],
    say: Callable[[Request], Iterable[Said]],
    **settings: object,
) -> AditError:
    """Return the error of an action that must fail in time without patient data or secrets."""
    secret = {"sign_in": "bearer", "token": "Geheim-Token"}
    with Liar(say) as liar, closing(liar.node(**secret, **settings)) as node:
        started = monotonic()
        with pytest.raises(AditError) as caught:
            action(node)
        assert monotonic() - started < peers.WITHOUT_WAIT_S
    assert "PACS1" in str(caught.value)
    assert not any(word in str(caught.value) for word in PATIENT_WORDS)
    assert "Geheim-Token" not in repr(node.settings) + repr(caught.value)
    return caught.value


def image_uids(*numbers: int) -> list[str]:
    return [f"{ROOT}.1.1.{number}" for number in numbers]


def serve_one_series(wado: Callable[[Request], Iterable[Said]], count: int = 3):
    """Return a script that lists `count` images in one series; `wado` answers retrievals."""
    study = {"0020000D": {"Value": [STUDY.study_uid]}, "00100020": {"Value": ["PID-4711-0815"]}}
    series = {**study, "0020000E": {"Value": [SERIES.series_uid]}}
    single = [
        {**series, "00080018": {"Value": [uid]}, "00080016": {"Value": [ct().SOPClassUID]}}
        for uid in image_uids(*range(1, count + 1))
    ]

    def say(request: Request) -> Iterable[Said]:
        path = request.path.partition("?")[0]
        if "multipart" in request.headers["accept"]:
            return wado(request)
        found = single if path.endswith("instances") else [series]
        return answer(200, JSON, json.dumps(found).encode())

    return say
