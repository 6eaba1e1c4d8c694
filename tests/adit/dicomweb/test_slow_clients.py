"""Slow clients, with and without a token, do not stop the process `adit dicomweb`."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from lab.installed import Installed
from lab.peers import wait_until
from lab.ports import free_port

THREADS = 2
BODY_S = 3
HEAD = (
    "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Token {token}\r\n{length}\r\n"
    "Content-Type: multipart/related; boundary=b\r\n\r\n"
)
STORE = "POST /api/dicom-web/PACS1/stowrs/studies"


@dataclass
class Server:
    port: int
    token: str

    def answers(self, timeout_s: float = 4) -> bool:
        with suppress(httpx.HTTPError):
            health = f"http://127.0.0.1:{self.port}/healthz"
            return httpx.get(health, timeout=timeout_s).status_code == 200
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("slow")
    port = free_port()
    settings = {
        "ADIT_DICOMWEB_PORT": str(port),
        "ADIT_DICOMWEB_THREADS": str(THREADS),
        "ADIT_REQUEST_BODY_S": str(BODY_S),
    }
    installed = Installed(folder / "adit", settings)
    installed.prepare()
    installed.do("add-pacs", "PACS1", str(free_port()))
    server = Server(port, installed.do("add-tokens", "script").strip())
    with installed.running("dicomweb"):
        wait_until(server.answers, "adit dicomweb", 150)
        yield server


@pytest.mark.parametrize("length", ["Content-Length: 250000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("line", "has_token", "status"),
    [
        (STORE, False, 401),
        (STORE, True, 408),
        ("GET /healthz", False, 200),
        ("POST /other", False, 404),
    ],
    ids=["no token", "token", "another page", "unknown page"],
)
def test_trickling_bodies_end_in_time(
    line: str, has_token: bool, status: int, length: str, server: Server
) -> None:
    token = server.token if has_token else "none"
    head = HEAD.format(line=line, token=token, length=length)
    begin = "3d090\r\n" if "chunked" in length else ""
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _number in range(THREADS)
        ]
        for one in slow:
            one.sendall((head + begin).encode())
        until = time.monotonic() + (BODY_S if has_token else 0) + 4
        while time.monotonic() < until:
            for one in slow:
                with suppress(OSError):
                    one.sendall(b"x")
            time.sleep(0.3)

        assert server.answers(2)
        for one in slow:
            one.settimeout(2)
            assert one.recv(12) == f"HTTP/1.1 {status}".encode()
