"""OHIF, unchanged, shows studies of a PACS that only offers C-FIND and C-MOVE."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from lab import ohif, samples
from lab.installed import Installed
from lab.peers import needs_orthanc, orthanc, wait_until
from lab.ports import free_port
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from adit_engine.values.instance import Instance

CHROMIUM = "/usr/bin/chromium"
SOFTWARE_GL = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
SOFTWARE_GL += ["--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]

pytestmark = [
    needs_orthanc,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is missing"),
    pytest.mark.timeout(900),
]

IMAGES = 400
FRAMES = 24
SIZE = 128
CT, CLIP = f"{samples.ROOT}.1", f"{samples.ROOT}.2"
MULTI_FRAME_GRAYSCALE = "1.2.840.10008.5.1.4.1.1.7.2"
WAIT_MS = 100_000


@dataclass(frozen=True)
class Viewer:
    address: str
    token: str

    def open(self, page: Page, path: str, **parameters: str) -> None:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        page.goto(f"{self.address}/{path}?{query}")


def make_images() -> Iterator[Instance]:
    today = f"{date.today():%Y%m%d}"
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    for number in range(1, IMAGES + 1):
        pixels = (800 + 4 * rows + number).astype("<u2").tobytes()
        shape = {"Rows": SIZE, "Columns": SIZE, "PixelData": pixels, "StudyDate": today}
        shape |= {"WindowCenter": "300", "WindowWidth": "1500"}
        yield samples.instance(samples.ct(number, **shape))
    frames = [(columns + 4 * number).astype(np.uint8).tobytes() for number in range(FRAMES)]
    other = {"StudyDate": "20200505", "PatientName": "Schmidt^Eva", "PatientID": "OTHER-7"}
    clip = samples.ct(1, study="2", SOPClassUID=MULTI_FRAME_GRAYSCALE, **other)
    clip.Modality, clip.NumberOfFrames = "OT", FRAMES
    clip.BitsAllocated, clip.BitsStored, clip.HighBit = 8, 8, 7
    clip.Rows = clip.Columns = SIZE
    clip.PixelData = b"".join(frames)
    yield samples.instance(clip)


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    found = ohif.fetch_ohif()
    if isinstance(found, str):
        pytest.skip(f"OHIF is missing: {found}")
    folder = tmp_path_factory.mktemp("ohif")
    port, receiver, web = free_port(), free_port(), free_port()
    settings = {
        "ADIT_DICOMWEB_PORT": str(port),
        "ADIT_RECEIVER_PORT": str(receiver),
        "ADIT_API_ORIGINS": f"http://127.0.0.1:{web}",
    }
    installed = Installed(folder / "adit", settings)
    only_move = {
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowMove": True,
        "DicomModalities": {"adit": ["ADIT", "127.0.0.1", receiver]},
    }
    with orthanc(folder / "orthanc", "PACS1", **only_move) as pacs:
        assert all(one.is_stored for one in pacs.node().store(make_images()))
        installed.prepare()
        installed.do("add-pacs", "PACS1", str(pacs.port), "4", "move")
        token = installed.do("add-viewer-token").strip()
        root = f"http://127.0.0.1:{port}/api/dicom-web/PACS1"
        with (
            installed.running("receiver", "dicomweb"),
            ohif.serving(found, web, root) as address,
        ):
            wait_until(lambda: answers(f"http://127.0.0.1:{port}/healthz"), "adit dicomweb", 150)
            yield Viewer(address, token)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def page(viewer: Viewer) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SOFTWARE_GL)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.set_default_timeout(WAIT_MS)
        page.add_locator_handler(page.get_by_text("Skip all"), lambda tour: tour.click())
        page.set_extra_http_headers({"Authorization": f"Bearer {viewer.token}"})
        yield page
        browser.close()


def show_last(page: Page, count: int) -> None:
    """Scroll to the last image and wait until the viewer names it."""
    viewport = page.locator(".cornerstone-canvas").first
    expect(page.get_by_text(f"1/{count}").first).to_be_visible(timeout=WAIT_MS)
    viewport.hover()
    page.keyboard.press("End")
    expect(page.get_by_text(f"{count}/{count}").first).to_be_visible(timeout=WAIT_MS)


def brightness(page: Page) -> float:
    """Return the mean of the pixels around the centre of the image; black is 0."""
    content = page.locator(".cornerstone-canvas").first.screenshot()
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    rows, columns = (length // 2 for length in pixels.shape)
    return float(pixels[rows - 40 : rows + 40, columns - 40 : columns + 40].mean())


def shows_only(page: Page, name: str, other: str) -> None:
    expect(page.get_by_text(name).first).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_text(other)).to_have_count(0, timeout=WAIT_MS)
    expect(page.get_by_text(name).first).to_be_visible(timeout=WAIT_MS)


def fill_filter(page: Page, name: str, text: str) -> None:
    column = f'[data-cy="input-{name}"]'
    page.locator(f"input{column}, {column} input").first.fill(text)


def test_the_filters_of_ohif_find_by_name_id_date_and_modality(viewer: Viewer, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(unquote(request.url)))
    viewer.open(page, "")
    for name in ("Mustermann", "Schmidt"):
        expect(page.get_by_text(name).first).to_be_visible(timeout=WAIT_MS)

    for field, text in (("patientName", "schm"), ("mrn", "OTHER-7")):
        fill_filter(page, field, text)
        shows_only(page, "Schmidt", "Mustermann")
        fill_filter(page, field, "")
        expect(page.get_by_text("Mustermann").first).to_be_visible(timeout=WAIT_MS)

    modality = page.locator("#input-modalities")
    for wanted, shown, hidden in (("OT", "Schmidt", "Mustermann"), ("CT", "Mustermann", "Schmidt")):
        modality.fill(wanted)
        page.locator(f"label#{wanted}").click()
        page.keyboard.press("Escape")
        shows_only(page, shown, hidden)
        page.get_by_text("Clear filters").click()
        expect(page.get_by_text(hidden).first).to_be_visible(timeout=WAIT_MS)

    year = f"{date.today():%Y}"
    for first, last, shown, hidden in (
        ("2020-05-01", "2020-05-05", "Schmidt", "Mustermann"),
        (f"{year}-01-01", f"{year}-12-31", "Mustermann", "Schmidt"),
    ):
        for field, day in (("start", first), ("end", last)):
            fill_filter(page, f"date-range-{field}", day)
            page.wait_for_url(f"**{field}Date={day.replace('-', '')}*")
        page.keyboard.press("Escape")
        shows_only(page, shown, hidden)
        page.get_by_text("Clear filters").click()
        expect(page.get_by_text(hidden).first).to_be_visible(timeout=WAIT_MS)
    for wanted in ("ModalitiesInStudy=OT", "StudyDate=20200501-20200505"):
        assert any(wanted in url for url in asked), "the viewer does not filter itself"


@pytest.mark.parametrize(("study", "count"), [(CT, IMAGES), (CLIP, FRAMES)], ids=["CT", "clip"])
def test_ohif_opens_and_scrolls_a_study_of_a_pacs_with_c_move(
    viewer: Viewer, page: Page, study: str, count: int
) -> None:
    viewer.open(page, "viewer", StudyInstanceUIDs=study)

    show_last(page, count)
    wait_until(lambda: brightness(page) > 20, "the last picture", 60)
