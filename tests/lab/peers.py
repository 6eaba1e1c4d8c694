"""Peers for the DIMSE tests: Orthanc, dcmtk, and a scripted peer."""

import json
import shutil
import socket
import struct
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adit_engine.nodes.base import NOT_OBSERVED, TrafficObserver
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings
from adit_engine.storage_scp.pending_moves import MoveReceiver
from lab.ports import free_port

SBIN = "/usr/sbin:/usr/bin:/usr/local/bin"
ORTHANC = shutil.which("Orthanc", path=SBIN)
STORESCP = shutil.which("storescp", path=SBIN)
DCMQRSCP = shutil.which("dcmqrscp", path=SBIN)

needs_orthanc = pytest.mark.skipif(ORTHANC is None, reason="needs Orthanc: apt install orthanc")
needs_dcmtk = pytest.mark.skipif(STORESCP is None, reason="needs dcmtk: apt install dcmtk")

TIMES = {"connect_s": 30.0, "association_s": 30.0, "first_byte_s": 30.0, "no_progress_s": 30.0}
"""Limits that a slow machine does not reach. Tests of a time limit set a short one."""
WITHOUT_WAIT_S = 20.0
"""More than a slow machine needs without a wait, and less than the limits above."""


def node(
    port: int,
    called: str = "PACS",
    reception: MoveReceiver | None = None,
    observer: TrafficObserver = NOT_OBSERVED,
    **settings: Any,
) -> DimseNode:
    """Return a node on this machine, with the time limits of these tests."""
    values = {"called_ae_title": called, "host": "127.0.0.1", "port": port, **TIMES, **settings}
    return DimseNode("PACS1", DimseSettings(**values), reception, observer=observer)


