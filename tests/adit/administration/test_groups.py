"""Groups: what a change newly allows, and who may make it."""

from collections.abc import Iterable

import pytest
from django.contrib.auth.models import Group, Permission

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right
from adit.administration import groups as service
from adit.administration.checks import describe_access
from adit.administration.effective_access import named_permissions
from adit.administration.groups import GroupData
from adit.administration.permission_texts import list_by_section
from adit.audit.models import AuditEvent
from adit.nodes import access
from adit.nodes.models import Node
from adit.projects.models import Project
from adit_engine.errors import InvalidInput

pytestmark = pytest.mark.django_db


def rights(*names: str) -> list[Permission]:
    return list(named_permissions().filter(codename__in=names))


def data_of(
    group: Group,
    *,
    members: Iterable[User] | None = None,
    permissions: Iterable[Permission] | None = None,
    nodes: dict[Node, tuple[bool, bool]] | None = None,
) -> GroupData:
    """The group as it is, apart from what is given."""
    return GroupData(
        group.name,
        list(group.user_set.all() if members is None else members),
        list(group.permissions.all() if permissions is None else permissions),
        nodes or {},
    )


def test_every_permission_is_explained_in_one_sentence() -> None:
    rows = [row for _title, section in list_by_section(named_permissions()) for row in section]

    assert {str(permission.codename) for permission, _label, _text in rows} >= set(Right)
    assert [label for _permission, label, text in rows if not text] == []


def test_a_saved_group_gives_its_members_permissions_and_nodes(
    admin: User, stranger: User, source: Node
) -> None:
    data = GroupData("Readers", [stranger], rights(Right.DOWNLOAD), {source: (True, False)})

    group = service.save_group(admin, None, data)

    member = User.objects.get(pk=stranger.pk)
    assert has_right(member, Right.DOWNLOAD)
    assert (access.may_read(member, source), access.may_write(member, source)) == (True, False)
    details = AuditEvent.objects.get(action="group.created", about=f"group:{group.pk}").details
    assert details["members"]["to"] == ["stranger"]
    assert details["fetch_from"]["to"] == [source.name]


def test_a_change_tells_what_it_newly_allows_and_whom(
    groups: dict[str, Group], coordinator: User, stranger: User, source: Node
) -> None:
    group = groups["Coordinators"]
    more = [*group.permissions.all(), *rights(Right.BE_URGENT)]

    change = service.compare_group(
        group,
        data_of(
            group,
            members=[coordinator, stranger],
            permissions=more,
            nodes={source: (True, True)},
        ),
    )

    assert change.access.permissions == {Right.BE_URGENT}
    assert (change.access.reads, change.access.writes) == (set(), {source.pk})
    assert change.new_members == [stranger]


def test_new_members_are_told_of_whom_they_may_identify(
    groups: dict[str, Group], coordinator: User, stranger: User, project: Project
) -> None:
    group = groups["Coordinators"]
    project.list_holders.add(group)
    project.reidentifiers.add(group)

    change = service.compare_group(group, data_of(group, members=[coordinator, stranger]))

    assert not change.access
    assert describe_access(change.whole_access)[-3:] == [
        f"Research project {project}",
        f"Hold the identification list of {project}",
        f"Re-identify patients of {project}",
    ]


def test_a_change_that_only_takes_away_needs_no_confirmation(
    groups: dict[str, Group], coordinator: User
) -> None:
    group = groups["Coordinators"]

    assert not service.compare_group(group, data_of(group, members=[], permissions=[]))


@pytest.mark.parametrize("right", [Right.TRANSFER_IDENTIFIED, Right.ADMINISTER])
def test_a_group_cannot_grant_what_the_granter_lacks(
    right: Right, clerk: User, admin: User
) -> None:
    data = GroupData("Mine", [clerk], rights(right), {})

    with pytest.raises(NotPermitted, match="do not have all of these permissions"):
        service.save_group(clerk, None, data)
    assert not Group.objects.filter(name="Mine").exists()
    event = AuditEvent.objects.get(action="group.refused")
    assert (event.user_id, event.details["group"]) == (clerk.pk, "Mine")

    service.save_group(admin, None, data)  # an administrator may grant anything


def test_access_to_a_node_is_granted_only_by_people_who_have_it(
    clerk: User, admin: User, source: Node
) -> None:
    secret = Node.objects.create(name="Secret PACS", kind="memory")
    service.save_group(clerk, None, GroupData("Ours", [], [], {source: (True, False)}))

    with pytest.raises(NotPermitted, match="Fetch from Secret PACS"):
        service.save_group(clerk, None, GroupData("Mine", [clerk], [], {secret: (True, False)}))


def test_members_of_a_group_with_more_permissions_are_out_of_reach(
    clerk: User, admin: User, groups: dict[str, Group]
) -> None:
    with pytest.raises(NotPermitted):
        service.save_group(
            clerk, groups["Administrators"], data_of(groups["Administrators"], members=[])
        )

    assert groups["Administrators"].user_set.get() == admin


@pytest.mark.parametrize("change", ["members", "permissions"])
def test_the_last_administrator_cannot_be_removed_with_the_group(
    change: str, admin: User, groups: dict[str, Group]
) -> None:
    group = groups["Administrators"]

    with pytest.raises(InvalidInput, match="administrator must remain"):
        service.save_group(admin, group, data_of(group, **{change: []}))

    assert has_right(User.objects.get(pk=admin.pk), Right.ADMINISTER)
    assert AuditEvent.objects.filter(action="group.refused", user=admin).count() == 1


def test_a_superuser_counts_as_an_administrator(
    root: User, admin: User, groups: dict[str, Group]
) -> None:
    service.save_group(
        admin, groups["Administrators"], data_of(groups["Administrators"], members=[])
    )

    assert groups["Administrators"].user_set.count() == 0
