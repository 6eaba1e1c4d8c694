"""Batch query of sixty rows, transfer of its export, comparison with the destinations."""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from conftest import SUCCESS, sign_in
from orthanc import needs_chromium, needs_orthanc
from playwright.sync_api import Page, expect
from pydicom.dataset import Dataset
from test_batch_query import PEOPLE, UID, answered, cells_of, check, held
from test_lists import (
    FOLDER,
    PACS,
    Installation,
    checked,
    number_of,
    order,
    result,
    run_commands,
    running_installation,
)
from test_seven_zip import PASSWORD, Watch, needs_7z, places_of, seven_zip

pytestmark = [needs_orthanc, needs_chromium, needs_7z, pytest.mark.timeout(900)]

SEVEN_ZIP = "Encrypted 7-Zip file"
HIDDEN = "Research folder (folder not shown: its name is the pseudonym)"


@dataclass(frozen=True)
class Wanted:
    """Expected result for a row of the export with a match."""

    patient: str
    reference: str
    """Series Instance UID, or Study Instance UID for a whole study."""
    instances: frozenset[str]
    """SOP Instance UIDs as generated with the project's key."""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("chain")
    with running_installation(folder, held(), DefaultEncoding="Utf8") as installation:
        yield installation


@pytest.mark.parametrize(
    ("javascript", "project"),
    [(True, "CHAIN-JS"), (False, "CHAIN-PLAIN")],
    ids=["with JavaScript", "without JavaScript"],
)
def test_an_exported_query_is_transferred_and_the_result_sheet_matches(
    installation: Installation,
    open_page: Callable[..., Page],
    tmp_path: Path,
    javascript: bool,
    project: str,
) -> None:
    page, other = open_page(javascript), open_page(javascript)
    sign_in(page, installation.url, "coordinator")
    sign_in(other, installation.url, "approver")
    export = tmp_path / "export.xlsx"
    export.write_bytes(answered(page, installation.url, tmp_path, project).read_bytes())
    head, *found = cells_of(export)
    check(head, found)
    wanted = wanted_of(installation, project, [dict(zip(head, row, strict=True)) for row in found])

    with Watch(PASSWORD) as watch:
        order(page, installation.url, export, project, PACS, FOLDER)
        to_pacs = number_of(page)
        order(page, installation.url, export, project, SEVEN_ZIP, password=PASSWORD)
        to_archive = number_of(page)
        jobs = {PACS: to_pacs, FOLDER: to_pacs + 1, SEVEN_ZIP: to_archive}
        for job in jobs.values():
            started_and_approved(page, other, installation.url, job)
        for job in jobs.values():
            page.goto(f"{installation.url}/jobs/{job}/")
            expect(page.locator("#job-state")).to_contain_text(SUCCESS, timeout=300_000)

    rows = {
        name: matched(wanted, result(page, installation.url, job), len(found))
        for name, job in jobs.items()
    }
    keys = {line: row[head.index("Key")] for line, row in enumerate(found, 2)}
    for told in rows.values():
        compare_rows(wanted, told, keys)
    lying = installation.files_of(project)
    compare(wanted, list(lying.values()))
    compare_places(wanted, rows[FOLDER], lying)
    compare(wanted, in_pacs(installation, project))
    archive = installation.data / "archives" / f"job-{to_archive}.7z"
    assert {row["ADIT place"] for row in rows[SEVEN_ZIP]} == {archive.name}
    compare(wanted, unpacked(archive, tmp_path / "out"))
    assert watch.seen == []
    assert places_of(PASSWORD, installation.data) == []


def wanted_of(
    installation: Installation, project: str, found: list[dict[str, str]]
) -> dict[int, Wanted]:
    """Expected result by line of the export, computed from the files of the source."""
    there = [pydicom.dcmread(BytesIO(file), stop_before_pixels=True) for file in held()]
    uids = [str(ds.SOPInstanceUID) for ds in there]
    names = run_commands(installation.env, "renamed", project=project, uids=uids)
    wanted = {}
    for line, row in enumerate(found, 2):
        if reference := row["SeriesInstanceUID"] or row["StudyInstanceUID"]:
            mine = {
                str(names[ds.SOPInstanceUID])
                for ds in there
                if reference in (ds.StudyInstanceUID, ds.SeriesInstanceUID)
            }
            assert mine
            wanted[line] = Wanted(row["PatientID"], reference, frozenset(mine))
    assert set().union(*(one.instances for one in wanted.values())) == set(names.values())
    return wanted


