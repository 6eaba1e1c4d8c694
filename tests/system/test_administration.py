"""The first administrator, a new user and a change of a group, in a browser."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Site, sign_in, web_server
from playwright.sync_api import Page
from test_accessibility import findings

OpenPage = Callable[..., Page]
Visit = Callable[..., Page]
NEW = "four words in a row"


def findings_in_both_themes(page: Page) -> list[str]:
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    dark = findings(page, "color-contrast", "link-in-text-block")
    page.emulate_media(color_scheme="light")
    return findings(page) + dark


def test_the_first_administrator_is_created_with_the_printed_link(
    tmp_path: Path, open_page: OpenPage
) -> None:
    environment = {**os.environ, "ADIT_DATA": str(tmp_path)}
    prepared = subprocess.run(
        [sys.executable, "-m", "adit.cli", "prepare"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    found = re.search(r"http://localhost:\d+(/setup/\?token=\S+)", prepared.stderr)
    assert found is not None, prepared.stderr

    with web_server(tmp_path) as url:
        scripted = open_page()
        scripted.goto(f"{url}{found[1]}")
        assert findings_in_both_themes(scripted) == []
        page = open_page(javascript=False)
        page.goto(f"{url}{found[1]}")
        page.fill("[name=username]", "anna")
        page.fill("[name=password1]", NEW)
        page.fill("[name=password2]", NEW)
        page.click("main button:has-text('Create the account')")
        assert page.is_visible("[role=status]:has-text('The account is created')")
        sign_in(page, url, "anna", NEW)
        page.click("nav >> text=Users")
        assert page.is_visible("td:has-text('Administrators')")
        scripted.reload()
        assert scripted.is_visible("text=This link is not valid")
        assert findings_in_both_themes(scripted) == []


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "no script"])
def test_a_new_user_sets_a_password_and_signs_in(
    scripted: bool, visit: Visit, staged: Site
) -> None:
    name = "nora" if scripted else "nils"
    page = visit("admin", java_script_enabled=scripted)
    page.goto("/users/new/")
    page.fill("[name=username]", name)
    page.check("label:has-text('Coordinators')")
    page.click("main button:has-text('Create the user')")
    assert page.is_visible("li:has-text('Fetch from PACS1')")
    if scripted:
        assert findings_in_both_themes(page) == []
    page.click("main button:has-text('Allow and save')")
    link = page.inner_text("#link")
    if scripted:
        assert findings_in_both_themes(page) == []

    person = visit("", java_script_enabled=scripted)
    person.goto(link.replace(link.split("/accounts/")[0], staged.url))
    if scripted:
        assert findings_in_both_themes(person) == []
    person.fill("[name=password1]", NEW)
    person.fill("[name=password2]", NEW)
    person.click("main button:has-text('Set the password')")

    sign_in(person, staged.url, name, NEW)
    assert person.is_visible("nav >> text=Jobs")
    assert not person.is_visible("nav >> text=Users")


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "no script"])
def test_a_change_of_a_group_is_shown_before_it_is_saved(scripted: bool, visit: Visit) -> None:
    page = visit("admin", java_script_enabled=scripted)
    page.goto("/groups/")
    page.click("main table a:has-text('Reviewers')")
    box = "label:has-text('Transfer outside the allowed hours')"
    before = page.is_checked(box)
    page.set_checked(box, True)
    page.click("main button:has-text('Save')")
    if not before:
        assert page.is_visible("li:has-text('Transfer outside the allowed hours')")
        page.click("main button:has-text('Back')")
        assert page.is_checked(box)
        page.click("main button:has-text('Save')")
        page.click("main button:has-text('Allow and save')")

    page.click("main table a:has-text('Reviewers')")
    assert page.is_checked(box)
    page.set_checked(box, False)
    page.click("main button:has-text('Save')")
    assert page.is_visible("[role=status]:has-text('is saved')")


def test_an_api_token_is_shown_once(visit: Visit) -> None:
    page = visit("coordinator", java_script_enabled=True)
    page.goto("/accounts/tokens/new/")
    page.fill("[name=name]", "browser test")
    page.check("label:has-text('Query: search')")
    page.click("main button:has-text('Create the token')")

    token = page.inner_text("#token")
    assert token.startswith("adit_")
    assert findings_in_both_themes(page) == []
    page.click("text=Done")
    assert page.is_visible("text=browser test")
    assert token not in page.content()
