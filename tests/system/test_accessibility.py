"""Accessibility of all pages (axe-core, WCAG 2.2 AA) in both color schemes, without JavaScript."""

import json
import os
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from conftest import PAGE_MS, SCREEN
from playwright.sync_api import Page, expect

AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
NOBODY = ""
NOWHERE = "/nothing/here"

PAGES = [
    (NOBODY, "/accounts/login/"),
    (NOBODY, "/accounts/password/forgotten/"),
    (NOBODY, "/accounts/request/"),
    (NOBODY, "/help/"),
    (NOBODY, "/help/?words=withheld"),
    (NOBODY, "/help/start"),
    (NOBODY, "/help/selective-transfer"),
    (NOBODY, "/help/jobs"),
    (NOBODY, "/help/batch-query"),
    (NOBODY, "/help/batch-transfer"),
    (NOBODY, "/help/archives"),
    (NOBODY, "/help/withheld"),
    (NOBODY, "/help/nodes"),
    (NOBODY, "/help/quarantine"),
    (NOBODY, "/help/projects"),
    (NOBODY, "/help/profiles"),
    (NOBODY, "/help/users"),
    (NOBODY, "/help/system-status"),
    (NOBODY, "/help/trail"),
    (NOBODY, "/help/sign-in"),
    (NOBODY, "/help/words"),
    (NOBODY, "/api/v1/docs"),
    (NOBODY, NOWHERE),
    ("admin", "/"),
    ("admin", "/users/"),
    ("admin", "/users/?text=nobody"),
    ("admin", "/users/new/"),
    ("admin", "/users/?is_service=True"),
    ("admin", "/users/new/service/"),
    ("admin", "/users/8/"),
    ("admin", "/users/8/token/"),
    ("admin", "/users/1/"),
    ("admin", "/users/1/edit/"),
    ("admin", "/users/1/deactivate/"),
    ("admin", "/users/1/anonymize/"),
    ("admin", "/users/requests/"),
    ("admin", "/users/requests/1/"),
    ("admin", "/users/tokens/"),
    ("admin", "/configuration/"),
    ("admin", "/system/"),
    ("admin", "/system/checks/"),
    ("admin", "/retention/"),
    ("admin", "/retention/preview/"),
    ("admin", "/retention/ledgers/"),
    ("dpo", "/block-list/"),
    ("dpo", "/block-list/new/"),
    ("dpo", "/block-list/recalls/"),
    ("dpo", "/block-list/recalls/1/"),
    ("dpo", "/block-list/1/recall/"),
    ("dpo", "/block-list/1/deliveries/"),
    ("dpo", "/block-list/1/end/"),
    ("dpo", "/jobs/6/recall/"),
    ("admin", "/groups/"),
    ("admin", "/groups/new/"),
    ("admin", "/groups/2/"),
    ("coordinator", "/notifications/"),
    ("coordinator", "/notifications/mails/"),
    ("coordinator", "/accounts/tokens/"),
    ("coordinator", "/accounts/tokens/new/"),
    ("coordinator", "/accounts/webhooks/"),
    ("coordinator", "/accounts/webhooks/new/"),
    ("coordinator", "/accounts/webhooks/1/"),
    ("coordinator", "/"),
    ("pacsadmin", "/"),
    ("stranger", "/"),
    ("coordinator", "/accounts/profile/"),
    ("coordinator", "/accounts/sessions/"),
    ("coordinator", "/accounts/second-factor/"),
    ("coordinator", "/accounts/second-factor/app/"),
    ("coordinator", "/accounts/second-factor/keys/add/"),
    ("coordinator", "/accounts/password/change/"),
    ("coordinator", "/accounts/logout/"),
    ("coordinator", "/nodes/"),
    ("coordinator", "/nodes/1/"),
    ("pacsadmin", "/nodes/"),
    ("pacsadmin", "/nodes/1/"),
    ("pacsadmin", "/nodes/4/"),
    ("pacsadmin", "/nodes/1/holidays/"),
    ("pacsadmin", "/nodes/1/sheet/"),
    ("pacsadmin", "/nodes/3/sheet/"),
    ("pacsadmin", "/nodes/1/month/"),
    ("pacsadmin", "/nodes/quarantine/"),
    ("pacsadmin", "/nodes/new/"),
    ("pacsadmin", "/nodes/new/dimse/"),
    ("pacsadmin", "/nodes/1/edit/"),
    ("pacsadmin", "/nodes/3/edit/"),
    ("pacsadmin", "/nodes/1/access/"),
    ("pacsadmin", "/nodes/1/pause/"),
    ("pacsadmin", "/nodes/1/stop/"),
    ("pacsadmin", "/nodes/stop/"),
    ("pacsadmin", "/nodes/budgets/"),
    ("coordinator", "/jobs/"),
    ("coordinator", "/jobs/?state=failure"),
    ("coordinator", "/jobs/1/"),
    ("coordinator", "/jobs/3/"),
    ("coordinator", "/jobs/7/"),
    ("coordinator", "/jobs/7/1/"),
    ("coordinator", "/jobs/8/delete/"),
    ("coordinator", "/jobs/new/selective/"),
    ("coordinator", "/jobs/3/report/"),
    ("coordinator", "/jobs/new/query/"),
    ("coordinator", "/jobs/new/transfer/"),
    ("coordinator", "/jobs/11/"),
    ("coordinator", "/jobs/11/results/"),
    ("coordinator", "/jobs/12/"),
    ("coordinator", "/jobs/12/rows/"),
    ("coordinator", "/jobs/downloads/"),
    ("coordinator", "/jobs/5/"),
    ("coordinator", "/jobs/5/1/"),
    ("reviewer", "/"),
    ("reviewer", "/jobs/5/1/"),
    ("reviewer", "/jobs/withheld/"),
    ("reviewer", "/jobs/withheld/1/"),
    ("reviewer", "/jobs/withheld/decisions/"),
    ("reviewer", "/jobs/withheld/decisions/1/"),
    ("dpo", "/"),
    ("stranger", "/projects/"),
    ("coordinator", "/projects/new/"),
    ("coordinator", "/projects/"),
    ("coordinator", "/projects/2/"),
    ("coordinator", "/projects/2/pseudonyms/"),
    ("coordinator", "/projects/2/import/"),
    ("keyholder", "/projects/2/"),
    ("keyholder", "/projects/2/pseudonyms/?page=2"),
    ("keyholder", "/projects/2/pseudonyms/1/"),
    ("keyholder", "/projects/2/pseudonyms/1/join/"),
    ("keyholder", "/projects/2/export/"),
    ("keyholder", "/projects/2/consent/"),
    ("keyholder", "/projects/2/consent/new/"),
    ("keyholder", "/projects/2/consent/upload/"),
    ("keyholder", "/projects/2/consent/export/"),
    ("keyholder", "/projects/2/consent/remove/"),
    ("keyholder", "/jobs/uids/2/"),
    ("keyholder", "/projects/2/edit/"),
    ("keyholder", "/projects/2/extend/"),
    ("keyholder", "/projects/2/approval/"),
    ("keyholder", "/jobs/data-protection/?project=2"),
    ("keyholder", "/projects/2/destroy/"),
    ("keyholder", "/projects/3/"),
    ("keyholder", "/projects/3/pseudonyms/"),
    ("dpo", "/projects/new/"),
    ("dpo", "/projects/1/"),
    ("dpo", "/profiles/"),
    ("dpo", "/profiles/1/"),
    ("dpo", "/profiles/1/plain/"),
    ("dpo", "/profiles/1/next/"),
    ("keyholder", "/profiles/1/try/"),
    ("dpo", "/trail/"),
    ("dpo", "/trail/?action=project"),
    ("auditor", "/trail/patient/"),
    ("dpo", "/history/project/2/"),
]
"""User and path of each page. Add new pages here."""