def started_and_approved(page: Page, other: Page, url: str, job: int) -> None:
    checked(page, url, job)
    expect(page.locator("#check_summary")).not_to_contain_text("Several studies match")
    expect(page.locator("#check_summary")).not_to_contain_text("Not found")
    page.click("#start")
    expect(page.locator("#job-state")).to_contain_text("waiting for approval", timeout=180_000)
    other.goto(f"{url}/jobs/{job}/")
    other.click("main button:has-text('Approve')")


def matched(
    wanted: Mapping[int, Wanted], rows: list[dict[str, str]], count: int
) -> list[dict[str, str]]:
    """Assert that all rows are in the sheet, those without a match as excluded; return the others."""
    assert [int(row["ADIT line"]) for row in rows] == list(range(2, 2 + count))
    others = [row for row in rows if int(row["ADIT line"]) not in wanted]
    assert {row["ADIT outcome"] for row in others} == {"excluded"}
    return [row for row in rows if int(row["ADIT line"]) in wanted]


def compare_rows(
    wanted: Mapping[int, Wanted], rows: list[dict[str, str]], keys: Mapping[int, str]
) -> None:
    """Assert that each row with a match is complete and keeps the user's key."""
    assert [int(row["ADIT line"]) for row in rows] == sorted(wanted)
    for row in rows:
        one = wanted[int(row["ADIT line"])]
        number = str(len(one.instances))
        assert row["ADIT outcome"] == "complete", row
        assert (row["ADIT expected"], row["ADIT delivered"]) == (number, number)
        assert (row["ADIT withheld"], row["ADIT failed"], row["ADIT skipped"]) == ("0", "0", "0")
        assert row["PatientID"] == one.patient
        assert one.reference in (row["SeriesInstanceUID"], row["StudyInstanceUID"])
        assert row["Key"] == keys[int(row["ADIT line"])]


def compare(wanted: Mapping[int, Wanted], files: list[pydicom.FileDataset]) -> None:
    """Assert that each instance occurs once, with one pseudonym per patient and no names."""
    uids = [str(ds.SOPInstanceUID) for ds in files]
    assert sorted(uids) == sorted(set().union(*(one.instances for one in wanted.values())))
    patient_of = {uid: one.patient for one in wanted.values() for uid in one.instances}
    pairs = {(patient_of[uid], str(ds.PatientID)) for uid, ds in zip(uids, files, strict=True)}
    patients, pseudonyms = zip(*pairs, strict=True)
    assert len(pairs) == len(set(patients)) == len(set(pseudonyms)) == 20 + len(PEOPLE)
    assert not set(patients) & set(pseudonyms)
    for ds in files:
        assert_clean(ds)


def assert_clean(ds: Dataset) -> None:
    names = {part for _, name, *_ in PEOPLE for part in name.replace("=", "^").split("^")}
    text = str(ds)
    for word in (*(names - {"", "Dr."}), "Family", "ACC0", "X0001", UID):
        assert word not in text


def compare_places(
    wanted: Mapping[int, Wanted],
    rows: list[dict[str, str]],
    lying: Mapping[str, pydicom.FileDataset],
) -> None:
    """Assert that the images of each row are in separate folders.

    Folders are named by pseudonyms, so the sheet hides them from users who may not re-identify.
    """
    folder_of = {str(ds.SOPInstanceUID): at.rpartition("/")[0] for at, ds in lying.items()}
    for row in rows:
        assert row["ADIT place"] == HIDDEN
        expected = wanted[int(row["ADIT line"])].instances
        folders = {folder_of[uid] for uid in expected}
        assert {uid for uid, at in folder_of.items() if at in folders} == expected


def in_pacs(installation: Installation, project: str) -> list[pydicom.FileDataset]:
    every = [pydicom.dcmread(BytesIO(file)) for file in installation.pacs.files()]
    return [ds for ds in every if ds.get("ClinicalTrialProtocolID") == project]


def unpacked(path: Path, folder: Path) -> list[pydicom.FileDataset]:
    """Unpack the 7-Zip file, compare it with its list of contents, return the images."""
    assert seven_zip("t", f"-p{PASSWORD}", path).returncode == 0
    locked = seven_zip("l", "-pnot-the-password", path)
    assert ".dcm" not in locked.stdout + locked.stderr
    assert seven_zip("x", f"-p{PASSWORD}", f"-o{folder}", path).returncode == 0
    files = [pydicom.dcmread(file) for file in folder.rglob("*.dcm")]
    (contents,) = folder.glob("contents-*.csv")
    listed = list(csv.DictReader(contents.read_text().splitlines()))
    assert {row["outcome"] for row in listed} == {"delivered"}
    assert sorted(row["instance_uid"] for row in listed) == sorted(
        str(ds.SOPInstanceUID) for ds in files
    )
    return files
