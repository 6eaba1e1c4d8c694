"""DICOM TLS faults: each refusal has a message, and a broken connection is an error."""

import itertools
import socket
import ssl
import struct
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from lab import peers, tls_peers
from lab.samples import ROOT, ct, instance
from lab.tls_peers import CA, mutual, tls
from lab.wire import Wire

from adit_engine.dicom_ul.association import ClientAssociation
from adit_engine.dicom_ul.pdu import PresentationContext
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    Stopped,
    TimedOut,
    Untrusted,
)
from adit_engine.nodes.base import StoreResult
from adit_engine.nodes.dimse.c_find import STUDY_ROOT
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import SeriesRef, StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

STUDY = StudyRef(f"{ROOT}.1")
SERIES = SeriesRef(STUDY.study_uid, f"{ROOT}.1.1")
IMPLICIT = "1.2.840.10008.1.2"
FIND_ANSWER = 0x8020


def images(count: int, study: str = "1") -> list[Instance]:
    pixels = {"Rows": 128, "Columns": 128, "PixelData": bytes(range(256)) * 128}
    return [instance(ct(number, study=study, **pixels)) for number in range(1, count + 1)]


def find(node: DimseNode) -> list[object]:
    return list(node.find(Query.study(STUDY)))


def fetch(node: DimseNode) -> list[Instance]:
    return list(node.fetch([SERIES]))


def store(node: DimseNode) -> list[object]:
    return list(node.store(images(5)))


def failed(action: Callable[[], object]) -> AditError:
    started = time.monotonic()
    with pytest.raises(AditError) as caught:
        action()
    assert time.monotonic() - started < peers.WITHOUT_WAIT_S
    assert "PACS1" in str(caught.value)
    return caught.value


def refused(node: DimseNode, words: str) -> None:
    """Assert that the connection is refused permanently, with these words."""
    error = failed(lambda: find(node))
    assert isinstance(error, Untrusted), repr(error)
    assert words in str(error)
    assert not error.is_transient


# Refusals --------------------------------------------------------------------------------------

OLD = CA.issue("pacs", until_day=-0.1)
EARLY = CA.issue("pacs", from_day=2)
ELSEWHERE = CA.issue("pacs", ["other.example"])
FOREIGN = tls_peers.Authority("Foreign CA").issue("pacs")
IMPOSTOR = tls_peers.Authority().issue("pacs")
"""Issued by another authority of the same name."""


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (OLD, "The certificate of PACS1, or that of its issuer, has expired"),
        (EARLY, "is not valid yet. Check the clocks"),
        (ELSEWHERE, "is not issued for 127.0.0.1"),
        (FOREIGN, "is not issued by a trusted authority"),
        (IMPOSTOR, "is not issued by a trusted authority"),
    ],
)
def test_an_invalid_certificate_is_refused_with_the_reason(
    held: tls_peers.Held, words: str
) -> None:
    with tls_peers.scripted(never_reached, tls_peers.server_context(held)) as peer:
        refused(peers.node(peer.port, **tls()), words)


def never_reached(talk: peers.Talk) -> None:
    with suppress(ssl.SSLError, EOFError, OSError):
        talk.accept()
        raise AssertionError("went on after the refusal")


def test_without_a_ca_only_system_authorities_are_trusted() -> None:
    with tls_peers.scripted(never_reached) as peer:
        refused(peers.node(peer.port, transport="tls"), "is not issued by a trusted authority")


VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_pacs_that_requires_a_client_certificate_is_reported(version: str) -> None:
    context = tls_peers.server_context(asks=True, most=VERSIONS[version])
    with tls_peers.scripted(never_reached, context) as peer:
        refused(peers.node(peer.port, **tls()), "client certificate")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("held", "words"),
    [
        (tls_peers.STRANGER, "does not accept our certificate (Client certificate)"),
        (CA.issue("adit", until_day=-0.1), "our certificate has expired"),
    ],
)
def test_a_pacs_that_rejects_our_certificate_is_reported(
    version: str, held: tls_peers.Held, words: str
) -> None:
    context = tls_peers.server_context(asks=True, most=VERSIONS[version])
    with tls_peers.scripted(never_reached, context) as peer:
        refused(peers.node(peer.port, **mutual(held)), words)