Visit = Callable[..., Page]


def findings(page: Page, *rules: str) -> list[str]:
    """Violations that axe-core finds on the current page, by default with RULES."""
    options = {"runOnly": {"type": "rule", "values": rules}} if rules else RULES
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    result = page.evaluate("options => axe.run(document, options)", options)
    broken = [rule["id"] for rule in result["incomplete"] if not rule["nodes"]]
    assert broken == [], "axe could not evaluate these rules"
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in result["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("person", dict.fromkeys(person for person, _ in PAGES))
def test_each_page_is_accessible(person: str, visit: Visit) -> None:
    """Check axe rules in both color schemes, inline code, and the width at 200 % zoom."""
    page = visit(person)
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    found = {}
    for path in (path for who, path in PAGES if who == person):
        page.set_viewport_size(SCREEN)
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        response = page.goto(path)
        found[path] = [
            *(
                []
                if response and response.status == (404 if path == NOWHERE else 200)
                else ["status"]
            ),
            *problems(page),
            *(text for text in said if "404 (Not Found)" not in text),
        ]
        said.clear()
    assert {path: some for path, some in found.items() if some} == {}


def problems(page: Page) -> list[str]:
    """Return what is wrong with the current page."""
    page.evaluate("document.querySelectorAll('main details').forEach(part => (part.open = true))")
    found = findings(page)
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found += [f"dark: {one}" for one in findings(page, "color-contrast", "link-in-text-block")]
    page.set_viewport_size({"width": 683, "height": 384})
    for what, count in {
        "wider than the screen": "document.documentElement.scrollWidth - window.innerWidth",
        "inline style": "document.querySelectorAll('[style], style').length",
        "inline script": "document.querySelectorAll('script:not([src])').length",
    }.items():
        if page.evaluate(count) > 0:
            found.append(what)
    return found


def check_in_both_schemes(page: Page) -> None:
    found = {"light": findings(page)}
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found["dark"] = findings(page, "color-contrast", "link-in-text-block")
    page.emulate_media(color_scheme="light")
    assert found == {"light": [], "dark": []}


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "no script"])
def test_an_uploaded_consent_list_is_checked_and_its_page_is_accessible(
    scripted: bool, visit: Visit
) -> None:
    page = visit("keyholder", java_script_enabled=scripted)
    page.goto("/projects/2/consent/upload/")
    lines = "PatientID;Domain;Modality\nA-1;Elsewhere;\n;;CT\nB-2;;CT\n"
    file = {"name": "list.csv", "mimeType": "text/csv", "buffer": lines.encode()}
    page.set_input_files("[name=sheet]", file)  # type: ignore[arg-type]
    page.select_option("[name=domain]", index=1)
    page.click("main button:has-text('Upload and check')")

    assert page.is_visible("td:has-text('The patient ID is missing')")
    assert page.is_visible("label:has-text('Leave out the rows with errors')")
    if scripted:
        check_in_both_schemes(page)
        page.set_viewport_size({"width": 683, "height": 384})
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    page.click("main button:has-text('Discard')")
    assert page.url.endswith("/projects/2/consent/")


