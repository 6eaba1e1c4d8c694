"""Faults of a DICOMweb node: each ends in time with the right error and leaves nothing open."""

import dataclasses
import datetime
import ipaddress
import itertools
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from lab import peers, web_peers
from lab.certificates import Authority
from lab.instances import images
from lab.ports import free_port
from lab.web_peers import (
    BODY,
    CLOSE,
    JSON,
    RESET,
    SERIES,
    STUDY,
    TYPE,
    Liar,
    Said,
    answer,
    chunk,
    failed,
    fetch,
    find,
    head,
    scripted,
    store,
)

from adit_engine.cli import node_url
from adit_engine.errors import (
    AditError,
    ConnectionLost,
    InvalidInput,
    NodeBusy,
    NodeRefused,
    NotSupported,
    Stopped,
    TimedOut,
    Unreachable,
)
from adit_engine.nodes.dicomweb.http import explain_refusal
from adit_engine.nodes.dicomweb.node import DicomwebNode, DicomwebSettings
from adit_engine.values.query import Query
from adit_engine.values.references import QueryLevel

nothing_left = web_peers.nothing_left
BRIEF = {"first_byte_s": 1.0, "no_progress_s": 1.0}


# Connecting ------------------------------------------------------------------------------------


def test_the_error_names_a_closed_port_or_an_unknown_host() -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=f"no service listens on localhost port {port}"):
        find(web_peers.node(port))
    with pytest.raises(Unreachable, match="no-such-host\\.invalid is unknown"):
        find(DicomwebNode("PACS1", DicomwebSettings("http://no-such-host.invalid/")))


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, int]]]:
    """Addresses of host names in this test. A name can be resolved only once."""
    known: dict[str, list[tuple[str, int]]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: bytes | str, *args: Any, flags: int = 0, **more: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if flags & socket.AI_NUMERICHOST or not name.endswith(".example"):
            return real(host, *args, flags=flags, **more)
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        places = known.pop(name)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def test_an_unresponsive_address_leaves_time_for_the_next_address(
    lookups: dict[str, list[tuple[str, int]]],
) -> None:
    """For example, a firewall drops the packets to the IPv6 address of the host."""
    with ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        liar = stack.enter_context(Liar(scripted(answer(200, JSON, b"[]"))))
        lookups["pacs.example"] = [deaf.getsockname(), ("127.0.0.1", liar.port)]
        url = "http://pacs.example/dicom-web"
        settings = DicomwebSettings(url, allow_local=True, connect_s=6)

        with closing(DicomwebNode("PACS1", settings)) as node:
            find(node)

        assert liar.requests[0].headers["host"] == "pacs.example"


def test_a_host_name_is_resolved_only_once(
    lookups: dict[str, list[tuple[str, int]]],
) -> None:
    last = [*answer(200, TYPE, BODY), CLOSE]
    with Liar(lambda request: last) as liar:
        lookups["pacs.example"] = [("127.0.0.1", liar.port)]
        settings = DicomwebSettings("http://pacs.example/dicom-web", allow_local=True)

        with closing(DicomwebNode("PACS1", settings)) as node:
            assert [len(fetch(node)) for _ in range(2)] == [3, 3]

        assert liar.connections == 2


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "localhost", "[::1]", "[::ffff:169.254.169.254]", "0.0.0.0"]
)
def test_no_connection_is_made_to_a_loopback_or_link_local_address(host: str) -> None:
    with Liar(scripted(answer(200, JSON, b"[]"))) as liar:
        settings = DicomwebSettings(f"http://{host}:{liar.port}/")

        with pytest.raises(NodeRefused, match="which is not allowed"):
            find(DicomwebNode("PACS1", settings))

        assert liar.connections == 0


