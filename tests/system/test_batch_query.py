"""Batch query in the browser: a mixed sheet of sixty rows, accessibility, killed workers."""

import io
import json
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import images
import openpyxl
import pytest
import xlsxwriter
from conftest import SCREEN, adit_up, free_port, sign_in, wait_until
from lab.prepared import copy_prepared
from lab.wire import Wire
from orthanc import needs_chromium, needs_orthanc, running_orthanc
from playwright.sync_api import Page, expect
from test_accessibility import findings
from test_transfer import DESTINATION, SILENT, SOON, SOURCE, run_transfer_site, workers_of

pytestmark = [needs_orthanc, needs_chromium]

UID = "1.2.826.0.1.3680043.8.498.88"
COLUMNS = (
    "Key",
    "PatientID",
    "PatientName",
    "Geb.-Dat.",
    "AccessionNumber",
    "From",
    "Until",
    "Modality",
    "StudyDescription",
    "SeriesDescription",
    "SeriesNumber",
)
PEOPLE = (
    ("000101", "Müller^Jürgen^Karl", "19640812", "ISO_IR 100"),
    ("000102", "Mueller^Anna^^Dr.", "19640813", "ISO_IR 100"),
    ("000103", "Weiß^Zoë", "19700101", "ISO_IR 192"),
    ("000104", "Yamada^Tarou=山田^太郎=やまだ^たろう", "19800202", ["", "ISO 2022 IR 87"]),
    ("000105", "Sato^Hanako=佐藤^花子", "19810303", "ISO_IR 192"),
    ("000106", "Doe^John", "19500505", "ISO_IR 100"),
    ("000107", "Doe^John", "19500505", "ISO_IR 100"),
)


@dataclass(frozen=True)
class Expected:
    """Query values of a row, with the expected UID suffixes and reason."""

    asks: dict[str, str]
    studies: tuple[str, ...] = ()
    says: str = ""


def rows() -> list[Expected]:
    by_id = [Expected({"PatientID": f"{n:06}"}, (str(n),)) for n in range(1, 21)]
    repeated = {"Müller^Jürgen": 22, "山田^太郎": 30}
    by_name = [
        Expected(
            {"PatientName": name, "Geb.-Dat.": born},
            (uid,),
            f"The row repeats line {repeated[name]}." if name in repeated else "",
        )
        for name, born, uid in (
            ("Müller, Jürgen", "1964-08-12", "101"),
            ("Mueller, Juergen", "12.08.1964", "101"),
            ("MÜLLER, JÜRGEN", "1964-08-12", "101"),
            ("Müller^Jürgen", "19640812", "101"),
            ("Prof. Dr. Müller, Anna", "1964-08-13", "102"),
            ("Mueller, Anna Maria", "1964-08-13", "102"),
            ("Weiß, Zoë", "1970-01-01", "103"),
            ("Weiss, Zoe", "1970-01-01", "103"),
            ("山田, 太郎", "1980-02-02", "104"),
            ("山田^太郎", "1980-02-02", "104"),
            ("Yamada, Tarou", "1980-02-02", "104"),
            ("佐藤, 花子", "1981-03-03", "105"),
            ("Sato, Hanako", "1981-03-03", "105"),
        )
    ]
    by_accession = [Expected({"AccessionNumber": f"ACC{n:04}"}, (str(n),)) for n in range(1, 6)]
    narrowed = [
        Expected({"PatientID": "000001", "Modality": "CT, MR"}, ("1",)),
        Expected({"PatientID": "000001", "Modality": "MR"}, (), "No match was found."),
        Expected({"PatientID": "000002", "StudyDescription": "*THORAX*"}, ("2",)),
        Expected({"PatientID": "000002", "StudyDescription": "abdomen"}, (), "No match was found."),
        Expected({"PatientID": "000003", "From": "2024-01-03", "Until": "03.01.2024"}, ("3",)),
        Expected({"PatientID": "000003", "From": "2024-01-04"}, (), "No match was found."),
        Expected({"PatientID": "000004", "SeriesNumber": "2"}, ("4.2",)),
        Expected({"PatientID": "000004", "SeriesDescription": "thorax ?"}, ("4.1", "4.2")),
    ]
    ambiguous = [
        Expected(
            {"PatientName": "Doe, John", "Geb.-Dat.": "1950-05-05"},
            ("106", "107"),
            "Studies of several",
        )
    ]
    strangers = [
        Expected(
            {"PatientID": "000005", "PatientName": "Huber, Eva", "Geb.-Dat.": "1990-01-01"},
            (),
            "under a different name",
        ),
        Expected(
            {"PatientID": "000006", "AccessionNumber": "ACC0007"}, (), "under a different name"
        ),
    ]
    missing = [
        Expected({"PatientID": "1"}, (), "No match was found."),
        Expected({"PatientID": "999999"}, (), "No match was found."),
        Expected({"AccessionNumber": "NONE"}, (), "No match was found."),
        Expected(
            {"PatientName": "Nobody, Norbert", "Geb.-Dat.": "1964-08-12"}, (), "No match was found."
        ),
        Expected(
            {"PatientName": "Müller, Jürgen", "Geb.-Dat.": "1964-08-11"}, (), "No match was found."
        ),
        Expected(
            {"PatientName": "Müller, Hans", "Geb.-Dat.": "1964-08-12"}, (), "No match was found."
        ),
    ]
    wrong = [
        Expected(asks, (), "The row has an error in the list.")
        for asks in (
            {"PatientID": "0000*"},
            {"PatientName": "Müller, Jürgen"},
            {"PatientID": "000001", "From": "31.02.2024"},
            {"Modality": "CT"},
            {"PatientName": "Jürgen Müller", "Geb.-Dat.": "1964-08-12"},
        )
    ]
    return [*by_id, *by_name, *by_accession, *narrowed, *ambiguous, *strangers, *missing, *wrong]