@pytest.mark.parametrize("is_possible", [True, False], ids=["possible", "with conflicts"])
def test_the_plan_of_a_configuration_file_is_accessible(is_possible: bool, visit: Visit) -> None:
    page = visit("admin")
    page.goto("/configuration/")
    with page.expect_download() as download:
        page.click("main button:has-text('Export')")
    content = json.loads(Path(download.value.path()).read_text())
    if is_possible:
        content = {name: content[name] for name in ("format", "version", "groups")}
        (reviewers,) = [group for group in content["groups"] if group["name"] == "Reviewers"]
        reviewers["permissions"].append("approve_jobs")
        content["groups"].append({**reviewers, "name": "Night shift"})
    else:
        content["projects"][0]["protocol_name"] = "New name"
    text = json.dumps(content).encode()
    file = {"name": "adit.json", "mimeType": "application/json", "buffer": text}
    page.set_input_files("[name=file]", file)  # type: ignore[arg-type]
    page.click("main button:has-text('Show the changes')")

    assert page.is_visible("h1:has-text('Import a configuration')")
    assert page.is_visible("h3.section-title")
    assert page.is_visible("main button:has-text('Allow and import')") is is_possible
    check_in_both_schemes(page)
    page.set_viewport_size({"width": 683, "height": 384})
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    if folder := os.environ.get("ADIT_PICTURES"):
        page.screenshot(path=f"{folder}/plan-{is_possible}.png", full_page=True)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_open_menu_and_the_help_dialog_are_accessible(dark: bool, visit: Visit) -> None:
    page = visit("pacsadmin", dark=dark)
    page.goto("/nodes/")

    page.click("details.menu summary")
    menu = findings(page)
    page.keyboard.press("Escape")
    page.click(".help-opens")
    dialog = findings(page)

    assert menu == []
    assert page.is_visible(".help-dialog")
    assert dialog == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("scripted", [True, False], ids=["script", "no script"])
