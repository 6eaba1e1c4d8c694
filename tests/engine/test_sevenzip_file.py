"""Encrypted 7-Zip files: 7z opens them with the password, and damage is detected."""

import errno
import functools
import io
import os
import random
import re
import shutil
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import py7zr.compressor
import pytest

from adit_engine.errors import AditError, InvalidInput, Malformed, Stopped
from adit_engine.nodes.sevenzip_file import SevenZipWriter, read_checksum

PASSWORD = "Seven4-Zip-Opens-this"
CONTENTS = {
    f"Project/P-1/Sérîe Ā{size}/1.2.{size}.dcm": random.Random(size).randbytes(size)
    for size in (1, 15, 16, 17, 262_143, 262_144, 262_145, 1_048_577)
}
SMALL = {"P-1/a.dcm": os.urandom(100), "P-1/b.dcm": os.urandom(64), "list.csv": b"a,b"}

needs_7z = pytest.mark.skipif(shutil.which("7z") is None, reason="7z is not installed")


@pytest.fixture(autouse=True, scope="module")
def keys_are_derived_once() -> Iterator[None]:
    """Cache the key derivation, which takes 0.4 s by design."""
    with pytest.MonkeyPatch.context() as patch:
        derive = functools.cache(py7zr.compressor.calculate_key)
        patch.setattr("py7zr.compressor.calculate_key", derive)
        yield


def archive(contents: dict[str, bytes] = CONTENTS) -> tuple[bytes, bytes]:
    """Return the bytes of a 7-Zip file and the checksum of its members."""
    file = io.BytesIO()
    writer = SevenZipWriter(file, PASSWORD)
    for name, content in contents.items():
        writer.add(name, iter([content[:7], content[7:]] if content[7:] else [content]))
    writer.close()
    return file.getvalue(), writer.checksum.digest()


def read(data: bytes, password: str = PASSWORD) -> bytes:
    return read_checksum(io.BytesIO(data), password, lambda _: None)


