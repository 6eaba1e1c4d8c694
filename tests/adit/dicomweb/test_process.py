"""The process `adit dicomweb` with real clients, before an Orthanc that only speaks DIMSE."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from lab import samples
from lab.counting_proxy import AssociationCounts, CountingProxy
from lab.installed import Installed, family_of
from lab.peers import needs_orthanc, orthanc, wait_until
from lab.ports import free_port
from pydicom import dcmread
from pydicom.dataset import Dataset

from adit_engine.nodes.dicomweb.multipart import read_parts

pytestmark = [needs_orthanc, pytest.mark.timeout(900)]

IMAGES = 40
STUDY = f"{samples.ROOT}.1"
PIXELS = bytes(512 * 512 * 2)
PLUGINS = [str(path) for path in Path("/usr/lib/orthanc").glob("libOrthancDicomWeb.so*")][:1]
ORIGIN = "https://viewer.example.org"
CONNECTIONS = 2
ANNE = "Mustermann^Änne"
WRITE_S = 10
MANY_IMAGES = 120
LARGE_STUDY = f"{samples.ROOT}.9"


@dataclass
class Site:
    installed: Installed
    counts: AssociationCounts
    port: int
    token: str
    short: str
    """A token that a test revokes."""

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/dicom-web/PACS1"

    @property
    def study(self) -> str:
        return f"{self.root}/wadors/studies/{STUDY}"

    def get(self, path: str, token: str = "", **parameters: str) -> httpx.Response:
        headers = {"Authorization": f"Token {token or self.token}"}
        return httpx.get(f"{self.root}/{path}", headers=headers, params=parameters, timeout=250)

    def connect(self, path: str, **headers: str) -> socket.socket:
        """Send a GET over a bare socket."""
        line = socket.create_connection(("127.0.0.1", self.port), 30)
        text = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Token {self.token}\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        line.sendall(f"{text}\r\n".encode())
        return line


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, port, counts = tmp_path_factory.mktemp("dicomweb"), free_port(), AssociationCounts()
    settings = {
        "ADIT_DICOMWEB_PORT": str(port),
        "ADIT_DICOMWEB_SLOT_WAIT_S": "60",
        "ADIT_DICOMWEB_WRITE_S": str(WRITE_S),
        "ADIT_API_ORIGINS": ORIGIN,
    }
    installed = Installed(folder / "adit", settings)
    with (
        orthanc(folder / "orthanc", "PACS1") as pacs,
        CountingProxy(pacs.port, counts) as proxy,
        CountingProxy(pacs.port, AssociationCounts(), stalls_after_bytes=3_000_000) as stalling,
    ):
        images = (
            samples.instance(samples.ct(number, Rows=512, Columns=512, PixelData=PIXELS))
            for number in range(1, IMAGES + 1)
        )
        assert all(one.is_stored for one in pacs.node().store(images))
        installed.prepare()
        installed.do("add-pacs", "PACS1", str(proxy.port), str(CONNECTIONS))
        installed.do("add-pacs", "STALLS", str(stalling.port), "2", "get", "2", "PACS1")
        tokens = installed.do("add-tokens", "script", "short").split()
        with installed.running("dicomweb"):
            health = f"http://127.0.0.1:{port}/healthz"
            wait_until(lambda: answers(health), "adit dicomweb", 150)
            yield Site(installed, counts, port, *tokens)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def read_images(answer: httpx.Response) -> list[bytes]:
    parts = read_parts([answer.content], answer.headers["Content-Type"])
    return [bytes(part.body) for part in parts]


def connect_client(site: Site, **more: Any) -> DICOMwebClient:
    prefixes = {f"{name}_url_prefix": f"{name}rs" for name in ("qido", "wado", "stow")}
    headers = {"Authorization": f"Token {site.token}"}
    return DICOMwebClient(site.root, headers=headers, **prefixes, **more)


def test_dicomweb_client_finds_retrieves_and_stores(site: Site) -> None:
    client = connect_client(site)

    found = client.search_for_studies(search_filters={"PatientID": "PID-4711-0815"})
    assert [one["0020000D"]["Value"] for one in found] == [[STUDY]]
    images = client.retrieve_study(STUDY, additional_params={"pseudonym": "WEB-1"})
    assert len(images) == IMAGES
    assert {one.PatientID for one in images} == {"WEB-1"}
    headers_only = client.retrieve_study_metadata(STUDY, additional_params={"pseudonym": "WEB-1"})
    uids = {one["00080018"]["Value"][0] for one in headers_only}
    assert uids == {one.SOPInstanceUID for one in images}
    sent = dcmread(BytesIO(samples.file_bytes(samples.ct(study="7", PatientID="OTHER-7"))))
    answer = client.store_instances([sent])
    assert len(answer.ReferencedSOPSequence) == 1
    again = client.retrieve_instance(
        sent.StudyInstanceUID,
        sent.SeriesInstanceUID,
        sent.SOPInstanceUID,
        additional_params={"pseudonym": "WEB-7"},
    )
    assert again.PatientID == "WEB-7"


def test_all_functions_of_dicomweb_client_work(site: Site) -> None:
    """In pieces that end within images and boundaries."""
    table = Dataset()
    table.LUTDescriptor = [1500, 0, 16]
    table.add_new("LUTData", "OW", bytes(3000))
    series, uid = f"{samples.ROOT}.5.1", f"{samples.ROOT}.5.1.1"
    sent = [samples.ct(number, study="5", PatientID="OTHER-5") for number in (1, 2, 3)]
    sent[0].VOILUTSequence = [table]
    client = connect_client(site, chunk_size=777)
    client.store_instances([dcmread(BytesIO(samples.file_bytes(one))) for one in sent])
    study, whole = f"{samples.ROOT}.5", {"additional_params": {"pseudonym": "WEB-5"}}

    tag = client.lookup_keyword("00100020")
    assert (tag, client.lookup_tag("PatientID")) == ("PatientID", "00100020")
    studies = client.search_for_studies(
        fields=["PatientID", "StudyDate"], search_filters={tag: "OTHER-5"}, fuzzymatching=True
    )
    assert [one["0020000D"]["Value"][0] for one in studies] == [study]
    for name in ("Mustermann^Änne", "*Änne", "Mustermann^Ä*", "muster*", "*^?nne"):
        named = {"PatientName": name, tag: "OTHER-5"}
        found = client.search_for_studies(search_filters=named)
        assert [one["00100010"]["Value"] for one in found] == [[{"Alphabetic": ANNE}]], name
    assert client.search_for_studies(search_filters={"PatientName": "*Anja", tag: "OTHER-5"}) == []
    assert len(client.search_for_series(study, search_filters={"Modality": "CT"})) == 1
    assert len(client.search_for_series(search_filters={"PatientID": "OTHER-5"})) == 1
    assert len(client.search_for_instances(study)) == 3
    pages = client.search_for_instances(study, series, limit=2, get_remaining=True)
    assert len(pages) == 3
    assert len(list(client.iter_series(study, series, **whole))) == 3
    assert len(list(client.iter_study(study, **whole))) == 3
    stored = {"media_types": (("application/dicom", "*"),), **whole}
    assert len(client.retrieve_series(study, series, **stored)) == 3
    assert client.retrieve_instance(study, series, uid, **whole).PatientID == "WEB-5"

    headers = client.retrieve_series_metadata(study, series, **whole)
    assert len(client.retrieve_study_metadata(study, **whole)) == 3
    named = {one["00200013"]["Value"][0]: one for one in headers}
    first = named[1]["00080018"]["Value"][0]
    table_address = named[1]["00283010"]["Value"][0]["00283006"]["BulkDataURI"]
    # This client leaves the port out of the header Host.
    table_address = table_address.replace("127.0.0.1/", f"127.0.0.1:{site.port}/")
    assert client.retrieve_bulkdata(table_address) == [bytes(3000)]
    assert list(client.iter_bulkdata(table_address, byte_range=(0, 9))) == [bytes(3000)]
    place = (study, series, first)
    original = client.retrieve_instance_metadata(study, series, uid, **whole)
    assert original["00100020"]["Value"] == ["WEB-5"]
    for kinds in (None, ("application/octet-stream",), ("application/octet-stream", "image/jp2")):
        frames = client.retrieve_instance_frames(*place, [1], media_types=kinds, **whole)
        assert frames == [samples.ct(1).PixelData]
    assert list(client.iter_instance_frames(*place, [1], **whole)) == frames
    rendered = {"params": {"pseudonym": "WEB-5", "window": "40,400,sigmoid"}}
    png = client.retrieve_instance_rendered(*place, media_types=("image/png",), **rendered)
    jpeg = client.retrieve_instance_rendered(*place, **rendered)
    assert (png[:4], jpeg[:3]) == (b"\x89PNG", b"\xff\xd8\xff")
    gif = client.retrieve_instance_frames_rendered(
        *place, [1], media_types=("image/gif", "image/png"), **rendered
    )
    assert gif[:3] == b"\xff\xd8\xff"  # with two types, this client sends no Accept


def test_an_image_that_the_pacs_does_not_have_is_not_found(site: Site) -> None:
    """Orthanc answers a C-GET of it by a failure."""
    series = f"wadors/studies/{STUDY}/series/{STUDY}.1"

    for path in ("instances/1.2.3", "instances/1.2.3/metadata", "instances/1.2.3/frames/1"):
        answer = site.get(f"{series}/{path}", pseudonym="WEB-1")
        assert (answer.status_code, answer.json()["code"]) == (404, "dicomweb.no-image"), path


@pytest.mark.skipif(not PLUGINS, reason="needs orthanc-dicomweb")
def test_another_orthanc_queries_retrieves_and_stores_through_adit(
    site: Site, tmp_path: Path
) -> None:
    """The DICOMweb plugin of Orthanc as a client. It knows one address per server."""
    authorization = {"Authorization": f"Token {site.token}"}
    servers = {
        name: {"Url": f"{site.root}/{name}rs", "HttpHeaders": authorization}
        for name in ("qido", "wado", "stow")
    }
    sent = samples.ct(study="6", PatientID="OTHER-6")
    more = {"Plugins": PLUGINS, "DicomWeb": {"Enable": True, "Servers": servers}}
    with orthanc(tmp_path / "client", "CLIENT", **more) as client:
        web = f"http://127.0.0.1:{client.http_port}"

        def post(path: str, body: dict[str, Any]) -> Any:
            answer = httpx.post(f"{web}/dicom-web/servers/{path}", json=body, timeout=250)
            assert answer.status_code == 200, answer.text
            return answer.json()

        made = httpx.post(f"{web}/instances", content=samples.file_bytes(sent)).json()["ID"]
        stored = post("stow/stow", {"Resources": [made], "Synchronous": True})
        arguments, pseudonym = {"PatientID": "OTHER-6"}, {"Arguments": {"pseudonym": "WEB-6"}}
        found = post("qido/qido", {"Uri": "/studies", "Arguments": arguments})
        job = post(
            "wado/retrieve",
            {
                "Resources": [{"Study": f"{samples.ROOT}.6"}],
                "GetArguments": {"pseudonym": "WEB-6"},
                "Synchronous": True,
            },
        )
        images = client.rest("/instances?expand")
        patients = client.rest("/patients?expand")
        headers = post("wado/get", {"Uri": f"/studies/{samples.ROOT}.6/metadata", **pseudonym})

    assert stored["InstancesCount"] == "1"
    assert [one["0020000D"]["Value"] for one in found] == [f"{samples.ROOT}.6"]
    assert job["ReceivedInstancesCount"] == "1"
    assert len(images) == 2
    ids = {one["MainDicomTags"]["PatientID"] for one in patients}
    assert ids == {"OTHER-6", "WEB-6"}
    assert [one["00100020"]["Value"] for one in headers] == [["WEB-6"]]


def test_curl_retrieves_and_stores_in_chunks(site: Site, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    assert curl is not None
    config = tmp_path / "token"
    config.write_text(f'header = "Authorization: Token {site.token}"\n')
    body = tmp_path / "body"
    part = samples.file_bytes(samples.ct(study="8"))
    head = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    body.write_bytes(head + part + b"\r\n--b--")

    zipped = subprocess.run(
        [curl, "-sSf", "-K", config, "-H", "Accept: application/zip", "-o", tmp_path / "a.zip"]
        + [f"{site.study}?pseudonym=WEB-1"]
    )
    stored = subprocess.run(
        [curl, "-sS", "-K", config, "-X", "POST", "-T", body, "-H", "Transfer-Encoding: chunked"]
        + ["-H", "Content-Type: multipart/related; type=application/dicom; boundary=b"]
        + [f"{site.root}/stowrs/studies"],
        capture_output=True,
    )

    assert zipped.returncode == 0
    assert shutil.which("unzip") is None or (tmp_path / "a.zip").read_bytes()[:2] == b"PK"
    assert len(json.loads(stored.stdout)["00081199"]["Value"]) == 1, stored.stdout


def test_twenty_readers_wait_and_share_the_connections(site: Site) -> None:
    site.counts.most = 0

    def read(_number: int) -> tuple[int, str]:
        answer = site.get(f"wadors/studies/{STUDY}", pseudonym="WEB-1")
        files = sorted(read_images(answer)) if answer.status_code == 200 else []
        return answer.status_code, hashlib.sha256(b"".join(files)).hexdigest()

    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(read, range(20)))

    assert {status for status, _digest in found} <= {200, 503}
    assert len({digest for status, digest in found if status == 200}) == 1
    # A retrieval may search over a second association while the images arrive.
    assert 1 <= site.counts.most <= CONNECTIONS


def test_two_clients_with_different_pseudonyms_get_no_mixture(site: Site) -> None:
    with ThreadPoolExecutor(2) as pool:
        wanted = ("WEB-1", "WEB-2")
        first, second = pool.map(
            lambda one: site.get(f"wadors/studies/{STUDY}", pseudonym=one), wanted
        )

    assert (first.status_code, second.status_code) == (200, 400)
    assert {dcmread(BytesIO(file)).PatientID for file in read_images(first)} == {"WEB-1"}


@pytest.mark.parametrize("taken", [0, 200_000], ids=["before the first byte", "in mid-stream"])
def test_a_client_that_leaves_ends_the_association(taken: int, site: Site) -> None:
    line = site.connect(f"/api/dicom-web/PACS1/wadors/studies/{STUDY}?pseudonym=WEB-1")
    if taken:
        received = 0
        while received < taken:
            received += len(line.recv(65536))
    wait_until(lambda: site.counts.open > 0 or bool(taken), "an association")

    line.close()

    wait_until(lambda: site.counts.open == 0, "the end of the association")
    if taken:
        last = "SELECT state, error FROM dicomweb_retrieval ORDER BY id DESC LIMIT 1"
        wait_until(lambda: site.installed.rows(last)[0][0] != "running", "the end of the retrieval")
        ((state, error),) = site.installed.rows(last)
        assert (state, "dicomweb.client-left" in str(error)) == ("incomplete", True)


def test_a_failure_in_mid_stream_breaks_the_connection(site: Site) -> None:
    """Here the token is revoked while the client reads slowly."""
    pieces: list[bytes] = []

    def read() -> None:
        url, headers = f"{site.study}?pseudonym=WEB-1", {"Authorization": f"Token {site.short}"}
        with httpx.stream("GET", url, headers=headers, timeout=250) as answer:
            for piece in answer.iter_raw():
                if not pieces:
                    sql = "UPDATE api_tokens_apitoken SET revoked_at = CURRENT_TIMESTAMP"
                    site.installed.change(f"{sql} WHERE name = 'short'")
                    time.sleep(3)
                pieces.append(piece)

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    received = b"".join(pieces)
    last = received[received.rindex(b"Content-Type:") :]
    assert last.startswith(b"Content-Type: text/plain")
    assert b"revoked" in last
    assert not received.rstrip().endswith(b"--")


def test_a_pacs_that_stalls_in_mid_stream_is_an_error_of_the_client(
    site: Site, tmp_path: Path
) -> None:
    config, body = tmp_path / "token", tmp_path / "body"
    config.write_text(f'header = "Authorization: Token {site.token}"\n')
    address = f"{site.study}?pseudonym=STALLS-1".replace("PACS1", "STALLS")

    done = subprocess.run(["curl", "-sSf", "-K", config, "-o", body, address], timeout=250)

    assert done.returncode == 18  # "transfer closed with outstanding read data remaining"
    received = body.read_bytes()
    assert 0 < received.count(b"Content-Type: application/dicom") < IMAGES
    last = received[received.rindex(b"Content-Type:") :]
    assert last.startswith(b"Content-Type: text/plain")
    assert b"STALLS" in last


def test_a_client_that_takes_nothing_is_cut_off(site: Site) -> None:
    states = "SELECT state FROM dicomweb_retrieval ORDER BY id"
    before = len(site.installed.rows(states))
    line = site.connect(f"/api/dicom-web/PACS1/wadors/studies/{STUDY}?pseudonym=WEB-1")

    def has_reached(state: str) -> bool:
        return [row[0] for row in site.installed.rows(states)][before:] == [state]

    wait_until(lambda: has_reached("running"), "the retrieval", 150)
    begun_at = time.monotonic()
    wait_until(lambda: has_reached("incomplete"), "its end", 150)

    assert time.monotonic() - begun_at > WRITE_S / 2
    wait_until(lambda: site.counts.open == 0, "the end of the association", 60)
    line.close()
    assert site.get(f"wadors/studies/{STUDY}", pseudonym="WEB-1").status_code == 200


def test_requests_over_one_connection_are_answered_in_order(site: Site) -> None:
    path = "/api/dicom-web/PACS1/qidors/studies?PatientID={}"
    line = site.connect(path.format("PID-4711-0815"))
    request = f"GET {path.format('NOBODY')} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    line.sendall(f"{request}Authorization: Token {site.token}\r\n\r\n".encode())

    received = b""
    with line:
        while piece := line.recv(65536):
            received += piece

    first, second = received.split(b"HTTP/1.1 ")[1:]
    assert (first[:3], second[:3]) == (b"200", b"200")
    assert STUDY.encode() in first
    assert second.endswith(b"[]")


def test_a_head_request_leaves_its_connection_usable(site: Site) -> None:
    """No body follows, and the answer of a stream claims no length."""
    address = f"/api/dicom-web/PACS1/wadors/studies/{STUDY}?pseudonym=WEB-1"
    with httpx.Client(headers={"Authorization": f"Token {site.token}"}, timeout=250) as client:
        heads = [client.head(f"http://127.0.0.1:{site.port}{address}") for _number in range(2)]
        found = client.get(f"{site.root}/qidors/studies", params={"PatientID": "NOBODY"})

    for head in heads:
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["Content-Type"].startswith("multipart/related")
        assert "Content-Length" not in head.headers
    assert found.json() == []
    # The node is free again: the retrieval ended with the answer.
    assert site.get(f"wadors/studies/{STUDY}/metadata", pseudonym="WEB-1").status_code == 200


def test_a_long_query_is_answered_and_a_longer_one_refused(site: Site) -> None:
    others = [f"{samples.ROOT}.{number}" for number in range(1000, 1300)]

    long = site.get("qidors/studies", StudyInstanceUID=",".join([*others[:180], STUDY]))
    longer = site.get("qidors/studies", StudyInstanceUID=",".join([*others, STUDY]))

    assert [one["0020000D"]["Value"] for one in long.json()] == [[STUDY]]
    assert longer.status_code in (400, 414)


def test_pages_of_allowed_origins_may_use_the_api(site: Site) -> None:
    preflight = {"Access-Control-Request-Method": "GET"}
    allowed = httpx.options(site.study, headers={"Origin": ORIGIN, **preflight})
    other = httpx.options(site.study, headers={"Origin": "https://evil.example", **preflight})
    refused = httpx.get(site.study, headers={"Origin": ORIGIN})

    assert allowed.status_code == 204
    assert allowed.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Authorization" in allowed.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    assert "Access-Control-Allow-Origin" not in other.headers
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)


def test_a_large_study_is_stored_and_retrieved_in_flat_memory(site: Site, tmp_path: Path) -> None:
    """Half of the study would be noticed. `python -m benchmarks.dicomweb --memory` takes 2 GB."""
    body = tmp_path / "body"
    with body.open("wb") as file:
        for number in range(1, MANY_IMAGES + 1):
            changes = {"Rows": 512, "Columns": 512, "PixelData": PIXELS}
            image = samples.ct(number, study="9", PatientID="LARGE", **changes)
            file.write(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n")
            file.write(samples.file_bytes(image))
        file.write(b"\r\n--b--")
    headers = {"Authorization": f"Token {site.token}"}
    kind = 'multipart/related; type="application/dicom"; boundary=b'
    site.get(f"wadors/studies/{STUDY}", pseudonym="WEB-1")
    limit_mb = server_memory_mb() + (body.stat().st_size >> 21)

    with Sampler() as while_stored, body.open("rb") as content:
        stored = httpx.post(
            f"{site.root}/stowrs/studies",
            content=content,
            headers={**headers, "Content-Type": kind},
            timeout=250,
        )
    url = f"{site.root}/wadors/studies/{LARGE_STUDY}?pseudonym=WEB-9"
    with Sampler() as while_read, httpx.stream("GET", url, headers=headers, timeout=250) as answer:
        received = sum(map(len, answer.iter_raw()))

    assert stored.status_code == 200
    assert received > body.stat().st_size * 0.9
    assert while_stored.most_mb < limit_mb
    assert while_read.most_mb < limit_mb


def test_the_process_reports_itself_and_logs_no_query(site: Site) -> None:
    log = (site.installed.data / "dicomweb.log").read_text()
    assert "WEB-1" not in log
    assert "PID-4711" not in log
    assert STUDY not in log
    signs = "SELECT role FROM monitoring_processsign"
    wait_until(lambda: ("dicomweb",) in map(tuple, site.installed.rows(signs)), "its sign", 40)
    assert server_memory_mb() < 400


class Sampler:
    """Measures the memory of the server until the block ends."""

    def __enter__(self) -> "Sampler":
        self.most_mb = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._ended.wait(0.02):
            self.most_mb = max(self.most_mb, server_memory_mb())


def server_memory_mb() -> int:
    pids = family_of(os.getpid())
    return max(memory_mb(pid) for pid in pids if b"gunicorn" in read_proc(pid, "cmdline"))


def memory_mb(pid: int) -> int:
    return int(read_proc(pid, "statm").split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def read_proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()
