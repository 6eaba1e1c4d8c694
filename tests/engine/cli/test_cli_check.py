"""The commands check, echo and sheet, for setting up a PACS."""

import json
from pathlib import Path

import pytest
from lab import peers
from lab.peers import register
from lab.ports import free_port
from lab.samples import ct, instance

from adit_engine import registration_sheet
from adit_engine.cli import main
from adit_engine.cli.transfer import ExitCode
from adit_engine.nodes.dimse.settings import DimseSettings


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if peers.ORTHANC is None:
        pytest.skip("needs Orthanc: apt install orthanc")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with peers.orthanc(tmp_path / "orthanc", "PACS1") as one:
        list(one.node().store([instance(ct(number)) for number in (1, 2)]))
        yield one


def url(archive: peers.Orthanc, **settings: object) -> str:
    return f"dimse://PACS1@127.0.0.1:{archive.port}?drain_s=0.5" + "".join(
        f"&{name}={value}" for name, value in settings.items()
    )


def test_check_fetches_an_image_by_c_get_and_by_c_move(
    archive: peers.Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    register(archive, port)

    code = main.main(["check", url(archive), "--fetch", "newest", "--receiver", str(port)])

    told = capsys.readouterr().out
    assert code == ExitCode.COMPLETE
    assert "The image was received by C-GET" in told
    assert "The image was received by C-MOVE" in told
    assert "4711" not in told


def test_a_c_move_from_an_unlisted_sender_fails_and_names_the_setting(
    archive: peers.Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    register(archive, port)
    study = ct(1).StudyInstanceUID

    arguments = ["check", url(archive, senders="FARM@127.0.0.1"), "--fetch", study]
    code = main.main([*arguments, "--receiver", str(port)])

    told = capsys.readouterr().out
    assert code == ExitCode.FAILED
    assert "rejected PACS1 at 127.0.0.1" in told
    assert "=> senders = FARM@127.0.0.1, PACS1@127.0.0.1" in told


def test_check_stores_an_image_only_with_the_option_write(
    archive: peers.Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["check", url(archive), "--json"]) == ExitCode.COMPLETE
    assert archive.count() == 2
    findings = json.loads(capsys.readouterr().out)
    assert {one["grade"] for one in findings} == {"good"}
    assert all(one["what"]["code"] and one["what"]["text"] for one in findings)

    assert main.main(["check", url(archive), "--write"]) == ExitCode.COMPLETE
    assert archive.count() == 3


def test_check_reports_a_study_without_images(
    archive: peers.Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["check", url(archive), "--fetch", "1.2.3"]) == ExitCode.FAILED
    assert "lists no image of this study" in capsys.readouterr().out


def test_check_ends_at_its_time_limit_if_the_pacs_is_silent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with peers.Scripted(peers.Talk.until_gone) as peer:
        place = f"dimse://PACS1@127.0.0.1:{peer.port}?association_s=60"
        assert main.main(["check", place, "--within", "0.3"]) == ExitCode.FAILED

    assert "did not answer all requests within 0.3 s" in capsys.readouterr().out


def test_echo_prints_a_single_line(
    archive: peers.Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["echo", url(archive)]) == ExitCode.COMPLETE

    assert len(capsys.readouterr().out.splitlines()) == 1


def test_the_sheet_lists_what_to_register(capsys: pytest.CaptureFixture[str]) -> None:
    place = "dimse://PACS1@10.0.0.5:104?calling=ADIT7&contact=Anna"

    assert main.main(["sheet", place, "--address", "10.0.0.9", "--receiver", "11112"]) == 0

    told = capsys.readouterr().out
    for words in (
        "ADIT7 from 10.0.0.9 may open associations to PACS1",
        "ADIT7 = 10.0.0.9, port 11112",
        "1.2.840.10008.5.1.4.1.2.2.2",
        "DICOM without TLS",
        "Anna",
    ):
        assert words in told


def test_the_sheet_without_a_receiver_does_not_mention_c_move(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["sheet", "dimse://PACS1@10.0.0.5:104", "--address", "10.0.0.9"]) == 0

    assert "C-MOVE" not in capsys.readouterr().out


def test_the_sheet_contains_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = tmp_path / "token"
    secret.write_text("Geheim-Token")

    place = f"dicomweb+https://pacs.example/dicom-web?token_file={secret}"
    assert main.main(["sheet", place]) == 0

    told = capsys.readouterr().out
    assert "GET https://pacs.example/dicom-web/studies" in told
    assert "Geheim" not in told


@pytest.mark.parametrize(
    ("proof", "words", "not_words"),
    [
        ("find", "C-FIND at image level for the images sent", "1.2.840.10008.1.20.1"),
        ("commitment", "Storage commitment reports to:", "Storage proof:                 none"),
        ("none", "Storage proof:                 none", "1.2.840.10008.1.20.1"),
    ],
)
def test_the_sheet_matches_the_configured_storage_proof(
    proof: str, words: str, not_words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"dimse://PACS1@10.0.0.5:104?retrieve=get&proof={proof}"

    assert main.main(["sheet", place, "--address", "10.0.0.9", "--receiver", "11112"]) == 0

    told = capsys.readouterr().out
    assert words in told
    assert not_words not in told
    assert ("ADIT = 10.0.0.9, port 11112" in told) == (proof == "commitment")
    assert "C-MOVE" not in told


def test_the_sheet_names_no_receiver_for_reports_to_another_ae_title(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The receiver has one AE title; a report is sent to the title that requested it."""
    us = registration_sheet.LocalApplication("ADIT", "10.0.0.9", 11112)
    given = DimseSettings("PACS1", "10.0.0.5", 104, "OTHER", retrieve="get", proof="commitment")

    told = registration_sheet.format_sheet("", registration_sheet.build_sheet("dimse", given, us))

    assert "11112" not in told
    assert "1.2.840.10008.1.20.1" in told
