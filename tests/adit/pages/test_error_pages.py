"""Error pages for 403, 404, 500, 503 and missing CSRF tokens."""

from collections.abc import Callable, Iterator

import pytest
from django.core.exceptions import PermissionDenied
from django.db.utils import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import include, path

from adit.accounts.models import User

SECRET = "MUSTERMANN^ERIKA"


def _mistake(request: HttpRequest) -> HttpResponse:
    raise ValueError(SECRET)


def _away(request: HttpRequest) -> HttpResponse:
    raise OperationalError(SECRET)


def _forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied(SECRET)


urlpatterns = [
    path("mistake", _mistake),
    path("away", _away),
    path("forbidden", _forbidden),
    path("", include("adit.config.urls")),
]
handler403 = "adit.pages.views.permission_denied"
handler500 = "adit.pages.views.server_error"


@pytest.fixture
def client(coordinator: User, as_user: Callable[[User], Client]) -> Iterator[Client]:
    with override_settings(ROOT_URLCONF=__name__):
        yield as_user(coordinator)


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        ("/nothing/here", 404, "Page not found"),
        ("/forbidden", 403, "Permission denied"),
        ("/mistake", 500, "An internal error occurred"),
        ("/away", 503, "ADIT is temporarily unavailable"),
    ],
)
def test_error_pages_show_a_message_without_details_of_the_exception(
    address: str, status: int, says: str, client: Client
) -> None:
    response = client.get(address)

    page = response.content.decode()
    assert response.status_code == status
    assert says in page
    assert "Traceback" not in page
    assert SECRET not in page


def test_the_page_for_a_missing_permission_names_it(client: Client) -> None:
    response = client.get("/trail/")

    assert response.status_code == 403
    assert "You need the permission “Read the audit trail”" in response.content.decode()


def test_the_page_for_an_unavailable_database_sets_retry_after(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = client.get("/away")

    assert response["Retry-After"] == "30"


def test_a_post_without_csrf_token_gets_an_explanation(coordinator: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(coordinator)

    response = client.post("/accounts/theme/", {"theme": "dark"})

    assert response.status_code == 403
    assert "The form has expired" in response.content.decode()