def wait_until(happened: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def _process(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent)
    try:
        wait_until(lambda: process.poll() is not None or ready(), command[0])
        if process.poll() is not None:
            pytest.fail(log.read_text()[-2000:])
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Orthanc:
    port: int
    http_port: int
    called: str

    def node(self, **settings: Any) -> DimseNode:
        return node(self.port, self.called, **settings)

    def rest(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=250) as got:
            return json.loads(got.read())

    def clear(self) -> None:
        for patient in self.rest("/patients"):
            address = f"http://127.0.0.1:{self.http_port}/patients/{patient}"
            urllib.request.urlopen(
                urllib.request.Request(address, method="DELETE"), timeout=250
            ).close()

    def delete(self, instance_uid: str) -> None:
        """Delete one image with the REST API of Orthanc."""
        address = f"http://127.0.0.1:{self.http_port}/tools/find"
        asked = {"Level": "Instance", "Query": {"SOPInstanceUID": instance_uid}}
        with urllib.request.urlopen(address, json.dumps(asked).encode(), timeout=250) as got:
            (found,) = json.loads(got.read())
        address = f"http://127.0.0.1:{self.http_port}/instances/{found}"
        urllib.request.urlopen(
            urllib.request.Request(address, method="DELETE"), timeout=250
        ).close()

    def count(self) -> int:
        return int(self.rest("/statistics")["CountInstances"])


@contextmanager
def orthanc(folder: Path, called: str, **more: Any) -> Iterator[Orthanc]:
    assert ORTHANC is not None
    folder.mkdir()
    one = Orthanc(free_port(), free_port(), called)
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "DicomAet": called,
        "DicomPort": one.port,
        "HttpPort": one.http_port,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True,
        "DicomCheckCalledAet": True,
        "DicomThreadsCount": 4,
        "Plugins": [],
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    command = [ORTHANC, str(folder / "orthanc.json")]
    with _process(command, folder / "log", lambda: listens(one.http_port) and listens(one.port)):
        yield one


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    """Run storescp of dcmtk, which writes received images to `folder`."""
    assert STORESCP is not None
    folder.mkdir()
    port = free_port()
    command = [STORESCP, "-od", str(folder), "-fe", ".dcm", *options, str(port)]
    with _process(command, folder.with_suffix(".log"), lambda: listens(port)):
        yield port


@contextmanager
def dcmqrscp(
    folder: Path, *known: str, options: Sequence[str] = (), most: int = 8
) -> Iterator[int]:
    """Run dcmqrscp of dcmtk with the AE title QR. `known` are lines of its host table."""
    assert DCMQRSCP is not None
    (folder / "db").mkdir(parents=True)
    port = free_port()
    hosts = "\n".join(["HostTable BEGIN", *known, "HostTable END"])
    (folder / "qr.cfg").write_text(
        f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = {most}\n"
        f"{hosts}\nVendorTable BEGIN\nVendorTable END\n"
        f"AETable BEGIN\nQR {folder}/db RW (500, 1024mb) ANY\nAETable END\n"
    )
    command = [DCMQRSCP, *options, "-c", str(folder / "qr.cfg")]
    with _process(command, folder / "log", lambda: listens(port)):
        yield port


class Scripted:
    """A peer that accepts everything and then sends what the script of a test defines."""

    def __init__(self, script: Callable[["Talk"], object]) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.talks: list[Talk] = []
        self.failures: list[BaseException] = []
        self.busy = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Scripted":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *(talk.socket for talk in self.talks)):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._thread.join(30)
        assert not self._thread.is_alive()
        assert not self.failures, self.failures

    def _run(self) -> None:
        while True:
            try:
                one, _ = self._listener.accept()
            except OSError:
                return
            talk = Talk(one, len(self.talks))
            self.talks.append(talk)
            self.busy = True
            try:
                self._script(talk)
            except (OSError, EOFError):
                pass
            except BaseException as failure:
                self.failures.append(failure)
            self.busy = False


class Talk:
    """One association on the side of the peer. `number` counts them from 0."""

    def __init__(self, one: socket.socket, number: int) -> None:
        one.settimeout(60)
        self.socket = one
        self.number = number
        self.contexts: dict[int, tuple[str, tuple[str, ...]]] = {}
        self.gone = threading.Event()
        self.stored = 0

    def accept(self, refuse: Callable[[str, str], bool] = lambda kind, syntax: False) -> None:
        """Read the request and accept each context with its first syntax, unless refused."""
        kind, body = self.pdu()
        assert kind == 1
        items, roles = b"", b""
        for item, value in _items(body[68:]):
            if item == 0x20:
                inside = list(_items(value[4:]))
                uid = next(part.decode() for sub, part in inside if sub == 0x30)
                syntaxes = tuple(part.decode() for sub, part in inside if sub == 0x40)
                self.contexts[value[0]] = (uid, syntaxes)
                result = 4 if refuse(uid, syntaxes[0]) else 0
                syntax = _item(0x40, syntaxes[0].encode())
                items += _item(0x21, bytes([value[0], 0, result, 0]) + syntax)
            elif item == 0x50:
                roles = b"".join(_item(0x54, part) for sub, part in _items(value) if sub == 0x54)
        user = _item(0x50, _item(0x51, struct.pack(">I", 16384)) + _item(0x52, b"1.2.3") + roles)
        application = _item(0x10, b"1.2.840.10008.3.1.1.1")
        self.raw(self.wrap(2, body[:68] + application + items + user))

    def reject(self, result: int, source: int, reason: int) -> None:
        self.pdu()
        self.raw(self.wrap(3, bytes([0, result, source, reason])))

    def context(self, uid: str) -> int:
        return next(number for number, (held, _) in self.contexts.items() if held == uid)

    def hear(self) -> dict[int, bytes]:
        """Return the next command by element number and skip its data set.

        Raises EOFError if the other side ended the association; a release is answered.
        """
        return self.hear_with_data()[0]

    def hear_with_data(self) -> tuple[dict[int, bytes], bytes]:
        """Return the next command, as `hear` does, and the bytes of its data set."""
        command, data, more = b"", b"", True
        while more:
            kind, body = self.pdu()
            if kind == 5:
                self.raw(self.wrap(6, bytes(4)))
            if kind != 4:
                raise EOFError
            position = 0
            while position < len(body):
                (length,) = struct.unpack_from(">I", body, position)
                flags, piece = body[position + 5], body[position + 6 : position + 4 + length]
                position += 4 + length
                if flags & 1:
                    command += piece
                else:
                    data += piece
                if flags & 2:
                    more = bool(flags & 1) and _command(command)[0x0800] != b"\x01\x01"
        return _command(command), data

    def say(self, context: int, elements: dict[int, Any], data: bytes | None = None) -> None:
        self.raw(self.message(context, elements, data))

    def message(
        self,
        context: int,
        elements: dict[int, Any],
        data: bytes | None = None,
        *,
        behind: bytes = b"",
    ) -> bytes:
        """Encode a complete message; an int has two bytes, a str is a UID.

        `behind` is appended to the fragment of the command, where it is not allowed.
        """
        values = {0x0800: 0x0101 if data is None else 1, **elements}
        body = b""
        for number in sorted(values):
            value = values[number]
            raw = struct.pack("<H", value) if isinstance(value, int) else value.encode()
            raw += b"\0" * (len(raw) % 2)
            body += struct.pack("<HHI", 0, number, len(raw)) + raw
        command = struct.pack("<HHII", 0, 0, 4, len(body)) + body + behind
        whole = self.wrap(4, struct.pack(">IBB", len(command) + 2, context, 3) + command)
        if data is not None:
            whole += self.wrap(4, struct.pack(">IBB", len(data) + 2, context, 2) + data)
        return whole

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def wrap(self, kind: int, body: bytes) -> bytes:
        return struct.pack(">BxI", kind, len(body)) + body

    def pdu(self) -> tuple[int, bytes]:
        kind, length = struct.unpack(">BxI", self._read(6))
        return kind, self._read(length)

    def until_gone(self) -> int:
        """Wait until the other side has gone and return the type of its last PDU."""
        last = 0
        with suppress(EOFError, ConnectionError):
            while True:
                last = self.pdu()[0]
                if last == 5:
                    self.raw(self.wrap(6, bytes(4)))
        self.gone.set()
        return last

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        kind, length = struct.unpack_from(">BxH", data, position)
        yield kind, data[position + 4 : position + 4 + length]
        position += 4 + length


def _command(data: bytes) -> dict[int, bytes]:
    found, position = {}, 0
    while position < len(data):
        _, number, length = struct.unpack_from("<HHI", data, position)
        found[number] = data[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def register(archive: Orthanc, port: int) -> None:
    """Register ADIT in Orthanc."""
    body = json.dumps(["ADIT", "127.0.0.1", port]).encode()
    address = f"http://127.0.0.1:{archive.http_port}/modalities/adit"
    request = urllib.request.Request(address, body, method="PUT")
    urllib.request.urlopen(request, timeout=250).close()
