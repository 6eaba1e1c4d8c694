"""Storage SCP with TLS: accepted and rejected callers, messages and time limits."""

import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from lab import peers, receiving, tls_peers
from lab.samples import ROOT, ct, instance
from lab.tls_peers import CA, mutual, tls
from lab.wire import Wire

from adit_engine.errors import AditError
from adit_engine.nodes.base import Grade

pytestmark = pytest.mark.usefixtures("same_threads")

STUDY = f"{ROOT}.1"
LONG_S = 600.0
ANSWER_S, WITHOUT_WAIT_S = 60.0, 30.0
"""Time limit of the sockets of callers, and one for what must not wait for the receiver."""


@pytest.fixture
def received(tmp_path: Path) -> Iterator[receiving.Received]:
    """A receiver that requires a client certificate."""
    shown = tls_peers.receiver_tls(trusted=CA.certificate)
    with receiving.receiving(
        tmp_path, "PACS", tls=shown, association_s=LONG_S, no_progress_s=LONG_S
    ) as one:
        yield one


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[receiving.Received]:
    """The same with short time limits."""
    shown = tls_peers.receiver_tls(trusted=CA.certificate)
    with receiving.receiving(
        tmp_path, "PACS", tls=shown, association_s=3.0, no_progress_s=3.0
    ) as one:
        yield one


def echo_grade(received: receiving.Received, settings: dict[str, str]) -> Grade:
    return next(iter(received.sender(**settings).check())).grade


