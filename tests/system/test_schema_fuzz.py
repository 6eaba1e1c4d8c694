"""The REST API of a running ADIT under requests that no honest program sends.

schemathesis over the schema must find nothing. `make api-fuzz SECONDS=n` runs it longer, with more
kinds of requests and a random seed.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import ROOT, STAGE, web_server
from lab.prepared import copy_prepared

pytestmark = pytest.mark.timeout(900)
SECONDS = os.environ.get("ADIT_API_FUZZ_SECONDS", "")
SHORT = ("--phases", "fuzzing,stateful", "--max-examples", "4", "--seed", "1")
LONG = ("--max-time", SECONDS)
SCOPES = "query,retrieve,store,jobs:read,jobs:write,identified"
HOOKS = ROOT / "tests" / "lab" / "api_fuzz_hooks.py"


@dataclass(frozen=True)
class ApiSite:
    url: str
    token: str
    data: Path

    def send(self, head: str, *pieces: bytes) -> tuple[int, dict[str, Any]]:
        """Send a request as it is, and return status and problem of the first answer."""
        address = urlsplit(self.url)
        head = f"{head}\r\nHost: localhost\r\nAuthorization: Token {self.token}\r\n"
        with socket.create_connection(("127.0.0.1", address.port or 80), timeout=60) as one:
            try:
                one.sendall(f"{head}Connection: close\r\n\r\n".encode())
                for piece in pieces:
                    one.sendall(piece)
            except OSError:
                pass  # the server has answered and closed
            answer = b""
            try:
                while piece := one.recv(65536):
                    answer += piece
            except OSError:
                pass
        first, _line, body = answer.partition(b"\r\n\r\n")
        status = int(first.split()[1]) if first else 0
        return status, json.loads(body) if body.startswith(b"{") else {}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiSite]:
    """A web server with sample data of its own, since the requests change them."""
    data = tmp_path_factory.mktemp("fuzz")
    copy_prepared(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADIT_DATA", str(data))
        patch.setenv("ADIT_API_REQUESTS", "1000000")
        patch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
        run(sys.executable, str(STAGE))
        token = run(
            *(sys.executable, "-m", "adit.cli", "token", "create", "coordinator"),
            *("--name", "fuzz", "--scopes", SCOPES),
        )
        with web_server(data) as url:
            yield ApiSite(url, token.strip(), data)


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_body_that_is_sent_without_its_length_is_not_taken_for_an_empty_one(
    site: ApiSite,
) -> None:
    body = json.dumps({"node": "PACS1", "query": {"PatientID": "1"}}).encode()
    chunked = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    head = "POST /api/v1/searches HTTP/1.1\r\nContent-Type: application/json"

    assert site.send(f"{head}\r\nContent-Length: {len(body)}", body)[0] in (200, 502, 503)
    status, problem = site.send(f"{head}\r\nTransfer-Encoding: chunked", chunked)

    assert (status, problem["code"]) == (411, "api.length-required")


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 40",
        "Content-Length: -1",
        "Content-Length: 4x",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding : chunked",
        "Idempotency-Key: a\0b\r\nContent-Length: 2",
        f"Idempotency-Key: {'a' * 100_000}\r\nContent-Length: 2",
    ],
)
def test_an_ambiguous_or_oversized_head_is_refused(lines: str, site: ApiSite) -> None:
    head = "POST /api/v1/searches HTTP/1.1\r\nContent-Type: application/json"

    status, _problem = site.send(f"{head}\r\n{lines}", b"{}\r\n0\r\n\r\n")

    assert status in (0, 400, 411, 413, 431), "an error, or the connection is closed"


def test_a_huge_body_is_refused_before_it_is_read(site: ApiSite) -> None:
    megabyte = b" " * 2**20
    head = "POST /api/v1/jobs HTTP/1.1\r\nContent-Type: application/json"

    status, problem = site.send(f"{head}\r\nContent-Length: {100 * 2**20}", *[megabyte] * 100)

    assert (status, problem.get("code")) in ((413, "api.body-too-large"), (0, None))
    assert site.send("GET /api/v1/me HTTP/1.1")[0] == 200


@pytest.mark.timeout(300 + 2 * int(SECONDS or 0))
def test_no_request_that_fits_or_breaks_the_schema_gets_a_wrong_answer(site: ApiSite) -> None:
    """All checks but `positive_data_acceptance`: a well-formed order may be refused."""
    command = (
        *(str(Path(sys.executable).with_name("st")), "run", f"{site.url}/api/v1/schema"),
        *("--header", f"Authorization: Token {site.token}", "--continue-on-failure"),
        *("--checks", "all", "--exclude-checks", "positive_data_acceptance"),
        *("--exclude-operation-id", "tokens_revoke"),  # its own token must stay valid
        *("--exclude-operation-id", "nodes_test"),  # 503 while the PACS is paused
        *("--no-color", "--warnings", "off", *(LONG if SECONDS else SHORT)),
    )

    done = subprocess.run(
        command,
        cwd=site.data,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "NO_PROXY": "*"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Traceback" not in (site.data / "web.log").read_text()
