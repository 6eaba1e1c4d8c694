"""Fixtures of the system tests: installations, web server, browser."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from lab.ports import free_port
from lab.prepared import copy_prepared, prepared_place  # noqa: F401
from lab.reaper import reaping
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Error,
    Locator,
    Page,
    expect,
    sync_playwright,
)

ROOT = Path(__file__).resolve().parents[2]
os.environ["ADIT_ORDERS_WITHOUT_PROJECT"] = "true"
"""Most tests of the pages are not about projects. Demo, first day and cluster use the default."""
os.environ["ADIT_SELF_REGISTRATION"] = "true"
os.environ["ADIT_ECHO_S"] = os.environ["ADIT_ECHO_IN_USE_S"] = "0"
"""Tests count associations; those that are about response times turn echoes on."""
STAGE = Path(__file__).with_name("sample_site.py")
PASSWORD = "a long enough password"
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]
PAGE_MS = 90_000
"""Time limit of an action or expectation, for slow machines."""
expect.set_options(timeout=PAGE_MS)


def load_after(click: Callable[..., None]) -> Callable[..., None]:
    """Let a click wait until the page that it opens is loaded; by itself it waits for the start."""

    @wraps(click)
    def click_and_load(target: Page | Locator, *args: Any, **options: Any) -> None:
        click(target, *args, **options)
        page = target.page if isinstance(target, Locator) else target
        page.wait_for_load_state()

    return click_and_load


for kind in (Page, Locator):
    setattr(kind, "click", load_after(kind.click))  # noqa: B010

SCREEN = {"width": 1366, "height": 768}
SUCCESS = re.compile("complete|Delivered as ordered")
"""What the badge of a successful job says, without or with withheld images."""


LONGEST_FIRST = (
    "test_accessibility",
    "test_load_limits",
    "test_process_faults",
    "test_distributed",
    "test_lists",
    "test_moves",
    "test_sixty_rows",
)
"""Modules that begin first, so that two workers end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@dataclass(frozen=True)
class Site:
    """A running ADIT: URL, data folder, and the rows created in it."""

    url: str
    data: Path
    made: dict[str, Any] = field(default_factory=dict)


def wait_until(
    happened: Callable[[], bool], what: str, seconds: float = 60, pause_s: float = 0.05
) -> None:
    """Poll until the condition is true; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(pause_s)


DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str) -> bool:
    try:
        with DIRECTLY.open(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


LOGS: list[Path] = []
"""Logs of running installations, for the reports of failed tests."""


@contextmanager
def adit_up(log: Path, env: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `adit up`, wait until it answers, stop it at the end of the block."""
    with log.open("wb") as file:
        up = subprocess.Popen(
            [sys.executable, "-m", "adit.cli", "up"],
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    LOGS.append(log)
    healthy = f"http://127.0.0.1:{env['PORT']}/healthz"
    try:
        wait_until(lambda: up.poll() is not None or answers(healthy), "adit up", 180)
        assert up.poll() is None, log.read_text()[-3000:]
        yield up
    finally:
        LOGS.remove(log)
        end(up, 30)


def end(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Terminate the process; kill it after the deadline (seconds)."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def web_server(data: Path) -> Iterator[str]:
    """Run only the web process, on a free port, with a prepared data folder."""
    port = free_port()
    environment = {**os.environ, "ADIT_DATA": str(data), "PORT": str(port)}
    command = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
    with (data / "web.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "granian", *command, "adit.config.wsgi:application"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or answers(f"{url}/healthz"), "web server")
        if process.poll() is not None:
            pytest.fail((data / "web.log").read_text()[-2000:])
        yield url
    finally:
        end(process, 30)


@pytest.fixture(scope="session", autouse=True)
def nothing_stays() -> Iterator[None]:
    """End all child processes with the test run, even if it is killed."""
    with reaping():
        yield


@pytest.fixture(scope="session")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Web server with sample users, nodes and jobs in every state, without workers."""
    data = tmp_path_factory.mktemp("staged")
    copy_prepared(data)
    environment = {**os.environ, "ADIT_DATA": str(data)}
    done = subprocess.run(
        [sys.executable, str(STAGE)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        pytest.fail(done.stderr[-3000:])
    made = json.loads(done.stdout.splitlines()[-1])
    with web_server(data) as url:
        yield Site(url, data, made)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", headless=True, args=CHROMIUM
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Factory of browser pages with a new context, with or without JavaScript."""
    contexts = []

    def open_it(javascript: bool = True) -> Page:
        contexts.append(
            browser.new_context(
                viewport=SCREEN, java_script_enabled=javascript, reduced_motion="reduce"
            )
        )
        contexts[-1].set_default_timeout(PAGE_MS)
        return contexts[-1].new_page()

    open_it.contexts = contexts  # type: ignore[attr-defined]
    yield open_it
    for context in contexts:
        context.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add page texts and log tails to the reports of failed tests."""
    report = yield
    if report.when == "call" and report.failed:
        opened = getattr(item, "funcargs", {}).get("open_page")
        for context in getattr(opened, "contexts", ()):
            for page in context.pages:
                with suppress(Error):
                    words = page.locator("body").inner_text(timeout=2000)
                    report.sections.append((page.url, words[:3000]))
        report.sections += [(str(log), log.read_text()[-3000:]) for log in LOGS]
    return report


def sign_in(page: Page, url: str, username: str, password: str = PASSWORD) -> None:
    page.goto(f"{url}/accounts/login/")
    page.fill("#id_login", username)
    page.fill("#id_password", password)
    page.click("main button:has-text('Sign in')")
    page.wait_for_url(f"{url}/")


@pytest.fixture(scope="module")
def signed_in() -> dict[str, Any]:
    """Cookies of the users who have signed in, by name."""
    return {}


@pytest.fixture
def visit(
    browser: Browser, staged: Site, signed_in: dict[str, Any]
) -> Iterator[Callable[..., Page]]:
    """Factory of pages signed in as a user, such as visit("coordinator", dark=True).

    An empty user name means not signed in. Other options are passed to the browser context.
    """
    contexts: list[BrowserContext] = []

    def visit(person: str, *, dark: bool = False, **options: Any) -> Page:
        if person and person not in signed_in:
            context = browser.new_context(locale="en-GB")
            context.set_default_timeout(PAGE_MS)
            sign_in(context.new_page(), staged.url, person)
            signed_in[person] = context.storage_state()
            context.close()
        context = browser.new_context(
            **{
                "viewport": SCREEN,
                "base_url": staged.url,
                "color_scheme": "dark" if dark else "light",
                "reduced_motion": "reduce",
                "locale": "en-GB",
                "storage_state": signed_in.get(person),
                **options,
            }
        )
        context.set_default_timeout(PAGE_MS)
        contexts.append(context)
        return context.new_page()

    yield visit
    for context in contexts:
        context.close()
