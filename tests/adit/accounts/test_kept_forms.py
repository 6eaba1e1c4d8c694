"""A form that is sent after the session has ended comes back after sign-in, to its user only."""

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from adit.accounts import kept_forms
from adit.accounts.filled_html import _Splitter, fill_form
from adit.accounts.models import User, UserSession
from adit.accounts.sessions import SessionStore
from adit.nodes.forms import get_settings_form_class, is_secret
from adit.nodes.models import Node
from adit_engine.nodes import KINDS

pytestmark = pytest.mark.django_db

PASSWORD = "a long enough password"
REASON = 'Migration of "PACS1" & <all> its disks'
NOTICE = "You were signed out. What you typed is back; nothing was sent."
ORIGIN = {"Origin": "http://testserver"}


class Browser:
    """A browser with its cookies; forms carry the token of the page that showed them."""

    def __init__(self) -> None:
        self.client = Client(enforce_csrf_checks=True)

    def open(self, address: str, **values: str) -> str:
        return self.client.get(address, values).content.decode()

    def send(self, address: str, token: str, page: str = "", **values: object) -> HttpResponse:
        headers = ORIGIN | {"Referer": f"http://testserver{page or address}"}
        data = {"csrfmiddlewaretoken": token, **values}
        return self.client.post(address, data, headers=headers)

    def sign_in(self, user: User, to: str = "/") -> HttpResponse:
        token = token_of(self.open("/accounts/login/", next=to))
        data = {"login": user.username, "password": PASSWORD, "next": to}
        return self.send("/accounts/login/", token, **data)

    def lose_session(self) -> None:
        UserSession.objects.all().delete()


def token_of(page: str) -> str:
    return re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[0]


@pytest.fixture
def browser() -> Browser:
    return Browser()


@pytest.fixture
def page(source: Node) -> str:
    return reverse("node_pause", args=[source.pk])


def test_what_was_typed_is_back_after_sign_in_and_nothing_was_sent(
    browser: Browser, page: str, pacsadmin: User, source: Node
) -> None:
    browser.sign_in(pacsadmin)
    token = token_of(browser.open(page))
    browser.lose_session()

    refused = browser.send(page, token, reason=REASON)
    sent_to = browser.sign_in(pacsadmin, refused["Location"].partition("next=")[2])
    shown = browser.open(page)

    assert refused["Location"] == f"/accounts/login/?next={page.replace('/', '%2F')}"
    assert sent_to.status_code == 302
    assert NOTICE in shown
    assert "Migration of &quot;PACS1&quot; &amp; &lt;all&gt; its disks" in shown
    source.refresh_from_db()
    assert source.paused_at is None
    assert NOTICE not in browser.open(page)
    assert browser.send(page, token_of(shown), reason=REASON).status_code == 302
    source.refresh_from_db()
    assert source.pause_reason == REASON


def test_what_was_typed_is_shown_to_no_other_user(
    browser: Browser, page: str, pacsadmin: User, root: User
) -> None:
    browser.sign_in(pacsadmin)
    token = token_of(browser.open(page))
    browser.lose_session()
    browser.send(page, token, reason=REASON)

    browser.sign_in(root)

    assert NOTICE not in browser.open(page)
    assert "Migration" not in browser.open(page)


def test_a_form_of_the_previous_user_does_not_come_back_to_the_next_one(
    browser: Browser, page: str, pacsadmin: User, root: User
) -> None:
    browser.sign_in(pacsadmin)
    token = token_of(browser.open(page))
    browser.lose_session()
    browser.sign_in(root)

    refused = browser.send(page, token, reason=REASON)

    assert refused.status_code == 403
    assert "The form has expired" in refused.content.decode()
    assert NOTICE not in browser.open(page)


def test_a_form_with_a_stale_token_comes_back_to_the_user_who_signed_in_in_another_tab(
    browser: Browser, page: str, pacsadmin: User, source: Node
) -> None:
    browser.sign_in(pacsadmin)
    token = token_of(browser.open(page))
    browser.lose_session()
    browser.sign_in(pacsadmin)

    refused = browser.send(page, token, reason=REASON)

    assert refused.status_code == 302
    assert refused["Location"] == page
    assert NOTICE in browser.open(page)
    source.refresh_from_db()
    assert source.paused_at is None


def test_the_form_of_an_action_comes_back_on_the_page_that_showed_it(
    browser: Browser, source: Node, pacsadmin: User
) -> None:
    browser.sign_in(pacsadmin)
    page = reverse("node", args=[source.pk])
    token = token_of(browser.open(page))
    browser.lose_session()

    action = reverse("node_fetch", args=[source.pk])
    refused = browser.send(action, token, page, study_uid="1.2.3.4")
    browser.sign_in(pacsadmin)

    assert refused["Location"].endswith(page.replace("/", "%2F"))
    assert re.search(r'name="study_uid" value="1.2.3.4"|value="1.2.3.4"', browser.open(page))


