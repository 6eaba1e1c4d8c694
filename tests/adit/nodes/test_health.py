"""Checks of `adit doctor` on the receiver and on certificates; renewal of the receiver's own."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab.certificates import Authority, Held
from lab.ports import free_port

from adit.nodes import health
from adit.nodes.models import Node
from adit.nodes.receiving import certificates, receiver_state
from adit.nodes.receiving.retrievals import ReceiverClient
from adit_engine.errors import InvalidInput
from adit_engine.messages import Message
from adit_engine.nodes.base import Grade, NodeFinding
from adit_engine.nodes.dimse.node import DimseNode
from adit_engine.nodes.dimse.settings import DimseSettings

pytestmark = pytest.mark.django_db(transaction=True)

CA = Authority()
PACS = CA.issue("receiver")


@pytest.fixture(autouse=True)
def installation(settings, tmp_path: Path, monkeypatch) -> None:
    settings.SPOOL_DIR = tmp_path / "spool"
    settings.SPOOL_RESERVE_MB = 0
    settings.CALLING_AE_TITLE = "ADIT"
    settings.RECEIVER_HOST = "127.0.0.1"
    settings.RECEIVER_PORT = free_port()
    for name in ("CERTIFICATE", "KEY", "CLIENT_CA"):
        setattr(settings, f"RECEIVER_TLS_{name}", "")
    monkeypatch.setattr(receiver_state, "RETRY_S", 0.1)
    # The logger `adit` does not propagate; caplog listens at the root logger.
    monkeypatch.setattr(logging.getLogger("adit"), "propagate", True)


@pytest.fixture
def files(settings, tmp_path: Path) -> Callable[..., None]:
    """Write the receiver's certificates and set their paths in the settings."""

    def put(held: Held = PACS, *, asks: bool = False, key: str = "") -> None:
        certificate, own = held.files(tmp_path, "receiver")
        own.write_text(key or held.key)
        settings.RECEIVER_TLS_CERTIFICATE, settings.RECEIVER_TLS_KEY = str(certificate), str(own)
        if asks:
            (tmp_path / "ca.crt").write_text(CA.certificate)
            settings.RECEIVER_TLS_CLIENT_CA = str(tmp_path / "ca.crt")

    return put


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def running() -> Iterator[None]:
    """Run the receiver in a thread."""
    end = threading.Event()
    thread = threading.Thread(target=receiver_state.run_receiver, args=(end,))
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(30)
        assert not thread.is_alive()


@contextmanager
def answering(settings) -> Iterator[None]:
    with running():
        wait_until(lambda: listens(settings.RECEIVER_PORT))
        yield


def examined(*, runs: bool = True) -> list[NodeFinding]:
    return list(health.check_receiver_and_nodes(runs=runs))


def problems(*, runs: bool = True) -> list[str]:
    return [f"{one.what} {one.next_step}" for one in examined(runs=runs) if one.next_step]


# The receiver ----------------------------------------------------------------------------------


def test_a_receiver_that_answers_has_no_problem(settings):
    with answering(settings):
        port = settings.RECEIVER_PORT
        assert [one.what for one in examined()] == [Message("receiver.answers", port=port)]
        assert problems() == []


def test_a_stopped_receiver_is_reported_with_the_next_step():
    (problem,) = problems()

    assert "no service listens" in problem
    assert "Start it with `adit up` or `adit receiver`" in problem


def test_a_stopped_receiver_is_no_problem_before_the_first_start():
    assert problems(runs=False) == []


def test_a_receiver_port_used_by_another_program_is_reported(settings):
    with socket.create_server(("127.0.0.1", settings.RECEIVER_PORT)) as other:

        def hang_up() -> None:
            other.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        (problem,) = problems(runs=False)
        thread.join()

    assert "closed the connection" in problem or "was lost" in problem


def test_a_disabled_receiver_is_not_checked(settings):
    settings.RECEIVER_PORT = 0

    assert examined() == []


def test_our_own_receiver_check_is_recognized_only_from_localhost():
    assert health.is_own_receiver_check("ADIT", "127.0.0.1")
    assert not health.is_own_receiver_check("ADIT", "10.0.0.7")
    assert not health.is_own_receiver_check("PACS1", "127.0.0.1")


@pytest.mark.parametrize("asks", [False, True])
def test_a_receiver_with_tls_answers(settings, files, asks: bool):
    files(asks=asks)
    with answering(settings):
        found = examined()

    assert [one.grade for one in found] == [Grade.GOOD] * (3 if asks else 2)
    assert found[0].what.code == "receiver.answers"
    assert "valid until" in str(found[1].what)


def test_a_receiver_that_requires_another_client_ca_is_recognized(settings, files, tmp_path):
    files()
    (tmp_path / "other.crt").write_text(Authority("Other").certificate)
    settings.RECEIVER_TLS_CLIENT_CA = str(tmp_path / "other.crt")
    with answering(settings):
        assert examined()[0].what.code == "receiver.wants-certificate"


