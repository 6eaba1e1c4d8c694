"""Private Orthanc servers on free ports, and the command line tools to compare with."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DCMTK = ("getscu", "movescu", "storescu", "dcmodify")
TOOLS = {**dict.fromkeys(_DCMTK, "dcmtk"), "Orthanc": "orthanc"}
"""Required programs, and the Debian packages that contain them."""

BYTE_CODE = Path(tempfile.gettempdir()) / f"adit-bench-{os.getpid()}"
"""Location of the engine's byte code during a run."""

BIG_PDU = 131072
_START_S, _END_S = 30.0, 10.0
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/bin")


def missing() -> list[str]:
    """Return the Debian packages without which nothing can be compared."""
    return sorted({package for tool, package in TOOLS.items() if program(tool) is None})


def environment(*, options: bool) -> dict[str, str]:
    """Return the environment of the tools.

    dcmtk, also inside Orthanc, reads TCP_NODELAY: 1 sends at once, 0 uses Nagle's algorithm. The
    engine finds its byte code as an installed program does, whatever this shell has set.
    """
    own = {word: value for word, value in os.environ.items() if word != "PYTHONDONTWRITEBYTECODE"}
    own["PYTHONPYCACHEPREFIX"] = str(BYTE_CODE)
    return {**own, "TCP_NODELAY": "1"} if options else own


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running archive.

    `options`: with TCP_NODELAY and large PDUs, else with its defaults.
    """

    ae_title: str
    dicom_port: int
    http_port: int
    options: bool

    @property
    def url(self) -> str:
        return f"dimse://{self.ae_title}@127.0.0.1:{self.dicom_port}"

    def ask(self, path: str, body: object = None, method: str = "") -> Any:
        """Send one REST request, without a timeout."""
        data = None if body is None else json.dumps(body).encode()
        verb = method or ("GET" if data is None else "POST")
        address = f"http://127.0.0.1:{self.http_port}{path}"
        request = urllib.request.Request(address, data, method=verb)
        with _DIRECTLY.open(request, timeout=3600) as answer:
            return json.loads(answer.read() or b"null")

    def count(self) -> int:
        return int(self.ask("/statistics")["CountInstances"])

    def study_ids(self) -> list[str]:
        """Return the archive's own identifiers of its studies."""
        return list(self.ask("/studies"))

    def clear(self) -> None:
        for study in self.study_ids():
            self.ask(f"/studies/{study}", method="DELETE")

    def knows(self, other: "Orthanc") -> None:
        """Register another archive as a source and destination of this one."""
        self.sends_to(other.ae_title, other.dicom_port)

    def sends_to(self, ae_title: str, port: int) -> None:
        """Register an AE title as a C-MOVE destination on a local port."""
        entry = {"AET": ae_title, "Host": "127.0.0.1", "Port": port}
        self.ask(f"/modalities/{ae_title}", entry, "PUT")


@contextmanager
def orthanc(ae_title: str, folder: Path, *, options: bool) -> Iterator[Orthanc]:
    """Start an archive on a folder of its own, and end it by its process ID."""
    one = Orthanc(ae_title, free_port(), free_port(), options)
    folder.mkdir(parents=True)
    (folder / "orthanc.json").write_text(json.dumps(_settings(one, folder)))
    command = [str(program("Orthanc")), str(folder / "orthanc.json")]
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment(options=options)
        )
    try:
        _wait_for(one, process, folder / "orthanc.log")
        yield one
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run(command: Sequence[str | Path], *, options: bool = True) -> None:
    """Run one tool to its end. Raise RuntimeError with the last lines of its output."""
    done = subprocess.run(
        [str(word) for word in command],
        env=environment(options=options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        words = done.stdout.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{words}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _settings(one: Orthanc, folder: Path) -> dict[str, Any]:
    settings = {
        "Name": one.ae_title,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": one.ae_title,
        "DicomPort": one.dicom_port,
        "HttpPort": one.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowStore": True,
        "Plugins": [],
    }
    return settings | ({"MaximumPduLength": BIG_PDU} if one.options else {})


def _wait_for(one: Orthanc, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            one.count()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"Orthanc did not start:\n{log.read_text()[-2000:]}")
