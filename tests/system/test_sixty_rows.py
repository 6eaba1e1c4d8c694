"""A list of sixty mixed rows from the upload to the result sheet: each row gets its verdict."""

import csv
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping
from html import unescape
from pathlib import Path

import httpx
import images
import openpyxl
import pytest
import test_lists
from conftest import PASSWORD, sign_in
from lab import sixty_rows
from lab.sixty_rows import SheetRow
from orthanc import needs_chromium, needs_orthanc
from playwright.sync_api import Page, expect
from test_lists import FOLDER, SOURCE, Installation, run_commands, running_installation

pytestmark = [needs_orthanc, pytest.mark.timeout(900)]

TRANSFERRED = re.compile("complete|Delivered as ordered|failed|canceled")
SEVEN_ZIP = "Encrypted 7-Zip file"
MAKE = {"xlsx": sixty_rows.make_xlsx, "csv": sixty_rows.make_csv}
Verdicts = Mapping[int, tuple[str, str]]
"""The word and the whole text of the verdict, by line."""


def make_files() -> Iterator[bytes]:
    for study in (*sixty_rows.STUDIES, sixty_rows.SECOND_PATIENT):
        of_other = study is sixty_rows.SECOND_PATIENT
        for series, count in enumerate(study.series, start=1):
            for number in range(1, count + 1):
                yield images.ct(
                    series,
                    number + 10 * of_other,
                    study=study.uid,
                    PatientID=study.patient_id,
                    AccessionNumber=study.accession,
                    StudyDate=study.day,
                )
    screenshot = sixty_rows.SCREENSHOT
    yield images.capture(screenshot.uid, screenshot.patient_id)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(test_lists.SOON, "ADIT_MAX_TRANSFER_ROWS", "100")
        with running_installation(tmp_path_factory.mktemp("sixty"), make_files()) as installation:
            yield installation


# Comparison ----------------------------------------------------------------------------------------


def read_verdicts(page: str) -> dict[int, tuple[str, str]]:
    """Read the second cell of each row of a page: a badge and the reasons."""
    found = {}
    for line, row in re.findall(r'<tr[^>]* id="line-(\d+)"[^>]*>(.*?)</tr>', page, re.DOTALL):
        cell = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)[1]
        badge = re.search(r'<span class="state[^>]*>(.*?)</span>', cell, re.DOTALL)
        assert badge is not None, cell
        found[int(line)] = as_text(badge[1]), as_text(cell)
    return found


def as_text(html: str) -> str:
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).split())


def differences(
    rows: Mapping[int, SheetRow],
    told: Verdicts,
    get_word: Callable[[SheetRow], str],
    *,
    explains: Callable[[SheetRow], bool],
) -> dict[int, str]:
    """Return the rows with another verdict than expected, or without the expected reason."""
    wrong = {}
    for line, row in rows.items():
        word, text = told.get(line, ("missing", ""))
        is_explained = not explains(row) or row.says.casefold() in text.casefold()
        if word != get_word(row) or not is_explained:
            wrong[line] = f"{row.what}: expected {get_word(row)!r} ({row.says}), got {text!r}"
    return wrong


def compare_upload(form: str, page: str) -> None:
    rows = sixty_rows.get_rows(form)
    told = read_verdicts(page)
    assert differences(rows, told, lambda row: row.upload, explains=has_finding) == {}


def has_finding(row: SheetRow) -> bool:
    return row.upload in ("warning", "error")


def compare_check(form: str, page: str) -> None:
    rows = sixty_rows.get_rows(form)
    told = read_verdicts(page)
    assert differences(rows, told, lambda row: row.checked, explains=is_not_found) == {}


def is_not_found(row: SheetRow) -> bool:
    return row.checked not in ("found", "several studies")


def compare_results(form: str, page: str, *sheets: list[dict[str, str]]) -> None:
    """Compare the page of rows and the result sheets with the table, and with each other."""
    rows = sixty_rows.get_rows(form)
    told = read_verdicts(page)
    assert differences(rows, told, lambda row: row.ended, explains=is_not_found) == {}
    for sheet in sheets:
        assert [int(row["ADIT line"]) for row in sheet] == list(rows)
        in_sheet = {
            int(row["ADIT line"]): (row["ADIT outcome"], row["ADIT reason"]) for row in sheet
        }
        assert differences(rows, in_sheet, lambda row: row.ended, explains=is_not_found) == {}
        for row in sheet:
            line = int(row["ADIT line"])
            names = ("ADIT expected", "ADIT delivered", "ADIT withheld")
            assert tuple(row[name] for name in names) == rows[line].counts, rows[line].what
            assert row["Key"] == f"key {line}"
            is_delivered = rows[line].ended == "complete"
            assert bool(row["ADIT what to do"]) != is_delivered, rows[line].what
    assert all(sheet == sheets[0] for sheet in sheets)


# By HTTP alone -------------------------------------------------------------------------------------


