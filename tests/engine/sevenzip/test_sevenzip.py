"""Encrypted 7-Zip archives: what we write, 7z opens; what is damaged, nobody takes for whole."""

import io
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import py7zr
import pytest

from adit_engine.errors import AditError, Malformed, WrongInput
from adit_engine.sevenzip.cipher import Key
from adit_engine.sevenzip.numbers import Cursor, number
from adit_engine.sevenzip.reader import Reader
from adit_engine.sevenzip.writer import Writer

PASSWORD = "Seven4-Zip-Opens-this"
KEY = Key.of(PASSWORD)
QUICK = Key.of(PASSWORD, power=4)
CONTENTS = {
    f"Trial/P-1/Sérîe Ā{size}/1.2.{size}.dcm": random.Random(size).randbytes(size)
    for size in (1, 15, 16, 17, 262_143, 262_144, 262_145, 1_000_001)
}

needs_7z = pytest.mark.skipif(shutil.which("7z") is None, reason="7z is not installed")


def archive(contents: dict[str, bytes] = CONTENTS, key: Key = KEY) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, key)
    for name, content in contents.items():
        writer.add(name, [content[:7], content[7:]])
    writer.close()
    return file.getvalue()


def read(data: bytes, password: str = PASSWORD) -> dict[str, bytes]:
    files = Reader(io.BytesIO(data), password).files()
    return {name: b"".join(bytes(piece) for piece in content) for name, content in files}


def seven_zip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["7z", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@needs_7z
def test_7z_tests_and_extracts_it_with_the_password(tmp_path: Path) -> None:
    (tmp_path / "a.7z").write_bytes(archive())

    tested = seven_zip("t", f"-p{PASSWORD}", tmp_path / "a.7z")
    seven_zip("x", f"-p{PASSWORD}", f"-o{tmp_path / 'out'}", tmp_path / "a.7z")

    assert tested.returncode == 0
    assert "Everything is Ok" in tested.stdout
    out = {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in _files(tmp_path / "out")}
    assert out == CONTENTS


@needs_7z
def test_each_file_is_stored_encrypted_and_taken_out_alone(tmp_path: Path) -> None:
    (tmp_path / "a.7z").write_bytes(archive())

    listed = seven_zip("l", "-slt", f"-p{PASSWORD}", tmp_path / "a.7z").stdout

    methods = re.findall(r"^Method = (.*)$", listed, re.MULTILINE)
    assert set(methods) == {"Copy 7zAES", "Copy 7zAES:19"}
    assert f"Blocks = {len(CONTENTS)}" in listed
    assert "Encrypted = -" not in listed


@needs_7z
@pytest.mark.parametrize("password", ["", "-pwrong", "-pseven4-zip-opens-this"])
def test_without_the_password_no_name_is_told(tmp_path: Path, password: str) -> None:
    data = archive()
    (tmp_path / "a.7z").write_bytes(data)

    listed = seven_zip("l", password or "-p", tmp_path / "a.7z")

    assert listed.returncode != 0 or "Errors: 1" in listed.stdout
    assert ".dcm" not in listed.stdout + listed.stderr
    for name in CONTENTS:
        assert name.encode() not in data
        assert name.encode("utf-16-le") not in data


def test_another_program_of_another_author_reads_it_too() -> None:
    with py7zr.SevenZipFile(io.BytesIO(archive()), password=PASSWORD) as opened:
        assert opened.getnames() == list(CONTENTS)
        assert opened.testzip() is None


def test_what_was_written_comes_back_byte_by_byte() -> None:
    assert read(archive()) == CONTENTS


def test_the_same_files_make_other_bytes_each_time() -> None:
    one, other = archive(), archive()

    assert len(one) == len(other)
    assert one[32:200] != other[32:200]


def test_a_wrong_password_is_said_in_words() -> None:
    with pytest.raises(WrongInput, match=r"^This password does not open the archive\.$"):
        read(archive(), "another password")


def test_an_archive_cut_off_anywhere_is_none() -> None:
    whole = archive({"a.dcm": os.urandom(100), "b.dcm": os.urandom(50)}, QUICK)

    for length in range(len(whole)):
        with pytest.raises(Malformed):
            read(whole[:length])


def test_an_archive_that_was_not_closed_is_none() -> None:
    file = io.BytesIO()
    Writer(file, KEY).add("a.dcm", [b"content"])

    with pytest.raises(Malformed, match="never finished"):
        read(file.getvalue())


def test_one_damaged_byte_anywhere_is_found() -> None:
    contents = {"a.dcm": os.urandom(100), "b.dcm": os.urandom(64)}
    whole = archive(contents, QUICK)

    for position in range(8, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        try:
            came = read(bytes(damaged))
        except (AditError, UnicodeDecodeError):
            continue
        assert came == contents  # the zeros behind a file's last byte are nobody's


@pytest.mark.parametrize("value", [0, 1, 127, 128, 16383, 16384, 2**21, 2**32, 2**56 - 1, 2**63])
def test_numbers_are_read_as_they_are_written(value: int) -> None:
    assert Cursor(number(value)).number() == value


def test_a_bomb_of_a_key_is_refused() -> None:
    with pytest.raises(Malformed, match="more work"):
        Key.of(PASSWORD, b"", 60)


def test_a_list_of_files_that_lies_about_its_length_is_refused() -> None:
    reads: list[Callable[[], object]] = [
        lambda: Cursor(b"\x01").take(2),
        lambda: Cursor(b"\xff" * 9).take(2**63),
        lambda: Cursor(b"").byte(),
    ]
    for act in reads:
        with pytest.raises(Malformed):
            act()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
