"""The first day of a department: from an empty machine to the first delivered study.

After `adit up`, everything is done in the browser.
"""

import os
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import images
import pydicom
import pytest
from conftest import adit_up, free_port, sign_in
from orthanc import Orthanc, needs_chromium, needs_orthanc, running_orthanc
from playwright.sync_api import Page, expect
from test_transfer import order, wait_for_end

pytestmark = [needs_orthanc, needs_chromium]

PASSWORD = "four words in a row"
SAVE = "main form button:not([aria-hidden]):text-is('Save')"


@pytest.mark.timeout(240)
def test_a_department_starts_without_a_shell(
    tmp_path: Path, open_page: Callable[..., Page]
) -> None:
    data, out = tmp_path / "data", tmp_path / "research"
    data.mkdir()
    out.mkdir()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "ADIT_DATA": str(data),
        "PORT": str(port),
        "ADIT_URL": url,
        "ADIT_RECEIVER_PORT": "0",
    }
    log = tmp_path / "up.log"
    with running_orthanc("SOURCE", tmp_path / "pacs") as pacs, adit_up(log, environment):
        for file in images.study():
            pacs.put(file)
        link = re.search(rf"{url}/setup/\?token=\S+", log.read_text())
        assert link is not None, log.read_text()
        admin = open_page()
        create_first_administrator(admin, url, link[0])
        add_pacs(admin, url, pacs)
        add_folder(admin, url, out)
        create_group(admin, url)
        create_project(admin, url)
        invitation = invite(admin, url)

        coordinator = open_page()
        coordinator.goto(invitation)
        set_password(coordinator, "Set the password")
        sign_in(coordinator, url, "clara", PASSWORD)
        order(coordinator, url, "LUNG", images.PATIENT_ID, "LUNG-0001", to="Research folder")
        coordinator.click("#start")
        wait_for_end(coordinator, url)

    files = [path.read_bytes() for path in out.rglob("*") if path.is_file()]
    found = [file for file in files if file[128:132] == b"DICM"]
    assert len(found) == 36
    for file in found:
        assert pydicom.dcmread(BytesIO(file)).PatientID == "LUNG-0001"
        assert not any(text.encode("utf-8") in file for text in images.IDENTIFYING)


def create_first_administrator(page: Page, url: str, link: str) -> None:
    page.goto(link)
    page.fill("[name=username]", "anna")
    set_password(page, "Create the account")
    sign_in(page, url, "anna", PASSWORD)


def set_password(page: Page, button: str) -> None:
    page.fill("[name=password1]", PASSWORD)
    page.fill("[name=password2]", PASSWORD)
    page.click(f"main button:has-text('{button}')")


def add_pacs(page: Page, url: str, pacs: Orthanc) -> None:
    page.click("nav >> text=PACS")
    page.click("a:text-is('Add')")
    page.click("main .card-go:has-text('PACS'):not(:has-text('DICOMweb'))")
    page.fill("#id_name", "PACS1")
    for name, value in pacs.settings.items():
        page.fill(f"#id_settings-{name}", str(value))
    save_and_open(page)


def add_folder(page: Page, url: str, folder: Path) -> None:
    page.goto(f"{url}/nodes/")
    page.click("a:text-is('Add')")
    page.click("main .card-go:has-text('Folder')")
    page.fill("#id_name", "Research folder")
    page.fill("#id_settings-path", str(folder))
    save_and_open(page)


def save_and_open(page: Page) -> None:
    """Without allowed hours, so that the transfer starts at once."""
    rows = page.locator("button[name=remove][value^=hours-]")
    for left in reversed(range(rows.count())):
        rows.last.click()
        expect(rows).to_have_count(left)
    page.click(SAVE)
    page.click("main form button:has-text('Test')")
    expect(page.locator(".note-good").first).to_be_visible()
    page.click("main form button:has-text('Open')")
    assert page.is_visible("[role=status]:has-text('is open')")


def create_group(page: Page, url: str) -> None:
    page.goto(f"{url}/groups/")
    page.click("main a:has-text('New group')")
    page.fill("[name=name]", "Lung study")
    for permission in ("Order transfers", "See names and birth dates", "Choose pseudonyms"):
        page.check(f"label:has-text('{permission}')")
    page.check("tr:has-text('PACS1') td:nth-of-type(1) input")
    page.check("tr:has-text('Research folder') td:nth-of-type(2) input")
    page.click("main button:has-text('Save')")
    page.click("main button:has-text('Allow and save')")
    assert page.is_visible("[role=status]:has-text('is saved')")


def create_project(page: Page, url: str) -> None:
    page.goto(f"{url}/projects/")
    page.click("main a:text-is('Add')")
    page.fill("[name=protocol_id]", "LUNG")
    page.fill("[name=protocol_name]", "LUNG")
    page.fill("[name=sponsor]", "University Hospital")
    page.fill("[name=pattern]", "LUNG-####")
    for name in ("faces", "header_word"):
        page.check(f"[name={name}] >> nth=0")
    for name in ("members", "list_holders"):
        page.check(f"label:has-text('Lung study'):has([name={name}])")
    page.click("main button:text-is('Save')")
    assert page.is_visible("[role=status]:has-text('The project is saved')")


def invite(page: Page, url: str) -> str:
    page.goto(f"{url}/users/new/")
    page.fill("[name=username]", "clara")
    page.check("label:has-text('Lung study')")
    page.click("main button:has-text('Create the user')")
    page.click("main button:has-text('Allow and save')")
    return page.inner_text("#link")
