"""Security keys in a browser: Chromium with virtual authenticators, on `localhost`.

The authenticator app is set up in test_first_day.py.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import ROOT, web_server
from lab.prepared import copy_prepared
from playwright.sync_api import CDPSession, Page, expect
from test_administration import findings_in_both_themes

OpenPage = Callable[..., Page]
PASSWORD = "four words in a row"
PEOPLE = f"""
import django; django.setup()
from adit.accounts import permissions
from adit.accounts.models import SecondFactorGroup, User
groups = permissions.create_standard_groups()
nora = User.objects.create_user("nora", password="{PASSWORD}")
nora.groups.add(groups["Coordinators"])
SecondFactorGroup.objects.create(group=groups["Coordinators"])
"""
KEY = {
    "protocol": "ctap2",
    "transport": "usb",
    "hasResidentKey": False,
    "hasUserVerification": False,
    "automaticPresenceSimulation": True,
}
USE = "main button:has-text('Use the security key')"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Web server with a coordinator whose group requires a second factor."""
    tmp_path = tmp_path_factory.mktemp("keys")
    copy_prepared(tmp_path)
    settings = {"ADIT_DATA": str(tmp_path), "DJANGO_SETTINGS_MODULE": "adit.config.settings"}
    for command in (["-m", "adit.cli", "prepare"], ["-c", PEOPLE]):
        subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **settings},
            capture_output=True,
            timeout=300,
            check=True,
        )
    with web_server(tmp_path) as url:
        yield url.replace("127.0.0.1", "localhost")


@contextmanager
def connected_key(devtools: CDPSession, **options: Any) -> Iterator[str]:
    """Connect a virtual security key for the duration of the block."""
    added = devtools.send("WebAuthn.addVirtualAuthenticator", {"options": {**KEY, **options}})
    yield added["authenticatorId"]
    devtools.send(
        "WebAuthn.removeVirtualAuthenticator", {"authenticatorId": added["authenticatorId"]}
    )


def enter_password(page: Page, url: str) -> None:
    page.goto(f"{url}/accounts/logout/")
    if page.is_visible("main button:has-text('Sign out')"):
        page.click("main button:has-text('Sign out')")
    page.goto(f"{url}/accounts/login/")
    page.fill("#id_login", "nora")
    page.fill("#id_password", PASSWORD)
    page.click("main button:has-text('Sign in')")


def is_signed_in(page: Page, url: str) -> bool:
    return page.context.request.get(f"{url}/jobs/", max_redirects=0).status == 200


@pytest.mark.timeout(900)
def test_a_security_key_is_the_second_factor_until_it_is_removed(
    site: str, open_page: OpenPage
) -> None:
    page = open_page()
    page.emulate_media(reduced_motion="reduce")
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")

    with connected_key(devtools) as key:
        enter_password(page, site)
        page.wait_for_url(f"{site}/accounts/second-factor/")
        pages = [findings_in_both_themes(page)]
        page.click("main a:has-text('Add a security key')")
        pages += [findings_in_both_themes(page)]
        page.fill("#id_password", PASSWORD)
        page.click("main button:has-text('Continue')")
        pages += [findings_in_both_themes(page)]
        page.fill("#id_name", "blue key")
        page.click("main button:has-text('Add the key')")
        expect(page.locator(".recovery-codes li")).to_have_count(10)
        pages += [findings_in_both_themes(page)]
        recovery = page.locator(".recovery-codes li").first.inner_text()
        page.click("main a:has-text('I have stored them')")

        enter_password(page, site)
        pages += [findings_in_both_themes(page)]
        assert not is_signed_in(page, site)
        page.click(USE)
        page.wait_for_url(f"{site}/")
        assert is_signed_in(page, site)

        # a key that answers although nobody touches it
        enter_password(page, site)
        bits = {"authenticatorId": key, "isBadUP": True}
        devtools.send("WebAuthn.setResponseOverrideBits", bits)
        page.click(USE)
        expect(page.locator("[role=alert]").first).to_contain_text("was not accepted")
        devtools.send("WebAuthn.setResponseOverrideBits", {"authenticatorId": key})

        # a key that waits for a touch
        touch = {"authenticatorId": key, "enabled": False}
        devtools.send("WebAuthn.setAutomaticPresenceSimulation", touch)
        page.click(USE)
        expect(page.locator("[data-key-busy]")).to_contain_text("Touch your security key")
        assert not is_signed_in(page, site)
        page.reload()
        devtools.send("WebAuthn.setAutomaticPresenceSimulation", {**touch, "enabled": True})
        page.click(USE)
        page.wait_for_url(f"{site}/")

        page.goto(f"{site}/accounts/second-factor/")
        page.click("main a[aria-label='Rename blue key']")
        if page.is_visible("#id_password"):
            page.fill("#id_password", PASSWORD)
            page.click("main button:has-text('Continue')")
        pages += [findings_in_both_themes(page)]
        page.fill("#id_name", "green key")
        page.click("main button:has-text('Save')")
        assert page.is_visible("main >> text=green key")
        pages += [findings_in_both_themes(page)]

    enter_password(page, site)
    with connected_key(devtools):  # of somebody else
        page.click(USE)
        expect(page.locator("[data-key-failed]")).to_contain_text("Connect the right key")
        assert not is_signed_in(page, site)
        page.fill("#id_code", recovery)
        page.click("main button:text-is('Sign in')")
        page.wait_for_url(f"{site}/")
        page.goto(f"{site}/accounts/second-factor/")
        page.click("main a[aria-label='Remove green key']")
        if page.is_visible("#id_password"):
            page.fill("#id_password", PASSWORD)
            page.click("main button:has-text('Continue')")
        pages += [findings_in_both_themes(page)]
        page.click("main button:has-text('Remove')")
        page.wait_for_url(f"{site}/accounts/second-factor/")
        assert page.is_visible("text=requires a second factor")
    assert pages == [[]] * len(pages)


def test_the_page_says_what_security_keys_need(site: str, open_page: OpenPage) -> None:
    page = open_page(javascript=False)
    enter_password(page, site)
    expect(page.locator("main >> text=Security keys need JavaScript")).to_be_visible()
    expect(page.locator("main a:has-text('Set up an app')")).to_be_visible()

    by_address = site.replace("localhost", "127.0.0.1")
    page = open_page()
    enter_password(page, by_address)
    expect(page.locator("main >> text=only at an address with a host name and TLS")).to_be_visible()
    expect(page.locator("main a:has-text('Set up an app')")).to_be_visible()
    assert not page.is_visible("main a:has-text('Add a security key')")
