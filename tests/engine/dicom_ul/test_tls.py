"""DICOM TLS with real PACS: find, get, move and store, one-way and mutual."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import peers, receiving, tls_peers
from lab.ports import free_port
from lab.samples import ROOT, ct, file_bytes, instance
from lab.tls_peers import mutual, tls

from adit_engine.cli import main
from adit_engine.dicom_file.part10 import read_file
from adit_engine.errors import NodeBusy
from adit_engine.nodes.base import Grade
from adit_engine.values.instance import Instance
from adit_engine.values.query import Query
from adit_engine.values.references import SeriesRef, StudyRef

pytestmark = pytest.mark.usefixtures("same_threads")

STUDY = StudyRef(f"{ROOT}.1")
SERIES = SeriesRef(STUDY.study_uid, f"{ROOT}.1.1")
WAYS = {"one-way": tls(), "mutual": mutual()}
MOVE = {"retrieve": "move", "drain_s": 0.5}


def images(count: int) -> list[Instance]:
    """Create images that span several TLS records of 16 kB."""
    pixels = {"Rows": 128, "Columns": 128, "PixelData": bytes(range(256)) * 128}
    return [instance(ct(number, **pixels)) for number in range(1, count + 1)]


def by_uid(instances: list[Instance]) -> dict[str, tuple[str, str]]:
    return {i.instance_uid: (i.transfer_syntax_uid, i.sha256()) for i in instances}


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def secured(way: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[peers.Orthanc]:
    if peers.ORTHANC is None:
        pytest.skip("needs Orthanc: apt install orthanc")
    folder = tmp_path_factory.mktemp(way) / "orthanc"
    with tls_peers.orthanc(folder, "SECURE", is_mutual=way == "mutual") as one:
        yield one


@pytest.fixture
def archive(secured: peers.Orthanc) -> peers.Orthanc:
    secured.clear()
    return secured


def test_orthanc_stores_finds_and_returns_images_unchanged_over_tls(
    archive: peers.Orthanc, way: str
) -> None:
    node = archive.node(**WAYS[way], retrieve="get")
    sent = images(10)

    stored = list(node.store(sent))

    assert [one.error for one in stored] == [None] * 10
    assert {record.instance_uid for record in node.find(Query.instances_of(SERIES))} == set(
        by_uid(sent)
    )
    assert [record.ref for record in node.find(Query.study(STUDY))] == [STUDY]
    assert by_uid(list(node.fetch([STUDY]))) == by_uid(sent)


def test_check_reports_the_tls_version_and_the_certificate_expiry(
    archive: peers.Orthanc, way: str
) -> None:
    findings = list(archive.node(**WAYS[way]).check())

    assert findings[0].grade is Grade.GOOD
    assert findings[1].grade is Grade.GOOD
    assert "encrypted (TLSv1.3)" in str(findings[1].what)
    assert "valid until" in str(findings[1].what)


def test_orthanc_sends_by_c_move_over_tls(archive: peers.Orthanc, way: str, tmp_path: Path) -> None:
    sent = images(10)
    list(archive.node(**WAYS[way]).store(sent))
    trusted = tls_peers.CA.certificate if way == "mutual" else ""
    shown = tls_peers.receiver_tls(trusted=trusted)
    with receiving.receiving(tmp_path, tls=shown) as received:
        tls_peers.register(archive, received.port)
        node = peers.node(archive.port, "SECURE", received.reception, **MOVE, **WAYS[way])

        assert by_uid(list(node.fetch([SERIES]))) == by_uid(sent)


def test_the_cli_fetches_over_tls_with_certificates_from_files(
    archive: peers.Orthanc, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    list(archive.node(**WAYS[way]).store(images(3)))
    certificate, key = tls_peers.OURS.files(tmp_path, "ours")
    (tmp_path / "ca.crt").write_text(tls_peers.CA.certificate)
    port = free_port()
    tls_peers.register(archive, port)
    source = f"dimse+tls://SECURE@127.0.0.1:{archive.port}?ca_file={tmp_path}/ca.crt"
    if way == "mutual":
        source += f"&certificate_file={certificate}&key_file={key}"

    for number, more in enumerate(
        (
            [f"{source}&retrieve=get"],
            [f"{source}&retrieve=move", "--receiver", str(port)]
            + [f"--receiver-certificate={certificate}", f"--receiver-key={key}"]
            + ([f"--receiver-client-ca={tmp_path}/ca.crt"] if way == "mutual" else []),
        )
    ):
        out = tmp_path / f"out{number}"
        study = ["--study", STUDY.study_uid, "--to", str(out)]
        assert main.main(["fetch", *study, "--from", *more]) == 0
        assert len([read_file(path) for path in out.rglob("*.dcm")]) == 3


# dcmtk -----------------------------------------------------------------------------------------


@peers.needs_dcmtk
def test_dcmtk_storescp_accepts_images_over_tls(tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "out", *tls_peers.dcmtk(tmp_path)) as port:
        stored = list(peers.node(port, **mutual()).store(images(5)))

    assert [one.error for one in stored] == [None] * 5
    assert len(list((tmp_path / "out").iterdir())) == 5


@peers.needs_dcmtk
def test_dcmqrscp_answers_find_get_and_move_over_tls(tmp_path: Path) -> None:
    sent = images(4)
    # dcmqrscp sends sub-operations without TLS, regardless of its options (dcmtk 3.6.9).
    with (
        receiving.receiving(tmp_path / "here") as received,
        archive_of_dcmtk(tmp_path, received.port) as port,
    ):
        list(peers.node(port, "QR", **mutual()).store(sent))

        found = list(peers.node(port, "QR", **mutual()).find(Query.study(STUDY)))
        got = list(peers.node(port, "QR", **mutual(), retrieve="get").fetch([SERIES]))
        mover = peers.node(port, "QR", received.reception, **MOVE, **mutual())
        moved = list(mover.fetch([SERIES]))

    assert [record.ref for record in found] == [STUDY]
    assert by_uid(got) == by_uid(sent)
    assert by_uid(moved) == by_uid(sent)


@peers.needs_dcmtk
def test_sub_operations_without_tls_are_rejected_with_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = tls_peers.receiver_tls()
    with (
        receiving.receiving(tmp_path / "here", tls=shown) as received,
        archive_of_dcmtk(tmp_path, received.port) as port,
    ):
        list(peers.node(port, "QR", **mutual()).store(images(1)))
        mover = peers.node(port, "QR", received.reception, **MOVE, **mutual())

        with pytest.raises(NodeBusy, match="A702"):
            list(mover.fetch([SERIES]))

    assert "uses plain DICOM on a TLS port" in caplog.text


@contextmanager
def archive_of_dcmtk(folder: Path, port: int) -> Iterator[int]:
    """Run dcmqrscp, with ADIT registered at the given port."""
    known = f"here = (ADIT, 127.0.0.1, {port})"
    with peers.dcmqrscp(folder / "qr", known, options=tls_peers.dcmtk(folder)) as its_port:
        yield its_port


@peers.needs_dcmtk
@pytest.mark.parametrize("trusted", ["", tls_peers.CA.certificate], ids=["one-way", "mutual"])
def test_the_receiver_accepts_dcmtk_storescu_over_tls(tmp_path: Path, trusted: str) -> None:
    (tmp_path / "one.dcm").write_bytes(file_bytes(ct(1)))
    shown = tls_peers.receiver_tls(trusted=trusted)
    with receiving.receiving(tmp_path / "here", "PACS", tls=shown) as received:
        options = tls_peers.dcmtk(tmp_path) if trusted else anonymous(tmp_path)
        with received.reception.expect(receiving.wanted(STUDY.study_uid), receiving.never) as wait:
            run("storescu", *options, *whom(received.port), str(tmp_path / "one.dcm"))

            assert [one.sha256() for one in wait.take_images()] == [instance(ct(1)).sha256()]


# Versions and names ----------------------------------------------------------------------------


def answering_echo(talk: peers.Talk) -> None:
    verification = "1.2.840.10008.1.1"
    talk.accept(refuse=lambda kind, syntax: kind != verification)
    number = int.from_bytes(talk.hear()[0x0110], "little")
    context = talk.context(verification)
    talk.say(context, {0x0100: 0x8030, 0x0120: number, 0x0900: 0})
    talk.until_gone()


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_tls_1_2_and_tls_1_3_are_supported(version: str, settings: dict[str, str]) -> None:
    most = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}[version]
    context = tls_peers.server_context(most=most, asks="client_key" in settings)
    with tls_peers.scripted(answering_echo, context) as peer:
        findings = list(peers.node(peer.port, **settings).check())

    assert findings[0].grade is Grade.GOOD
    assert version in str(findings[1].what)


def test_a_configured_certificate_name_is_accepted() -> None:
    held = tls_peers.CA.issue("pacs", ["ct-archive.example"])
    with tls_peers.scripted(answering_echo, tls_peers.server_context(held)) as peer:
        node = peers.node(peer.port, **tls(certificate_name="ct-archive.example"))

        assert next(iter(node.check())).grade is Grade.GOOD


def test_the_common_name_is_used_without_subject_alternative_names() -> None:
    held = tls_peers.CA.issue("CTARCHIVE", [])
    with tls_peers.scripted(answering_echo, tls_peers.server_context(held)) as peer:
        node = peers.node(peer.port, **tls(certificate_name="CTARCHIVE"))

        assert next(iter(node.check())).grade is Grade.GOOD


def test_the_certificate_of_the_pacs_can_be_trusted_directly() -> None:
    with tls_peers.scripted(answering_echo) as peer:
        node = peers.node(peer.port, **tls(ca_certificate=tls_peers.PACS.certificate))

        assert next(iter(node.check())).grade is Grade.GOOD


def test_a_certificate_that_expires_soon_is_a_warning() -> None:
    held = tls_peers.CA.issue("pacs", until_day=12)
    with tls_peers.scripted(answering_echo, tls_peers.server_context(held)) as peer:
        findings = list(peers.node(peer.port, **tls()).check())

    assert findings[1].grade is Grade.WARNING
    assert "expires on" in str(findings[1].what)
    assert "renew" in str(findings[1].next_step)


def anonymous(folder: Path) -> list[str]:
    """Return options of dcmtk for TLS without a client certificate."""
    (folder / "ca.crt").write_text(tls_peers.CA.certificate)
    return ["+tla", "+cf", str(folder / "ca.crt")]


def whom(port: int) -> list[str]:
    return ["-aet", "PACS", "-aec", "ADIT", "127.0.0.1", str(port)]


def run(program: str, *arguments: str) -> None:
    path = shutil.which(program)
    assert path is not None
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