LINK_LOCAL = [
    "169.254.1.1",
    "169.254.169.254",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "100.100.100.200",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
]


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "025177524776",
        "0xa9fea9fe",
        "169.16689662",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[fe80::1]",
        "[fd00:ec2::254]",
    ],
)
def test_allow_local_never_covers_link_local_and_metadata_addresses(host: str) -> None:
    with closing(DicomwebNode("PACS1", DicomwebSettings(f"http://{host}/", allow_local=True))) as n:
        for _ in range(2):
            with pytest.raises(NodeRefused, match="which is not allowed"):
                find(n)


def test_a_name_that_resolves_to_a_link_local_address_is_refused_and_another_address_is_used(
    lookups: dict[str, list[tuple[str, int]]],
) -> None:
    settings = DicomwebSettings("http://pacs.example/dicom-web", allow_local=True)
    lookups["pacs.example"] = [("169.254.169.254", 80)]
    with closing(DicomwebNode("PACS1", settings)) as node:
        with pytest.raises(NodeRefused, match="which is not allowed"):
            find(node)

        with Liar(scripted(answer(200, JSON, b"[]"))) as liar:
            lookups["pacs.example"] = [("169.254.169.254", liar.port), ("127.0.0.1", liar.port)]
            assert find(node) == []
            assert liar.connections == 1


