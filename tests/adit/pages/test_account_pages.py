"""One's own account: sign-in, colours, what one may do."""

from collections.abc import Callable

import pytest
from django.test import Client

from adit.accounts.models import Theme, User

PASSWORD = "a long enough password"
AsUser = Callable[[User], Client]


def test_sign_in_leads_home(coordinator: User) -> None:
    client = Client()

    response = client.post(
        "/accounts/login/", {"login": coordinator.username, "password": PASSWORD}
    )

    assert response.status_code == 302
    assert response["Location"] == "/"


def test_wrong_password_says_what_to_do_and_keeps_the_name_only(coordinator: User) -> None:
    response = Client().post(
        "/accounts/login/", {"login": coordinator.username, "password": "not the right one"}
    )

    page = response.content.decode()
    assert 'role="alert"' in page
    assert "Caps Lock" in page
    assert f'value="{coordinator.username}"' in page
    assert "not the right one" not in page


def test_nobody_can_open_an_account_alone(db: None) -> None:
    assert Client().get("/accounts/signup/").status_code == 404


@pytest.mark.parametrize("theme", Theme.values)
def test_colours_are_kept(theme: str, coordinator: User, as_user: AsUser) -> None:
    client = as_user(coordinator)

    response = client.post("/accounts/theme/", {"theme": theme, "next": "/help/jobs"})

    assert response["Location"] == "/help/jobs"
    assert f'data-bs-theme="{theme}"' in client.get("/").content.decode()


def test_colours_never_lead_to_another_host(coordinator: User, as_user: AsUser) -> None:
    response = as_user(coordinator).post(
        "/accounts/theme/", {"theme": "pink", "next": "https://elsewhere.example/"}
    )

    coordinator.refresh_from_db()
    assert response["Location"] == "/"
    assert coordinator.theme == Theme.AUTO


def test_profile_says_what_i_may_do(coordinator: User, as_user: AsUser) -> None:
    page = as_user(coordinator).get("/accounts/profile/").content.decode()

    assert "See names and birth dates" in page
    assert "Coordinators" in page


def test_profile_keeps_a_wrong_address_in_the_form(coordinator: User, as_user: AsUser) -> None:
    response = as_user(coordinator).post("/accounts/profile/", {"email": "no address"})

    assert response.status_code == 422
    assert "no address" in response.content.decode()


def test_new_password_leads_back_to_the_account(coordinator: User, as_user: AsUser) -> None:
    client = as_user(coordinator)
    new = "four words in a row"

    response = client.post(
        "/accounts/password/change/",
        {"oldpassword": PASSWORD, "password1": new, "password2": new},
    )

    coordinator.refresh_from_db()
    assert response["Location"] == "/accounts/profile/"
    assert coordinator.check_password(new)
    assert client.get("/accounts/profile/").status_code == 200