ROWS = rows()


def workbook() -> bytes:
    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"in_memory": True})
    page = book.add_worksheet()
    page.write_row(0, 0, COLUMNS)
    for line, row in enumerate(ROWS, 1):
        for column, name in enumerate(COLUMNS):
            said = {"Key": f"key {line + 1}", **row.asks}.get(name, "")
            if said:
                page.write_string(line, column, said)
    book.close()
    return target.getvalue()


def held() -> list[bytes]:
    """Files of the source: 20 patients with one study each, and those of PEOPLE."""
    made = []
    for n in range(1, 21):
        values = {
            "PatientID": f"{n:06}",
            "PatientName": f"Family{n}^Given",
            "PatientBirthDate": f"19{40 + n}0101",
            "AccessionNumber": f"ACC{n:04}",
            "StudyDate": f"202401{n:02}",
        }
        for series in (1, 2) if n == 4 else (1,):
            made.append(images.ct(series, 1, study=f"{UID}.{n}", **values))
    for patient, name, born, charset in PEOPLE:
        made.append(
            images.ct(
                1,
                1,
                study=f"{UID}.{int(patient)}",
                SpecificCharacterSet=charset,  # type: ignore[arg-type]
                PatientID=patient,
                PatientName=name,
                PatientBirthDate=born,
                AccessionNumber=f"X{patient}",
            )
        )
    return made


@dataclass(frozen=True)
class Site:
    url: str
    supervisor: int
    data: Path

    def answered(self) -> int:
        """Number of answered rows of the newest job."""
        query = (
            "select count(*) from jobs_task where state = 'success'"
            " and job_id = (select max(id) from jobs_job)"
        )
        with closing(sqlite3.connect(self.data / "adit.sqlite3", timeout=60)) as base:
            return int(base.execute(query).fetchone()[0])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """ADIT started by `adit up`, with a UTF-8 archive that is also reachable over a slow proxy."""
    folder = tmp_path_factory.mktemp("query")
    data = folder / "data"
    copy_prepared(data)
    with (
        running_orthanc("SOURCE", folder / "source", DefaultEncoding="Utf8") as source,
        Wire(source.dicom_port, 0, "delay", amount=0.3) as slow,
    ):
        for file in held():
            source.put(file)
        nodes = dict.fromkeys((SOURCE, DESTINATION), source.settings)
        nodes[SILENT] = {**source.settings, "port": slow.port}
        run_transfer_site(data, "make", json.dumps(nodes))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "ADIT_DATA": str(data), "PORT": str(port), **SOON}
        with adit_up(data / "up.log", environment) as up:
            yield Site(url, up.pid, data)


