"""Selective transfer in the browser, compared with the images at the destination."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import images
import pydicom
import pytest
from conftest import ROOT, SCREEN, SUCCESS, adit_up, free_port, sign_in, wait_until
from lab.prepared import copy_prepared
from orthanc import Orthanc, needs_chromium, needs_orthanc, running_orthanc
from playwright.sync_api import Page, expect
from test_accessibility import findings

pytestmark = [needs_orthanc, needs_chromium]

SOURCE, DESTINATION, SILENT = "Source PACS", "Research PACS", "Silent PACS"

SOON = {"ADIT_RECEIVER_PORT": "0", "ADIT_LEASE_S": "12", "ADIT_BEAT_S": "3", "ADIT_SWEEP_S": "3"}
"""Short leases, so that lost workers are detected quickly."""


@dataclass(frozen=True)
class TransferSite:
    url: str
    data: Path
    source: Orthanc
    destination: Orthanc
    up: "subprocess.Popen[bytes] | None" = None
    settings: Mapping[str, str] = field(default_factory=dict)

    def ledger(self, job: int) -> dict[str, Any]:
        return dict(run_transfer_site(self.data, "ledger", str(job), self.settings))


def run_transfer_site(
    data: Path, verb: str, argument: str, settings: Mapping[str, str] | None = None
) -> Any:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("transfer_commands.py")), verb, argument],
        cwd=ROOT,
        env={**os.environ, "ADIT_DATA": str(data), "PYTHONPATH": str(ROOT), **(settings or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def transfer_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransferSite]:
    """ADIT started by `adit up`, with a source, a destination and an archive that never answers."""
    folder = tmp_path_factory.mktemp("transfer_site")
    data = folder / "data"
    copy_prepared(data)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running_orthanc("SOURCE", folder / "source") as source,
        running_orthanc("RESEARCH", folder / "destination") as destination,
    ):
        for file in images.study() + images.long_study():
            source.put(file)
        deaf = {**source.settings, "port": silent.getsockname()[1]}
        nodes = {SOURCE: source.settings, DESTINATION: destination.settings, SILENT: deaf}
        run_transfer_site(data, "make", json.dumps(nodes))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "ADIT_DATA": str(data), "PORT": str(port), **SOON}
        with adit_up(data / "up.log", environment) as up:
            yield TransferSite(url, data, source, destination, up)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("javascript", "project", "pseudonym"),
    [(True, "LUNG-JS", "LUNG-0001"), (False, "LUNG-PLAIN", "")],
    ids=["with JavaScript", "without JavaScript"],
)
def test_a_selective_transfer_delivers_each_image_of_a_study(
    transfer_site: TransferSite,
    open_page: Callable[[bool], Page],
    javascript: bool,
    project: str,
    pseudonym: str,
) -> None:
    page = open_page(javascript)
    sign_in(page, transfer_site.url, "coordinator")
    order(page, transfer_site.url, project, images.PATIENT_ID, pseudonym)
    expect(page.locator("main")).to_contain_text("1 image")
    expect(page.locator("main")).to_contain_text("withheld")
    page.click("#start")
    job = wait_for_end(page, transfer_site.url)
    found = compare(transfer_site, job, project, withheld={f"{images.STUDY}.99.1"})
    assert len(found) == 36
    assert pseudonym in ("", found[0].PatientID)
    assert images.PATIENT_ID not in page.url


@pytest.mark.timeout(900)
def test_pages_of_a_selective_transfer_are_accessible(
    transfer_site: TransferSite, open_page: Callable[[bool], Page]
) -> None:
    """Check axe rules in both color schemes and the width at 200 % zoom."""
    page = open_page(True)
    found: dict[str, list[str]] = {}

    def look(step: str) -> None:
        for colours in ("light", "dark"):
            page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
            rules = ("color-contrast",) if colours == "dark" else ()
            found[f"{step}, {colours}"] = findings(page, *rules)
        page.set_viewport_size({"width": 683, "height": 384})
        width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        found[f"{step}, narrow"] = [f"{width} px too wide"] if width > 0 else []
        page.set_viewport_size(SCREEN)

    sign_in(page, transfer_site.url, "coordinator")
    page.goto(f"{transfer_site.url}/jobs/new/selective/")
    page.click("#search-button")
    expect(page.locator("#search_all_error")).to_be_visible()
    look("a search that asks for nothing")
    page.get_by_label("Patient ID", exact=True).fill(images.PATIENT_ID)
    page.click("#search-button")
    page.click("#expand-0")
    expect(page.locator(".series-list")).to_be_visible()
    look("found and opened")
    page.check("#tick-0")
    page.click("#add-button")
    page.fill("#basket input[name^=pseudonym_]", "not allowed")
    page.click("#summary-button")
    expect(page.locator("#basket .field-error")).to_be_visible()
    look("basket with an error")
    page.fill("#basket input[name^=pseudonym_]", "")
    page.get_by_label(DESTINATION).check()
    page.click("#summary-button")
    page.wait_for_url("**/summary/**")
    look("summary")
    page.click("#start")
    wait_for_end(page, transfer_site.url)
    look("job")
    page.click("#job-live tbody a")
    expect(page.locator("#task-live")).to_be_visible()
    look("study")
    assert {step: errors for step, errors in found.items() if errors} == {}


def test_a_slow_search_can_be_canceled(
    transfer_site: TransferSite, open_page: Callable[[bool], Page]
) -> None:
    page = open_page(True)
    sign_in(page, transfer_site.url, "lonely")
    page.goto(f"{transfer_site.url}/jobs/new/selective/")
    page.get_by_label("Patient ID", exact=True).fill(images.PATIENT_ID)
    expect(page.locator("#cancel-button")).to_be_hidden()
    page.click("#search-button")
    page.click("#cancel-button")
    expect(page.locator("#results")).to_contain_text("canceled")
    expect(page.locator("#id_patient_id")).to_have_value(images.PATIENT_ID)
    expect(page.locator("#cancel-button")).to_be_hidden()


def test_an_archive_that_does_not_answer_is_reported(
    transfer_site: TransferSite, open_page: Callable[[bool], Page]
) -> None:
    page = open_page(False)
    sign_in(page, transfer_site.url, "lonely")
    page.goto(f"{transfer_site.url}/jobs/new/selective/")
    page.get_by_label("Patient ID", exact=True).fill(images.PATIENT_ID)
    page.click("#search-button", timeout=180_000)
    expect(page.locator("#results")).to_contain_text(f"{SILENT} did not respond", timeout=180_000)


@pytest.mark.timeout(900)
def test_a_job_completes_after_its_worker_was_killed(
    transfer_site: TransferSite, open_page: Callable[[bool], Page]
) -> None:
    """Kill the worker between two images; each image must be delivered exactly once."""
    page = open_page(True)
    sign_in(page, transfer_site.url, "coordinator")
    order(page, transfer_site.url, "LUNG-KILL", images.LONG_ID)
    before = transfer_site.destination.count()
    assert transfer_site.up is not None
    workers = workers_of(transfer_site.up.pid)

    def kill() -> int:
        wait_until(lambda: transfer_site.destination.count() >= before + 20, "the first images")
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        return transfer_site.destination.count() - before

    with ThreadPoolExecutor(1) as beside_the_page:
        arrived = beside_the_page.submit(kill)
        page.click("#start")
    assert arrived.result() < images.LONG, "the transfer finished before the worker was killed"
    job = wait_for_end(page, transfer_site.url, seconds=120)
    found = compare(transfer_site, job, "LUNG-KILL")
    assert len(found) == images.LONG
    assert transfer_site.ledger(job)["attempts"] == [2]


def workers_of(supervisor: int) -> list[int]:
    """PIDs of the worker processes of this supervisor."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == supervisor and b"worker" in words:
            found.append(int(folder.name))
    assert found
    return found


