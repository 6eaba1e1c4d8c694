"""Acceptance: released objects are as valid as their originals (dcmtk, dciodvfy, Orthanc).

Covers every class that can be released, with all attributes of its IOD, and real files.
`make deid-corpus` uses all real files; other runs use a part of them.
"""

import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pytest
from deid_corpus import CorpusTotals, Deidentifier, real_files
from deid_rows import classes
from deid_whole import whole_objects
from lab import peers
from pydicom import dcmread
from pydicom.encaps import generate_fragments

from adit_engine.dicom_file import part10
from adit_engine.pseudonymize.profile import ConfidentialityProfile, preset_names

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),
    peers.needs_dcmtk,
    peers.needs_orthanc,
]

ALL = bool(os.environ.get("ADIT_WHOLE_CORPUS"))
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


class Pair(NamedTuple):
    """One complete file before and after the change."""

    name: str
    before: bytes
    after: bytes


def of_classes(deidentifier: Deidentifier) -> Iterator[Pair]:
    totals = CorpusTotals("whole objects")
    for name, data in whole_objects():
        out = deidentifier.process(data, totals)
        assert out is not None, (name, deidentifier.reason)
        yield Pair(name, data, out)


def of_files(deidentifier: Deidentifier) -> Iterator[Pair]:
    totals = CorpusTotals("real files")
    for path in real_files() if ALL else real_files(largest_bytes=1 << 17)[::3]:
        data = path.read_bytes()
        out = deidentifier.process(data, totals) if data[128:132] == b"DICM" else None
        if out is not None:
            yield Pair(path.name, data, out)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    deidentifier = Deidentifier(ConfidentialityProfile.default())
    return [*of_classes(deidentifier), *of_files(deidentifier)]


@pytest.fixture(scope="module")
def folder(pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write each pair as 0001-before.dcm and 0001-after.dcm."""
    made = tmp_path_factory.mktemp("acceptance")
    for number, pair in enumerate(pairs):
        (made / f"{number:04}-before.dcm").write_bytes(pair.before)
        (made / f"{number:04}-after.dcm").write_bytes(pair.after)
    return made


def test_the_pairs_cover_all_classes_that_can_be_released(pairs: list[Pair]) -> None:
    found = {str(dcmread(BytesIO(pair.after)).SOPClassUID) for pair in pairs}
    assert {uid for uid, _ in classes()} <= found
    assert len(found) >= 27


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
def test_dciodvfy_finds_no_new_error(pairs: list[Pair], folder: Path) -> None:
    for number, pair in enumerate(pairs):
        before, after = (
            complaints(folder / f"{number:04}-{what}.dcm") for what in ("before", "after")
        )
        assert not after - before, pair.name


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
@pytest.mark.parametrize("preset", [name for name in preset_names() if name != "default"])
def test_dciodvfy_finds_no_new_error_with_any_preset(preset: str, tmp_path: Path) -> None:
    file = tmp_path / "one.dcm"
    for pair in of_classes(Deidentifier(ConfidentialityProfile.preset(preset))):
        file.write_bytes(pair.before)
        before = complaints(file)
        file.write_bytes(pair.after)
        assert not complaints(file) - before, pair.name


def complaints(path: Path) -> set[str]:
    """Return the errors of dciodvfy without the values that it quotes."""
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, timeout=250)
    lines = (run.stderr + run.stdout).decode("latin-1").splitlines()
    return {
        re.sub(r"(= )?<[^>]*[0-9][^>]*>.*", "", line) for line in lines if line.startswith("Error")
    }


@pytest.mark.parametrize("tool", ["dcmdump", "dcm2xml", "dcmconv"])
def test_dcmtk_reads_each_object(
    tool: str, pairs: list[Pair], folder: Path, tmp_path: Path
) -> None:
    target = [] if tool == "dcmdump" else [str(tmp_path / "out")]
    for number, pair in enumerate(pairs):
        command = [tool, str(folder / f"{number:04}-after.dcm"), *target]
        run = subprocess.run(command, capture_output=True, timeout=250)
        said = [line for line in run.stderr.splitlines() if line[:2] in (b"E:", b"F:")]
        assert (run.returncode, said) == (0, []), pair.name


def test_dcmtk_accepts_each_object_by_c_store(pairs: list[Pair], tmp_path: Path) -> None:
    with peers.storescp(tmp_path / "taken", "+xa", "--accept-all") as port:
        instances = [part10.parse_file(pair.after) for pair in pairs]
        kept = [stored.is_stored for stored in peers.node(port).store(instances)]
    assert kept == [True] * len(pairs)


def test_orthanc_stores_each_object_and_returns_the_same_pixels(
    pairs: list[Pair], tmp_path: Path
) -> None:
    by_uid = {part10.parse_file(pair.after).instance_uid: pair for pair in pairs}
    with peers.orthanc(tmp_path / "orthanc", "ACCEPTANCE") as archive:
        for pair in by_uid.values():
            assert post(archive, pair.after) == 200, pair.name
        assert given_back(archive, by_uid) == by_uid.keys()
        archive.clear()
        instances = [part10.parse_file(pair.after) for pair in by_uid.values()]
        assert all(stored.is_stored for stored in archive.node().store(instances))
        assert given_back(archive, by_uid) == by_uid.keys()


def post(archive: peers.Orthanc, data: bytes) -> int:
    address = f"http://127.0.0.1:{archive.http_port}/instances"
    request = urllib.request.Request(address, data=data, method="POST")
    with urllib.request.urlopen(request, timeout=250) as answer:
        return int(answer.status)


def given_back(archive: peers.Orthanc, by_uid: dict[str, Pair]) -> set[str]:
    """Return the UIDs of all stored instances; assert that their pixels are unchanged."""
    found = set()
    for name in archive.rest("/instances"):
        address = f"http://127.0.0.1:{archive.http_port}/instances/{name}/file"
        with urllib.request.urlopen(address, timeout=250) as answer:
            data = answer.read()
        uid = str(dcmread(BytesIO(data), stop_before_pixels=True).SOPInstanceUID)
        assert pixels(data) == pixels(by_uid[uid].after), by_uid[uid].name
        found.add(uid)
    return found


def pixels(data: bytes) -> list[bytes]:
    """Return the pixel bytes, one entry per fragment if compressed."""
    ds = dcmread(BytesIO(data))
    (value,) = [ds[name].value for name in PIXELS if name in ds] or [b""]
    if ds.file_meta.TransferSyntaxUID.is_encapsulated and value:
        return list(generate_fragments(value))
    return [value]
