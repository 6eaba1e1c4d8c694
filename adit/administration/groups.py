"""Create and change groups: members, permissions, access to nodes. Used by the pages of groups."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission
from django.db import transaction

from adit.accounts.models import SecondFactorGroup, User
from adit.administration.checks import (
    lock_groups,
    recording_refusal,
    require_administrator,
    require_may_manage,
)
from adit.administration.effective_access import Access, named_permissions
from adit.audit.changes import compare_values
from adit.audit.trail import record
from adit.nodes.models import Node, NodeAccess


@dataclass(frozen=True, slots=True)
class GroupData:
    """The values of a group that its page shows. `access` has all nodes: may read, may write."""

    name: str
    members: Collection[User]
    permissions: Collection[Permission]
    access: Mapping[Node, tuple[bool, bool]]
    requires_second_factor: bool = False

    def get_access(self, group: Group | None) -> Access:
        """Return what the members may do by this group; its research projects stay as they are."""
        held = Access.of_groups([group]) if group is not None else Access()
        return Access(
            frozenset(permission.codename for permission in self.permissions),
            frozenset(node.pk for node, (reads, _) in self.access.items() if reads),
            frozenset(node.pk for node, (_, writes) in self.access.items() if writes),
            held.projects,
            held.held_lists,
            held.reidentified,
        )


@dataclass(frozen=True, slots=True)
class GroupChange:
    """What a change of a group newly allows: to all members, and to new members."""

    access: Access
    new_members: list[User]
    whole_access: Access
    """What new members may do by this group."""

    def __bool__(self) -> bool:
        return bool(self.access) or bool(self.new_members and self.whole_access)


def compare_group(group: Group | None, data: GroupData) -> GroupChange:
    """Return what the change would newly allow. Changes nothing."""
    whole = data.get_access(group)
    held = Access.of_groups([group]) if group is not None else Access()
    present = set(group.user_set.all()) if group is not None else set()
    new = sorted(set(data.members) - present, key=lambda user: user.username)
    return GroupChange(whole - held, new, whole)


def save_group(actor: User, group: Group | None, data: GroupData) -> Group:
    """Create or change a group. Raise NotPermitted, InvalidInput."""
    target = group if group is not None else Group(name=data.name)
    with recording_refusal(actor, target), transaction.atomic():
        lock_groups()
        before = _describe(group) if group is not None else {}
        held = Access.of_groups([group]) if group is not None else Access()
        require_may_manage(actor, held | data.get_access(group))
        action = "group.changed" if group is not None else "group.created"
        group = target
        group.name = data.name
        group.save()
        group.permissions.set(data.permissions)
        group.user_set.set(data.members)
        _save_access(group, data.access)
        _save_second_factor(group, data.requires_second_factor)
        require_administrator()
        details = {"group": group.name, **compare_values(before, _describe(group))}
        record(action, user=actor, about=f"group:{group.pk}", details=details)
    return group


def _save_access(group: Group, access: Mapping[Node, tuple[bool, bool]]) -> None:
    for node, (reads, writes) in access.items():
        rows = NodeAccess.objects.filter(group=group, node=node)
        if reads or writes:
            rows.update_or_create(
                group=group, node=node, defaults={"may_read": reads, "may_write": writes}
            )
        else:
            rows.delete()


def _save_second_factor(group: Group, is_required: bool) -> None:
    if is_required:
        SecondFactorGroup.objects.get_or_create(group=group)
    else:
        SecondFactorGroup.objects.filter(group=group).delete()


def _describe(group: Group) -> dict[str, object]:
    rows = NodeAccess.objects.filter(group=group).select_related("node")
    codenames = named_permissions().filter(group=group).values_list("codename", flat=True)
    return {
        "name": group.name,
        "members": sorted(group.user_set.values_list("username", flat=True)),
        "permissions": sorted(codenames),
        "fetch_from": sorted(row.node.name for row in rows if row.may_read),
        "requires_second_factor": SecondFactorGroup.objects.filter(group=group).exists(),
        "send_to": sorted(row.node.name for row in rows if row.may_write),
    }
