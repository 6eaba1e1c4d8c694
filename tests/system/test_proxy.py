"""The shipped nginx configuration in front of ADIT: TLS, uploads, downloads, addresses."""

import http.client
import json
import os
import re
import shlex
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import PASSWORD, ROOT, adit_up, end, free_port, wait_until
from lab.certificates import Authority
from lab.prepared import copy_prepared

SHIPPED = ROOT / "deploy" / "nginx.conf"
START = "nginx -g 'daemon off;'"
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
HOST = "adit.example.test"
MB = 1024 * 1024
FILE_BYTES = 48 * MB

pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="needs nginx: apt install nginx-light"),
    pytest.mark.skipif(
        shutil.which("docker-compose") is None, reason="needs compose: apt install docker-compose"
    ),
    pytest.mark.timeout(900),
]


class Names(threading.Thread):
    """DNS server that resolves `web`, like the one of Docker."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.address = "127.0.0.1"

    def run(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(512)
            end_of_name = question.index(b"\0", 12) + 5
            head = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(self.address)
            self._socket.sendto(head + question[12:end_of_name] + answer, asker)


@dataclass
class Client:
    """HTTPS client that keeps its cookies."""

    port: int
    trusted: ssl.SSLContext
    source: str = "127.0.0.1"
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        with closing(self.connected()) as line:
            response = self.sent(line, method, path, body, headers)
            return response, response.read()

    def connected(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "localhost",
            self.port,
            context=self.trusted,
            timeout=300,
            source_address=(self.source, 0),
        )

    def sent(
        self,
        line: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        mine = {
            "Host": f"{HOST}:{self.port}",
            "Referer": f"https://{HOST}:{self.port}/",
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
        }
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, body, {**mine, **given})
        response = line.getresponse()
        for cookie in response.headers.get_all("Set-Cookie") or []:
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
        return response

    def sign_in(self, password: str, **headers: str) -> int:
        _, page = self.ask("GET", "/accounts/login/")
        (token,) = set(re.findall(rb'name="csrfmiddlewaretoken" value="(\w+)"', page))
        form = f"csrfmiddlewaretoken={token.decode()}&login=root&password={password}".encode()
        kind = "application/x-www-form-urlencoded"
        response, _ = self.ask("POST", "/accounts/login/", form, Content_Type=kind, **headers)
        return response.status


@dataclass
class Proxied:
    web: int
    http_port: int
    https_port: int
    authority: Path
    names: Names
    nginx: int
    data: Path
    log: Path
    file: str

    def client(self, source: str = "127.0.0.1") -> Client:
        return Client(self.https_port, self.trusting(), source)

    def trusting(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority))
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT  # default since Python 3.13
        return context


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    folder = tmp_path_factory.mktemp("proxied")
    data, port, names = folder / "data", free_port(), Names()
    names.start()
    copy_prepared(data)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_", "DATA"))}
    env = {
        **kept,
        "PYTHONPATH": str(ROOT),
        "ADIT_DATA": str(data),
        "PORT": str(port),
        "ADIT_RECEIVER_PORT": "0",
        "ADIT_WORKERS": "1",
        "ADIT_HOSTS": HOST,
        "ADIT_TLS": "true",
        "ADIT_PROXIES": "1",
    }
    stage = str(Path(__file__).with_name("proxy_data.py"))
    made = subprocess.run(
        [sys.executable, stage, PASSWORD, str(FILE_BYTES)],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    file = json.loads(made.stdout.splitlines()[-1])["file"]
    with adit_up(folder / "up.log", env), nginx(folder, port, names, data, file) as running:
        yield running


@contextmanager
def nginx(
    folder: Path, web: int, names: Names, data: Path, file: str, published: str = ""
) -> Iterator[Proxied]:
    """Run nginx with the shipped configuration and the start command of the compose file.

    Only paths, ports and addresses of the container are replaced. `published` is the value of
    ADIT_HTTPS_PORT.
    """
    authority = Authority()
    certificate, key = authority.issue(names=("localhost",)).files(folder, "tls")
    (folder / "ca.crt").write_text(authority.certificate)
    http_port, https_port, scratch = free_port(), free_port(), folder / "tmp"
    scratch.mkdir()
    text = SHIPPED.read_text()
    for ours, here in {
        "/tmp/": f"{scratch}/",
        "listen 8080;": f"listen 127.0.0.1:{http_port};",
        "listen 8443 ssl;": f"listen 127.0.0.1:{https_port} ssl;",
        "/run/secrets/tls_certificate": str(certificate),
        "/run/secrets/tls_key": str(key),
        "127.0.0.11 ": f"127.0.0.1:{names.port} ",
        "web:8000": f"web:{web}",
        "dicomweb:8001": f"dicomweb:{web}",  # the web process answers the same addresses
    }.items():
        assert ours in text, ours
        text = text.replace(ours, here)
    (folder / "nginx.conf").write_text(text)
    log = folder / "nginx.log"
    assert NGINX is not None
    asked = [NGINX, "-c", str(folder / "nginx.conf"), "-e", "/dev/stderr", "-g", "daemon off;"]
    if os.geteuid() == 0:
        asked[-1] += " user root;"  # its workers must read the files of the test
    start = started_by_compose(published or str(https_port)).replace("/tmp/", f"{scratch}/")
    assert START in start
    asked = ["sh", "-c", start.replace(START, shlex.join(asked))]
    with log.open("wb") as out:
        process = subprocess.Popen(asked, cwd=folder, stdout=out, stderr=out)
    try:
        running = Proxied(
            web, http_port, https_port, folder / "ca.crt", names, process.pid, data, log, file
        )
        wait_until(lambda: process.poll() is not None or is_served(running), "nginx", 180)
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        end(process, 10)


def started_by_compose(published: str) -> str:
    """Start script of the proxy container."""
    done = subprocess.run(
        ["docker-compose", "-f", "deploy/compose.yaml", "config", "--format", "json"],
        cwd=ROOT,
        env={**os.environ, "ADIT_HOSTS": HOST, "ADIT_HTTPS_PORT": published},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    shell, option, script = json.loads(done.stdout)["services"]["proxy"]["command"]
    assert (shell, option) == ("sh", "-c")
    return str(script).replace("$$", "$")


def is_served(site: Proxied) -> bool:
    try:
        return site.client().ask("GET", "/healthz")[0].status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def root(site: Proxied) -> Client:
    client = site.client()
    assert client.sign_in(PASSWORD) == 302
    return client


def test_plain_http_redirects_to_https(site: Proxied) -> None:
    there = f"https://{HOST}:{site.https_port}/jobs/?page=2"
    assert led_to(site, "/jobs/?page=2") == (301, there)


@pytest.mark.parametrize(
    ("published", "port"), [("443", ""), ("10.0.0.1:443", ""), ("10.0.0.1:8443", ":8443")]
)
def test_plain_http_redirects_to_the_published_https_port(
    site: Proxied, tmp_path: Path, published: str, port: str
) -> None:
    with nginx(tmp_path, site.web, site.names, site.data, site.file, published) as other:
        assert led_to(other, "/jobs/") == (301, f"https://{HOST}{port}/jobs/")


def led_to(site: Proxied, path: str) -> tuple[int, str | None]:
    with closing(http.client.HTTPConnection("127.0.0.1", site.http_port, timeout=60)) as line:
        line.request("GET", path, headers={"Host": f"{HOST}:{site.http_port}"})
        answer = line.getresponse()
    return answer.status, answer.headers["Location"]


@pytest.mark.parametrize(("version", "spoken"), [("TLSv1_1", False), ("TLSv1_2", True)])
def test_tls_1_1_is_rejected_and_tls_1_2_is_accepted(
    site: Proxied, version: str, spoken: bool
) -> None:
    context = site.trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old TLS versions are deprecated
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with socket.create_connection(("127.0.0.1", site.https_port), timeout=60) as line:
        try:
            with context.wrap_socket(line, server_hostname="localhost") as tls:
                assert tls.version() == "TLSv1.2"
                assert spoken
        except ssl.SSLError:
            assert not spoken


def test_http_2_is_negotiated(site: Proxied) -> None:
    context = site.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", site.https_port), timeout=60) as line,
        context.wrap_socket(line, server_hostname="localhost") as tls,
    ):
        assert tls.selected_alpn_protocol() == "h2"


def test_pages_have_security_headers_and_secure_cookies(site: Proxied) -> None:
    client = site.client()
    response, _ = client.ask("GET", "/accounts/login/")
    headers = response.headers
    assert response.status == 200
    assert "max-age=31536000" in headers["Strict-Transport-Security"]
    assert "unsafe-inline" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Server"] == "nginx", "the version is exposed"
    assert client.sign_in(PASSWORD) == 302
    response, _ = client.ask("GET", "/accounts/login/")
    for name in ("sessionid", "csrftoken"):
        assert name in client.cookies
    again, _ = site.client().ask("GET", "/accounts/login/")
    for cookie in again.headers.get_all("Set-Cookie") or []:
        assert "; Secure" in cookie


def test_metrics_and_readyz_are_not_reachable_through_the_proxy(site: Proxied) -> None:
    told = {path: site.client().ask("GET", path)[0].status for path in ("/metrics", "/readyz")}
    assert told == {"/metrics": 404, "/readyz": 404}


def test_an_upload_over_5_mb_is_rejected_by_adit_and_over_the_limit_by_nginx(
    site: Proxied, root: Client
) -> None:
    status, page = upload(root, 10 * MB)
    assert (status, b"The file is larger than 5 MB" in page) == (422, True)
    status, page = upload(root, 20 * MB)
    assert (status, b"nginx" in page) == (413, True), "nginx must reject it"


def upload(client: Client, size: int) -> tuple[int, bytes]:
    edge = "a-line-that-does-not-occur"
    head = (
        f'--{edge}\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n'
        f"{client.cookies['csrftoken']}\r\n"
        f'--{edge}\r\nContent-Disposition: form-data; name="sheet"; filename="list.csv"\r\n'
        "Content-Type: text/csv\r\n\r\n"
    ).encode()
    body = head + b"1," * (size // 2) + f"\r\n--{edge}--\r\n".encode()
    kind = f"multipart/form-data; boundary={edge}"
    response, page = client.ask("POST", "/jobs/new/query/", body, Content_Type=kind)
    return response.status, page


def test_the_proxy_does_not_limit_the_size_of_dicomweb_requests(
    site: Proxied, root: Client
) -> None:
    """Without a token ADIT reads the body, but does not use it."""
    response, _ = root.ask("POST", "/api/dicom-web/PACS/stowrs/studies", b"x" * (32 * MB))
    assert response.status == 401


def test_a_7_zip_file_can_be_downloaded_completely_or_by_range(site: Proxied, root: Client) -> None:
    lies = (site.data / "archives" / "job-1.7z").read_bytes()
    response, whole = root.ask("GET", site.file)
    assert (response.status, whole == lies) == (200, True)
    tag = response.headers["ETag"]
    start = FILE_BYTES - 3 * MB
    response, rest = root.ask("GET", site.file, Range=f"bytes={start}-", If_Range=tag)
    assert (response.status, rest == lies[start:]) == (206, True)
    assert response.headers["Content-Range"] == f"bytes {start}-{FILE_BYTES - 1}/{FILE_BYTES}"


def test_a_slow_download_creates_no_temporary_files_at_the_proxy(
    site: Proxied, root: Client
) -> None:
    with closing(root.connected()) as line:
        response = root.sent(line, "GET", site.file, None, {})
        assert len(response.read(MB)) == MB
        until = time.monotonic() + 3
        while time.monotonic() < until:
            assert not temporary_files(site.nginx)
            time.sleep(0.1)


def temporary_files(master: int) -> list[str]:
    """Temporary files that the nginx workers have open, including deleted ones."""
    found = []
    for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.append(os.readlink(link))
            except OSError:
                continue
    return [name for name in found if "/tmp/proxy" in name]


def test_a_forged_x_forwarded_for_header_is_not_recorded_in_the_audit_trail(site: Proxied) -> None:
    client = site.client(source="127.0.0.2")
    assert client.sign_in("wrong", X_Forwarded_For="10.1.2.3") == 200
    with closing(sqlite3.connect(site.data / "adit.sqlite3", timeout=60)) as base:
        rows = base.execute("select details from audit_auditevent where action = 'signin.failed'")
        told = [json.loads(details)["address"] for (details,) in rows]
    assert told[-1] == "127.0.0.2"


def test_the_log_of_the_proxy_contains_no_query_strings(site: Proxied, root: Client) -> None:
    for path in ("/jobs/?q=Mustermann", "/api/dicom-web/studies?PatientName=Mustermann"):
        root.ask("GET", path)
    with closing(http.client.HTTPConnection("127.0.0.1", site.http_port, timeout=60)) as line:
        line.request("GET", "/jobs/?q=Mustermann", headers={"Host": HOST})
        line.getresponse()
    wait_until(lambda: "/api/dicom-web/studies" in site.log.read_text(), "the log", 60)
    assert "Mustermann" not in site.log.read_text()


def test_the_proxy_follows_a_changed_address_of_the_web_container(
    site: Proxied, root: Client
) -> None:
    """Must run last: the new address makes the web container unreachable for a while."""
    site.names.address = "127.0.0.3"
    wait_until(lambda: not is_served(site), "the name's new address", 180)
    root.ask("GET", "/api/dicom-web/studies?PatientName=Mustermann")
    site.names.address = "127.0.0.1"
    wait_until(lambda: is_served(site), "the way back", 180)
    assert "Mustermann" not in site.log.read_text()