@peers.needs_dcmtk
@pytest.mark.parametrize(
    ("settings", "words"),
    [(tls(), "requires a client certificate"), (mutual(tls_peers.STRANGER), "does not accept our")],
)
def test_refusals_of_dcmtk_are_recognized(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    options = tls_peers.dcmtk(tmp_path)
    with peers.storescp(tmp_path / "out", *options) as port:
        error = failed(lambda: store(peers.node(port, **settings)))

    assert isinstance(error, Untrusted)
    assert words in str(error)


def test_a_pacs_with_obsolete_tls_versions_only_is_reported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = tls_peers.server_context()
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    with tls_peers.scripted(never_reached, context) as peer:
        refused(peers.node(peer.port, **tls()), "offers no TLS version that we allow")


def test_the_settings_can_require_tls_1_3() -> None:
    context = tls_peers.server_context(most=ssl.TLSVersion.TLSv1_2)
    with tls_peers.scripted(never_reached, context) as peer:
        refused(peers.node(peer.port, **tls(least_tls="1.3")), "no TLS version that we allow")


def test_a_pacs_without_a_common_cipher_is_reported() -> None:
    context = tls_peers.server_context(most=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("AES128-SHA")
    with tls_peers.scripted(never_reached, context) as peer:
        refused(peers.node(peer.port, **tls()), "refused the TLS handshake")


@pytest.mark.parametrize("word", [b"\x07\0\0\0\0\x04\0\0\0\0", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_port_without_tls_is_reported(word: bytes) -> None:
    with peers.Scripted(lambda talk: (talk.raw(word), talk.gone.wait(0.2))) as peer:
        refused(peers.node(peer.port, **tls()), "does not use TLS on this port")


@peers.needs_dcmtk
def test_a_plain_dicom_port_that_closes_the_connection_is_reported(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "out") as port:
        error = failed(lambda: store(peers.node(port, **tls())))

    assert isinstance(error, ConnectionLost)
    assert "closed the connection when TLS was started" in str(error)
    assert "Check that this port uses TLS" in str(error)


def test_plain_dicom_on_a_tls_port_is_reported_with_the_setting() -> None:
    with peers.Scripted(lambda talk: (talk.pdu(), talk.raw(b"\x15\3\3\0\2\2\x46"))) as peer:
        refused(peers.node(peer.port), "uses TLS, but its settings here say plain DICOM")


def test_a_damaged_handshake_is_a_transient_error() -> None:
    def script(talk: peers.Talk) -> None:
        talk.gone.wait(2)

    with tls_peers.scripted(script) as peer, Wire(peer.port, 400, "flip") as wire:
        error = failed(lambda: find(peers.node(wire.port, **tls())))

    assert isinstance(error, ConnectionLost)
    assert "TLS" in str(error)
    assert error.is_transient


def test_a_peer_that_never_answers_the_handshake_times_out() -> None:
    with peers.Scripted(lambda talk: talk.gone.wait(1)) as peer:
        error = failed(lambda: find(peers.node(peer.port, association_s=0.3, **tls())))

    assert isinstance(error, TimedOut)
    assert "did not finish the TLS handshake within 0.3 s" in str(error)


def test_a_handshake_that_trickles_in_times_out() -> None:
    def script(talk: peers.Talk) -> None:
        for byte in b"\x16\3\3\x40\0" + bytes(100):
            talk.raw(bytes([byte]))
            if talk.gone.wait(0.05):
                return

    with peers.Scripted(script) as peer:
        error = failed(lambda: find(peers.node(peer.port, association_s=0.5, **tls())))

    assert isinstance(error, TimedOut)


# After the handshake ---------------------------------------------------------------------------


def answering(end: Callable[[tls_peers.Encrypted, bytes], None]) -> Callable[[peers.Talk], None]:
    """Accept, receive a query, and pass the bytes of the final response to `end`."""

    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        final = {0x0100: FIND_ANSWER, 0x0120: 1, 0x0900: 0}
        assert isinstance(talk.socket, tls_peers.Encrypted)
        end(talk.socket, talk.message(talk.context(STUDY_ROOT), final))
        talk.until_gone()

    return script


def closes_in_good_order(one: tls_peers.Encrypted, answer: bytes) -> None:
    one.raw.sendall(one.encrypted(answer[:40]) + one.goodbye())


def closes_without_goodbye(one: tls_peers.Encrypted, answer: bytes) -> None:
    one.raw.sendall(one.encrypted(answer[:40]))
    one.raw.shutdown(socket.SHUT_RDWR)


def closes_before_a_word(one: tls_peers.Encrypted, answer: bytes) -> None:
    one.raw.shutdown(socket.SHUT_RDWR)


def closes_within_a_record(one: tls_peers.Encrypted, answer: bytes) -> None:
    one.raw.sendall(one.encrypted(answer)[:-5])
    one.raw.shutdown(socket.SHUT_RDWR)


def resets(one: tls_peers.Encrypted, answer: bytes) -> None:
    one.raw.sendall(one.encrypted(answer)[:-5])
    one.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.raw.close()


def damages(one: tls_peers.Encrypted, answer: bytes) -> None:
    record = bytearray(one.encrypted(answer))
    record[-1] ^= 1
    one.raw.sendall(record)


@pytest.mark.parametrize(
    "end",
    [
        closes_in_good_order,
        closes_without_goodbye,
        closes_before_a_word,
        closes_within_a_record,
        resets,
        damages,
    ],
)
def test_an_interrupted_response_is_a_transient_connection_loss(
    end: Callable[[tls_peers.Encrypted, bytes], None],
) -> None:
    with tls_peers.scripted(answering(end)) as peer:
        error = failed(lambda: find(peers.node(peer.port, **tls())))

    assert isinstance(error, ConnectionLost)
    assert error.is_transient


def stalls_within_a_record(one: tls_peers.Encrypted, answer: bytes) -> None:
    one.raw.sendall(one.encrypted(answer)[:-5])


def stalls_between_records(one: tls_peers.Encrypted, answer: bytes) -> None:
    one.raw.sendall(one.encrypted(answer[:40]))


def trickles_a_record(one: tls_peers.Encrypted, answer: bytes) -> None:
    with suppress(OSError):
        for byte in one.encrypted(answer):
            one.raw.sendall(bytes([byte]))
            time.sleep(0.05)


def trickles_records(one: tls_peers.Encrypted, answer: bytes) -> None:
    with suppress(OSError):
        for byte in answer:
            one.raw.sendall(one.encrypted(bytes([byte])))
            time.sleep(0.1)


@pytest.mark.parametrize(
    "end", [stalls_within_a_record, stalls_between_records, trickles_a_record, trickles_records]
)
def test_a_stalled_or_trickling_response_times_out(
    end: Callable[[tls_peers.Encrypted, bytes], None],
) -> None:
    with tls_peers.scripted(answering(end)) as peer:
        error = failed(lambda: find(peers.node(peer.port, no_progress_s=0.4, **tls())))

    assert isinstance(error, TimedOut)


def test_abort_from_another_thread_ends_the_wait_and_sends_an_a_abort() -> None:
    heard: list[int] = []

    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.hear()
        heard.append(talk.until_gone())

    with tls_peers.scripted(script) as peer:
        node = peers.node(peer.port, first_byte_s=30.0, association_s=30.0, **tls())
        timer = threading.Timer(0.3, node.abort)
        timer.start()

        error = failed(lambda: find(node))

        timer.join()
        peers.wait_until(lambda: not peer.busy, "the peer has seen the end")
    assert isinstance(error, Stopped)
    assert heard == [7]


def test_abort_ends_a_handshake() -> None:
    with peers.Scripted(lambda talk: talk.gone.wait(1)) as peer:
        node = peers.node(peer.port, association_s=30.0, **tls())
        timer = threading.Timer(0.3, node.abort)
        timer.start()

        error = failed(lambda: find(node))

        timer.join()
    assert isinstance(error, Stopped)


def test_abort_ends_a_blocked_write() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.gone.wait(2)

    big = [instance(ct(n, Rows=2048, Columns=2048, PixelData=bytes(2**23))) for n in range(1, 4)]
    with tls_peers.scripted(script) as peer:
        node = peers.node(peer.port, no_progress_s=30.0, **tls())
        timer = threading.Timer(0.4, node.abort)
        timer.start()

        error = failed(lambda: list(node.store(big)))

        timer.join()
    assert isinstance(error, Stopped)


def test_a_blocked_write_times_out() -> None:
    def script(talk: peers.Talk) -> None:
        talk.accept()
        talk.gone.wait(2)

    big = [instance(ct(n, Rows=2048, Columns=2048, PixelData=bytes(2**23))) for n in range(1, 4)]
    with tls_peers.scripted(script) as peer:
        node = peers.node(peer.port, no_progress_s=0.5, **tls())

        error = failed(lambda: list(node.store(big)))

    assert isinstance(error, TimedOut)


def test_poll_ignores_an_incomplete_tls_record() -> None:
    agreed, sent, go_on = threading.Event(), threading.Event(), threading.Event()

    def script(talk: peers.Talk) -> None:
        talk.accept()
        assert isinstance(talk.socket, tls_peers.Encrypted)
        record = talk.socket.encrypted(talk.wrap(5, bytes(4)))
        assert agreed.wait(30)
        talk.socket.raw.sendall(record[:-3])
        sent.set()
        assert go_on.wait(30)
        talk.socket.raw.sendall(record[-3:])
        talk.gone.wait(0.5)

    with (
        tls_peers.scripted(script) as peer,
        opened(peers.node(peer.port, **tls())) as association,
    ):
        agreed.set()
        assert sent.wait(30)
        assert not association.poll(0.3)
        go_on.set()
        assert association.poll(30)
        assert association.poll(0)
        with pytest.raises(ConnectionLost, match="released"):
            association.receive(1, "answer")


@contextmanager
def opened(node: DimseNode) -> Iterator[ClientAssociation]:
    association = ClientAssociation(node.settings.peer("PACS1"))
    association.open([PresentationContext(STUDY_ROOT, (IMPLICIT,))])
    try:
        yield association
    finally:
        association.close()


# Faulty network --------------------------------------------------------------------------------

HARMS = ("cut", "reset", "stall", "trickle", "flip")
STUDIES = itertools.count(2)
SILENT = ("stall", "trickle")
"""Faults that only a time limit ends."""


def times(how: str) -> dict[str, float]:
    limit_s = 2.0 if how in SILENT else 30.0
    return {"association_s": limit_s, "first_byte_s": limit_s, "no_progress_s": limit_s}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Orthanc]:
    if peers.ORTHANC is None:
        pytest.skip("needs Orthanc: apt install orthanc")
    folder = tmp_path_factory.mktemp("secured") / "orthanc"
    with tls_peers.orthanc(folder, "SECURE", is_mutual=True) as one:
        list(one.node(**mutual()).store(images(5)))
        yield one


@pytest.mark.parametrize(
    ("how", "after_bytes"), list(itertools.product(HARMS, [0, 700, 3500, 20_000, 100_000]))
)
def test_a_fetch_over_a_faulty_network_fails(
    archive: peers.Orthanc, how: str, after_bytes: int
) -> None:
    """Faults occur in the handshake, the negotiation, the first image and later images."""
    with Wire(archive.port, after_bytes, how, amount=0.02) as wire:
        node = peers.node(wire.port, "SECURE", **mutual(**times(how), retrieve="get"))

        failed(lambda: fetch(node))

        assert wire.reached.wait(30)


@pytest.mark.parametrize(("how", "after_bytes"), list(itertools.product(HARMS, [0, 1500, 50_000])))
def test_no_image_is_falsely_reported_stored_over_a_faulty_network(
    archive: peers.Orthanc, how: str, after_bytes: int
) -> None:
    kept: list[StoreResult] = []
    study = str(next(STUDIES))
    with Wire(archive.port, after_bytes, how, amount=0.02, forth=True) as wire:
        node = peers.node(wire.port, "SECURE", **mutual(**times(how), retrieve="get"))

        with suppress(AditError):
            for one in node.store(images(5, study)):
                kept += [one] if one.is_stored else []

        assert wire.reached.wait(30)
    there = archive.node(**mutual()).find(Query.instances_of(SeriesRef(*uids_of(study))))
    assert {one.ref.instance_uid for one in kept} <= {record.instance_uid for record in there}


def uids_of(study: str) -> tuple[str, str]:
    """Return the UIDs of the study and of its first series."""
    return f"{ROOT}.{study}", f"{ROOT}.{study}.1"


@pytest.mark.parametrize("how", HARMS)
def test_a_search_over_a_faulty_network_fails(archive: peers.Orthanc, how: str) -> None:
    with Wire(archive.port, 3000, how, amount=0.02) as wire:
        failed(
            lambda: find(peers.node(wire.port, "SECURE", **mutual(**times(how), retrieve="get")))
        )

        assert wire.reached.wait(30)
