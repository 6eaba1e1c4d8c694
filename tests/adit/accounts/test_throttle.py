"""Pauses after wrong passwords: by account and by address, growing, and equal for unknown names."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from adit.accounts import throttle
from adit.accounts.models import User
from adit.audit.models import AuditEvent

PASSWORD = "a long enough password"
pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Iterator[Any]:
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


def sign_in(
    name: str, password: str = "wrong", address: str = "10.0.0.1", **headers: str
) -> HttpResponse:
    client = Client(REMOTE_ADDR=address, headers=headers)
    return client.post("/accounts/login/", {"login": name, "password": password})


def fail(times: int, name: str = "coordinator", address: str = "10.0.0.1") -> None:
    for _ in range(times):
        assert sign_in(name, address=address).status_code == 200


def test_five_wrong_passwords_are_followed_by_a_pause_even_for_the_right_one(
    coordinator: User, clock: Any
) -> None:
    fail(5)

    answer = sign_in("Coordinator ", PASSWORD, address="10.0.0.2")
    page = answer.content.decode()
    assert (answer.status_code, answer["Retry-After"]) == (429, "60")
    assert "The next attempt is possible in 1 minute." in page
    clock.shift(timedelta(seconds=61))
    assert sign_in("coordinator", PASSWORD, address="10.0.0.2").status_code == 302
    assert AuditEvent.objects.get(action="signin.locked").about == f"user:{coordinator.pk}"


def test_each_further_failure_doubles_the_pause_up_to_its_limit(
    coordinator: User, clock: Any
) -> None:
    fail(5)
    pauses = []
    for _ in range(6):
        pauses.append(int(sign_in("coordinator")["Retry-After"]))
        clock.shift(timedelta(seconds=pauses[-1] + 1))
        fail(1)

    assert pauses == [60, 120, 240, 480, 900, 900]


def test_attempts_during_a_pause_do_not_make_it_longer(coordinator: User, clock: Any) -> None:
    fail(5)
    assert {sign_in("coordinator").status_code for _ in range(20)} == {429}
    clock.shift(timedelta(seconds=61))

    assert sign_in("coordinator", PASSWORD).status_code == 302


def test_a_right_password_resets_the_count_of_the_account(coordinator: User, clock: Any) -> None:
    for _ in range(3):
        fail(4)
        assert sign_in("coordinator", PASSWORD).status_code == 302


def test_an_address_with_many_failures_is_paused_for_all_accounts(
    coordinator: User, clock: Any
) -> None:
    for number in range(20):
        clock.shift(timedelta(seconds=3))
        fail(1, f"guess-{number}", "2001:db8::%x" % (number + 1))

    assert sign_in("coordinator", PASSWORD, "2001:db8::ffff").status_code == 429
    assert sign_in("coordinator", PASSWORD, "2001:db8:0:1::1").status_code == 302


def test_an_unknown_account_is_paused_like_an_existing_one(coordinator: User, clock: Any) -> None:
    pages = []
    for name in ("coordinator", "nobody-knows"):
        fail(5, name, f"10.0.1.{len(pages)}")
        answer = sign_in(name, PASSWORD)
        pages.append((answer.status_code, answer["Retry-After"], answer.content))

    assert pages[0] == pages[1]
    with connection.cursor() as cursor:
        cursor.execute("SELECT cache_key, value FROM adit_cache")
        assert "nobody-knows" not in repr(cursor.fetchall())


def test_another_host_name_does_not_give_further_attempts(coordinator: User, clock: Any) -> None:
    fail(5)

    assert sign_in("coordinator", PASSWORD, host="localhost").status_code == 429


@pytest.mark.parametrize(("proxies", "status"), [(0, 429), (1, 302)])
def test_x_forwarded_for_counts_only_behind_a_trusted_proxy(
    settings: Any, coordinator: User, clock: Any, proxies: int, status: int
) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = proxies
    for number in range(20):
        clock.shift(timedelta(seconds=3))
        headers = {"x-forwarded-for": f"198.51.100.{number}, 10.0.0.9"}
        assert sign_in(f"guess-{number}", **headers).status_code == 200

    answer = sign_in("coordinator", PASSWORD, **{"x-forwarded-for": "198.51.100.77"})
    assert answer.status_code == status


def test_a_request_that_came_past_the_proxies_cannot_sign_in(
    settings: Any, coordinator: User
) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 2

    headers = {"x-forwarded-for": "198.51.100.77"}
    answer = sign_in("coordinator", PASSWORD, **headers)
    assert answer.status_code == 403
    assert "ADIT does not accept this request." in answer.content.decode()


def test_the_limit_of_password_changes_names_the_pause_too(
    coordinator: User, as_user: Callable[[User], Client]
) -> None:
    client = as_user(coordinator)
    form = {"oldpassword": "wrong", "password1": "x", "password2": "x"}

    answers = [client.post("/accounts/password/change/", form) for _ in range(6)]

    assert (answers[-1].status_code, answers[-1]["Retry-After"]) == (429, "60")


@pytest.mark.django_db(transaction=True)
def test_of_concurrent_attempts_only_the_allowed_ones_are_checked() -> None:
    def attempt(_: int) -> bool:
        try:
            throttle.ACCOUNT.count_attempt("someone")
        except throttle.TooManyAttempts:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(8) as pool:
        passed = list(pool.map(attempt, range(40)))
    cache.clear()

    assert sum(passed) == throttle.ACCOUNT.attempts