def test_passwords_and_files_are_never_kept_and_the_notice_says_so(
    browser: Browser, pacsadmin: User, make_node: Callable[..., Node]
) -> None:
    web = {"url": "https://pacs1.example/dicom-web", "sign_in": "basic", "user": "adit"}
    page = reverse("node_edit", args=[make_node("Web", kind="dicomweb", settings=web).pk])
    browser.sign_in(pacsadmin)
    token = token_of(browser.open(page))
    browser.lose_session()

    values = {"settings-user": "typed-user", "settings-password": "canary-secret"}
    browser.send(page, token, **values, file=SimpleUploadedFile("a", b"canary-file"))
    (kept,) = UserSession.objects.all()
    sealed = SessionStore().decode(kept.data)["kept_form"]
    browser.sign_in(pacsadmin)
    shown = browser.open(page)

    assert "typed-user" not in sealed
    assert 'value="typed-user"' in shown
    assert "canary" not in shown
    assert "Passwords and files have to be entered again." in shown


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", ""])
def test_another_site_cannot_place_values_into_a_form(
    origin: str, browser: Browser, page: str, pacsadmin: User
) -> None:
    browser.sign_in(pacsadmin)
    token = token_of(browser.open(page))
    browser.lose_session()

    data = {"csrfmiddlewaretoken": token, "reason": REASON}
    browser.client.post(page, data, headers={"Origin": origin} if origin else {})
    browser.sign_in(pacsadmin)

    assert NOTICE not in browser.open(page)


def test_values_are_kept_for_half_an_hour(browser: Browser, page: str, pacsadmin: User) -> None:
    browser.sign_in(pacsadmin)
    token = token_of(browser.open(page))
    browser.lose_session()
    browser.send(page, token, reason=REASON)
    browser.sign_in(pacsadmin)

    with time_machine.travel(timezone.now() + timedelta(minutes=31), tick=False):
        assert NOTICE not in browser.open(page)


def test_a_form_sent_by_htmx_with_a_stale_token_leads_back_to_its_page(
    browser: Browser, source: Node, root: User
) -> None:
    page = reverse("job_new_selective")
    browser.sign_in(root)
    token = token_of(browser.open(page))
    browser.lose_session()
    browser.sign_in(root)

    headers = ORIGIN | {"Referer": f"http://testserver{page}", "HX-Request": "true"}
    data = {"csrfmiddlewaretoken": token, "patient_name": "Beispiel", "do": "search"}
    answer = browser.client.post(page, data, headers=headers)

    assert answer["HX-Redirect"] == page
    assert 'value="Beispiel"' in browser.open(page)


FORM = """<form method="post" action="/other/"><input name="name" value="first"></form>
<form method="POST" action="do/"><input type="hidden" name="csrf" value="1">
<input name="name" value="old"><input type="checkbox" name="box" value="a" checked>
<input type="checkbox" name="box" value="b"><input type=radio name="one" value="x">
<select name="kind"><option value="k1" selected>1</option><option value="k2">2</option></select>
<textarea name="text" rows="2">
old &amp; gone</textarea><button name="do" value="save">Save</button></form>"""


def test_every_type_of_field_gets_its_value_and_nothing_else_changes() -> None:
    values = {"name": ['n"<'], "box": ["b"], "one": ["x"], "kind": ["k2"], "text": ["</a>"]}

    filled, is_complete = fill_form(FORM, "/page/", "/page/do/", values | {"do": ["save"]})
    partly, is_all = fill_form(FORM, "/page/", "/page/do/", values | {"gone": ["lost"]})

    assert is_complete
    assert not is_all
    assert partly == filled
    assert filled == (
        FORM.replace('name="name" value="old"', 'name="name" value="n&quot;&lt;"')
        .replace(' value="a" checked', ' value="a"')
        .replace('value="b"', 'value="b" checked')
        .replace("type=radio", 'type="radio"')
        .replace('value="x"', 'value="x" checked')
        .replace('value="k1" selected', 'value="k1"')
        .replace('value="k2"', 'value="k2" selected')
        .replace("old &amp; gone", "&lt;/a&gt;")
    )


def test_a_page_is_split_without_any_change(root: User, source: Node) -> None:
    client = Client()
    client.force_login(root)
    for address in ("/", "/jobs/new/selective/", f"/nodes/{source.pk}/edit/", "/help/jobs"):
        html = client.get(address, follow=True).content.decode()
        splitter = _Splitter(address, address)
        splitter.feed(html)
        splitter.close()

        assert "".join(part.text for part in splitter.parts) == html


def test_every_field_for_a_secret_has_a_name_that_is_not_kept() -> None:
    names = [
        name
        for kind in KINDS
        for name, field in get_settings_form_class(kind).base_fields.items()
        if is_secret(field)
    ]
    names += ["password", "oldpassword", "password1", "archive_password", "archive_password_again"]

    assert len(names) > 6
    assert [name for name in names if not kept_forms.is_secret_name(name)] == []