def test_loopback_addresses_need_allow_local_and_private_networks_do_not() -> None:
    for ip in ("127.0.0.9", "::1", "2002:7f00:1::"):
        assert explain_refusal(ip, allow_local=False)
        assert not explain_refusal(ip, allow_local=True)
    for ip in LINK_LOCAL:
        assert explain_refusal(ip, allow_local=False)
        assert explain_refusal(ip, allow_local=True)
    for ip in ("0.0.0.0", "224.0.0.1", "255.255.255.255", "::"):
        assert explain_refusal(ip, allow_local=True)
    for ip in ("10.1.2.3", "192.168.1.1", "172.16.0.1", "8.8.8.8", "fd12::1"):
        assert not explain_refusal(ip, allow_local=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pacs1/dicom-web",
        "ftp://pacs1/",
        "file:///etc/passwd",
        "http://user:secret@pacs1/",
        "http://pacs1/?a=b",
        "http://pacs1/#a",
        "http://pacs1/a b",
        "http://pacs1/\r\nX: y",
        "http://pacs1/../admin",
        "http://pacs1:99999/",
        "http://300.1.1.1/",
        "http://0251.0376.0251.0376/",
        "http://[::1",
        "http://päcs1/",
    ],
)
def test_an_unsafe_or_malformed_root_url_is_rejected(url: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        DicomwebSettings(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"sign_in": "digest"},
        {"sign_in": "basic"},
        {"sign_in": "bearer"},
        {"sign_in": "bearer", "token": "a\r\nX: y"},
        {"client_key": "/key"},
        {"qido_prefix": "../x"},
        {"page_size": 0},
        {"result_cap": 0},
        {"connect_s": 0},
        {"total_s": 0},
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        DicomwebSettings("https://pacs1/", **settings)  # type: ignore[arg-type]


def test_requests_use_the_configured_sign_in_and_paths(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    paths = {"qido_prefix": "qidors/", "wado_prefix": "/wadors", "stow_prefix": "a/b"}
    sign_in = {"sign_in": "basic", "user": "adit", "password": "pässwort"}
    with (
        Liar(scripted(answer(404))) as liar,
        closing(liar.node(root="/dicom/", **paths, **sign_in)) as node,
    ):
        for action in (find, fetch, store):
            with suppress(AditError):
                action(node)

    assert [request.path.partition("?")[0] for request in liar.requests[:3]] == [
        f"/dicom/qidors/studies/{STUDY.study_uid}/series",
        f"/dicom/wadors/studies/{STUDY.study_uid}/series/{SERIES.series_uid}",
        "/dicom/a/b/studies",
    ]
    assert {r.headers["authorization"] for r in liar.requests} == {"Basic YWRpdDpww6Rzc3dvcnQ="}
    assert {r.headers["host"] for r in liar.requests} == {f"localhost:{liar.port}"}
    assert not caplog.records


def test_the_http_client_logs_no_patient_name_at_any_log_level(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """httpx logs complete URLs, and the query of a URL can contain the patient's name."""
    with Liar(scripted(answer(200, JSON, b"[]"))) as liar, closing(liar.node()) as node:
        for name in ("httpx", "httpcore", "httpcore.connection", "httpcore.http11"):
            caplog.set_level(logging.DEBUG, name)

        list(node.find(Query(QueryLevel.STUDY, {"PatientName": "Mustermann"})))

        assert "Mustermann" in liar.requests[0].path
    assert not caplog.records


def test_no_cookie_is_sent_and_the_location_header_is_not_read() -> None:
    moved = answer(302, Set_Cookie="session=1", Location="http://[::1")
    with Liar(scripted(moved)) as liar, closing(liar.node()) as node:
        for _ in range(2):
            with pytest.raises(NodeRefused, match="ADIT does not follow"):
                find(node)

    assert not any("cookie" in request.headers for request in liar.requests)


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Liar(scripted(answer(200, JSON, b"[]"))) as proxy:
        for name in ("http_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://localhost:{proxy.port}")
        with Liar(scripted(answer(200, JSON, b"[]"))) as liar, closing(liar.node()) as node:
            find(node)

            assert liar.connections == 1
    assert proxy.connections == 0


# All requests ------------------------------------------------------------------------------------

ACTIONS = pytest.mark.parametrize("action", [find, fetch, store])


@ACTIONS
@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (302, NodeRefused, "ADIT does not follow"),
        (401, NodeRefused, "a token may have expired"),
        (403, NodeRefused, "no permission, ask its administrator"),
        (405, NotSupported, "does not offer"),
        (503, NodeBusy, "Try again later"),
        (429, NodeBusy, "Try again later"),
    ],
)
def test_an_http_error_status_raises_an_error_with_an_explanation(
    action: Callable[[DicomwebNode], object], status: int, kind: type[AditError], words: str
) -> None:
    page = answer(status, "text/html", b"<p>Mustermann</p>", Location="http://localhost/else")

    error = failed(action, scripted(page))

    assert type(error) is kind
    assert words in str(error)


@ACTIONS
def test_no_redirect_is_followed(action: Callable[[DicomwebNode], object]) -> None:
    with Liar(scripted(answer(200, JSON, b"[]"))) as elsewhere:
        place = f"http://localhost:{elsewhere.port}/"
        failed(action, scripted(answer(307, "", b"", Location=place)))

        assert elsewhere.connections == 0


@ACTIONS
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "sign_in",
    [
        {"sign_in": "basic", "user": "adit", "password": "canary"},
        {"sign_in": "bearer", "token": "canary"},
    ],
)
def test_credentials_are_never_sent_to_the_target_of_a_redirect(
    action: Callable[[DicomwebNode], object], status: int, sign_in: dict[str, str]
) -> None:
    with Liar(scripted(answer(200, JSON, b"[]"))) as elsewhere:
        place = f"http://localhost:{elsewhere.port}/"
        with Liar(scripted(answer(status, "", b"", Location=place))) as liar:
            with (
                closing(liar.node(**sign_in)) as opened,
                pytest.raises(NodeRefused, match="ADIT does not follow"),
            ):
                action(opened)

            assert all(request.headers["authorization"] for request in liar.requests)
        assert elsewhere.connections == 0


@ACTIONS
def test_a_web_page_with_status_200_is_rejected(action: Callable[[DicomwebNode], object]) -> None:
    error = failed(action, scripted(answer(200, "text/html; charset=utf-8", b"<h1>Sign in</h1>")))

    assert type(error) is NodeRefused
    assert "with a web page" in str(error)


@ACTIONS
def test_a_node_that_never_responds_times_out(action: Callable[[DicomwebNode], object]) -> None:
    error = failed(action, scripted([99.0]), **BRIEF)

    assert type(error) is TimedOut
    assert "within" in str(error)


