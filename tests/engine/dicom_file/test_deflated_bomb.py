"""A small deflated file of several gigabytes is listed and fetched in bounded memory."""

import json
import subprocess
import sys
import zlib
from pathlib import Path
from struct import pack

import pytest
from lab.samples import ct, instance

from adit_engine.dicom_file import part10
from adit_engine.errors import Malformed
from adit_engine.nodes.reencode import reencode
from adit_engine.values.instance import (
    DEFLATED_LE,
    EXPLICIT_LE,
    MAX_INFLATED_BYTES,
    Instance,
    inflate_data_set,
)

MIB = 1024 * 1024
ENOUGH_KIB = 700 * 1024
"""Limit of the address space; the inflated file alone is larger."""


def bomb(mib: int) -> Instance:
    whole = b"".join(bytes(part) for part in instance(ct(1, PatientName="M\xfcller")).parts())
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(whole + pack("<HH2sHI", 0x7FE1, 0x0010, b"OB", 0, mib * MIB))
    for _ in range(mib):
        packed += deflate.compress(bytes(MIB))
    like = instance(ct(1))
    return Instance(like.sop_class_uid, like.instance_uid, DEFLATED_LE, packed + deflate.flush())


def test_a_deflate_bomb_is_found_and_fetched_in_bounded_memory(
    tmp_path: Path,
) -> None:
    (tmp_path / "source").mkdir()
    file = b"".join(bytes(part) for part in part10.file_parts(bomb(1024)))
    (tmp_path / "source" / "1.dcm").write_bytes(file)
    begun = f"{sys.executable} -c 'from adit_engine.__main__ import run; run()'"

    def run(words: str) -> subprocess.CompletedProcess[str]:
        command = f"ulimit -v {ENOUGH_KIB}; XDG_STATE_HOME={tmp_path} {begun} {words}"
        return subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=250)

    found = run(f"find --from {tmp_path}/source --json")
    carried = run(f"fetch --from {tmp_path}/source --to {tmp_path}/to --all --json")

    assert (found.returncode, found.stderr) == (0, "")
    assert json.loads(found.stdout)["PatientID"] == "PID-4711-0815"
    assert (carried.returncode, carried.stderr) == (0, "")
    (kept,) = (tmp_path / "to").rglob("*.dcm")
    assert kept.read_bytes() == file


def test_a_deflate_bomb_is_not_reencoded() -> None:
    assert reencode(bomb(MAX_INFLATED_BYTES // MIB + 1), [EXPLICIT_LE]) is None


def test_a_regular_deflated_instance_is_reencoded() -> None:
    small = bomb(1)
    made = reencode(small, [EXPLICIT_LE])

    assert made is not None
    assert made.in_header.ref == small.in_header.ref


def test_a_truncated_deflated_data_set_is_malformed() -> None:
    with pytest.raises(Malformed):
        inflate_data_set(bytes(bomb(1).header)[:-9])