def order(
    page: Page, url: str, project: str, patient_id: str, pseudonym: str = "", to: str = DESTINATION
) -> None:
    """Search and select a study and open the summary."""
    page.goto(f"{url}/jobs/new/selective/")
    page.get_by_label("Patient ID", exact=True).fill(patient_id)
    page.click("#search-button")
    expect(page.locator("#study-0")).to_contain_text(patient_id)
    expect(page.locator("#study-0")).to_contain_text("Mustermann, Änne")
    page.click("#expand-0")
    expect(page.locator(".series-list li").first).to_be_visible()
    page.check("#tick-0")
    page.click("#add-button")
    expect(page.locator("#basket")).to_contain_text("all series")
    if pseudonym:
        page.fill("#basket input[name^=pseudonym_]", pseudonym)
    page.get_by_label(to).check()
    page.get_by_label("Research project").select_option(label=project)
    page.click("#summary-button")
    page.wait_for_url("**/summary/**")
    assert patient_id not in page.title()


def wait_for_end(page: Page, url: str, seconds: float = 60) -> int:
    """Wait on the job's page until the job is complete; return its ID."""
    page.wait_for_url(re.compile(rf"{url}/jobs/\d+/$"))
    expect(page.locator("#job-state")).to_contain_text(SUCCESS, timeout=seconds * 1000)
    return int(page.url.rstrip("/").rsplit("/", 1)[1])


def compare(
    transfer_site: TransferSite, job: int, project: str, withheld: Iterable[str] = ()
) -> list[pydicom.FileDataset]:
    """Compare the images at the destination with the ledger and return them."""
    ledger = transfer_site.ledger(job)
    assert ledger["state"] == "success", ledger["message"]
    ends = {
        uid: entry["state"]
        for manifest in ledger["manifests"]
        for uid, entry in manifest["instances"].items()
    }
    expected = {uid for manifest in ledger["manifests"] for uid in manifest["expected"]}
    assert set(ends) == expected
    assert {uid for uid, end in ends.items() if end == "withheld"} == set(withheld)
    sent = expected - set(withheld)
    assert {ends[uid] for uid in sent} == {"delivered"}
    there = [file for file in transfer_site.destination.files() if is_of(file, project)]
    found = [pydicom.dcmread(BytesIO(file)) for file in there]
    names = [ds.SOPInstanceUID for ds in found]
    assert sorted(names) == sorted(ledger["out"][uid] for uid in sent)
    assert len({ds.PatientID for ds in found}) == 1
    for file, ds in zip(there, found, strict=True):
        assert ds.PatientID == str(ds.PatientName)
        assert ds.Modality == "CT"
        for text in images.IDENTIFYING:
            assert text.encode("latin-1") not in file
            assert text.encode("utf-8") not in file
    return found


def is_of(file: bytes, project: str) -> bool:
    ds = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
    return bool(ds.get("ClinicalTrialProtocolID") == project)
