"""What the tests of research projects and profiles share: a browser for each person."""

from collections.abc import Callable

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.test import Client

from adit.accounts.models import User
from adit.accounts.permissions import Right


@pytest.fixture(scope="session", autouse=True)
def static_folder() -> None:
    """WhiteNoise warns where there is none."""
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def as_user() -> Callable[[User | None], Client]:
    """A browser in which this person is signed in; None for nobody."""

    def client_of(user: User | None) -> Client:
        client = Client()
        if user is not None:
            client.force_login(user)
        return client

    return client_of


@pytest.fixture
def keyholder(make_user: Callable[..., User], groups: dict[str, Group]) -> User:
    """A member of the coordinators' projects who may re-identify."""
    holders = Group.objects.create(name="Key holders")
    holders.permissions.add(Permission.objects.get(codename=Right.REIDENTIFY))
    user = make_user("keyholder", "Coordinators")
    user.groups.add(holders)
    return user