# Certificates of the receiver ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("until_day", "words"), [(-1, "It has expired"), (12.5, "It expires in 12 days"), (60, "")]
)
def test_certificate_expiry_is_reported_thirty_days_in_advance(files, until_day, words):
    files(CA.issue("receiver", until_day=until_day, from_day=-30))

    found = [problem for problem in problems(runs=False) if certificates.CERTIFICATE in problem]

    assert [words in problem for problem in found] == ([True] if words else [])


def test_a_key_that_does_not_match_the_certificate_is_reported(files):
    files(key=CA.issue("other").key)

    (problem,) = problems(runs=False)

    assert f"{certificates.KEY}: the key does not match" in problem


def test_a_receiver_with_an_invalid_key_never_listens_without_tls(settings, files, caplog):
    files(key="nothing")
    with running():
        wait_until(lambda: "no C-MOVE until this is fixed" in caplog.text)
        assert not listens(settings.RECEIVER_PORT)
        files()
        wait_until(lambda: listens(settings.RECEIVER_PORT))
        assert problems() == []


def test_a_client_ca_without_a_certificate_is_rejected(settings, tmp_path):
    settings.RECEIVER_TLS_CLIENT_CA = str(tmp_path / "ca.crt")
    (tmp_path / "ca.crt").write_text(CA.certificate)

    with pytest.raises(
        InvalidInput, match=f"{certificates.CERTIFICATE}: a certificate is required"
    ):
        certificates.load_receiver_tls()


def test_a_renewed_certificate_is_used_without_a_restart(settings, files, monkeypatch, caplog):
    monkeypatch.setattr(receiver_state, "SWEEP_S", 0.1)
    caplog.set_level(logging.INFO)
    files()
    with answering(settings):
        files(CA.issue("receiver", until_day=5))
        wait_until(lambda: "uses new certificates" in caplog.text)
        given = DimseSettings(
            called_ae_title="ADIT",
            calling_ae_title="ADIT",
            host="127.0.0.1",
            port=settings.RECEIVER_PORT,
            transport="tls",
            ca_certificate=CA.certificate,
        )
        findings = list(DimseNode("ADIT", given).check())
        files(key="half renewed")
        wait_until(lambda: "continues to use its old certificates" in caplog.text)

    assert findings[1].what.code == "test.certificate-expires"


def test_the_receiver_address_states_that_tls_is_used(source: Node, files):
    assert ReceiverClient(source).address.code == "clause.receiver-address"
    files()
    assert str(ReceiverClient(source).address).endswith("with TLS")


# Certificates of nodes -------------------------------------------------------------------------


@pytest.fixture
def secured(make_node, settings) -> Callable[..., Node]:
    settings.RECEIVER_PORT = 0

    def make(held: Held, ca: str = CA.certificate, **values: str) -> Node:
        node = make_node(
            "PACS7",
            kind="dimse",
            settings={
                "called_ae_title": "PACS7",
                "host": "pacs7",
                "transport": "tls",
                "ca_certificate": ca,
                "client_certificate": held.certificate,
                **values,
            },
        )
        node.set_secrets({"client_key": held.key})
        node.save()
        return node

    return make


def test_a_node_with_valid_certificates_has_no_problem(secured):
    secured(CA.issue("adit"))

    assert problems() == []
    assert [str(one.what).partition(":")[0] for one in examined()] == [
        "PACS7, our client certificate",
        "PACS7, its CA certificate",
    ]


def test_an_expiring_client_certificate_is_reported_with_the_node_name(secured):
    secured(CA.issue("adit", until_day=29.5))

    (problem,) = problems()
    assert problem.startswith("PACS7, our client certificate: certificate localhost, valid until")
    assert "It expires in 29 days" in problem


def test_one_valid_ca_certificate_of_several_is_sufficient(secured):
    pinned = CA.issue("pacs7", until_day=-0.5)
    held = CA.issue("adit")
    node = secured(held, pinned.certificate)
    assert "PACS7, its CA certificate" in problems()[0]

    node.settings["ca_certificate"] += CA.certificate
    node.set_secrets({"client_key": held.key})
    node.save()
    assert problems() == []


def test_a_client_key_that_does_not_match_is_reported_with_the_node_name(secured):
    node = secured(CA.issue("adit"))
    node.set_secrets({"client_key": CA.issue("other").key})
    node.save()

    (problem,) = problems()
    assert problem.startswith("PACS7: certificate.")
    assert "Client key: the key does not match Client certificate." in problem


def test_certificates_of_a_node_without_tls_are_not_checked(secured):
    secured(CA.issue("adit", until_day=1), transport="plain")

    assert examined() == []
