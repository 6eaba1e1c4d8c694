"""Encrypted 7-Zip files: order, download, killed workers; the password is never stored."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import images
import pytest
from conftest import DIRECTLY, sign_in, wait_until
from orthanc import needs_chromium, needs_orthanc
from playwright.sync_api import Page, expect
from pydicom import dcmread
from test_accessibility import findings
from test_transfer import TransferSite, order, transfer_site, wait_for_end, workers_of  # noqa: F401

needs_7z = pytest.mark.skipif(shutil.which("7z") is None, reason="7z is not installed")
pytestmark = [needs_orthanc, needs_chromium, needs_7z]

SEVEN_ZIP = "Encrypted 7-Zip file"
PASSWORD = f"Four#Words&{os.getpid()}-Signs"
"""Of its own in each test process, since `Watch` looks at the processes of all."""


def seven_zip(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["7z", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def order_archive(page: Page, url: str, project: str, patient_id: str, password: str) -> None:
    """Order a 7-Zip file, from the search to the start."""
    order(page, url, project, patient_id, to=SEVEN_ZIP)
    page.fill("#archive_password", password)
    page.fill("#archive_password_again", password)
    page.check("#archive_kept")
    page.click("#start")


def unpacked(path: Path, folder: Path) -> dict[str, Path]:
    """Unpack a 7-Zip file; return its DICOM files by SOP Instance UID."""
    done = seven_zip("x", f"-p{PASSWORD}", f"-o{folder}", path)
    assert done.returncode == 0, done.stdout
    return {str(dcmread(p).SOPInstanceUID): p for p in folder.rglob("*.dcm")}


class Watch:
    """Search the command lines and environments of all processes for a word, in a thread."""

    def __init__(self, word: str) -> None:
        self.word = word.encode()
        self.seen: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        if self.word in (folder / name).read_bytes():
                            self.seen.append(f"{folder.name}/{name}")
                    except OSError:
                        continue


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("javascript", "project"),
    [(True, "LUNG-JS"), (False, "LUNG-PLAIN")],
    ids=["with JavaScript", "without JavaScript"],
)
def test_an_ordered_7_zip_file_contains_all_delivered_images(
    transfer_site: TransferSite,  # noqa: F811
    open_page: Callable[[bool], Page],
    tmp_path: Path,
    javascript: bool,
    project: str,
) -> None:
    page = open_page(javascript)
    sign_in(page, transfer_site.url, "coordinator")
    with Watch(PASSWORD) as watch:
        order_archive(page, transfer_site.url, project, images.PATIENT_ID, PASSWORD)
        job = wait_for_end(page, transfer_site.url)
    assert PASSWORD not in page.content()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)

    assert path.name == f"job-{job}.7z"
    assert seven_zip("t", f"-p{PASSWORD}", path).returncode == 0
    listed = seven_zip("l", "-pnot-the-password", path)
    assert "Cannot open encrypted archive" in listed.stdout + listed.stderr
    assert ".dcm" not in listed.stdout + listed.stderr
    found = unpacked(path, tmp_path / "out")
    ledger = transfer_site.ledger(job)
    ends = {
        uid: entry["state"]
        for manifest in ledger["manifests"]
        for uid, entry in manifest["instances"].items()
    }
    assert sorted(found) == sorted(
        ledger["out"][u] for u, end in ends.items() if end == "delivered"
    )
    text = (tmp_path / "out" / f"contents-job-{job}.csv").read_text()
    for row in csv.DictReader(io.StringIO(text)):
        if row["outcome"] == "delivered":
            content = found[row["instance_uid"]].read_bytes()
            assert row["sha256"] == sha256(content).hexdigest()
            assert int(row["size_bytes"]) == len(content)
        for secret in images.IDENTIFYING:
            assert secret not in str(row)
    assert watch.seen == []
    assert places_of(PASSWORD, transfer_site.data) == []


def places_of(word: str, folder: Path) -> list[str]:
    """Files below the folder that contain the word (database, broker, logs, all others)."""
    words = [word.encode(), word.encode("utf-16-le"), word.encode().hex().encode()]
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(one in path.read_bytes() for one in words)
    ]


@pytest.mark.timeout(900)
def test_a_weak_password_is_rejected_with_a_message(
    transfer_site: TransferSite,  # noqa: F811
    open_page: Callable[[bool], Page],
) -> None:
    page = open_page(False)
    sign_in(page, transfer_site.url, "coordinator")
    order_archive(page, transfer_site.url, "LUNG-JS", images.PATIENT_ID, "Passwort2026")

    expect(page.locator("[role=alert]")).to_contain_text("too easy to guess")
    assert page.input_value("#archive_password") == "Passwort2026"
    assert "/summary/" in page.url


@pytest.mark.timeout(900)
def test_a_download_can_be_resumed_and_aborted_ones_release_threads(
    transfer_site: TransferSite,  # noqa: F811
    open_page: Callable[[bool], Page],
) -> None:
    page = open_page(True)
    sign_in(page, transfer_site.url, "coordinator")
    order_archive(page, transfer_site.url, "LUNG-JS", images.LONG_ID, PASSWORD)
    job = wait_for_end(page, transfer_site.url)
    address = page.get_by_role("link", name="Download").get_attribute("href")
    cookie = "; ".join(f"{c['name']}={c['value']}" for c in page.context.cookies())
    path = transfer_site.data / "archives" / f"job-{job}.7z"
    whole = path.read_bytes()

    def fetch(**headers: str) -> tuple[int, bytes, dict[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            f"{transfer_site.url}{address}", headers={"Cookie": cookie, **named}
        )
        try:
            with DIRECTLY.open(request, timeout=60) as answer:
                return answer.status, answer.read(), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, error.read(), dict(error.headers)

    status, first, headers = fetch(Range="bytes=0-99999")
    assert (status, first) == (206, whole[:100_000])
    assert headers["content-range"] == f"bytes 0-99999/{len(whole)}"
    status, rest, _ = fetch(Range="bytes=100000-", If_Range=headers["etag"])
    assert (status, first + rest) == (206, whole)
    assert fetch(Range="bytes=-7")[1] == whole[-7:]
    assert fetch(Range="bytes=5-", If_Range='"another"')[:2] == (200, whole)
    assert fetch(Range=f"bytes={len(whole)}-")[0] == 416
    assert fetch(Range="lines=1-2")[:2] == (200, whole)

    with path.open("ab") as file:  # larger than all buffers on the way
        file.truncate(200_000_000)
    before = peak_mb(transfer_site)
    assert len(fetch()[1]) == 200_000_000
    assert peak_mb(transfer_site) - before < 50
    for _ in range(12):
        gone_in_the_middle(transfer_site.url, str(address), cookie)
    wait_until(lambda: fetch(Range="bytes=0-0")[0] == 206, "downloads that broke off are over", 60)


def peak_mb(transfer_site: TransferSite) -> float:  # noqa: F811
    """Peak memory of the web process in MB."""
    mark, peaks = f"ADIT_DATA={transfer_site.data}".encode(), [0.0]
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_ours = mark in (folder / "environ").read_bytes().split(b"\0")
            if is_ours and b"granian" in (folder / "cmdline").read_bytes():
                (line,) = re.findall(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
                peaks.append(int(line) / 1000)
    assert max(peaks) > 0
    return max(peaks)


def gone_in_the_middle(url: str, address: str, cookie: str) -> None:
    """Start a download and abort it after the first bytes."""
    request = urllib.request.Request(f"{url}{address}", headers={"Cookie": cookie})
    with suppress(urllib.error.HTTPError), DIRECTLY.open(request, timeout=60) as answer:
        answer.read(1000)


PHASES = {
    "gathering": lambda now: len(list((now.data / "gathered").rglob("*.dcm"))) >= 20,
    "packing": lambda now: bool(drafts(now)),
    "testing": lambda now: any(starts(path) for path in drafts(now)),
    "shown": lambda now: bool(new_archives(now)),
}
"""Phases in which the workers are killed, detected by files on the disk."""

known: set[str] = set()


def drafts(transfer_site: TransferSite) -> list[Path]:  # noqa: F811
    return list((transfer_site.data / "archives").glob(".adit-*"))


def starts(path: Path) -> bool:
    """Whether the signature is present; it is written last, just before the test."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"7z"
    except OSError:
        return False


