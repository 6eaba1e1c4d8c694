"""adit_sdk, and the examples of docs/api.md, before a running ADIT with two Orthanc."""

import contextlib
import csv
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module
from pathlib import Path
from typing import ClassVar, Self

import httpx
import images
import pytest
from conftest import ROOT, adit_up, free_port, wait_until
from lab.prepared import copy_prepared
from orthanc import Orthanc, needs_orthanc, running_orthanc
from test_transfer import DESTINATION, SOON, SOURCE

from adit_sdk import (
    Client,
    IncompleteAnswer,
    PermissionMissing,
    ServiceUnavailable,
    Study,
    TokenRejected,
)
from adit_sdk.multipart import PartReader, encode_parts

pytestmark = [needs_orthanc, pytest.mark.timeout(900)]

BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MISSPELT, SEVEN_ZIP = "Misspelt PACS", "Encrypted 7-Zip file"
CAPTURES = 1
"""Images of the study that the rules withhold."""
DELIVERED = sum(images.SLICES.values())


@dataclass(frozen=True)
class Site:
    url: str
    data: Path
    tokens: dict[str, str]
    source: Orthanc
    destination: Orthanc

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "ADIT_URL": self.url, "ADIT_TOKEN": self.tokens["script"]}

    def client(self, token: str = "script") -> Client:
        return Client(self.url, self.tokens[token])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("sdk")
    data = folder / "data"
    copy_prepared(data)
    with (
        running_orthanc("SOURCE", folder / "source", DicomCheckCalledAet=True) as source,
        running_orthanc("RESEARCH", folder / "research", DicomCheckCalledAet=True) as destination,
    ):
        for file in images.study() + images.long_study():
            source.put(file)
        misspelt = {**destination.settings, "called_ae_title": "RESAERCH"}
        nodes = {
            SOURCE: source.settings,
            DESTINATION: destination.settings,
            MISSPELT: misspelt,
        }
        tokens = prepare(data, "make", nodes)
        port = free_port()
        environment = {**os.environ, "ADIT_DATA": str(data), "PORT": str(port), **SOON}
        with adit_up(data / "up.log", environment):
            yield Site(f"http://127.0.0.1:{port}", data, tokens, source, destination)


def prepare(data: Path, verb: str, argument: object) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("sdk_data.py")), verb, json.dumps(argument)],
        cwd=ROOT,
        env={**os.environ, "ADIT_DATA": str(data), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout) or {})


def examples(language: str) -> list[str]:
    page = (ROOT / "docs" / "api.md").read_text()
    return [code for name, code in BLOCK.findall(page) if name == language]


def test_the_curl_examples_of_the_documentation_run(site: Site, tmp_path: Path) -> None:
    script = "\n".join(["set -euo pipefail", *examples("bash")])

    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    job = json.loads((tmp_path / "job.json").read_text())
    assert (job["state"], job["delivered"], job["withheld"]) == ("success", DELIVERED, CAPTURES)
    assert (tmp_path / "study.zip").read_bytes()[:2] == b"PK"
    assert (tmp_path / "report.pdf").read_bytes()[:4] == b"%PDF"
    assert images.STUDY in (tmp_path / "found.csv").read_text()
    assert site.tokens["script"] not in done.stdout + done.stderr


