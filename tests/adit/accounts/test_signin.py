"""The audit trail records sign-ins, sign-outs and failures, but no mistyped secrets."""

import pytest
from django.contrib.auth import authenticate
from django.test import Client

from adit.accounts.models import User
from adit.audit.models import AuditEvent

PASSWORD = "a long enough password"


def last():
    return AuditEvent.objects.latest("id")


def test_signing_in_and_out_is_recorded(coordinator):
    client = Client()
    assert client.login(username="coordinator", password=PASSWORD)
    assert (last().action, last().user) == ("signin.done", coordinator)

    client.logout()
    assert (last().action, last().user) == ("signout.done", coordinator)


def test_a_failed_sign_in_is_recorded_with_account_and_address(rf, coordinator):
    request = rf.post("/", REMOTE_ADDR="10.1.2.3")

    assert authenticate(request, username="coordinator", password="wrong-canary") is None

    event = last()
    assert (event.action, event.user, event.about) == (
        "signin.failed",
        None,
        f"user:{coordinator.pk}",
    )
    assert event.details == {"address": "10.1.2.3"}
    assert "canary" not in repr(list(AuditEvent.objects.values()))


def test_an_unknown_user_name_is_not_recorded_in_clear_text(rf, coordinator):
    for _ in range(2):
        authenticate(rf.post("/"), username="my secret canary", password="x")

    first, second = AuditEvent.objects.filter(action="signin.failed")
    assert "canary" not in repr(list(AuditEvent.objects.values()))
    assert first.about == ""
    assert first.details["unknown_name"] == second.details["unknown_name"] != ""


def test_a_sign_in_to_a_deactivated_account_fails_and_is_recorded(coordinator):
    User.objects.update(is_active=False)

    assert not Client().login(username="coordinator", password=PASSWORD)
    assert last().about == f"user:{coordinator.pk}"


@pytest.mark.parametrize("password", [PASSWORD, "wrong"])
def test_sign_ins_on_the_page_are_recorded(coordinator, password):
    Client().post("/accounts/login/", {"login": "coordinator", "password": password})

    right = password == PASSWORD
    assert last().action == ("signin.done" if right else "signin.failed")
    assert last().about == f"user:{coordinator.pk}"
