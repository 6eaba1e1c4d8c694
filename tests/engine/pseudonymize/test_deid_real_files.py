"""Real files bundled with pydicom are withheld or released without any identifying value."""

import re
import shutil
import subprocess
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from lab.deid_objects import change, read
from pydicom import dcmread
from pydicom.dataset import Dataset

from adit_engine.dicom_file import part10
from adit_engine.errors import InstanceWithheld, Malformed
from adit_engine.pseudonymize.apply import apply
from adit_engine.pseudonymize.keys import ProjectKey
from adit_engine.pseudonymize.tables import well_known_uids
from adit_engine.values.instance import EXPLICIT_LE, Instance

# Invalid values in the originals are not under test.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")

FOLDER = Path(pydicom.__file__).parent / "data"
FILES = sorted(
    path
    for path in FOLDER.rglob("*")
    if path.is_file() and path.stat().st_size < 4_000_000 and path.suffix not in (".py", ".pyc")
)
IDENTITY = [
    "PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName",
    "InstitutionName", "InstitutionAddress", "OtherPatientIDs", "StationName", "OperatorsName",
    "PerformingPhysicianName", "StudyDescription", "PatientAddress", "DeviceSerialNumber",
]  # fmt: skip


def parsed(path: Path) -> Instance | None:
    try:
        return part10.parse_file(path.read_bytes())
    except Malformed:
        return None


def released() -> list[tuple[Path, Instance, Instance]]:
    """Return path, source and output of each file that is released."""
    found = []
    for path in FILES:
        source = parsed(path)
        if source is not None:
            try:
                found.append((path, source, apply(change(), source)))
            except InstanceWithheld:
                continue
    return found


@pytest.fixture(scope="module")
def leaving() -> list[tuple[Path, Instance, Instance]]:
    return released()


def uids(ds: Dataset) -> set[str]:
    known = {uid.decode() for uid in well_known_uids()}
    found: set[str] = set()
    for element in ds.iterall():
        if element.VR == "UI" and element.value:
            values = [element.value] if isinstance(element.value, str) else element.value
            found |= {str(value) for value in values}
    return found - known


def test_more_than_60_real_images_are_released(
    leaving: list[tuple[Path, Instance, Instance]],
) -> None:
    assert len(leaving) > 60


def test_no_original_uid_or_identifying_value_of_a_real_file_remains(
    leaving: list[tuple[Path, Instance, Instance]],
) -> None:
    for path, source, out in leaving:
        before = dcmread(BytesIO(path.read_bytes()))
        after = read(out)
        assert not uids(before) & uids(after), path.name
        header = bytes(out.header)
        for keyword in IDENTITY:
            value = str(before.get(keyword, "") or "")
            for word in re.split(r"[\^= ]", value):
                maker = f"{before.get('Manufacturer')} {before.get('ManufacturerModelName')}"
                if len(word) >= 4 and word not in maker:
                    assert word.encode() not in header, (path.name, keyword)
        assert not [e for e in after.iterall() if e.tag.is_private]
        assert source.transfer_syntax_uid


def test_the_pixels_of_real_files_are_unchanged(
    leaving: list[tuple[Path, Instance, Instance]],
) -> None:
    for path, source, out in leaving[::4]:
        before = dcmread(BytesIO(path.read_bytes()))
        if "PixelData" in before and source.transfer_syntax_uid == EXPLICIT_LE:
            data = b"".join(bytes(part) for part in part10.file_parts(out))
            assert (dcmread(BytesIO(data)).pixel_array == before.pixel_array).all(), path.name


def test_output_is_reproducible_and_shares_no_uid_across_projects(
    leaving: list[tuple[Path, Instance, Instance]],
) -> None:
    other_trial = change(key=ProjectKey(b"z" * 32), pseudonym="OTHER-7")
    for path, source, out in leaving:
        assert apply(change(), source).sha256() == out.sha256(), path.name
        other = apply(other_trial, source)
        assert not uids(read(out)) & uids(read(other)), path.name


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dicom3tools")
def test_dciodvfy_finds_no_new_error(
    leaving: list[tuple[Path, Instance, Instance]], tmp_path: Path
) -> None:
    for path, _, out in leaving[::3]:
        changed = tmp_path / "out.dcm"
        changed.write_bytes(b"".join(bytes(part) for part in part10.file_parts(out)))
        assert not errors(changed) - errors(path), path.name


def errors(path: Path) -> set[str]:
    """Return the errors of dciodvfy without the values that it quotes."""
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, timeout=250)
    lines = (run.stderr + run.stdout).decode("latin-1").splitlines()
    return {
        re.sub(r"(= )?<[^>]*[0-9][^>]*>.*", "", line) for line in lines if line.startswith("Error")
    }