@ACTIONS
def test_slow_or_endless_response_headers_raise_an_error(
    action: Callable[[DicomwebNode], object],
) -> None:
    slow: Iterable[Said] = itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.cycle([b"X", 0.2]))
    endless: Iterable[Said] = itertools.chain([head(100)], itertools.repeat(head(100) * 500))
    one_line = itertools.chain([b"HTTP/1.1 200 OK\r\nX: "], itertools.repeat(b"x" * 65536))

    assert type(failed(action, scripted(slow), **BRIEF)) is TimedOut
    assert "headers that are too long" in str(failed(action, scripted(endless)))
    assert "headers that are too long" in str(failed(action, scripted(one_line)))


def test_status_102_does_not_shorten_the_time_to_the_first_byte() -> None:
    """For example, it restores from tape. The no-progress timeout starts with the answer."""
    said: list[Said] = [head(102, length=0), 1.3, *answer(200, TYPE, BODY)]
    with Liar(scripted(said)) as liar, closing(liar.node()) as node:
        assert len(fetch(node)) == 3


def test_endless_trailers_raise_an_error() -> None:
    body = [head(200, JSON), chunk(b"[]"), b"0\r\n"]
    endless = itertools.chain(body, itertools.repeat(b"X: y\r\n" * 1000))

    assert "did not complete its response" in str(failed(find, scripted(endless)))


@ACTIONS
@pytest.mark.parametrize("said", [[CLOSE], [RESET], [b"220 mail ready\r\n"], [b"\0" * 99, CLOSE]])
def test_a_peer_that_is_not_a_web_server_raises_connection_lost(
    action: Callable[[DicomwebNode], object], said: list[Said]
) -> None:
    assert type(failed(action, scripted(said))) is ConnectionLost


@ACTIONS
def test_a_compressed_response_that_was_not_requested_is_rejected(
    action: Callable[[DicomwebNode], object],
) -> None:
    kind = TYPE if action is fetch else JSON
    page = answer(200, kind, b"\x1f\x8b" + bytes(99), Content_Encoding="gzip")

    assert "in an encoding that was not requested" in str(failed(action, scripted(page)))


@ACTIONS
def test_abort_stops_a_waiting_request_and_all_later_ones(
    action: Callable[[DicomwebNode], object],
) -> None:
    with (
        Liar(scripted([99.0])) as liar,
        closing(liar.node(first_byte_s=60, no_progress_s=60)) as node,
    ):
        timer = threading.Timer(0.2, node.abort)
        timer.start()
        started = time.monotonic()
        with pytest.raises(Stopped):
            action(node)
        with pytest.raises(Stopped):
            action(node)
        timer.join()

    assert time.monotonic() - started < peers.WITHOUT_WAIT_S


def test_close_stops_a_request_that_waits_in_another_thread() -> None:
    with (
        Liar(scripted([99.0])) as liar,
        closing(liar.node(first_byte_s=60, no_progress_s=60)) as node,
    ):
        timer = threading.Timer(0.2, node.close)
        timer.start()
        started = time.monotonic()
        with pytest.raises(Stopped):
            fetch(node)
        timer.join()

    assert time.monotonic() - started < peers.WITHOUT_WAIT_S


# Busy nodes and kept connections ---------------------------------------------------------------


def test_a_busy_node_is_retried_after_its_retry_after_time() -> None:
    busy = answer(503, "text/plain", b"busy", Retry_After="1")
    with Liar(scripted(busy, answer(200, TYPE, BODY))) as liar, closing(liar.node()) as node:
        started = time.monotonic()

        assert len(fetch(node)) == 3
        assert 1 <= time.monotonic() - started < peers.WITHOUT_WAIT_S
        assert len(liar.requests) == 2


