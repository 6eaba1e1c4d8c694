"""Permissions: what members of each group may do, and the error for other users."""

import pytest
from django.contrib.auth.models import AnonymousUser, Permission

from adit.accounts.models import User
from adit.accounts.permissions import (
    COORDINATORS,
    STANDARD_GROUPS,
    NotPermitted,
    Right,
    create_order_rights,
    create_standard_groups,
    has_right,
    order_right,
    require,
    require_active,
)

EVERY_RIGHT = [
    *Right,
    order_right("selective"),
    order_right("batch_query"),
    order_right("batch_transfer"),
]


def test_rights_and_permissions_of_the_user_model_are_the_same():
    assert {codename for codename, _ in User._meta.permissions} == set(Right)


@pytest.mark.parametrize("group", STANDARD_GROUPS)
def test_members_of_a_standard_group_have_exactly_its_rights(make_user, group):
    user = make_user("someone", group)

    assert {right for right in EVERY_RIGHT if has_right(user, right)} == STANDARD_GROUPS[group]


def test_rights_of_several_groups_add_up(make_user):
    user = make_user("someone", *STANDARD_GROUPS)

    assert {r for r in EVERY_RIGHT if has_right(user, r)} == set().union(*STANDARD_GROUPS.values())


def test_anonymous_users_and_users_without_a_group_have_no_rights(stranger):
    assert not any(has_right(stranger, right) for right in EVERY_RIGHT)
    assert not any(has_right(AnonymousUser(), right) for right in EVERY_RIGHT)


def test_a_superuser_has_all_rights(root):
    assert all(has_right(root, right) for right in EVERY_RIGHT)


@pytest.mark.parametrize("who", ["coordinator", "root"])
def test_a_deactivated_account_has_no_rights(request, who):
    user = request.getfixturevalue(who)
    user.is_active = False
    user.save()

    assert not any(has_right(user, right) for right in EVERY_RIGHT)
    with pytest.raises(NotPermitted, match="account is deactivated"):
        require_active(user)


def test_the_error_names_the_right_and_who_can_grant_it(stranger):
    with pytest.raises(NotPermitted, match=r"“Manage PACS and folders”.*Ask an administrator"):
        require(stranger, Right.MANAGE_NODES)


def test_a_new_kind_of_job_adds_a_right_that_groups_can_have(groups, make_user):
    create_order_rights(["mass_transfer"])
    create_order_rights(["mass_transfer"])
    groups[COORDINATORS].permissions.add(Permission.objects.get(codename="order_mass_transfer"))

    assert has_right(make_user("someone", COORDINATORS), order_right("mass_transfer"))


def test_creating_the_standard_groups_again_keeps_changed_rights(groups):
    groups[COORDINATORS].permissions.clear()

    assert create_standard_groups()[COORDINATORS].permissions.count() == 0