@pytest.mark.parametrize(
    ("path", "topic"),
    [
        ("/jobs/new/query/", "batch-query"),
        ("/jobs/new/transfer/", "batch-transfer"),
        ("/jobs/downloads/", "archives"),
    ],
)
def test_the_help_dialogs_of_list_pages_are_accessible(
    path: str, topic: str, scripted: bool, dark: bool, visit: Visit
) -> None:
    page = visit("coordinator", dark=dark, java_script_enabled=scripted)
    page.goto(path)

    page.click(".help-opens")

    assert page.is_visible(f".help-dialog a[href='/help/{topic}']")
    if folder := os.environ.get("ADIT_PICTURES"):
        colours, script = "dark" if dark else "light", "" if scripted else "-plain"
        page.screenshot(path=f"{folder}/{topic}-{colours}{script}.png")
    if scripted:
        assert findings(page) == []


ANSWERS = [
    (NOBODY, "/accounts/login/", {"login": "nobody", "password": "wrong"}),
    (
        "pacsadmin",
        "/nodes/new/dimse/",
        {"name": "", "settings-port": "999999", "hours-0-begin": "8"},
    ),
    ("pacsadmin", "/nodes/1/pause/", {"reason": " "}),
    ("pacsadmin", "/nodes/3/", {}),
    ("dpo", "/projects/new/", {"protocol_id": "a b", "sponsor": ""}),
    ("keyholder", "/projects/2/destroy/", {"typed": "lung"}),
    ("keyholder", "/projects/2/pseudonyms/2/", {"reason": "incidental finding"}),
    ("keyholder", "/projects/2/export/", {"reason": ""}),
    ("dpo", "/profiles/1/next/", {"text": "no profile"}),
    ("keyholder", "/profiles/1/try/", {"study_uid": "1..2"}),
    ("dpo", "/trail/", {}),
    ("admin", "/users/new/", {"username": "coordinator"}),
    ("admin", "/users/1/deactivate/", {}),
    ("admin", "/users/1/anonymize/", {"typed": "nobody"}),
    (NOBODY, "/accounts/request/", {"email": "none"}),
    ("admin", "/groups/new/", {"name": ""}),
    ("coordinator", "/accounts/tokens/new/", {"name": ""}),
    ("coordinator", "/accounts/webhooks/new/", {"url": "x"}),
    ("coordinator", "/accounts/profile/", {"email": "none"}),
    ("coordinator", "/accounts/password/change/", {"password1": "short"}),
]
"""User, path and form values; the resulting page shows errors, findings or a message."""


@pytest.mark.parametrize(("person", "path", "typed"), ANSWERS)
def test_pages_after_a_form_submission_are_accessible(
    person: str, path: str, typed: dict[str, str], visit: Visit
) -> None:
    page = visit(person)
    page.goto(path)

    for name, text in typed.items():
        page.fill(f"main [name='{name}']", text)
    with page.expect_navigation():
        page.evaluate(
            "const form = document.querySelector('main form');"
            "form.noValidate = true; form.querySelector('button').click()"
        )

    found = {"light": findings(page)}
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found["dark"] = findings(page, "color-contrast", "link-in-text-block")
    assert page.is_visible("main [role=alert], main [role=status]")
    assert found == {"light": [], "dark": []}


