"""Account pages: sign-in, theme, profile, password."""

from collections.abc import Callable

import pytest
from django.test import Client

from adit.accounts.models import Theme, User

PASSWORD = "a long enough password"
AsUser = Callable[[User], Client]


def test_sign_in_redirects_to_the_home_page(coordinator: User) -> None:
    client = Client()

    response = client.post(
        "/accounts/login/", {"login": coordinator.username, "password": PASSWORD}
    )

    assert response.status_code == 302
    assert response["Location"] == "/"


def test_a_wrong_password_shows_help_and_keeps_only_the_user_name(coordinator: User) -> None:
    response = Client().post(
        "/accounts/login/", {"login": coordinator.username, "password": "not the right one"}
    )

    page = response.content.decode()
    assert 'role="alert"' in page
    assert "Caps Lock" in page
    assert f'value="{coordinator.username}"' in page
    assert "not the right one" not in page


def test_users_cannot_sign_up(db: None) -> None:
    assert Client().get("/accounts/signup/").status_code == 404


@pytest.mark.parametrize("theme", Theme.values)
def test_the_chosen_theme_is_saved(theme: str, coordinator: User, as_user: AsUser) -> None:
    client = as_user(coordinator)

    response = client.post("/accounts/theme/", {"theme": theme, "next": "/help/jobs"})

    assert response["Location"] == "/help/jobs"
    assert f'data-bs-theme="{theme}"' in client.get("/").content.decode()


def test_changing_the_theme_never_redirects_to_another_host(
    coordinator: User, as_user: AsUser
) -> None:
    response = as_user(coordinator).post(
        "/accounts/theme/", {"theme": "pink", "next": "https://elsewhere.example/"}
    )

    coordinator.refresh_from_db()
    assert response["Location"] == "/"
    assert coordinator.theme == Theme.AUTO


def test_the_profile_page_lists_permissions_and_groups(coordinator: User, as_user: AsUser) -> None:
    page = as_user(coordinator).get("/accounts/profile/").content.decode()

    assert "See names and birth dates" in page
    assert "Coordinators" in page


def test_the_profile_form_keeps_an_invalid_email_address(
    coordinator: User, as_user: AsUser
) -> None:
    response = as_user(coordinator).post("/accounts/profile/", {"email": "no address"})

    assert response.status_code == 422
    assert "no address" in response.content.decode()


def test_changing_the_password_redirects_to_the_profile_and_keeps_the_session(
    coordinator: User, as_user: AsUser
) -> None:
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
