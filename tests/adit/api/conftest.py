"""Fixtures of the tests of the API."""

import pytest
from lab.api import ApiClient, make_api_client

from adit.accounts.models import User


@pytest.fixture
def api(coordinator: User) -> ApiClient:
    """A client with all scopes of the coordinator."""
    return make_api_client(coordinator)