@pytest.mark.parametrize("scripted", [True, False], ids=["script", "no script"])
def test_the_color_scheme_follows_the_system(scripted: bool, visit: Visit) -> None:
    grounds = []
    for dark in (False, True):
        page = visit("coordinator", dark=dark, java_script_enabled=scripted)
        page.goto("/")
        picture = page.screenshot(clip={"x": 4, "y": 300, "width": 8, "height": 8})
        grounds.append(picture)

    assert grounds[0] != grounds[1]


def test_the_theme_can_be_changed_without_javascript(visit: Visit) -> None:
    page = visit("dpo", java_script_enabled=False)
    page.goto("/help/jobs")

    page.click("details.menu summary")
    page.click(".menu-theme button[value=dark]")

    assert page.url.endswith("/help/jobs")
    assert page.get_attribute("html", "data-bs-theme") == "dark"


def test_the_help_dialog_opens_without_javascript(visit: Visit) -> None:
    page = visit("coordinator", java_script_enabled=False)
    page.goto("/nodes/")

    page.click(".help-opens")

    assert page.is_visible(".help-dialog")
    assert page.is_visible("text=Who may use it")


def test_a_wrong_password_shows_an_error_and_keeps_the_user_name(visit: Visit) -> None:
    page = visit(NOBODY, java_script_enabled=False)
    page.goto("/accounts/login/")

    page.fill("#id_login", "coordinator")
    page.fill("#id_password", "not the right one")
    page.click("main button:has-text('Sign in')")

    assert page.is_visible("[role=alert]")
    assert page.input_value("#id_login") == "coordinator"
    assert page.input_value("#id_password") == ""


def test_signing_in_and_out_works_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit(NOBODY)
    page.goto("/accounts/login/")
    expect(page.locator("#id_login")).to_be_focused(timeout=PAGE_MS)

    page.keyboard.type("dpo")
    page.keyboard.press("Tab")
    page.keyboard.type("a long enough password")
    page.keyboard.press("Enter")
    page.wait_for_url("/")
    page.focus("details.menu summary")
    page.keyboard.press("Enter")
    page.focus("text=Sign out")
    page.keyboard.press("Enter")
    page.wait_for_url("**/accounts/login/")

    page.goto("/")
    assert "/accounts/login/" in page.url


def test_the_live_part_of_the_home_page_updates_without_a_reload(visit: Visit) -> None:
    page = visit("coordinator")
    page.goto("/")
    page.click("details.menu summary")

    with page.expect_response("**/home/live") as answered:
        pass

    assert answered.value.status == 200
    page.wait_for_function("document.querySelector('#home-live .bar')")
    assert page.is_visible(".menu-sheet")
    assert page.locator("#home-live").count() == 1


def test_the_live_part_redirects_to_sign_in_after_the_session_has_ended(visit: Visit) -> None:
    page = visit("coordinator")
    page.goto("/")

    page.context.clear_cookies()

    page.wait_for_url("**/accounts/login/?next=/")


def test_the_live_part_is_kept_while_the_server_returns_errors(visit: Visit) -> None:
    page = visit("coordinator")
    page.goto("/")
    page.route("**/home/live", lambda route: route.fulfill(status=503, body="<h1>away</h1>"))

    with page.expect_response("**/home/live"):
        pass
    with page.expect_response("**/home/live"):
        pass

    assert page.is_visible("#home-live .bar")
    assert not page.is_visible("text=away")


def test_pages_of_signed_in_users_are_not_cached(visit: Visit) -> None:
    page = visit("coordinator")

    for path in ("/", "/nodes/", "/jobs/", "/help/jobs"):
        response = page.goto(path)
        assert response is not None
        assert "no-store" in response.headers["cache-control"]
