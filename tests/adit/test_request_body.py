"""The embedded web server cuts requests whose body stalls, and keeps answering others."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from django.conf import settings
from lab.ports import free_port

from adit.cli import WEB_THREADS

LIMIT_S = 5.0
HEAD = (
    "POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n"
    f"Cookie: csrftoken={'a' * 32}\r\nConnection: close\r\n\r\n"
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    env = {
        **os.environ,
        "PORT": str(port),
        "ADIT_REQUEST_BODY_S": str(LIMIT_S),
        "ADIT_DATA": str(settings.DATA_DIR),
    }
    process = subprocess.Popen([sys.executable, "-m", "adit.cli", "web"], env=env)
    try:
        until = time.monotonic() + 60
        while not answers(port):
            assert time.monotonic() < until, "the web server does not start"
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def answers(port: int) -> bool:
    try:
        with connect(port) as one:
            one.sendall(b"GET /help/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return read_all(one).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def read_all(one: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    found = b""
    while piece := one.recv(65536):
        found += piece
    return found


@pytest.mark.parametrize("begun", [b"", b"login=a&password="], ids=["nothing", "a part"])
def test_stalled_requests_are_cut_and_the_server_answers_again(port: int, begun: bytes) -> None:
    began = time.monotonic()
    with ExitStack() as stack:
        stalled = [stack.enter_context(connect(port)) for _ in range(WEB_THREADS)]
        for one in stalled:
            one.sendall(HEAD.format(length=5000).encode() + begun)
        found = [read_all(one) for one in stalled]

    assert time.monotonic() - began < LIMIT_S + 50
    assert all(answer.startswith(b"HTTP/1.1 408") for answer in found)
    assert all(b"Send it again." in answer for answer in found)
    assert answers(port)


def test_a_slow_but_steady_upload_is_not_cut(port: int) -> None:
    piece = b"x" * 16_384
    with connect(port) as one:
        one.sendall(HEAD.format(length=4 * len(piece)).encode())
        for _ in range(4):
            time.sleep(LIMIT_S / 2)
            one.sendall(piece)
        assert read_all(one).startswith(b"HTTP/1.1 403")


UNREAD = HEAD.replace("/accounts/login/", "/api/dicom-web/PACS/stowrs/studies")


def test_a_client_that_sends_a_body_which_is_not_used_sees_the_answer(port: int) -> None:
    body = b"x" * 32 * 1024 * 1024
    with connect(port) as one:
        one.sendall(UNREAD.format(length=len(body)).encode())
        one.sendall(body)
        assert read_all(one).startswith(b"HTTP/1.1 401")


def test_a_stalled_body_which_is_not_used_is_cut_as_well(port: int) -> None:
    with connect(port) as one:
        one.sendall(UNREAD.format(length=5000).encode() + b"a part")
        assert read_all(one).startswith(b"HTTP/1.1 408")
