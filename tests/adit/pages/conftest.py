"""What the tests of home, help and account share: a browser for each person."""

from collections.abc import Callable

import pytest
from django.test import Client

from adit.accounts.models import User


@pytest.fixture
def as_user() -> Callable[[User], Client]:
    """A browser in which this person is signed in."""

    def client_of(user: User) -> Client:
        client = Client(raise_request_exception=False)
        client.force_login(user)
        return client

    return client_of
