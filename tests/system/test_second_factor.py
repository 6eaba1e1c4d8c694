"""An invited coordinator sets password and second factor, and signs in with both, in a browser."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, web_server
from lab.mail_peer import mail_peer
from lab.totp import totp_code
from playwright.sync_api import Page
from test_administration import findings_in_both_themes

OpenPage = Callable[..., Page]
PASSWORD = "four words in a row"
INVITED = """
import django; django.setup()
from django.contrib.auth.models import Group
from adit.accounts import permissions
from adit.accounts.models import SecondFactorGroup, User
from adit.administration import one_time_links
groups = permissions.create_standard_groups()
user = User(username="nora", email="nora@hospital.example")
user.set_unusable_password()
user.save()
user.groups.add(groups["Coordinators"])
SecondFactorGroup.objects.create(group=groups["Coordinators"])
admin = User.objects.create_superuser("admin")
assert one_time_links.mail_password_link(user, one_time_links.create_password_link(admin, user))
"""


def enter_code(page: Page, secret: str) -> None:
    """Enter the code of the app; wait for the next one if the present one ends soon."""
    while time.time() % 30 > 25:
        page.wait_for_timeout(200)
    page.fill("#id_code", totp_code(secret))


def enter_password(page: Page, url: str) -> None:
    page.goto(f"{url}/accounts/login/")
    page.fill("#id_login", "nora")
    page.fill("#id_password", PASSWORD)
    page.click("main button:has-text('Sign in')")


def test_an_invited_coordinator_sets_up_a_second_factor_and_signs_in_with_it(
    tmp_path: Path, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mail_peer() as post_office:
        monkeypatch.setenv("ADIT_MAIL_HOST", "127.0.0.1")
        monkeypatch.setenv("ADIT_MAIL_PORT", str(post_office.port))
        environment = {
            **os.environ,
            "ADIT_DATA": str(tmp_path),
            "DJANGO_SETTINGS_MODULE": "adit.config.settings",
        }
        for command in (["-m", "adit.cli", "prepare"], ["-c", INVITED]):
            subprocess.run(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                timeout=60,
                check=True,
            )
        (invitation,) = post_office.wait_for(1)
        link = re.search(r"http://[^/]+(/\S+)", invitation.get_content())
        assert link is not None
        with web_server(tmp_path) as url:
            page = open_page()
            page.emulate_media(reduced_motion="reduce")
            page.goto(f"{url}{link[1]}")
            page.fill("[name=password1]", PASSWORD)
            page.fill("[name=password2]", PASSWORD)
            page.click("main button:has-text('Set the password')")
            enter_password(page, url)

            page.wait_for_url(f"{url}/accounts/second-factor/")
            assert page.is_visible("text=requires a second factor")
            page.goto(f"{url}/jobs/")
            assert page.url == f"{url}/accounts/second-factor/"
            pages = [findings_in_both_themes(page)]
            page.click("main a:has-text('Set up an app')")
            pages += [findings_in_both_themes(page)]
            page.fill("#id_password", PASSWORD)
            page.click("main button:has-text('Continue')")
            assert page.is_visible(".qr-code svg")
            pages += [findings_in_both_themes(page)]
            secret = page.inner_text("#secret")
            enter_code(page, secret)
            page.click("main button:has-text('Set up')")
            assert page.locator(".recovery-codes li").count() == 10
            pages += [findings_in_both_themes(page)]
            recovery = page.locator(".recovery-codes li").first.inner_text()
            page.click("main a:has-text('I have stored them')")
            assert page.url == f"{url}/"
            page.goto(f"{url}/accounts/logout/")
            page.click("main button:has-text('Sign out')")

            enter_password(page, url)
            pages += [findings_in_both_themes(page)]
            enter_code(page, secret)
            page.click("main button:has-text('Sign in')")
            page.wait_for_url(f"{url}/")
            assert page.is_visible("nav >> text=Jobs")
            assert pages == [[]] * 5

            page = open_page(javascript=False)
            enter_password(page, url)
            page.fill("#id_code", recovery)
            page.click("main button:has-text('Sign in')")
            page.wait_for_url(f"{url}/")
            assert page.is_visible("nav >> text=Jobs")