def new_archives(transfer_site: TransferSite) -> set[str]:  # noqa: F811
    return {path.name for path in (transfer_site.data / "archives").glob("*.7z")} - known


@pytest.mark.timeout(900)
@pytest.mark.parametrize("phase", PHASES)
def test_the_7_zip_file_is_complete_after_workers_were_killed_in_a_phase(
    transfer_site: TransferSite,  # noqa: F811
    open_page: Callable[[bool], Page],
    tmp_path: Path,
    phase: str,
) -> None:
    page = open_page(True)
    sign_in(page, transfer_site.url, "coordinator")
    assert transfer_site.up is not None
    workers = workers_of(transfer_site.up.pid)
    known.update(path.name for path in (transfer_site.data / "archives").glob("*.7z"))

    def kill() -> None:
        wait_until(lambda: PHASES[phase](transfer_site), f"{phase} starts", 180, pause_s=0.001)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as beside_the_page:
        killed = beside_the_page.submit(kill)
        order_archive(page, transfer_site.url, "LUNG-KILL", images.LONG_ID, PASSWORD)
    killed.result()
    job = wait_for_end(page, transfer_site.url, seconds=120)

    found = unpacked(transfer_site.data / "archives" / f"job-{job}.7z", tmp_path / "out")
    ledger = transfer_site.ledger(job)
    assert sorted(found) == sorted(ledger["out"].values())
    assert len(found) == images.LONG
    assert new_archives(transfer_site) == {f"job-{job}.7z"}
    assert not list((transfer_site.data / "gathered").rglob("*.dcm"))


@pytest.mark.timeout(900)
def test_pages_of_7_zip_files_are_accessible(
    transfer_site: TransferSite,  # noqa: F811
    open_page: Callable[[bool], Page],
) -> None:
    page = open_page(True)
    sign_in(page, transfer_site.url, "coordinator")
    found: dict[str, list[str]] = {}
    pictures = os.environ.get("ADIT_PICTURES")

    def look(step: str) -> None:
        for colours in ("light", "dark"):
            page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
            rules = ("color-contrast",) if colours == "dark" else ()
            found[f"{step}, {colours}"] = findings(page, *rules)
            if pictures:
                page.screenshot(path=f"{pictures}/{step}-{colours}.png", full_page=True)

    order(page, transfer_site.url, "LUNG-JS", images.PATIENT_ID, to=SEVEN_ZIP)
    look("summary")
    page.fill("#archive_password", PASSWORD)
    page.fill("#archive_password_again", PASSWORD)
    page.check("#archive_kept")
    page.click("#start")
    job = wait_for_end(page, transfer_site.url)
    look("job")
    page.goto(f"{transfer_site.url}/jobs/downloads/")
    look("downloads")
    page.goto(f"{transfer_site.url}/jobs/{job}/password/retry/")
    look("password")
    page.goto(f"{transfer_site.url}/help/archives")
    look("help")
    assert {step: errors for step, errors in found.items() if errors} == {}
