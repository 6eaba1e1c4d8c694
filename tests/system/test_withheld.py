"""Review of a withheld ultrasound: a reviewer masks the device, the owner retries the job."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import images
import numpy as np
import pydicom
import pytest
from conftest import ROOT, adit_up, free_port, sign_in, wait_until
from lab.prepared import copy_prepared
from orthanc import Orthanc, needs_chromium, needs_orthanc, running_orthanc
from playwright.sync_api import Page, expect
from pydicom.dataset import Dataset
from test_accessibility import findings
from withheld_data import PATIENTS, STUDIES

pytestmark = [needs_orthanc, needs_chromium]

SLICES = 2
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.3.1"


@dataclass(frozen=True)
class Place:
    url: str
    archive: Orthanc
    folder: Path
    jobs: dict[str, int]

    def delivered(self, project: str) -> list[Dataset]:
        """Images at the destination of the job."""
        if project == "LUNG-JS":
            return [pydicom.dcmread(BytesIO(file)) for file in self.archive.files()]
        return [pydicom.dcmread(path) for path in sorted(self.folder.rglob("*.dcm"))]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """ADIT started by `adit up` with two jobs, one with a compressed and one with a plain clip."""
    base = tmp_path_factory.mktemp("withheld")
    data, folder = base / "data", base / "research"
    copy_prepared(data)
    folder.mkdir()
    with (
        running_orthanc("SOURCE", base / "source") as source,
        running_orthanc("RESEARCH", base / "archive") as archive,
    ):
        for project, study in STUDIES.items():
            for number in range(1, SLICES + 1):
                source.put(images.ct(1, number, study=study, PatientID=PATIENTS[project]))
            clip = images.clip(study, compressed=project == "LUNG-JS", patient_id=PATIENTS[project])
            source.put(clip)
        places = {"source": source.settings, "archive": archive.settings, "folder": str(folder)}
        jobs = _staged(data, places)
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "ADIT_DATA": str(data), "PORT": str(port)}
        environment["ADIT_RECEIVER_PORT"] = "0"
        with adit_up(data / "up.log", environment):
            yield Place(url, archive, folder, jobs)


def _staged(data: Path, places: dict[str, object]) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("withheld_data.py")), json.dumps(places)],
        cwd=ROOT,
        env={**os.environ, "ADIT_DATA": str(data), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("javascript", "project"),
    [(True, "LUNG-JS"), (False, "LUNG-PLAIN")],
    ids=["with JavaScript", "without JavaScript"],
)
def test_a_masked_ultrasound_is_delivered_into_its_study_by_a_retry(
    place: Place, open_page: Callable[[bool], Page], javascript: bool, project: str
) -> None:
    owner, reviewer = open_page(javascript), open_page(javascript)
    sign_in(owner, place.url, "coordinator")
    job = f"{place.url}/jobs/{place.jobs[project]}/"
    _until(owner, job, "Delivered as ordered, 1 withheld")
    before = {ds.SOPInstanceUID: ds.PixelData for ds in place.delivered(project)}
    assert len(before) == SLICES
    assert owner.get_by_role("button", name="Retry withheld").count() == 0

    sign_in(reviewer, place.url, "reviewer")
    _find_out(reviewer, place, project)
    reviewer.get_by_role("button", name="Show an image").click()
    (_draw if javascript else _type)(reviewer)
    reviewer.get_by_role("button", name="Preview result").click()
    expect(reviewer.get_by_role("heading", name="Preview")).to_be_visible()
    assert reviewer.locator(".shots img").count() == images.CLIP_FRAMES
    if javascript:
        assert not findings(reviewer)
    reviewer.get_by_label("Reason").fill("it writes the name at the top")
    reviewer.get_by_role("button", name="Mask").click()
    expect(reviewer.get_by_text("can now retry the withheld images")).to_be_visible()

    owner.goto(job)
    owner.get_by_role("button", name="Retry withheld").click()
    _until(owner, job, "complete")
    wait_until(lambda: len(place.delivered(project)) == SLICES + 1, "the clip at the destination")
    made = place.delivered(project)
    assert len({ds.StudyInstanceUID for ds in made}) == 1
    (clip,) = (ds for ds in made if ds.SOPClassUID == ULTRASOUND)
    assert all(ds.PixelData == before[ds.SOPInstanceUID] for ds in made if ds is not clip)
    _check_pixels(clip)


def _until(page: Page, address: str, state: str) -> None:
    def ended() -> bool:
        page.goto(address)
        return page.locator("#job-state").inner_text().strip() == state

    wait_until(ended, f"the job is {state}", 180)


def _find_out(page: Page, place: Place, project: str) -> None:
    """Detect the devices and open the group of this project's clip."""
    page.goto(f"{place.url}/jobs/withheld/")
    card = page.locator(".sheet-card", has_text=project)
    card.get_by_role("button", name="Detect devices").click()
    expect(page.get_by_text("The devices are detected.")).to_be_visible()
    page.locator(".sheet-card", has_text=project).get_by_role("link", name="Sonomaker S9").click()


def _draw(page: Page) -> None:
    image = page.locator("[data-mask-board] img")
    wait_until(lambda: bool(image.evaluate("each => each.naturalWidth")), "the image is shown")
    box = image.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.2, box["y"] + 0.2)
    page.mouse.down()
    down = box["y"] + box["height"] * images.CLIP_BAND / images.CLIP_ROWS
    page.mouse.move(box["x"] + box["width"], down, steps=4)
    page.mouse.up()
    typed = [
        page.locator(f"[name=r-0-{name}]").input_value()
        for name in ("left", "top", "width", "height")
    ]
    assert typed == ["0", "0", str(images.CLIP_COLUMNS), str(images.CLIP_BAND)]
    assert page.locator(".mask-box").count() == 1


def _type(page: Page) -> None:
    values = {"left": 0, "top": 0, "width": images.CLIP_COLUMNS, "height": images.CLIP_BAND}
    for name, value in values.items():
        page.locator(f"[name=r-0-{name}]").fill(str(value))


def _check_pixels(clip: Dataset) -> None:
    assert clip.file_meta.TransferSyntaxUID in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
    assert clip.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in clip.DeidentificationMethodCodeSequence]
    shape = (images.CLIP_FRAMES, images.CLIP_ROWS, images.CLIP_COLUMNS)
    now, was = np.frombuffer(clip.PixelData, "u1").reshape(shape), images.clip_pixels()
    assert not now[:, : images.CLIP_BAND].any()
    assert (now[:, images.CLIP_BAND :] == was[:, images.CLIP_BAND :]).all()
    assert images.PATIENT_ID not in str(clip)
