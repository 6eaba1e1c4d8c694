"""A recall on the pages: what is in folders and 7-Zip files is deleted, the rest is listed."""

import csv
import io
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import images
import pytest
from conftest import DIRECTLY, ROOT, adit_up, free_port, sign_in, wait_until
from lab.prepared import copy_prepared
from orthanc import Orthanc, needs_chromium, needs_orthanc, running_orthanc
from playwright.sync_api import Page, expect
from pydicom import dcmread
from recall_data import OTHER, OTHER_STUDY, PATIENT, STUDY
from test_accessibility import check_in_both_schemes

pytestmark = [needs_orthanc, needs_chromium]

IMAGES = 2


def prepare(data: Path, places: dict[str, object]) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("recall_data.py")), json.dumps(places)],
        cwd=ROOT,
        env={**os.environ, "ADIT_DATA": str(data), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def wait_for_end(page: Page, address: str) -> None:
    def ended() -> bool:
        page.goto(address)
        return page.locator("#job-state").inner_text().strip() == "complete"

    wait_until(ended, "the job is complete", 180)


def wait_for_states(page: Page, states: dict[str, str]) -> None:
    def shown() -> bool:
        page.reload()
        rows = page.locator(".table-box tbody tr").all()
        found = {
            row.locator("td").first.inner_text(): row.locator(".state").inner_text() for row in rows
        }
        return states.items() <= found.items()

    wait_until(shown, f"the recall shows {states}", 180)


def delete_all(archive: Orthanc) -> None:
    for study in json.loads(archive.get("/studies")):
        address = f"http://127.0.0.1:{archive.http_port}/studies/{study}"
        DIRECTLY.open(urllib.request.Request(address, method="DELETE"), timeout=60).close()


@pytest.mark.timeout(900)
def test_a_blocked_patient_is_recalled_from_folder_7_zip_file_and_pacs(
    open_page: Callable[[bool], Page], tmp_path: Path
) -> None:
    data, folder = tmp_path / "data", tmp_path / "Forschung für alle"
    copy_prepared(data)
    folder.mkdir()
    with (
        running_orthanc("SOURCE", tmp_path / "source") as source,
        running_orthanc("RESEARCH", tmp_path / "archive") as archive,
    ):
        for number in range(1, IMAGES + 1):
            source.put(images.ct(1, number, study=STUDY, PatientID=PATIENT))
            source.put(images.ct(1, number, study=OTHER_STUDY, PatientID=OTHER))
        places = {"source": source.settings, "archive": archive.settings, "folder": str(folder)}
        jobs = prepare(data, places)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "ADIT_DATA": str(data), "PORT": str(port)}
        environment["ADIT_RECEIVER_PORT"] = "0"
        with adit_up(data / "up.log", environment):
            page, scripted = open_page(False), open_page(True)
            for one in (page, scripted):
                sign_in(one, url, "dpo")
            for job in jobs.values():
                wait_for_end(page, f"{url}/jobs/{job}/")
            delivered = {file: dcmread(file).PatientID for file in folder.rglob("*.dcm")}
            assert (len(delivered), archive.count()) == (2 * IMAGES, IMAGES)
            assert list((data / "archives").glob("*.7z"))

            page.goto(f"{url}/block-list/new/")
            page.get_by_label("Patient ID").fill(PATIENT)
            page.get_by_label("Reason").fill("consent withdrawn")
            page.get_by_role("button", name="Block the patient").click()
            page.get_by_role("link", name=f"Recall {PATIENT}").click()
            expect(page.get_by_text("The 7-Zip file is deleted.")).to_be_visible()
            scripted.goto(page.url)
            check_in_both_schemes(scripted)
            page.get_by_label("Reason").fill("consent withdrawn")
            page.get_by_role("button", name="Recall and delete").click()
            wait_for_states(
                page,
                {
                    "Research folder": "deleted and checked",
                    "7-Zip": "deleted and checked",
                    "Research PACS": "still at the destination",
                },
            )

            scripted.goto(page.url)
            check_in_both_schemes(scripted)
            left = {dcmread(file).PatientID for file in folder.rglob("*.dcm")}
            assert len(left) == 1
            assert len(list(folder.rglob("*.dcm"))) == IMAGES
            assert not list((data / "archives").glob("*.7z"))
            (listed,) = folder.rglob("contents-*.csv")
            assert listed.read_text("utf-8-sig").count(".dcm") == IMAGES

            with page.expect_download() as download:
                page.get_by_role("button", name="List of images (CSV)").click()
            text = Path(download.value.path()).read_text("utf-8-sig")
            rows = [
                row
                for row in csv.DictReader(io.StringIO(text))
                if row["destination"] == "Research PACS"
            ]
            at_pacs = {dcmread(io.BytesIO(file)).SOPInstanceUID for file in archive.files()}
            assert {row["image_uid"] for row in rows} == at_pacs

            delete_all(archive)
            page.get_by_role("button", name="Try again and check now").click()
            wait_for_states(page, {"Research PACS": "no longer at the destination"})
