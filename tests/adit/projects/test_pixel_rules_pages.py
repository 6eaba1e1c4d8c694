"""Page of a profile's pixel rules: add, change and remove rules in a draft; ambiguous rules."""

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.test import Client

from adit.accounts.models import User
from adit.projects import services
from adit.projects.models import ProfileVersion
from adit.projects.profile_versions import parse_rules

pytestmark = pytest.mark.django_db

AsUser = Callable[[User], Client]
US = "1.2.840.10008.5.1.4.1.1.6.1"
RULE = {
    "sop_class": US,
    "manufacturer": "Sonomaker",
    "model": "S9",
    "software": "V1",
    "rows": "60",
    "columns": "80",
    "rectangles": "0 0 80 10\n60, 50, 20, 10",
    "applies": "withheld",
    "reason": "looked at",
}


@pytest.fixture
def profile(db: None) -> ProfileVersion:
    return services.default_profile()


@pytest.fixture
def browser(dpo: User, as_user: AsUser) -> Client:
    return as_user(dpo)


def address(profile: ProfileVersion) -> str:
    return f"/profiles/{profile.pk}/pixels/"


def draft(page: bytes) -> str:
    found = re.search(r'<input type="hidden" name="text" value="([^"]*)"', page.decode())
    assert found is not None
    return unescape(found[1])


def begun(browser: Client, profile: ProfileVersion) -> str:
    return draft(browser.get(address(profile)).content)


def added(browser: Client, profile: ProfileVersion, text: str, **changes: str) -> bytes:
    values = {**RULE, **changes, "text": text, "do": "put"}
    return browser.post(address(profile), values).content


def test_pixel_rules_are_added_changed_and_saved_as_a_new_version(
    browser: Client, profile: ProfileVersion
) -> None:
    text = draft(added(browser, profile, begun(browser, profile)))
    page = browser.post(address(profile), {"text": text, "do": "change-0"}).content.decode()
    assert "Change rule 1" in page
    assert 'value="Sonomaker"' in page
    changed = draft(added(browser, profile, text, place="0", rectangles="0 0 80 12"))
    assert ProfileVersion.objects.filter(name=profile.name).count() == 1
    browser.post(address(profile), {"text": changed, "do": "save"})
    second = ProfileVersion.objects.get(name=profile.name, version=2)
    (rule,) = parse_rules(second).pixel_rules
    assert (rule.rectangles, rule.applies, rule.reason) == (
        ((0, 0, 80, 12),),
        "withheld",
        "looked at",
    )
    assert "113101" in parse_rules(second).options


def test_removing_the_last_pixel_rule_removes_option_113101(
    browser: Client, profile: ProfileVersion
) -> None:
    before = begun(browser, profile)
    text = draft(added(browser, profile, before))
    assert "113101" in text
    after = draft(browser.post(address(profile), {"text": text, "do": "remove-0"}).content)
    assert "113101" not in after
    assert "[[pixels]]" not in after


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rectangles": "0 0 81 10"}, "inside the image"),
        ({"rectangles": "0 0 80"}, "Line 1: enter four whole numbers"),
        ({"rectangles": ""}, ""),
        ({"rectangles": "", "reason": ""}, "needs a reason"),
        ({"model": "Gerät"}, "ASCII text"),
        ({"rows": "0"}, "greater than or equal to 1"),
    ],
)
def test_an_invalid_pixel_rule_is_rejected_and_the_form_keeps_its_input(
    changes: dict[str, str], says: str, browser: Client, profile: ProfileVersion
) -> None:
    text = begun(browser, profile)
    page = added(browser, profile, text, **changes)
    if not says:
        assert "none (no burned-in text)" in page.decode()
        assert draft(page) != text
        return
    assert says in unescape(page.decode())
    assert draft(page) == text
    assert 'value="Sonomaker"' in page.decode()


def test_a_duplicate_rule_for_a_device_is_rejected_with_its_line_number(
    browser: Client, profile: ProfileVersion
) -> None:
    text = draft(added(browser, profile, begun(browser, profile)))
    page = added(browser, profile, text, manufacturer="SONOMAKER").decode()
    assert re.search(r"Line \d+: Two pixel rules are for the same device and image size", page)


def test_an_invalid_draft_is_rejected_and_not_saved(
    browser: Client, profile: ProfileVersion
) -> None:
    answer = browser.post(address(profile), {"text": "name = 5", "do": "save"})
    assert answer.status_code == 422
    assert ProfileVersion.objects.count() == 1