class Visitor:
    """A signed-in user who only sends HTTP requests."""

    def __init__(self, client: httpx.Client) -> None:
        self.client, self.page = client, ""
        self.address = "/accounts/login/"
        self.get(self.address)
        self.post({"login": "coordinator", "password": PASSWORD})

    def get(self, address: str) -> str:
        return self._follow(self.client.get(address))

    def post(self, values: Mapping[str, object], address: str = "", **files: object) -> str:
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.page)
        assert token is not None
        data = {**values, "csrfmiddlewaretoken": token[1]}
        headers = {"Referer": str(self.client.base_url) + self.address}
        answer = self.client.post(
            address or self.address, data=data, headers=headers, files=files or None
        )
        return self._follow(answer)

    def _follow(self, answer: httpx.Response) -> str:
        while answer.is_redirect:
            answer = self.client.get(answer.headers["Location"])
        assert answer.status_code == 200, as_text(answer.text)[:3000]
        self.page, self.address = answer.text, answer.url.path
        return self.page

    def option(self, name: str, label: str) -> str:
        """Return the value of an option or checkbox with this label."""
        for value in re.findall(rf'<option value="(\d+)"[^>]*>\s*{label}', self.page):
            return str(value)
        for part in self.page.split("<label")[1:]:
            box = re.search(rf'name="{name}" value="(\d+)"', part)
            if box and label in part:
                return box[1]
        pytest.fail(f"no option {label}")

    def wait_for_state(self, address: str, wanted: re.Pattern[str]) -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            state = re.search(r'id="job-state">(.*?)</span>', self.get(address), re.DOTALL)
            if state and wanted.search(as_text(state[1])):
                return
            time.sleep(0.3)
        pytest.fail(as_text(self.page)[:2000])


@pytest.fixture
def user(installation: Installation) -> Iterator[Visitor]:
    with httpx.Client(base_url=installation.url, trust_env=False, timeout=60) as client:
        yield Visitor(client)


@pytest.mark.parametrize("form", ["xlsx", "csv"])
def test_each_of_sixty_rows_gets_its_verdict_by_http_alone(
    installation: Installation, user: Visitor, form: str
) -> None:
    project = f"SIXTY-{form.upper()}"
    register(installation, project)
    user.get("/jobs/new/transfer/")
    user.post({}, sheet=(f"sixty.{form}", MAKE[form]()))
    shown = {"shown": list(sixty_rows.get_rows(form)), "out": sixty_rows.EXCLUDED_FIRST}
    user.post({**shown, "do": "page:1"})
    compare_upload(form, user.page)
    order = {
        "source": user.option("source", SOURCE),
        "destinations": user.option("destinations", FOLDER),
        "project": user.option("project", project),
    }
    ticks = dict.fromkeys(("generate", "skips_delivered", "skip_errors"), "on")
    user.post({**shown, **order, **ticks, "do": "start"})
    job = user.address
    user.wait_for_state(job, re.compile("waiting for your confirmation"))
    user.get(f"{job}rows/")
    compare_check(form, user.page)
    choice = user.page.partition(f'id="choice-{sixty_rows.CHOSEN}"')[2].partition("</fieldset>")[0]
    dates = re.findall(r"2024-03-0\d", choice)
    user.post(
        {
            f"choice-{sixty_rows.CHOSEN}": dates.index("2024-03-02"),
            "leave_out": sixty_rows.EXCLUDED_AT_START,
        },
        f"{job}rows/start/",
    )
    user.wait_for_state(job, TRANSFERRED)
    sheets = [read_sheet(user.client.get(f"{job}result.{kind}").content) for kind in MAKE]
    compare_results(form, user.get(f"{job}rows/"), *sheets)


def register(installation: Installation, project: str) -> None:
    run_commands(installation.env, "register", project=project, pseudonyms=sixty_rows.REGISTERED)


def read_sheet(data: bytes) -> list[dict[str, str]]:
    """Read a result sheet in either format."""
    if not data.startswith(b"PK"):
        return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    sheet = openpyxl.load_workbook(io.BytesIO(data)).active
    assert sheet is not None
    names, *rows = ([str(c or "") for c in row] for row in sheet.iter_rows(values_only=True))
    return [dict(zip(names, row, strict=True)) for row in rows]


# In the browser ------------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.parametrize(
    ("javascript", "form", "project"),
    [(True, "xlsx", "SIXTY-JS"), (False, "csv", "SIXTY-PLAIN")],
    ids=["with JavaScript", "without JavaScript"],
)
def test_each_of_sixty_rows_gets_its_verdict_in_the_browser(
    installation: Installation,
    open_page: Callable[..., Page],
    tmp_path: Path,
    javascript: bool,
    form: str,
    project: str,
) -> None:
    register(installation, project)
    page = open_page(javascript)
    sign_in(page, installation.url, "coordinator")
    path = tmp_path / f"sixty.{form}"
    path.write_bytes(MAKE[form]())
    page.goto(f"{installation.url}/jobs/new/transfer/")
    page.set_input_files("#id_sheet", path)
    page.click("main button:has-text('Upload')")
    page.get_by_label(f"Exclude line {sixty_rows.EXCLUDED_FIRST}", exact=True).check()
    page.locator("#rows .card-footer button[value='page:1']").click()
    expect(page.locator("#verdicts")).to_contain_text("1 excluded")
    compare_upload(form, page.content())
    page.get_by_label("Fetch from").select_option(label=SOURCE)
    page.get_by_label(SEVEN_ZIP).check()
    # Without JavaScript, the next step asks for the password.
    expect(page.locator("#archive_password")).to_be_visible(visible=javascript)
    page.get_by_label(SEVEN_ZIP).uncheck()
    expect(page.locator("#archive_password")).to_be_hidden()
    page.get_by_label(FOLDER).check()
    page.get_by_label("Research project").select_option(label=project)
    page.check("#id_skip_errors")
    page.click("#start")
    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    test_lists.checked(page, installation.url, test_lists.number_of(page))
    compare_check(form, page.content())
    choice = page.locator(f"#choice-{sixty_rows.CHOSEN}")
    choice.locator("label", has_text="2024-03-02").locator("input").check()
    page.fill("#leave_out", str(sixty_rows.EXCLUDED_AT_START))
    page.click("#start")
    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    job = page.url
    expect(page.locator("#job-state")).to_contain_text(TRANSFERRED, timeout=300_000)
    page.goto(f"{job}rows/")
    compare_results(form, page.content(), test_lists.result(page, installation.url, number(job)))


def number(address: str) -> int:
    return int(address.rstrip("/").rsplit("/", 1)[1])
