"""A 7-Zip destination on the command line: password prompt, and packing at the end."""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab.samples import ct, file_bytes

from adit_engine.cli.main import main

PASSWORD = "four words and 1 sign!"
needs_7z = pytest.mark.skipif(shutil.which("7z") is None, reason="7z is not installed")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "source"
    folder.mkdir()
    for n in range(1, 4):
        (folder / f"{n}.dcm").write_bytes(file_bytes(ct(n)))
    (tmp_path / "password").write_text(PASSWORD + "\n")
    return folder


def transfer(source: Path, target: str, *more: str) -> list[str]:
    return ["transfer", "--from", str(source), "--to", f"archive:{target}", "--all", *more]


@needs_7z
def test_a_pseudonymized_transfer_creates_an_archive(source: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "out" / "lung.7z"
    arguments = transfer(source, str(target), "--pseudonym", "LUNG-0001", "--json")

    code = main([*arguments, "--password-file", str(tmp_path / "password")])

    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (told["outcome"], told["delivered"]) == ("complete", 3)
    assert told["archives"] == [str(target)]
    assert sorted(p.name for p in target.parent.iterdir()) == ["lung.7z"]
    tested = subprocess.run(["7z", "t", f"-p{PASSWORD}", target], capture_output=True)
    listed = subprocess.run(["7z", "l", f"-p{PASSWORD}", target], capture_output=True, text=True)
    assert tested.returncode == 0
    assert len(re.findall(r"LUNG-0001/\S+\.dcm", listed.stdout)) == 3


def test_the_password_is_prompted_twice_and_not_displayed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "lung.7z"
    command = [
        sys.executable,
        "-m",
        "adit_engine.cli.main",
        *transfer(source, str(target), "--as-is"),
    ]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, command)
    shown = b""
    for question in (b"Password of the archive: ", b"Repeat the password: "):
        shown += _until(terminal, question)
        os.write(terminal, PASSWORD.encode() + b"\n")
        assert PASSWORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    shown += _until(terminal, b"ledger:")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 0
    assert target.is_file()
    assert PASSWORD.encode() not in shown


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ([], "cannot ask for the password"),
        (["--password-file", "weak"], "at least 12 characters"),
        (["--password-file", "missing"], "cannot be read"),
    ],
)
def test_without_a_valid_password_nothing_is_fetched(
    source: Path, tmp_path: Path, capsys, monkeypatch, more: list[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weak").write_text("short")

    code = main(transfer(source, "lung.7z", "--as-is", *more))

    assert code == 64
    assert why in capsys.readouterr().err
    assert not (tmp_path / "lung.7z").exists()
    assert not (tmp_path / ".adit-gathered").exists()


@pytest.mark.parametrize("there", ["lung.7z", "lung-part2.7z"])
def test_an_existing_file_is_not_replaced(source: Path, tmp_path: Path, capsys, there: str) -> None:
    (tmp_path / there).write_text("of somebody else")
    arguments = transfer(source, str(tmp_path / "lung.7z"), "--as-is")

    code = main([*arguments, "--password-file", str(tmp_path / "password")])

    assert code == 64
    assert "Choose another name" in capsys.readouterr().err
    assert (tmp_path / there).read_text() == "of somebody else"


def test_nothing_is_delivered_if_the_archive_cannot_be_written(
    source: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adit_engine.nodes.sevenzip_file.SevenZipWriter.close", _full)
    arguments = transfer(source, str(tmp_path / "lung.7z"), "--as-is", "--json")

    code = main([*arguments, "--password-file", str(tmp_path / "password")])

    told = json.loads(capsys.readouterr().out)
    assert code == 2
    assert (told["outcome"], told["delivered"], told["failed"]) == ("failed", 0, 3)
    assert any("disk is full" in error["text"] for error in told["errors"])
    assert list(tmp_path.glob("*.7z")) == []


def test_an_archive_cannot_be_a_source(tmp_path: Path, capsys) -> None:
    code = main(["find", "--from", f"archive:{tmp_path / 'a.7z'}", "PatientID=1"])

    assert code == 2
    assert "cannot be a source" in capsys.readouterr().err


def test_another_file_extension_is_a_usage_error(source: Path, tmp_path: Path, capsys) -> None:
    code = main(transfer(source, str(tmp_path / "lung.zip"), "--as-is"))

    assert code == 64
    assert "archive:FILE.7z" in capsys.readouterr().err


def _full(writer: object) -> None:
    raise OSError(28, "No space left on device")


def _until(terminal: int, words: bytes) -> bytes:
    shown, deadline = b"", time.monotonic() + 30
    while words not in shown and time.monotonic() < deadline:
        try:
            shown += os.read(terminal, 4096)
        except OSError:
            break
    assert words in shown
    return shown
