"""Orthanc as a test archive, on free ports, with its own folder."""

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import DIRECTLY, answers, free_port, wait_until

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/bin")

needs_orthanc = pytest.mark.skipif(ORTHANC is None, reason="needs Orthanc: apt install orthanc")
needs_chromium = pytest.mark.skipif(
    not Path("/usr/bin/chromium").exists(), reason="needs Chromium: apt install chromium"
)


@dataclass(frozen=True)
class Orthanc:
    ae_title: str
    dicom_port: int
    http_port: int

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a DIMSE node for this archive."""
        return {"host": "127.0.0.1", "port": self.dicom_port, "called_ae_title": self.ae_title}

    def get(self, path: str) -> bytes:
        with DIRECTLY.open(f"http://127.0.0.1:{self.http_port}{path}", timeout=60) as got:
            return bytes(got.read())

    def put(self, part10: bytes) -> None:
        """Store one DICOM file."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}/instances", data=part10, method="POST"
        )
        with DIRECTLY.open(request, timeout=60) as answer:
            assert json.loads(answer.read())["Status"] == "Success"

    def sends_to(self, port: int) -> None:
        """Set the port of ADIT as C-MOVE destination."""
        body = json.dumps(["ADIT", "127.0.0.1", port]).encode()
        address = f"http://127.0.0.1:{self.http_port}/modalities/adit"
        request = urllib.request.Request(address, data=body, method="PUT")
        DIRECTLY.open(request, timeout=60).close()

    def files(self) -> list[bytes]:
        """All stored instances as DICOM files."""
        return [self.get(f"/instances/{name}/file") for name in json.loads(self.get("/instances"))]

    def count(self) -> int:
        return int(json.loads(self.get("/statistics"))["CountInstances"])


@contextmanager
def running_orthanc(ae_title: str, folder: Path, **more: Any) -> Iterator[Orthanc]:
    """Run Orthanc with storage, settings and log in the folder.

    `more` is added to its configuration.
    """
    assert ORTHANC is not None
    folder.mkdir(parents=True)
    orthanc = Orthanc(ae_title, free_port(), free_port())
    settings = {
        "Name": ae_title,
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": ae_title,
        "DicomPort": orthanc.dicom_port,
        "HttpPort": orthanc.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowEcho": True,
        "DicomCheckCalledAet": True,
        "OverwriteInstances": False,
        "HttpServerEnabled": True,
        "Plugins": [],
        **more,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [ORTHANC, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://127.0.0.1:{orthanc.http_port}/system"
        wait_until(lambda: process.poll() is not None or answers(address), f"Orthanc {ae_title}")
        if process.poll() is not None:
            pytest.fail((folder / "orthanc.log").read_text()[-2000:])
        yield orthanc
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