@pytest.fixture
def site(running: Site) -> str:
    return running.url


def picture(page: Page, name: str) -> None:
    """Save screenshots to the folder in ADIT_PICTURES, if set."""
    folder = os.environ.get("ADIT_PICTURES")
    if not folder:
        return
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)  # type: ignore[arg-type]
        page.screenshot(path=f"{folder}/{name}-{colours}.png", full_page=True)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_a_batch_query_of_sixty_rows_returns_the_expected_result_per_row(
    site: str, open_page: Callable[[bool], Page], tmp_path: Path, javascript: bool
) -> None:
    page = open_page(javascript)
    sign_in(page, site, "coordinator")
    page.goto(f"{site}/jobs/new/query/")
    picture(page, "query-new")
    export = answered(page, site, tmp_path)
    head, *found = cells_of(export)
    check(head, found)


def answered(page: Page, site: str, folder: Path, project: str = "") -> Path:
    """Run the batch query in the browser and return the exported workbook."""
    assert len(ROWS) == 60
    page.goto(f"{site}/jobs/new/query/")
    file = folder / "patients.xlsx"
    file.write_bytes(workbook())
    page.set_input_files("#id_sheet", str(file))
    page.click("main button:has-text('Upload')")

    expect(page.locator("#verdicts")).to_contain_text("5 errors")
    expect(page.locator("main")).to_contain_text(
        "Your own columns are included in the results: Key"
    )
    picture(page, "query-rows")
    page.get_by_label(SOURCE).check()
    if project:
        page.select_option("#id_project", label=project)
    else:
        page.select_option("#id_project", index=1)
    page.fill("#id_title", "Sixty rows")
    page.click("#start")
    expect(page.locator("#notice")).to_contain_text("5 rows have errors")
    expect(page.locator("#id_title")).to_have_value("Sixty rows")
    page.check("#id_skip_errors")
    page.click("#start")

    expect(page.locator("#job-state")).to_contain_text("complete", timeout=180_000)
    picture(page, "query-job")
    page.click("text=Results")
    expect(page.locator("main")).to_contain_text("Matches found for")
    picture(page, "query-results")
    return downloaded(page, "Download all as Excel")


def downloaded(page: Page, link: str) -> Path:
    with page.expect_download() as waiting:
        page.click(f"text={link}")
    return Path(waiting.value.path())


def cells_of(export: Path) -> list[tuple[str, ...]]:
    """Return the rows of a workbook; assert that every cell is text."""
    book = openpyxl.load_workbook(io.BytesIO(export.read_bytes()))
    assert book.active is not None
    cells = [cell for row in book.active.iter_rows() for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} == {"s"}
    return [tuple(str(c or "") for c in row) for row in book.active.iter_rows(values_only=True)]


def check(head: tuple[str, ...], found: list[tuple[str, ...]]) -> None:
    """Compare the UIDs and the reason of each exported row with ROWS."""
    by_line: dict[int, list[dict[str, str]]] = {}
    for row in found:
        named = dict(zip(head, row, strict=True))
        by_line.setdefault(int(named["ADIT line"]), []).append(named)
    assert sorted(by_line) == list(range(2, 62))
    wrong = {}
    for line, told in by_line.items():
        expected = ROWS[line - 2]
        uids = {
            (one["SeriesInstanceUID"] or one["StudyInstanceUID"]).removeprefix(f"{UID}.")
            for one in told
        } - {""}
        says = told[0]["ADIT reason"]
        is_right = (
            uids == set(expected.studies)
            and (
                says.startswith(expected.says)
                if expected.says == "No match was found."
                else expected.says in says
            )
            and bool(says) == bool(expected.says)
            and {one["Key"] for one in told} == {f"key {line}"}
            and {one["ADIT found"] for one in told} == {"yes" if expected.studies else "no"}
        )
        if not is_right:
            wrong[line] = (expected, told)
    assert wrong == {}


