"""Take the screenshots of the README from a demo in a folder and on a port of its own."""

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

from playwright.sync_api import Page, sync_playwright

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


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
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
