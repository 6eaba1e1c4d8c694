"""People with different permissions to manage users."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group, Permission

from adit.accounts import permissions as standard
from adit.accounts.models import User
from adit.accounts.permissions import Right


@pytest.fixture
def admin(make_user: Callable[..., User]) -> User:
    """The only administrator, who is no superuser."""
    return make_user("admin", standard.ADMINISTRATORS)


@pytest.fixture
def clerk(make_user: Callable[..., User], groups: dict[str, Group]) -> User:
    """A coordinator who manages users, but may not grant any permission."""
    clerks = Group.objects.create(name="Clerks")
    clerks.permissions.set(Permission.objects.filter(codename=Right.MANAGE_USERS))
    user = make_user("clerk", standard.COORDINATORS)
    user.groups.add(clerks)
    return user
