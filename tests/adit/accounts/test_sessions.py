"""Sessions: stored without keys, shown and ended on a page, ended by time and by a new password."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from adit.accounts import sessions
from adit.accounts.models import User, UserSession
from adit.audit.models import AuditEvent

PASSWORD = "a long enough password"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"
EDGE = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 Chrome/140.0.0.0 Edg/140"


def sign_in(user: User, agent: str = FIREFOX, address: str = "10.1.2.3") -> Client:
    client = Client(headers={"user-agent": agent}, REMOTE_ADDR=address)
    client.post("/accounts/login/", {"login": user.username, "password": PASSWORD})
    assert is_signed_in(client)
    return client


def is_signed_in(client: Client) -> bool:
    return client.get("/accounts/profile/").status_code == 200


def key_of(client: Client) -> str:
    return client.cookies["sessionid"].value


def test_the_database_holds_no_session_key(coordinator: User) -> None:
    client = sign_in(coordinator)

    with connection.cursor() as cursor:
        for table in ("accounts_usersession", "django_session"):
            cursor.execute(f"SELECT * FROM {table}")
            assert key_of(client) not in repr(cursor.fetchall())
    row = UserSession.objects.get(user=coordinator)
    stolen = Client()
    stolen.cookies["sessionid"] = row.digest
    assert not is_signed_in(stolen)


def test_the_page_lists_own_sessions_with_browser_address_and_the_current_one(
    coordinator: User, stranger: User
) -> None:
    here, _, _ = (
        sign_in(coordinator),
        sign_in(coordinator, EDGE, "2001:db8::7"),
        sign_in(stranger, address="10.9.9.9"),
    )

    page = here.get("/accounts/sessions/").content.decode()

    for text in ("Firefox, Windows", "10.1.2.3", "Edge, macOS", "2001:db8::7"):
        assert text in page
    assert "10.9.9.9" not in page
    assert page.count("This session") == 1
    assert key_of(here) not in page
    assert 'href="/accounts/sessions/"' in here.get("/accounts/profile/").content.decode()


def test_one_or_all_other_sessions_are_ended_and_recorded(coordinator: User) -> None:
    here, there, elsewhere, last = (sign_in(coordinator) for _ in range(4))
    rows = {client: sessions._hash_key(key_of(client)) for client in (there, elsewhere)}
    one = UserSession.objects.get(digest=rows[there])

    here.post(f"/accounts/sessions/{one.pk}/end/")
    assert [is_signed_in(client) for client in (here, there, elsewhere)] == [True, False, True]
    here.post("/accounts/sessions/end-others/")
    assert [is_signed_in(client) for client in (here, elsewhere, last)] == [True, False, False]

    events = AuditEvent.objects.filter(action="session.ended", user=coordinator)
    assert [event.details["sessions"] for event in events] == [1, 2]


def test_the_session_of_another_user_cannot_be_ended(coordinator: User, stranger: User) -> None:
    here, other = sign_in(coordinator), sign_in(stranger)
    row = UserSession.objects.get(user=stranger)

    assert here.post(f"/accounts/sessions/{row.pk}/end/").status_code == 404
    assert here.get(f"/accounts/sessions/{row.pk}/end/")["Location"] == "/accounts/sessions/"
    assert is_signed_in(other)


def test_a_session_ends_without_activity(coordinator: User) -> None:
    begin = timezone.now()
    with time_machine.travel(begin, tick=False) as clock:
        client = sign_in(coordinator)
        for _ in range(3):
            clock.shift(timedelta(hours=7))
            assert is_signed_in(client)
        clock.shift(timedelta(hours=5))
        assert client.get("/home/live", headers={"HX-Request": "true"}).status_code == 200
        clock.shift(timedelta(hours=4))
        assert not is_signed_in(client), "a page that refreshes itself is no activity"


def test_a_page_within_a_minute_does_not_write_the_session(coordinator: User) -> None:
    client = sign_in(coordinator)
    client.get("/accounts/sessions/")

    with CaptureQueriesContext(connection) as queries:
        client.get("/accounts/sessions/")

    assert not [query["sql"] for query in queries if not query["sql"].startswith("SELECT")]


def test_a_session_ends_two_weeks_after_the_sign_in_despite_activity(
    coordinator: User, settings: Any
) -> None:
    settings.SESSION_IDLE_S = 3 * 86400
    begin = timezone.now()
    with time_machine.travel(begin, tick=False) as clock:
        client = sign_in(coordinator)
        for day in range(2, 14, 2):
            clock.move_to(begin + timedelta(days=day))
            assert client.post("/accounts/theme/", {"theme": "dark"}).status_code == 302
            assert is_signed_in(client)
        clock.move_to(begin + timedelta(days=14, seconds=1))
        assert not is_signed_in(client)
        sessions.delete_ended()
    assert not UserSession.objects.filter(user=coordinator).exists()


def test_a_new_password_ends_the_other_sessions(coordinator: User) -> None:
    here, there = sign_in(coordinator), sign_in(coordinator)
    new = "four words in a row"

    here.post(
        "/accounts/password/change/",
        {"oldpassword": PASSWORD, "password1": new, "password2": new},
    )

    assert UserSession.objects.filter(user=coordinator).count() == 1
    assert (is_signed_in(here), is_signed_in(there)) == (True, False)
    page = here.get("/accounts/sessions/").content.decode()
    assert "Firefox, Windows" in page
    event = AuditEvent.objects.get(action="password.changed")
    assert (event.user, event.details["ended_sessions"]) == (coordinator, 1)


def test_signing_out_deletes_the_session(coordinator: User) -> None:
    client = sign_in(coordinator)
    stolen = Client()
    stolen.cookies["sessionid"] = key_of(client)
    assert is_signed_in(stolen)

    client.post("/accounts/logout/")

    assert not is_signed_in(stolen)
    assert not UserSession.objects.filter(user=coordinator).exists()


def test_a_session_that_was_ended_during_a_request_is_not_created_again(
    coordinator: User, as_user: Callable[[User], Client]
) -> None:
    client = as_user(coordinator)
    session = client.session
    session["late"] = True
    UserSession.objects.all().delete()

    with pytest.raises(sessions.UpdateError):
        session.save()
    assert not UserSession.objects.exists()