@contextmanager
def calling(port: int, held: tls_peers.Held | None = tls_peers.OURS) -> Iterator[ssl.SSLSocket]:
    """Open a TLS connection without using our own code."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=CA.certificate)
    if held is not None:
        with tempfile.TemporaryDirectory() as folder:
            context.load_cert_chain(*held.files(Path(folder), "caller"))
    with (
        socket.create_connection(("127.0.0.1", port), ANSWER_S) as one,
        context.wrap_socket(one, server_hostname="localhost") as secured,
    ):
        yield secured


def ended_after_s(one: socket.socket) -> float:
    """Return how many seconds the other side kept the connection open."""
    started = time.monotonic()
    try:
        while one.recv(4096):
            pass
    except OSError:
        pass
    return time.monotonic() - started


# Callers ---------------------------------------------------------------------------------------


def test_a_caller_with_a_trusted_certificate_is_accepted(received: receiving.Received) -> None:
    assert echo_grade(received, mutual()) is Grade.GOOD


def test_a_caller_without_a_certificate_is_rejected_with_a_message(
    received: receiving.Received, caplog: pytest.LogCaptureFixture
) -> None:
    (finding,) = received.sender(**tls()).check()

    assert "requires a client certificate" in str(finding.what)
    assert "Caller 127.0.0.1 presents no client certificate" in caplog.text


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (
            tls_peers.STRANGER,
            "client certificate of Caller 127.0.0.1 is not issued by a trusted authority",
        ),
        (CA.issue("old", until_day=-0.1), "or that of its issuer, has expired"),
    ],
)
def test_a_caller_with_an_invalid_certificate_is_rejected_with_a_message(
    received: receiving.Received,
    caplog: pytest.LogCaptureFixture,
    held: tls_peers.Held,
    words: str,
) -> None:
    assert echo_grade(received, mutual(held)) is Grade.BAD
    assert words in caplog.text


def test_an_unknown_ae_title_with_a_trusted_certificate_is_rejected(
    received: receiving.Received,
) -> None:
    (finding,) = received.sender("STRANGER", **mutual()).check()

    assert "Ask its administrator to register it" in str(finding.what)


def test_a_caller_without_tls_is_rejected_immediately_with_a_message(
    received: receiving.Received, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", received.port), ANSWER_S) as one:
        one.sendall(receiving.request())

        assert ended_after_s(one) < WITHOUT_WAIT_S
    said = "Caller 127.0.0.1 uses plain DICOM on a TLS port."
    peers.wait_until(lambda: said in caplog.text, "the log says so")


def test_a_caller_that_does_not_trust_our_certificate_is_logged(
    received: receiving.Received, caplog: pytest.LogCaptureFixture
) -> None:
    foreign = mutual(ca_certificate=tls_peers.Authority("Foreign CA").certificate)

    assert echo_grade(received, foreign) is Grade.BAD
    said = "does not accept our certificate (Receiver certificate)"
    peers.wait_until(lambda: said in caplog.text, "the log says so")


def test_a_tls_caller_of_a_plain_receiver_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving.receiving(tmp_path, "PACS") as plain:
        assert echo_grade(plain, tls()) is Grade.BAD

    assert "uses TLS, but its settings here say plain DICOM" in caplog.text


def test_a_renewed_certificate_is_used_for_new_connections(received: receiving.Received) -> None:
    renewed = CA.issue("pacs", until_day=5)
    with calling(received.port) as before:
        received.receiver.tls = tls_peers.receiver_tls(renewed, CA.certificate)
        findings = list(received.sender(**mutual()).check())
        before.sendall(receiving.request())

        assert receiving.answer(Whole(before))[0] == 2
    assert "expires on" in str(findings[1].what)


class Whole:
    """Reads the requested size completely, as MSG_WAITALL does, which TLS sockets reject."""

    def __init__(self, one: ssl.SSLSocket) -> None:
        self._one = one

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = b""
        while len(data) < size and (piece := self._one.recv(size - len(data))):
            data += piece
        return data


# Silent and slow connections -------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 60])
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00"], ids=["nothing", "half"])
def test_silent_connections_do_not_block_a_c_echo(tmp_path: Path, count: int, said: bytes) -> None:
    shown = tls_peers.receiver_tls(trusted=CA.certificate)
    with (
        receiving.receiving(tmp_path, "PACS", tls=shown, association_s=LONG_S) as received,
        ExitStack() as silent,
    ):
        for _ in range(count):
            here = ("127.0.0.1", received.port)
            one = silent.enter_context(socket.create_connection(here, ANSWER_S))
            one.sendall(said)

        assert echo_grade(received, mutual()) is Grade.GOOD


def test_50_silent_connections_after_the_handshake_do_not_block_a_c_echo(tmp_path: Path) -> None:
    shown = tls_peers.receiver_tls()
    with (
        receiving.receiving(tmp_path, "PACS", tls=shown, association_s=LONG_S) as received,
        ExitStack() as silent,
    ):
        for _ in range(50):
            silent.enter_context(calling(received.port, None))

        assert echo_grade(received, tls()) is Grade.GOOD


def test_a_silent_connection_times_out(impatient: receiving.Received) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), ANSWER_S) as one:
        assert 1 < ended_after_s(one) < WITHOUT_WAIT_S


def test_a_handshake_that_trickles_in_times_out(impatient: receiving.Received) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), ANSWER_S) as one:
        for byte in b"\x16\x03\x01\x02\x00" + bytes(512):
            try:
                one.sendall(bytes([byte]))
            except ConnectionError:
                break
            time.sleep(0.03)
        else:
            pytest.fail("the whole handshake was waited for")


def test_the_receiver_stops_immediately_with_open_connections(tmp_path: Path) -> None:
    shown = tls_peers.receiver_tls()
    with ExitStack() as callers:
        with receiving.receiving(tmp_path, "PACS", tls=shown, association_s=LONG_S) as received:
            callers.enter_context(socket.create_connection(("127.0.0.1", received.port), ANSWER_S))
            callers.enter_context(calling(received.port, None))
            started = time.monotonic()
        assert time.monotonic() - started < WITHOUT_WAIT_S


# Attacks over TLS ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "attack",
    [
        struct.pack(">BxI", 1, 0xFFFFFFFF) + bytes(1000),
        b"GET / HTTP/1.1\r\n\r\n",
        receiving.request()[:40],
        receiving.request() + struct.pack(">BxIIBB", 4, 5000, 4996, 1, 1) + bytes(100),
        receiving.request() + struct.pack(">BxIIBB", 4, 6, 0xFFFFFFF0, 1, 3),
    ],
    ids=["four gigabytes", "http", "half a request", "half a message", "broken pdu"],
)
def test_malformed_encrypted_data_end_only_their_own_connection(
    impatient: receiving.Received, attack: bytes
) -> None:
    with calling(impatient.port) as one:
        one.sendall(attack)

        assert ended_after_s(one) < WITHOUT_WAIT_S
    assert echo_grade(impatient, mutual()) is Grade.GOOD


@pytest.mark.parametrize("how", ["cut", "reset", "stall", "trickle", "flip"])
def test_an_incomplete_image_is_not_stored(received: receiving.Received, how: str) -> None:
    """Only after a flipped byte the sender retries; the image is then stored."""
    pixels = {"Rows": 128, "Columns": 128, "PixelData": bytes(range(256)) * 128}
    image = instance(ct(1, **pixels))
    with (
        received.reception.expect(receiving.wanted(STUDY), receiving.never) as awaited,
        Wire(received.port, 20_000, how, amount=0.02, forth=True) as wire,
    ):
        limit_s = 2.0 if how in ("stall", "trickle") else LONG_S
        times = {"no_progress_s": limit_s, "association_s": limit_s}
        sender = received.sender(**mutual(port=wire.port, **times))
        kept = []
        with suppress(AditError):
            kept = [one for one in sender.store([image]) if one.is_stored]

        assert wire.reached.is_set()
        assert [one.sha256() for one in awaited.take_images()] == [image.sha256()] * len(kept)
        assert len(kept) == (how == "flip")
