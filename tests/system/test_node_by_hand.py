"""A PACS administrator adds a folder node, tests it, opens it and grants access to a group."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "no script"])
def test_a_new_folder_is_tested_opened_and_granted_to_a_group(
    scripted: bool, visit: Callable[..., Page], tmp_path: Path
) -> None:
    name = f"Share {'with' if scripted else 'without'} script"
    page = visit("pacsadmin", java_script_enabled=scripted)
    page.goto("/nodes/")

    page.click("a:text-is('Add')")
    page.click("main .card-go:has-text('Folder')")
    page.fill("#id_name", name)
    page.fill("#id_settings-path", str(tmp_path / "not there"))
    page.click("main form button:not([aria-hidden]):text-is('Save')")
    page.click("main form button:has-text('Test')")
    assert page.is_visible(".note-bad")

    page.click("main a:has-text('Edit')")
    page.fill("#id_settings-path", str(tmp_path))
    page.click("main form button:not([aria-hidden]):text-is('Save')")
    page.click("main form button:has-text('Test')")
    assert page.is_visible(".note-good")
    assert not page.is_visible(".note-bad")

    page.click("main form button:has-text('Open')")
    page.click("main a:has-text('Change')")
    page.check("tr:has-text('Coordinators') td:nth-of-type(2) input")
    page.click("main form button:not([aria-hidden]):text-is('Save')")

    coordinator = visit("coordinator", java_script_enabled=scripted)
    coordinator.goto("/nodes/")
    row = coordinator.locator(f"tr:has-text('{name}')")
    assert "open" in row.inner_text()
    assert "send to" in row.inner_text()
    assert str(tmp_path) not in coordinator.content()
