"""TLS settings: validation before connecting, and the syntax on the command line."""

import subprocess
import sys
from pathlib import Path

import pytest
from lab import tls_peers
from lab.tls_peers import CA, OURS, PACS

from adit_engine.cli import main, node_url
from adit_engine.cli.transfer import ExitCode
from adit_engine.dicom_ul.tls import ServerTls, TlsCredentials
from adit_engine.errors import InvalidInput
from adit_engine.nodes.dimse.settings import DimseSettings

PLACE = {"called_ae_title": "PACS", "host": "pacs1"}
LOCKED = CA.issue("locked", password=b"secret")


def test_repr_does_not_contain_the_private_key() -> None:
    settings = DimseSettings(**PLACE, **tls_peers.mutual())

    assert "PRIVATE" not in repr(settings)
    assert "PRIVATE" not in repr(settings.peer("PACS1"))


def test_the_certificate_must_name_the_host_unless_a_name_is_configured() -> None:
    by_host = DimseSettings(**PLACE, **tls_peers.tls()).peer("PACS1")
    named = DimseSettings(**PLACE, **tls_peers.tls(certificate_name="ct.example")).peer("PACS1")

    assert by_host.tls is not None
    assert by_host.tls.name == "pacs1"
    assert named.tls is not None
    assert named.tls.name == "ct.example"
    assert DimseSettings(**PLACE).peer("PACS1").tls is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"transport": "none"}, "Transport: choose one of plain, tls."),
        ({"least_tls": "1.1"}, "Minimum TLS version: choose one of 1.2, 1.3."),
        ({"ca_certificate": "hello"}, "CA certificate: this is not a certificate in PEM format"),
        ({"ca_certificate": "Würzburg"}, "CA certificate: this is not a certificate in PEM format"),
        (
            {"client_certificate": "hello", "client_key": OURS.key},
            "Client certificate: this is not a certificate in PEM format",
        ),
        (
            {"client_certificate": OURS.certificate, "client_key": ""},
            "Client key: enter the private key of the certificate",
        ),
        (
            {"client_certificate": OURS.certificate, "client_key": "hello"},
            "Client key: enter the private key of the certificate",
        ),
        (
            {"client_certificate": OURS.certificate, "client_key": CA.issue("adit").key},
            "Client key: the key does not match Client certificate.",
        ),
        (
            {"client_certificate": LOCKED.certificate, "client_key": LOCKED.key},
            "Client key: the key has a password.",
        ),
        (
            {"client_certificate": OURS.certificate, "client_key": OURS.key.replace("M", "?")},
            "Client key: this is not a private key",
        ),
        ({"client_key": OURS.key}, "Client key: the certificate of this key is missing."),
        (
            {"client_certificate": OURS.certificate + OURS.key, "client_key": OURS.key},
            "Client certificate: this contains a private key. Enter the key in Client key.",
        ),
        (
            {"ca_certificate": CA.certificate + OURS.key},
            "CA certificate: this contains a private key. Enter the key in Client key.",
        ),
        (
            {"certificate_name": "a" * 300},
            "Name in the certificate: this is not a valid host name.",
        ),
    ],
)
def test_an_invalid_setting_is_reported_with_its_field(
    settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        DimseSettings(**PLACE, **{"transport": "tls", **settings})

    assert str(caught.value).startswith(sentence)
    assert "BEGIN" not in str(caught.value).removeprefix("CA certificate").split("-----")[0]


def test_crlf_and_text_around_a_certificate_are_accepted() -> None:
    text = "subject=/CN=Test\r\n" + CA.certificate.replace("\n", "\r\n") + "\r\nthe end"

    DimseSettings(**PLACE, **tls_peers.tls(ca_certificate=text))


def test_a_private_key_is_rejected_in_a_field_that_is_not_encrypted() -> None:
    with pytest.raises(InvalidInput, match="contains a private key"):
        DimseSettings(**PLACE, ca_certificate=OURS.key)


def test_a_node_without_tls_does_not_import_ssl() -> None:
    program = (
        "import sys\n"
        "from adit_engine.nodes.dimse.node import DimseNode\n"
        "from adit_engine.nodes.dimse.settings import DimseSettings\n"
        "from adit_engine.cli import node_url\n"
        "from adit_engine.storage_scp import server\n"
        "node_url.parse_url('dimse://PACS@10.0.0.5:104')\n"
        "DimseNode('PACS1', DimseSettings('PACS', 'pacs1'))\n"
        "sys.exit('ssl' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


# On the command line ---------------------------------------------------------------------------


def test_a_url_reads_certificates_from_files(tmp_path: Path) -> None:
    certificate, key = OURS.files(tmp_path, "ours")
    (tmp_path / "ca.crt").write_text(CA.certificate)
    url = f"dimse+tls://PACS@pacs1:2762?ca_file={tmp_path}/ca.crt&name=ct.example&calling=ME"
    url += f"&certificate_file={certificate}&key_file={key}"

    kind, name, values = node_url.parse_url(url)

    assert (kind, name) == ("dimse", "PACS")
    settings = DimseSettings(**values)
    assert (settings.transport, settings.port) == ("tls", 2762)
    assert (settings.certificate_name, settings.calling_ae_title) == ("ct.example", "ME")
    assert settings.client_key.strip() == OURS.key.strip()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("dimse://PACS@pacs1:104?ca_file=ca.crt", "is allowed for dimse+tls:// only"),
        ("dimse://PACS@pacs1:104?name=other", "is allowed for dimse+tls:// only"),
        ("dimse://PACS@pacs1:104?transport=tls", "Use dimse+tls:// for TLS"),
        ("dimse+tls://PACS@pacs1:104?transport=plain", "Use dimse+tls:// for TLS"),
        ("dimse+tls://PACS@pacs1:104?client_key=secret", "ca_file, certificate_file and key_file"),
        ("dimse+tls://PACS@pacs1:104?ca_file=/nowhere/ca.crt", "cannot be read"),
        ("dimse+tls://pacs1", "Write dimse://CALLED@host:port"),
    ],
)
def test_an_invalid_url_is_rejected(url: str, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence.replace("+", r"\+")):
        node_url.parse_url(url)


def test_a_receiver_client_ca_without_a_certificate_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    given = ["--receiver", "0", "--receiver-client-ca", str(tmp_path / "none.crt")]

    code = main.main(["fetch", "--from", "dimse://P@h:1", "--to", "out", "--all", *given])

    assert code == ExitCode.WRONG_USE
    assert "--receiver-client-ca" in capsys.readouterr().err


# The receiver's files --------------------------------------------------------------------------


def test_the_key_may_be_in_the_certificate_file(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(PACS.certificate + PACS.key)

    ServerTls(TlsCredentials.from_files(("C", str(both)), ("K", ""), ("CA", "")))


@pytest.mark.parametrize(
    ("certificate", "key", "sentence"),
    [
        ("", "", "C: a certificate is required for TLS"),
        ("none", "", r"C: none cannot be read \(No such file"),
        ("pacs.crt", "other.key", "K: the key does not match C"),
        ("pacs.crt", "", "C: enter the private key"),
    ],
)
def test_missing_or_mismatched_files_are_named_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, certificate: str, key: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    PACS.files(tmp_path, "pacs")
    OURS.files(tmp_path, "other")

    with pytest.raises(InvalidInput, match=sentence):
        ServerTls(TlsCredentials.from_files(("C", certificate), ("K", key), ("CA", "")))
