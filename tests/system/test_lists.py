"""Batch transfer in the browser: upload, check, approval, delivery, result sheet."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import images
import openpyxl
import pydicom
import pytest
from conftest import ROOT, SCREEN, SUCCESS, adit_up, free_port, sign_in, wait_until
from lab.prepared import copy_prepared
from orthanc import Orthanc, needs_chromium, needs_orthanc, running_orthanc
from playwright.sync_api import Page, expect
from test_accessibility import findings
from test_transfer import workers_of

from adit.spreadsheets.writer import QUERY_RESULT_COLUMNS, add_own_columns
from adit.table_files import write_xlsx

pytestmark = [needs_orthanc, needs_chromium, pytest.mark.timeout(900)]

SOURCE, PACS, FOLDER = "Source PACS", "Research PACS", "Research folder"
SOON = {
    "ADIT_WEBHOOK_NETWORKS": "127.0.0.0/8",
    "ADIT_RECEIVER_PORT": "0",
    "ADIT_LEASE_S": "6",
    "ADIT_BEAT_S": "2",
    "ADIT_SWEEP_S": "2",
    "ADIT_MAX_TRANSFER_ROWS": "3",
    "ADIT_RETRY_PAUSES_S": "1",
}
HIDDEN = "Research folder (folder not shown: its name is the pseudonym)"
SHOWN = "\\\\server\\research\\"
SLOW_KB_S = 1500
"""Rate at which all images take eight seconds."""
ZEROS, TWO = "0000815", "PID-TWO"
SMALL, FIRST, SECOND, DOUBLE = (f"{images.ROOT}.{n}" for n in (3, 4, 5, 6))
COLUMNS = add_own_columns((*QUERY_RESULT_COLUMNS, "ADIT line"), ("My key",))


@dataclass(frozen=True)
class Installation:
    url: str
    data: Path
    pacs: Orthanc
    up: "subprocess.Popen[bytes]"
    env: dict[str, str]

    def told(self, job: int) -> dict[str, Any]:
        return dict(run_commands(self.env, "told", job=job))

    def one(self, query: str) -> Any:
        with closing(sqlite3.connect(self.data / "adit.sqlite3", timeout=60)) as base:
            return base.execute(query).fetchone()[0]

    def files_of(self, project: str) -> dict[str, pydicom.FileDataset]:
        """Files delivered to the folder for a project, by relative path."""
        base = self.data / "folders" / "research"
        return {
            str(path.relative_to(base)): pydicom.dcmread(path)
            for path in (base / project).rglob("*.dcm")
        }


def run_commands(env: dict[str, str], verb: str, **values: Any) -> Any:
    script = str(Path(__file__).with_name("batch_commands.py"))
    done = subprocess.run(
        [sys.executable, script, verb, json.dumps(values)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def held() -> list[bytes]:
    """Files of the source: valid studies, a shared accession number, a study of two patients."""
    small = [
        images.ct(series, n, study=SMALL, PatientID=ZEROS, AccessionNumber="A-3")
        for series in (1, 2)
        for n in range(1, 4)
    ]
    both = [
        images.ct(1, n, study=study, PatientID=TWO, AccessionNumber="A-45", StudyDate=day)
        for study, day, count in ((FIRST, "20240301", 2), (SECOND, "20240302", 5))
        for n in range(1, count + 1)
    ]
    double = [
        images.ct(1, n, study=DOUBLE, PatientID=patient)
        for n, patient in ((1, "PID-X"), (2, "PID-Y"))
    ]
    return [*images.study(), *images.long_study(), *small, *both, *double]


@contextmanager
def running_installation(
    folder: Path, files: Iterable[bytes], **source_lines: Any
) -> Iterator[Installation]:
    """Run `adit up` with a source that holds the files and an empty archive.

    `source_lines` are added to the configuration of the source.
    """
    data = folder / "data"
    copy_prepared(data)
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ADIT_", "DJANGO_"))}
    mine = {"ADIT_DATA": str(data), "PORT": str(port), "PYTHONPATH": str(ROOT), **SOON}
    env = {**kept, **mine}
    with (
        running_orthanc("SOURCE", folder / "source", **source_lines) as source,
        running_orthanc("RESEARCH", folder / "pacs") as pacs,
    ):
        for file in files:
            source.put(file)
        run_commands(env, "make", source=source.settings, pacs=pacs.settings)
        with adit_up(folder / "up.log", env) as up:
            yield Installation(f"http://127.0.0.1:{port}", data, pacs, up, env)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with running_installation(tmp_path_factory.mktemp("lists"), held()) as installation:
        yield installation


def result_of_a_query(folder: Path) -> Path:
    """Sheet as exported by a batch query, with valid, ambiguous, missing and contradictory rows."""

    def row(key: str, **said: str) -> list[str]:
        return [*(said.get(name, "") for name in QUERY_RESULT_COLUMNS), key, f"key {key}"]

    rows = [
        row("2", PatientID=images.PATIENT_ID, StudyInstanceUID=images.STUDY, Pseudonym="0007"),
        row(
            "3",
            PatientID=ZEROS,
            PatientName="Müller^Zoë",
            StudyInstanceUID=SMALL,
            SeriesInstanceUID=f"{SMALL}.2",
            Pseudonym="0008",
        ),
        row("4", AccessionNumber="A-45"),
        row("5", PatientID="PID-X", StudyInstanceUID=DOUBLE),
        row("6", PatientID="PID-NONE", StudyInstanceUID=f"{images.ROOT}.404"),
        row("7", PatientID="PID-WRONG", StudyInstanceUID=FIRST),
        row("8", PatientID=images.LONG_ID, StudyInstanceUID=images.LONG_STUDY),
    ]
    path = folder / "query result.xlsx"
    with path.open("wb") as file:
        write_xlsx(COLUMNS, rows, file)
    return path


def order(
    page: Page, url: str, sheet: Path, project: str, *destinations: str, password: str = ""
) -> None:
    """Upload and order a list; the password is for a 7-Zip file as destination."""
    page.goto(f"{url}/jobs/new/transfer/")
    page.set_input_files("#id_sheet", sheet)
    page.click("main button:has-text('Upload')")
    expect(page.locator("#rows")).to_contain_text("Line")
    page.get_by_label("Fetch from").select_option(label=SOURCE)
    for name in destinations:
        page.get_by_label(name).check()
    page.get_by_label("Research project").select_option(label=project)
    if password:
        page.locator("#rows .card-footer button[value='page:1']").click()
        page.fill("#archive_password", password)
        page.fill("#archive_password_again", password)
        page.check("#archive_kept")
    assert images.PATIENT_ID not in page.url + page.title()
    page.click("#start")
    page.wait_for_url(re.compile(rf"{url}/jobs/\d+/$"))


def number_of(page: Page) -> int:
    return int(page.url.rstrip("/").rsplit("/", 1)[1])


def checked(page: Page, url: str, job: int) -> None:
    """Wait until the check has finished, then open the rows."""
    page.goto(f"{url}/jobs/{job}/")
    expect(page.locator("#job-state")).to_contain_text(
        "waiting for your confirmation", timeout=180_000
    )
    page.get_by_role("link", name="Review the rows and start").click()
    expect(page.locator("#start-form")).to_be_visible()


def result(page: Page, url: str, job: int) -> list[dict[str, str]]:
    """Rows of the result sheet by header; assert that every cell is text."""
    answer = page.request.get(f"{url}/jobs/{job}/result.xlsx")
    assert answer.status == 200
    sheet = openpyxl.load_workbook(BytesIO(answer.body())).active
    assert sheet is not None
    lines = list(sheet.iter_rows())
    assert {c.data_type for line in lines for c in line if c.value is not None} == {"s"}
    names = [str(cell.value) for cell in lines[0]]
    return [dict(zip(names, (str(c.value or "") for c in x), strict=True)) for x in lines[1:]]


@pytest.mark.parametrize(
    ("javascript", "project"),
    [(True, "LISTS-JS"), (False, "LISTS-PLAIN")],
    ids=["with JavaScript", "without JavaScript"],
)
def test_a_batch_transfer_delivers_what_its_result_sheet_lists(
    installation: Installation,
    open_page: Callable[..., Page],
    tmp_path: Path,
    javascript: bool,
    project: str,
) -> None:
    page, other = open_page(javascript), open_page(javascript)
    sign_in(page, installation.url, "coordinator")
    sign_in(other, installation.url, "approver")
    order(page, installation.url, result_of_a_query(tmp_path), project, PACS, FOLDER)
    first = number_of(page)
    jobs = {PACS: first, FOLDER: first + 1}
    for job in jobs.values():
        checked(page, installation.url, job)
        rows = page.locator("#rows")
        for line, words in {
            2: "found",
            4: "Several studies match",
            5: "several patient IDs match",
            6: "No match was found",
            7: "under a different name, birth date or patient ID",
        }.items():
            expect(rows.locator(f"#line-{line}")).to_contain_text(words)
        expect(page.locator("#check_summary")).to_contain_text("Secondary Capture")
        page.locator("#choice-4 input").nth(1).check()
        page.click("#start")
        expect(page.locator("#job-state")).to_contain_text("waiting for approval", timeout=180_000)
        other.goto(f"{installation.url}/jobs/{job}/")
        other.click("main button:has-text('Approve')")
    for job in jobs.values():
        page.goto(f"{installation.url}/jobs/{job}/")
        expect(page.locator("#job-state")).to_contain_text(SUCCESS, timeout=300_000)
        assert installation.told(job)["state"] == "success", installation.told(job)["message"]
    compare_pacs(
        installation,
        project,
        installation.told(jobs[PACS]),
        result(page, installation.url, jobs[PACS]),
    )
    compare_folder(
        installation,
        project,
        installation.told(jobs[FOLDER]),
        result(page, installation.url, jobs[FOLDER]),
    )


EXPECTED = {
    2: ("Delivered as ordered, 1 withheld", "37", "36", "1"),
    3: ("complete", "3", "3", "0"),
    4: ("complete", "5", "5", "0"),
    5: ("two patients", "", "", ""),
    6: ("not found", "", "", ""),
    7: ("not found", "", "", ""),
    8: ("complete", "300", "300", "0"),
}
"""Outcome and numbers of expected, delivered and withheld images, by line."""


def compare_rows(told: dict[str, Any], rows: list[dict[str, str]]) -> None:
    for row in rows:
        line = int(row["ADIT line"])
        names = ("ADIT outcome", "ADIT expected", "ADIT delivered", "ADIT withheld")
        assert tuple(row[name] for name in names) == EXPECTED[line]
        assert len(told["lines"][str(line)]) == int(row["ADIT delivered"] or 0)
        assert row["My key"] == f"key {line}"
    assert [row["Pseudonym"] for row in rows[:3]] == ["0007", "0008", ""]
    assert rows[1]["PatientID"] == ZEROS


def compare_pacs(
    installation: Installation, project: str, told: dict[str, Any], rows: list[dict[str, str]]
) -> None:
    compare_rows(told, rows)
    there = [
        ds
        for file in installation.pacs.files()
        if (ds := pydicom.dcmread(BytesIO(file))).get("ClinicalTrialProtocolID") == project
    ]
    claimed = [uid for line in told["lines"].values() for uid in line]
    assert sorted(ds.SOPInstanceUID for ds in there) == sorted(claimed)
    of_line = {uid: line for line, uids in told["lines"].items() for uid in uids}
    patients = {(of_line[ds.SOPInstanceUID], ds.PatientID) for ds in there}
    assert ("2", "0007") in patients
    assert len(patients) == 4
    assert_clean(there)


def compare_folder(
    installation: Installation, project: str, told: dict[str, Any], rows: list[dict[str, str]]
) -> None:
    compare_rows(told, rows)
    files = installation.files_of(project)
    claimed = [uid for line in told["lines"].values() for uid in line]
    assert sorted(ds.SOPInstanceUID for ds in files.values()) == sorted(claimed)
    by_path = {PurePosixPath(path): ds for path, ds in files.items()}
    for row in rows:
        if not row["ADIT place"]:
            continue
        expected = told["lines"][row["ADIT line"]]
        folders = {at.parent for at, ds in by_path.items() if ds.SOPInstanceUID in expected}
        if row["Pseudonym"]:
            below = PurePosixPath(row["ADIT place"].removeprefix(SHOWN).replace("\\", "/"))
            assert all(below in (folder, *folder.parents) for folder in folders)
        else:  # the folder name is a pseudonym, which the owner may not see next to the patient
            assert row["ADIT place"] == HIDDEN
        mine = [ds.SOPInstanceUID for at, ds in by_path.items() if at.parent in folders]
        assert sorted(mine) == expected
    assert_clean(list(files.values()))


def assert_clean(found: list[pydicom.FileDataset]) -> None:
    for ds in found:
        text = str(ds)
        for value in (*images.IDENTIFYING, ZEROS, TWO, "A-45"):
            assert value not in text


def long_list(folder: Path) -> Path:
    """List with many rows without a match, so that the check takes time, and three matches."""
    path = folder / "long list.csv"
    lines = ["PatientID;StudyInstanceUID;AccessionNumber"]
    lines += [f"PID-{n};;NONE-{n}" for n in range(150)]
    lines += [
        f"{images.PATIENT_ID};{images.STUDY};",
        f"{images.LONG_ID};{images.LONG_STUDY};",
        f"{ZEROS};{SMALL};",
    ]
    path.write_text("\n".join(lines))
    return path


def kill_workers(installation: Installation) -> None:
    for pid in workers_of(installation.up.pid):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.chaos
def test_killing_workers_does_not_change_the_result_of_a_batch_transfer(
    installation: Installation, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """Kill the workers during the check, at the start, and between two images."""
    page = open_page()
    sign_in(page, installation.url, "coordinator")
    ends = {}
    for project, is_calm in (("LISTS-CALM", True), ("LISTS-KILL", False)):
        order(page, installation.url, long_list(tmp_path), project, FOLDER)
        job = number_of(page)
        asked = f"select count(*) from jobs_resultline where job_id = {job} and is_asked"
        if not is_calm:
            wait_until(lambda asked=asked: installation.one(asked) >= 5, "the first rows")
            assert installation.one(asked) < 153, "the check finished before a worker was killed"
            kill_workers(installation)
        checked(page, installation.url, job)
        assert installation.one(asked) == 153
        run_commands(installation.env, "pace", kb_s=0 if is_calm else SLOW_KB_S)
        page.click("#start")
        page.wait_for_url(re.compile(r"/jobs/\d+/$"))
        if not is_calm:
            kill_workers(installation)
            wait_until(lambda: len(installation.files_of("LISTS-KILL")) > 60, "images", 180)
            assert len(installation.files_of("LISTS-KILL")) < 342, (
                "the transfer finished before a worker was killed"
            )
            kill_workers(installation)
            run_commands(installation.env, "pace", kb_s=0)
        expect(page.locator("#job-state")).to_contain_text(SUCCESS, timeout=300_000)
        told = installation.told(job)
        assert told["state"] == "success", told["message"]
        rows = result(page, installation.url, job)
        files = installation.files_of(project)
        claimed = [uid for line in told["lines"].values() for uid in line]
        assert sorted(ds.SOPInstanceUID for ds in files.values()) == sorted(claimed)
        assert_clean(list(files.values()))
        names = [name for name in rows[0] if name != "ADIT place"]
        ends[project] = [[row[name] for name in names] for row in rows], len(files)
        if not is_calm:
            assert max(told["attempts"]) > 1, "no worker was killed during a task"
    assert ends["LISTS-CALM"] == ends["LISTS-KILL"]
    assert ends["LISTS-KILL"][1] == 36 + images.LONG + 6


def test_batch_transfer_pages_are_accessible(
    installation: Installation, open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """Check axe rules in both color schemes and the width at 200 % zoom."""
    page = open_page()
    sign_in(page, installation.url, "coordinator")
    found: dict[str, list[str]] = {}

    def look(step: str) -> None:
        for colours in ("light", "dark"):
            page.emulate_media(color_scheme=colours, reduced_motion="reduce")  # type: ignore[arg-type]
            rules = ("color-contrast",) if colours == "dark" else ()
            found[f"{step}, {colours}"] = findings(page, *rules)
            if "ADIT_PICTURES" in os.environ:
                name = step.replace(" ", "-")
                page.screenshot(
                    path=f"{os.environ['ADIT_PICTURES']}/{name}-{colours}.png", full_page=True
                )
        page.set_viewport_size({"width": 683, "height": 384})
        width = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        found[f"{step}, narrow"] = [f"{width} px too wide"] if width > 0 else []
        page.set_viewport_size(SCREEN)

    page.goto(f"{installation.url}/jobs/new/transfer/")
    look("upload")
    page.set_input_files("#id_sheet", result_of_a_query(tmp_path))
    page.click("main button:has-text('Upload')")
    look("order")
    page.get_by_label(FOLDER).check()
    page.get_by_label("Research project").select_option(label="LISTS-LOOK")
    page.click("#start")
    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    job = number_of(page)
    checked(page, installation.url, job)
    look("checked")
    page.fill("#leave_out", "two")
    page.click("#start")
    expect(page.locator("#trouble")).to_be_visible()
    look("refused")
    page.fill("#leave_out", "8")
    page.fill("#pilot", "1")
    page.click("#start")
    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    expect(page.locator("#job-state")).to_contain_text(
        "waiting for your confirmation", timeout=180_000
    )
    page.get_by_role("link", name="Review the pilot and continue").click()
    look("pilot")
    assert {step: errors for step, errors in found.items() if errors} == {}