def seven_zip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["7z", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


@needs_7z
def test_7z_tests_and_extracts_the_file_with_the_password(tmp_path: Path) -> None:
    (tmp_path / "a.7z").write_bytes(archive()[0])

    tested = seven_zip("t", f"-p{PASSWORD}", tmp_path / "a.7z")
    seven_zip("x", f"-p{PASSWORD}", f"-o{tmp_path / 'out'}", tmp_path / "a.7z")

    assert tested.returncode == 0
    assert "Everything is Ok" in tested.stdout
    assert extracted(tmp_path / "out") == CONTENTS


@needs_7z
def test_extracted_files_have_standard_attributes(tmp_path: Path) -> None:
    """Neither the private mode of the collected images nor their retrieval time is stored."""
    (tmp_path / "a.7z").write_bytes(archive(SMALL)[0])

    listed = seven_zip("l", "-slt", f"-p{PASSWORD}", tmp_path / "a.7z").stdout

    assert set(re.findall(r"^Attributes = (.*)$", listed, re.MULTILINE)) == {"A -rw-r--r--"}


@needs_7z
def test_members_are_uncompressed_and_encrypted_in_one_block(tmp_path: Path) -> None:
    (tmp_path / "a.7z").write_bytes(archive()[0])

    listed = seven_zip("l", "-slt", f"-p{PASSWORD}", tmp_path / "a.7z").stdout

    methods = re.findall(r"^Method = (.*)$", listed, re.MULTILINE)
    assert set(methods) == {"Copy 7zAES", "Copy 7zAES:19"}
    assert "Blocks = 1" in listed
    assert "Encrypted = -" not in listed


@needs_7z
@pytest.mark.parametrize("password", ["-p", "-pwrong", "-pseven4-zip-opens-this"])
def test_file_names_are_not_readable_without_the_password(tmp_path: Path, password: str) -> None:
    data, _ = archive()
    (tmp_path / "a.7z").write_bytes(data)

    listed = seven_zip("l", password, tmp_path / "a.7z")
    extraction = seven_zip("x", password, f"-o{tmp_path / 'out'}", tmp_path / "a.7z")

    assert "Wrong password" in listed.stderr
    assert ".dcm" not in listed.stdout + listed.stderr
    assert extraction.returncode != 0
    assert extracted(tmp_path / "out") == {}
    for name in CONTENTS:
        assert name.encode() not in data
        assert name.encode("utf-16-le") not in data


@needs_7z
def test_7z_detects_a_damaged_name(tmp_path: Path) -> None:
    """Names are the largest part of the encrypted header."""
    whole, _ = archive({"P-1/" + 300 * "a": bytes(16), "P-1/b": bytes(16)})

    for position in range(32 + 32, len(whole), 16):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        (tmp_path / "a.7z").write_bytes(damaged)
        assert seven_zip("t", f"-p{PASSWORD}", tmp_path / "a.7z").returncode != 0, position


def test_names_and_contents_are_read_back_unchanged() -> None:
    data, checksum = archive()

    assert read(data) == checksum


@pytest.mark.parametrize(
    "other",
    [
        {"P-1/a.dcm": b"1", "P-1/b.dcm": b"2"},
        {"P-1/b.dcm": b"2", "P-1/a.dcm": b"2"},
        {"P-1/a.dcm": b"2"},
        {"P-1/a.dcm": b"2", "P-1/c.dcm": b"2"},
    ],
)
def test_the_checksum_depends_on_names_contents_and_order(other: dict[str, bytes]) -> None:
    _, checksum = archive({"P-1/a.dcm": b"2", "P-1/b.dcm": b"2"})

    assert archive(other)[1] != checksum


def test_the_same_members_are_encrypted_differently_each_time() -> None:
    (one, _), (other, _) = archive(), archive()

    assert len(one) == len(other)
    assert one[32:200] != other[32:200]


def test_a_wrong_password_is_reported() -> None:
    with pytest.raises(InvalidInput, match="the password is wrong or the file is damaged"):
        read(archive()[0], "another password")


def test_a_file_truncated_at_any_length_is_rejected() -> None:
    whole, _ = archive(SMALL)

    for length in range(len(whole)):
        with pytest.raises((Malformed, InvalidInput)):
            read(whole[:length])


def test_a_file_that_was_not_closed_is_rejected() -> None:
    file = io.BytesIO()
    SevenZipWriter(file, PASSWORD).add("a.dcm", iter([b"content"]))

    with pytest.raises(InvalidInput, match="damaged"):
        read(file.getvalue())


def test_a_damaged_byte_at_any_position_is_detected() -> None:
    whole, checksum = archive(SMALL)
    passed = []

    for position in range(8, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        try:
            assert read(bytes(damaged)) == checksum
        except AditError:
            continue
        passed.append(position)

    packed = sum(map(len, SMALL.values()))
    padding = range(32 + packed, 32 + packed + -packed % 16)
    assert all(position in padding for position in passed)


def test_encryption_does_not_use_pycryptodomex(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # OpenSSL takes half the time.
    monkeypatch.setattr("Cryptodome.Cipher.AES.new", None)

    data, checksum = archive(SMALL)

    assert read(data) == checksum


def test_an_exception_of_the_callback_ends_the_read() -> None:
    def stop(size: int) -> None:
        raise Stopped("Canceled.")

    with pytest.raises(Stopped):
        read_checksum(io.BytesIO(archive(SMALL)[0]), PASSWORD, stop)


def test_a_full_disk_raises_an_os_error() -> None:
    no_space = pytest.raises(OSError, match=os.strerror(errno.ENOSPC))

    with no_space, open("/dev/full", "w+b", buffering=0) as file:
        SevenZipWriter(file, PASSWORD).add("a.dcm", iter([bytes(1000)]))


def test_memory_stays_constant_for_large_members(tmp_path: Path) -> None:
    piece, count = os.urandom(1_000_000), 60

    with (tmp_path / "a.7z").open("w+b") as file:
        tracemalloc.start()
        writer = SevenZipWriter(file, PASSWORD)
        writer.add("a.dcm", (piece for _ in range(count)))
        writer.close()
        file.seek(0)
        assert read_checksum(file, PASSWORD, lambda _: None) == writer.checksum.digest()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < 12_000_000


def test_memory_per_small_member_is_bounded(tmp_path: Path) -> None:
    count = 2000

    with (tmp_path / "a.7z").open("w+b") as file:
        tracemalloc.start()
        writer = SevenZipWriter(file, PASSWORD)
        for number in range(count):
            writer.add(f"Project/P-0001/Study/Series/1.2.3.{10**30 + number}.dcm", iter([b"image"]))
        writer.close()
        file.seek(0)
        assert read_checksum(file, PASSWORD, lambda _: None) == writer.checksum.digest()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak / count < 4000


def extracted(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
