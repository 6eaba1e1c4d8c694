"""Take the screenshots of the README and of docs/operate.md.

Those of the README are of a demo, those of the first day of an empty installation, each in a folder
and on a port of its own.
"""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "pictures"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY_S = 180.0
PASSWORD = "four words in a row"
SHEET = "list-with-mistakes.xlsx"


@contextmanager
def demo() -> Iterator[dict[str, Any]]:
    """Run a demo that stays up as in a terminal; yield its report, then end it."""
    with tempfile.TemporaryDirectory() as data:
        master, terminal = pty.openpty()
        environment = {**os.environ, "ADIT_DATA": data, "PORT": str(_free_port())}
        process = subprocess.Popen(
            [ROOT / ".venv" / "bin" / "adit", "demo"], stdin=terminal, env=environment, cwd=ROOT
        )
        try:
            report = Path(data, "demo", "report.json")
            end = time.monotonic() + READY_S
            while not report.exists():
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit("The demo did not come up.")
                time.sleep(0.2)
            yield json.loads(report.read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
            os.close(master)
            os.close(terminal)


@contextmanager
def empty_installation() -> Iterator[str]:
    """Run the web process on an empty machine; yield the setup link."""
    with tempfile.TemporaryDirectory() as data:
        port = str(_free_port())
        url = f"http://localhost:{port}"
        environment = {**os.environ, "ADIT_DATA": data, "PORT": port, "ADIT_URL": url}
        programs = ROOT / ".venv" / "bin"
        prepared = subprocess.run(
            [programs / "adit", "prepare"],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        link = re.search(rf"{url}/setup/\?token=\S+", prepared.stderr)
        if link is None:
            raise SystemExit("adit prepare printed no setup link.")
        command = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", port]
        process = subprocess.Popen(
            [programs / "granian", *command, "adit.config.wsgi:application"],
            env=environment,
            cwd=ROOT,
        )
        try:
            yield link[0]
        finally:
            process.terminate()
            process.wait(20)


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    take_first_day()
    take_demo()


def take_first_day() -> None:
    """Take the pictures of docs/operate.md, in the order of its table."""
    with empty_installation() as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        admin, invited = (
            browser.new_context(viewport={"width": 1100, "height": 700}).new_page()
            for _ in range(2)
        )
        for page in (admin, invited):
            page.set_default_timeout(25_000)
        url = link.partition("/setup/")[0]
        _open_when_ready(admin, link)
        admin.fill("[name=username]", "anna")
        _set_password(admin)
        _take(admin, "first-day-setup")
        admin.click("main button:has-text('Create the account')")
        admin.wait_for_url(f"{url}/accounts/login/")
        _sign_in(admin, url, "anna")

        admin.goto(f"{url}/nodes/new/dimse/")
        values = {"name": "PACS", "settings-host": "pacs.hospital.example"}
        for name, value in (
            values | {"settings-port": "104", "settings-called_ae_title": "PACS"}
        ).items():
            admin.fill(f"#id_{name}", value)
        _take(admin, "first-day-pacs")

        admin.goto(f"{url}/groups/new/")
        admin.fill("[name=name]", "Lung study")
        for permission in ("Order transfers", "See names and birth dates", "Choose pseudonyms"):
            admin.check(f"label:has-text('{permission}')")
        admin.check("[name=requires_second_factor]")
        _take(admin, "first-day-group")
        admin.click("main button:has-text('Save')")
        admin.click("main button:has-text('Allow and save')")

        admin.goto(f"{url}/users/new/")
        admin.fill("[name=username]", "clara")
        admin.check("label:has-text('Lung study')")
        admin.click("main button:has-text('Create the user')")
        admin.click("main button:has-text('Allow and save')")
        invited.goto(admin.inner_text("#link"))
        _set_password(invited)
        invited.click("main button:has-text('Set the password')")
        invited.wait_for_url(f"{url}/accounts/login/")
        _sign_in(invited, url, "clara")
        invited.wait_for_url(re.compile("/second-factor/$"))
        _take(invited, "first-day-second-factor")
        browser.close()


def _open_when_ready(page: Page, link: str) -> None:
    end = time.monotonic() + READY_S
    while True:
        try:
            page.goto(link)
        except Error:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def _set_password(page: Page) -> None:
    page.fill("[name=password1]", PASSWORD)
    page.fill("[name=password2]", PASSWORD)


def _sign_in(page: Page, url: str, username: str) -> None:
    page.goto(f"{url}/accounts/login/")
    page.fill("#id_login", username)
    page.fill("#id_password", PASSWORD)
    page.click("main button:has-text('Sign in')")
    page.wait_for_url(lambda address: "/login/" not in address)


def _take(page: Page, name: str) -> None:
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=PICTURES / f"{name}.png")
    print(f"{name}.png")


def take_demo() -> None:
    """Take the pictures of the README, in both color schemes."""
    with demo() as report, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for theme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": 1366, "height": 768}, color_scheme=theme
            )
            _walk(context.new_page(), report, theme)
            context.close()
        browser.close()


def _walk(page: Page, report: dict[str, Any], theme: str) -> None:
    def take(name: str) -> None:
        page.screenshot(path=PICTURES / f"{name}-{theme}.png")
        print(f"{name}-{theme}.png")

    page.goto(report["url"])
    page.fill("input[name=login]", "coordinator")
    page.fill("input[name=password]", report["accounts"]["coordinator"])
    page.press("input[name=password]", "Enter")
    page.wait_for_url(re.compile(r"/$"))
    take("home")
    page.goto(f"{report['url']}jobs/{report['jobs'][0]['id']}/")
    take("job")
    sheet = page.request.get(f"{report['url']}samples/{SHEET}").body()
    page.goto(f"{report['url']}jobs/new/query/")
    file = {"name": SHEET, "mimeType": "application/octet-stream", "buffer": sheet}
    page.set_input_files("#id_sheet", files=[file])
    page.click("main button:has-text('Upload')")
    page.locator("#verdicts").scroll_into_view_if_needed()
    take("sheet")
    page.goto(f"{report['url']}jobs/new/selective/")
    page.fill("input[name=patient_name]", "M*")
    page.press("input[name=patient_name]", "Enter")
    page.wait_for_selector("table tbody tr")
    page.locator("table tbody input[type=checkbox]").first.check()
    take("transfer")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
