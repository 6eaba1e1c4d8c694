"""Fixtures of the page tests."""

from collections.abc import Callable

import pytest
from django.test import Client

from adit.accounts.models import User


@pytest.fixture
def as_user() -> Callable[[User], Client]:
    """Factory of clients signed in as the given user."""

    def client_of(user: User) -> Client:
        client = Client(raise_request_exception=False)
        client.force_login(user)
        return client

    return client_of
