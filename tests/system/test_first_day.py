"""The first day of a department: from an empty machine to the first delivered study.

After `adit up`, everything is done in the browser.
"""

import os
import re
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import images
import pydicom
import pytest
from conftest import adit_up, free_port, sign_in
from lab.projects import APPROVAL
from lab.totp import totp_code
from orthanc import Orthanc, needs_chromium, needs_orthanc, running_orthanc
from playwright.sync_api import Page, expect
from test_administration import findings_in_both_themes
from test_transfer import order, wait_for_end

pytestmark = [needs_orthanc, needs_chromium]

PASSWORD = "four words in a row"
SAVE = "main form button:not([aria-hidden]):text-is('Save')"


@pytest.mark.timeout(900)
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
        recovery = set_up_app(coordinator, url)
        order(coordinator, url, "LUNG", images.PATIENT_ID, "LUNG-0001", to="Research folder")
        coordinator.click("#start")
        wait_for_end(coordinator, url)
        unscripted = open_page(javascript=False)
        enter_password(unscripted, url)
        enter_code(unscripted, recovery)
        unscripted.wait_for_url(f"{url}/")

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


def set_up_app(page: Page, url: str) -> str:
    """Set up an authenticator app, as the group requires; sign in with it.

    Return a recovery code.
    """
    page.emulate_media(reduced_motion="reduce")
    enter_password(page, url)
    page.wait_for_url(f"{url}/accounts/second-factor/")
    expect(page.locator("text=Your group (Lung study) requires a second factor")).to_be_visible()
    page.click("main a:has-text('Set up an app')")
    page.fill("#id_password", PASSWORD)
    page.click("main button:has-text('Continue')")
    expect(page.locator(".qr-code svg")).to_be_visible()
    found = findings_in_both_themes(page)
    secret = page.inner_text("#secret")
    page.fill("#id_code", current_code(page, secret))
    page.click("main button:has-text('Set up')")
    expect(page.locator(".recovery-codes li")).to_have_count(10)
    recovery = page.locator(".recovery-codes li").first.inner_text()
    page.click("main a:has-text('I have stored them')")
    page.goto(f"{url}/accounts/logout/")
    page.click("main button:has-text('Sign out')")
    enter_password(page, url)
    page.wait_for_selector("#id_code")
    found += findings_in_both_themes(page)
    enter_code(page, current_code(page, secret))
    page.wait_for_url(f"{url}/")
    assert found == []
    return recovery


def enter_password(page: Page, url: str) -> None:
    page.goto(f"{url}/accounts/login/")
    page.fill("#id_login", "clara")
    page.fill("#id_password", PASSWORD)
    page.click("main button:has-text('Sign in')")


def enter_code(page: Page, code: str) -> None:
    page.fill("#id_code", code)
    page.click("main button:has-text('Sign in')")


def current_code(page: Page, secret: str) -> str:
    """Return the code of the app; wait for the next one if the present one ends soon."""
    while time.time() % 30 > 25:
        page.wait_for_timeout(200)
    return totp_code(secret)


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
    expect(page.locator("[role=status]:has-text('is open')")).to_be_visible()


def create_group(page: Page, url: str) -> None:
    page.goto(f"{url}/groups/")
    page.click("main a:has-text('New group')")
    page.fill("[name=name]", "Lung study")
    for permission in ("Order transfers", "See names and birth dates", "Choose pseudonyms"):
        page.check(f"label:has-text('{permission}')")
    page.check("tr:has-text('PACS1') td:nth-of-type(1) input")
    page.check("tr:has-text('Research folder') td:nth-of-type(2) input")
    page.check("[name=requires_second_factor]")
    page.click("main button:has-text('Save')")
    page.click("main button:has-text('Allow and save')")
    expect(page.locator("[role=status]:has-text('is saved')")).to_be_visible()


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
    assert page.is_visible(".field-error:has-text('without it, nothing is sent')")
    for name, value in APPROVAL.items():
        page.fill(f"[name={name}]", str(value))
    page.check("[name=all_modalities]")
    for name in ("sources", "destinations"):
        for box in page.query_selector_all(f"[name={name}]"):
            box.check()
    page.click("main button:text-is('Save')")
    expect(page.locator("[role=status]:has-text('The project is saved')")).to_be_visible()


def invite(page: Page, url: str) -> str:
    page.goto(f"{url}/users/new/")
    page.fill("[name=username]", "clara")
    page.check("label:has-text('Lung study')")
    page.click("main button:has-text('Create the user')")
    page.click("main button:has-text('Allow and save')")
    return page.inner_text("#link")