@pytest.mark.parametrize("javascript", [True, False], ids=["with JavaScript", "without JavaScript"])
def test_cells_with_errors_are_corrected_on_the_page(
    site: str, open_page: Callable[[bool], Page], tmp_path: Path, javascript: bool
) -> None:
    page = open_page(javascript)
    sign_in(page, site, "coordinator")
    page.goto(f"{site}/jobs/new/query/")
    file = tmp_path / "patients.xlsx"
    file.write_bytes(workbook())
    page.set_input_files("#id_sheet", str(file))
    page.click("main button:has-text('Upload')")
    cell = page.get_by_label("PatientID, line 57")
    expect(cell).to_have_value("0000*")
    picture(page, "query-rows-errors")

    cell.fill("000003")
    cell.press("Tab")
    if not javascript:
        page.get_by_role("button", name="Check again").last.click()
    expect(page.locator("#verdicts")).to_contain_text("4 errors")
    expect(page.locator("#start")).to_contain_text("Query 56 rows")
    expect(page.get_by_label("PatientID, line 57")).to_have_value("000003")
    expect(page.locator("#line-57")).not_to_contain_text("wildcards")
    page.get_by_label("Exclude line 58").check()
    page.get_by_role("button", name="Check again").last.click()
    expect(page.locator("#verdicts")).to_contain_text("3 errors")
    picture(page, "query-rows-corrected")


@pytest.mark.timeout(900)
def test_batch_query_pages_are_accessible(
    site: str, open_page: Callable[[bool], Page], tmp_path: Path
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

    sign_in(page, site, "coordinator")
    page.goto(f"{site}/jobs/new/query/")
    look("new")
    file = tmp_path / "own.csv"
    file.write_text("Fallnr.;Wer\nACC0001;000001\nACC0002;000002\n")
    page.set_input_files("#id_sheet", str(file))
    page.click("main button:has-text('Upload')")
    page.wait_for_url("**/columns/")
    look("columns")
    picture(page, "query-columns")
    page.select_option("#id_column_1", "PatientID")
    page.click("text=Show rows")
    look("rows")
    page.get_by_label(SOURCE).check()
    page.click("#start")
    expect(page.locator("#job-state")).to_contain_text("complete", timeout=180_000)
    look("job")
    page.click("text=Results")
    look("results")
    page.fill("#id_most", "1")
    page.click("text=Select by rule")
    expect(page.locator("#pick-title")).to_contain_text("2 of 2 results selected")
    assert "0000" not in page.url
    assert {step: errors for step, errors in found.items() if errors} == {}


@pytest.mark.timeout(900)
def test_a_batch_query_completes_after_its_workers_were_killed(
    running: Site, open_page: Callable[[bool], Page], tmp_path: Path
) -> None:
    page = open_page(True)
    sign_in(page, running.url, "lonely")
    page.goto(f"{running.url}/jobs/new/query/")
    file = tmp_path / "patients.xlsx"
    file.write_bytes(workbook())
    page.set_input_files("#id_sheet", str(file))
    page.click("main button:has-text('Upload')")
    page.check("#id_skip_errors")
    page.click("#start")

    wait_until(lambda: running.answered() >= 5, "five answers", 180)
    assert running.answered() < 41, "the job finished before a worker was killed"
    for pid in workers_of(running.supervisor):
        os.kill(pid, signal.SIGKILL)

    expect(page.locator("#job-state")).to_contain_text("complete", timeout=300_000)
    page.click("text=Results")
    head, *found = cells_of(downloaded(page, "Download all as Excel"))
    check(head, found)