def test_the_python_examples_of_the_documentation_run(site: Site, tmp_path: Path) -> None:
    """In one process, in order, as in a notebook."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(examples("python"))],
        cwd=tmp_path,
        env={**site.environment, "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert f"success {DELIVERED} delivered {CAPTURES} withheld 0 failed" in done.stdout
    with (tmp_path / "lung" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == DELIVERED
    for row in rows:
        content = (tmp_path / "lung" / row["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
        assert (row["PatientID"], row["SliceThickness"], row["KVP"]) == ("LUNG-0001", "1.0", "120")
    assert not list((tmp_path / "state" / "adit_sdk").iterdir()), "nothing stays after the end"
    assert site.tokens["script"] not in done.stdout + done.stderr


def test_a_failed_transfer_is_retried_and_another_one_canceled(site: Site) -> None:
    with site.client() as client:
        study = client.search(SOURCE, PatientID=images.PATIENT_ID).studies()
        job = client.transfer(study, MISSPELT, project="LUNG-JS").wait(timeout=180)
        assert (job.state, job.delivered) == ("failure", 0)

        prepare(site.data, "correct-title", "RESEARCH")
        seen: list[str] = []
        job.retry().wait(progress=lambda one: seen.append(one.state), timeout=180)
        assert (job.state, job.delivered) == ("success", DELIVERED)
        assert seen[-1] == "success"

        long = client.search(SOURCE, PatientID=images.LONG_ID).studies()
        other = client.transfer(long, DESTINATION, project="LUNG-JS")
        assert other.cancel().wait(timeout=180).state == "canceled"
        assert client.job(other.id).state == "canceled"


def test_a_client_generated_from_the_schema_searches_orders_waits_and_cancels(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = httpx.get(f"{site.url}/api/v1/schema", timeout=180)
    (tmp_path / "schema.json").write_bytes(schema.content)
    generator = Path(sys.executable).with_name("openapi-python-client")
    arguments = [
        "generate",
        "--path",
        "schema.json",
        "--meta",
        "none",
        "--output-path",
        "generated",
    ]
    subprocess.run(
        [generator, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{generator.parent}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
        timeout=300,
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    generated, models = import_module("generated"), import_module("generated.models")
    jobs = import_module("generated.api.jobs")
    calls = {
        name: import_module(f"{jobs.__name__}.jobs_{name}").sync
        for name in ("preview", "create", "get", "action")
    }
    search = import_module("generated.api.searches.searches_create").sync

    with generated.AuthenticatedClient(site.url, site.tokens["script"], prefix="Token") as client:
        query = {"node": SOURCE, "query": {"PatientID": images.PATIENT_ID}}
        found = search(client=client, body=models.SearchRequest.from_dict(query))
        [record] = [one.to_dict() for one in found.results]
        order = {
            "kind": "selective",
            "destination": DESTINATION,
            "project": "LUNG-PLAIN",
            "studies": [{"node": SOURCE, "study_uid": record["StudyInstanceUID"]}],
        }
        body = models.SelectiveRequest.from_dict(order)
        assert calls["preview"](client=client, body=body).expected == DELIVERED + CAPTURES
        job = calls["create"](client=client, body=body)
        wait_until(lambda: calls["get"](job.id, client=client).state == "success", "the job", 180)
        job = calls["get"](job.id, client=client)
        assert (job.delivered, job.withheld, job.failed) == (DELIVERED, CAPTURES, 0)
        order["studies"] = [{"node": SOURCE, "study_uid": images.LONG_STUDY}]
        other = calls["create"](client=client, body=models.SelectiveRequest.from_dict(order))
        reason = models.ActionRequest.from_dict({"reason": ""})
        after = calls["action"](other.id, "cancel", client=client, body=reason)
        assert after.state in ("canceling", "canceled")


def test_expired_and_narrow_tokens_are_refused_without_being_printed(site: Site) -> None:
    with site.client("expired") as client, pytest.raises(TokenRejected) as refused:
        client.nodes()
    assert "API tokens" in str(refused.value)
    assert site.tokens["expired"] not in str(refused.value) + repr(client)

    with site.client("narrow") as client:
        assert len(client.search(SOURCE, PatientID=images.PATIENT_ID)) == 1
        with pytest.raises(PermissionMissing) as missing:
            client.transfer([Study(SOURCE, images.STUDY)], DESTINATION, project="LUNG")
        with pytest.raises(PermissionMissing):
            next(client.retrieve(SOURCE, images.STUDY, pseudonym="LUNG-0001", project="LUNG"))
    assert "jobs:write" in str(missing.value)


# Faults -------------------------------------------------------------------------------------------


class CuttingProxy:
    """Forwards connections to a port; closes those whose answer is longer than `limit` bytes."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.limit: int | None = None
        self.forwarded = 0
        """Bytes of all answers."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                for work in (self._send_requests, self._send_answers):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _send_requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                server.sendall(piece)

    def _send_answers(self, client: socket.socket, server: socket.socket) -> None:
        sent = 0
        with client, server, contextlib.suppress(OSError):
            while piece := server.recv(65536):
                sent += len(piece)
                if self.limit is not None and sent > self.limit:
                    break
                self.forwarded += len(piece)
                client.sendall(piece)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(site: Site) -> Iterator[CuttingProxy]:
    with CuttingProxy(int(site.url.rpartition(":")[2])) as one:
        yield one


def test_a_retrieval_that_is_cut_is_not_taken_for_whole(site: Site, proxy: CuttingProxy) -> None:
    proxy.limit = 500_000
    received = []

    with Client(site.url, site.tokens["script"], dicomweb_url=proxy.url) as client:
        found = client.retrieve(SOURCE, images.STUDY, project="LUNG-JS")
        with pytest.raises(IncompleteAnswer) as cut:
            received.extend(found)

    assert 0 < len(received) < DELIVERED
    assert cut.value.code == "sdk.cut"


def test_an_order_whose_answer_is_cut_is_repeated_and_makes_one_job(
    site: Site, proxy: CuttingProxy
) -> None:
    def end_fault(_seconds: float) -> None:
        proxy.limit = None

    with Client(proxy.url, site.tokens["script"], sleep=end_fault) as client:
        before = {job["id"] for job in client.jobs()}
        study = client.search(SOURCE, PatientID=images.LONG_ID).studies()
        proxy.limit = 0
        job = client.transfer(study, DESTINATION, project="LUNG-JS")
        assert {one["id"] for one in client.jobs()} - before == {job.id}
        job.cancel()


def test_an_interrupted_download_continues_with_the_missing_series(
    site: Site, proxy: CuttingProxy, tmp_path: Path
) -> None:
    folder, state = tmp_path / "images", tmp_path / "state"
    proxy.limit = 500_000  # the second series is larger
    study = Study(SOURCE, images.STUDY, images.PATIENT_ID)

    with Client(site.url, site.tokens["script"], dicomweb_url=proxy.url) as client:
        with pytest.raises(IncompleteAnswer):
            client.download([study], folder, project="LUNG-JS", state_folder=state)
        assert not (folder / "index.csv").exists()
        complete = {path: path.stat().st_mtime_ns for path in folder.rglob("*.dcm")}
        proxy.limit, proxy.forwarded = None, 0
        report = client.download([study], folder, project="LUNG-JS", state_folder=state)

    assert len(report.files) == DELIVERED == len(set(folder.rglob("*.dcm")))
    assert [reason.count for reason in report.withheld] == [CAPTURES]
    kept = [path for path, at in complete.items() if path.stat().st_mtime_ns == at]
    assert len(kept) >= images.SLICES[1]
    assert proxy.forwarded < report.bytes, "complete series are not retrieved again"
    assert not list(folder.rglob(".*"))


def test_a_list_is_started_and_its_interrupted_7_zip_file_continues(
    site: Site, proxy: CuttingProxy, tmp_path: Path
) -> None:
    sheet = tmp_path / "studies.csv"
    sheet.write_text(f"PatientID,StudyInstanceUID\n{images.PATIENT_ID},{images.STUDY}\n")

    with Client(proxy.url, site.tokens["script"]) as client:
        job = client.batch(
            sheet,
            nodes=[SOURCE],
            destination=SEVEN_ZIP,
            project="LUNG-JS",
            archive_password="a long enough password",
        )
        assert job.wait(timeout=180).state == "waiting_for_start"
        assert job.start().wait(timeout=180).state == "success", job.values
        [archive] = job.values["archives"]
        proxy.limit = archive["bytes"] // 2
        with pytest.raises(IncompleteAnswer):
            client.download(job, tmp_path / "files")
        proxy.limit, proxy.forwarded = None, 0
        [file] = client.download(job, tmp_path / "files").files
        job.download_result(tmp_path / "result.csv")

    assert proxy.forwarded < archive["bytes"], "the beginning is not downloaded again"
    assert [path.name for path in file.parent.iterdir()] == [archive["name"]]
    tested = subprocess.run(["7z", "t", "-pa long enough password", file], capture_output=True)
    assert tested.returncode == 0, tested.stdout
    assert len((tmp_path / "result.csv").read_text().splitlines()) == 2


def test_a_full_disk_leaves_no_part_of_a_file(site: Site, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk])
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    study = Study(SOURCE, images.STUDY, images.PATIENT_ID)
    try:
        with site.client() as client, pytest.raises(OSError, match="No space left"):
            client.download([study], disk, project="LUNG-JS", state_folder=tmp_path / "state")
        left = [path for path in disk.rglob("*") if path.is_file()]
        assert all(path.suffix == ".dcm" and path.stat().st_size > 32_000 for path in left)
    finally:
        subprocess.run(["umount", disk], check=True)


class _Busy(BaseHTTPRequestHandler):
    """Answers 503 twice, then a list without nodes."""

    answers: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        self.answers.append(503 if len(self.answers) < 2 else 200)
        body = b'{"results": [], "next": null}'
        self.send_response(self.answers[-1])
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_busy_service_is_asked_again_when_it_says_so_and_a_missing_one_is_named() -> None:
    waits: list[float] = []
    with HTTPServer(("127.0.0.1", 0), _Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with Client(url, "adit_token", sleep=waits.append) as client:
            assert client.nodes() == []
        server.shutdown()
    assert (waits, _Busy.answers) == ([7.0, 7.0], [503, 503, 200])

    away = f"http://127.0.0.1:{free_port()}"
    with (
        Client(away, "adit_token", retries=2, sleep=waits.append) as client,
        pytest.raises(ServiceUnavailable) as unreachable,
    ):
        client.me()
    assert unreachable.value.code == "sdk.no-connection"
    assert len(waits) == 4
    with pytest.raises(ValueError, match="unencrypted"):
        Client("http://adit.example.org", "adit_token")


def read_parts(body: bytes, size: int) -> list[bytes]:
    pieces = (body[begin : begin + size] for begin in range(0, len(body), size))
    content_type = 'multipart/related; type="application/dicom"; boundary="b=1"'
    return [b"".join(part) for _headers, part in PartReader(pieces, content_type)]


def test_parts_are_read_at_any_cut_of_the_stream_and_their_end_is_required() -> None:
    bodies = [b"one", b"\r\n--b=", b"", b"\r\n" * 40]
    whole = b"".join(encode_parts([[body] for body in bodies], "b=1"))

    for size in range(1, len(whole) + 1):
        assert read_parts(whole, size) == bodies
    for end in range(len(whole) - 4):
        with pytest.raises(IncompleteAnswer):
            read_parts(whole[:end], 7)


def test_the_distribution_holds_the_package_and_needs_httpx_and_pydicom_alone(
    tmp_path: Path,
) -> None:
    command = ["-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run([sys.executable, *command], cwd=ROOT / "adit_sdk", check=True)

    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
        [metadata] = (name for name in names if name.endswith("/METADATA"))
        lines = file.read(metadata).decode().splitlines()
    modules = {f"adit_sdk/{path.name}" for path in (ROOT / "adit_sdk").glob("*.py")}
    assert {*modules, "adit_sdk/py.typed"} == {one for one in names if ".dist-info" not in one}
    required = [line.split(" ")[1] for line in lines if line.startswith("Requires-Dist")]
    assert required == ["httpx>=0.28", "pydicom>=3.0.1"]