@pytest.mark.parametrize("after", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_long_retry_after_time_raises_a_transient_error_at_once(after: str) -> None:
    error = failed(fetch, scripted(answer(503, "", b"", Retry_After=after)))

    assert type(error) is NodeBusy
    assert error.is_transient


def test_abort_ends_the_pause_before_a_retry() -> None:
    busy = answer(503, "", b"", Retry_After="30")
    with Liar(scripted(busy)) as liar, closing(liar.node(first_byte_s=60)) as node:
        timer = threading.Timer(0.2, node.abort)
        timer.start()
        started = time.monotonic()
        with pytest.raises(Stopped):
            fetch(node)
        timer.join()

    assert time.monotonic() - started < peers.WITHOUT_WAIT_S


def test_a_connection_that_the_node_has_closed_is_reopened() -> None:
    with (
        Liar(lambda request: [*answer(200, TYPE, BODY), CLOSE]) as liar,
        closing(liar.node()) as node,
    ):
        assert [len(fetch(node)) for _ in range(3)] == [3, 3, 3]

    assert liar.connections == 3


def test_a_kept_connection_that_closes_on_reuse_is_reopened() -> None:
    page = answer(200, TYPE, BODY)
    with Liar(scripted(page, [CLOSE], page)) as liar, closing(liar.node()) as node:
        assert [len(fetch(node)) for _ in range(2)] == [3, 3]

    assert liar.connections == 2
    assert len(liar.requests) == 3


def test_connections_are_kept_between_requests() -> None:
    with Liar(scripted(answer(200, TYPE, BODY))) as liar, closing(liar.node()) as node:
        assert [len(fetch(node)) for _ in range(3)] == [3, 3, 3]

    assert liar.connections == 1


# TLS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PEM file with a self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.9"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def tls_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_images_are_fetched_by_tls_only_if_the_ca_file_trusts_the_node(certificate: Path) -> None:
    with Liar(scripted(answer(200, TYPE, BODY)), tls_of(certificate)) as liar:
        with closing(liar.node(scheme="https", ca_file=str(certificate))) as node:
            assert [one.sha256() for one in node.fetch([SERIES])] == [
                one.sha256() for one in images(3)
            ]
        untrusted = pytest.raises(NodeRefused, match="certificate of PACS1 is not trusted")
        with closing(liar.node(scheme="https")) as stranger, untrusted:
            fetch(stranger)


def test_a_private_ca_without_key_identifiers_is_trusted(
    tmp_path: Path,
) -> None:
    """By default, Python 3.13 rejects certificates without a key identifier."""
    authority = Authority()
    held, both, trusted = authority.issue(), tmp_path / "both.pem", tmp_path / "ca.crt"
    both.write_text(held.certificate + held.key)
    trusted.write_text(authority.certificate)
    with (
        Liar(scripted(answer(200, TYPE, BODY)), tls_of(both)) as liar,
        closing(liar.node(scheme="https", ca_file=str(trusted))) as node,
    ):
        assert len(fetch(node)) == 3


def test_a_client_certificate_is_sent_if_the_server_requires_one(certificate: Path) -> None:
    tls = tls_of(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificate)
    known = {"scheme": "https", "ca_file": str(certificate)}
    with Liar(scripted(answer(200, TYPE, BODY)), tls) as liar:
        with closing(liar.node(client_certificate=str(certificate), **known)) as node:
            assert len(fetch(node)) == 3
        with closing(liar.node(**known)) as stranger, pytest.raises((ConnectionLost, Unreachable)):
            fetch(stranger)


def test_a_stalled_tls_response_times_out_and_can_be_aborted(certificate: Path) -> None:
    said = [head(200, TYPE, len(BODY)), BODY[:700], 99.0]
    with Liar(scripted(said), tls_of(certificate)) as liar:
        with closing(liar.node(scheme="https", ca_file=str(certificate), **BRIEF)) as node:
            started = time.monotonic()
            with pytest.raises(TimedOut):
                fetch(node)
        settings = {"scheme": "https", "ca_file": str(certificate), "no_progress_s": 60}
        with closing(liar.node(**settings)) as node:
            timer = threading.Timer(0.3, node.abort)
            timer.start()
            with pytest.raises(Stopped):
                fetch(node)
            timer.join()

    assert time.monotonic() - started < peers.WITHOUT_WAIT_S


@pytest.fixture
def silent() -> Iterator[int]:
    """Port of a server that accepts connections but never responds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def test_a_tls_handshake_that_never_completes_times_out(silent: int) -> None:
    node = web_peers.node(silent, scheme="https", connect_s=0.5)
    started = time.monotonic()

    with closing(node), pytest.raises(Unreachable, match=r"did not respond within 0\.5 s"):
        fetch(node)

    assert time.monotonic() - started < peers.WITHOUT_WAIT_S


def test_abort_ends_a_tls_handshake(silent: int) -> None:
    with closing(web_peers.node(silent, scheme="https", connect_s=60)) as node:
        timer = threading.Timer(0.2, node.abort)
        timer.start()
        started = time.monotonic()
        with pytest.raises(Stopped):
            fetch(node)
        timer.join()

    assert time.monotonic() - started < peers.WITHOUT_WAIT_S


def test_a_ca_file_may_contain_non_ascii_comments(certificate: Path, tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    trusted.write_text(f"# Főtanúsítvány\n{certificate.read_text()}", "utf-8")
    with (
        Liar(scripted(answer(200, TYPE, BODY)), tls_of(certificate)) as liar,
        closing(liar.node(scheme="https", ca_file=str(trusted))) as node,
    ):
        assert len(fetch(node)) == 3


def test_an_unreadable_ca_file_is_named_in_the_error_and_the_finding() -> None:
    with Liar(scripted([CLOSE])) as liar:
        node = liar.node(scheme="https", ca_file="/no/such/file.pem")
        with pytest.raises(InvalidInput, match=r"PACS1: CA file: .* cannot be read"):
            find(node)
        (bad,) = node.check()

    assert "CA file" in str(bad.what)


# Command line --------------------------------------------------------------------------------------


def test_a_node_url_reads_its_secret_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("Geheim-Token\n")

    kind, name, settings = node_url.parse_url(
        f"dicomweb+https://pacs1:8443/dicom-web?token_file={secret}&page_size=50&domain=site"
    )

    assert (kind, name) == ("dicomweb", "pacs1:8443")
    made = DicomwebSettings(**settings)
    assert made.url == "https://pacs1:8443/dicom-web"
    assert (made.sign_in, made.token, made.page_size, made.domain) == (
        "bearer",
        "Geheim-Token",
        50,
        "site",
    )
    assert node_url.parse_url(f"dicomweb+http://adit@pacs1/?password_file={secret}")[2] == {
        "url": "http://pacs1/",
        "allow_local": True,
        "user": "adit",
        "sign_in": "basic",
        "password": "Geheim-Token",
    }


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("dicomweb+https://pacs1/?token=Geheim", "Store the token in a file"),
        ("dicomweb+https://adit:Geheim@pacs1/", "password_file=PATH"),
        ("dicomweb+https:///x", "Write dicomweb"),
        ("dicomweb+https://pacs1/?token_file=/no/such", "cannot be read"),
        ("dicomweb+https://pacs1/?colour=red", "colour is not a setting of DICOMweb nodes"),
        ("dicomweb+https://[::1/", "Write dicomweb"),
    ],
)
def test_a_node_url_that_is_invalid_or_contains_a_secret_is_rejected(url: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        node_url.parse_url(url)

    assert "Geheim" not in str(caught.value)


def test_secrets_are_not_part_of_the_repr_of_settings() -> None:
    settings = DicomwebSettings("https://pacs1/", sign_in="bearer", token="Geheim-Token")

    assert "Geheim" not in repr(settings) + repr(settings.server("PACS1"))
    assert dataclasses.asdict(settings)["token"] == "Geheim-Token"
