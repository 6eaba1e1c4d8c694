"""What a user or a group may do: permissions, nodes and research projects, as sets to compare."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from django.contrib.auth.models import Group, Permission
from django.db.models import QuerySet

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.nodes.models import Node, NodeAccess
from adit.projects.models import Project
from adit.projects.services import USER_FIELDS


@dataclass(frozen=True, slots=True)
class Access:
    """Code names of permissions, and primary keys of nodes and projects."""

    permissions: frozenset[str] = frozenset()
    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()
    projects: frozenset[int] = frozenset()
    held_lists: frozenset[int] = frozenset()
    """Projects whose identification list is held."""
    reidentified: frozenset[int] = frozenset()
    """Projects whose patients may be found by pseudonym."""

    @classmethod
    def of_groups(cls, groups: Iterable[Group]) -> "Access":
        pks = [group.pk for group in groups]
        rows = list(NodeAccess.objects.filter(group__in=pks))
        held = named_permissions().filter(group__in=pks)
        return cls(
            frozenset(held.values_list("codename", flat=True)),
            frozenset(row.node_id for row in rows if row.may_read),
            frozenset(row.node_id for row in rows if row.may_write),
            *(_find_projects(f"{name}__in", pks) for name in USER_FIELDS),
        )

    @classmethod
    def of_user(cls, user: User) -> "Access":
        """Return what the account may do when it is active."""
        if user.is_superuser:
            return cls.everything()
        own = named_permissions().filter(user=user).values_list("codename", flat=True)
        as_person = (_find_projects(name, user) for name in USER_FIELDS.values())
        by_person = cls(frozenset(own), frozenset(), frozenset(), *as_person)
        return cls.of_groups(user.groups.all()) | by_person

    @classmethod
    def grantable_by(cls, user: User) -> "Access":
        """Return what the user may give to others: what the user holds or could give otherwise."""
        if has_right(user, Right.ADMINISTER):
            return cls.everything()
        held = cls.of_user(user)
        everything = cls.everything()
        if has_right(user, Right.MANAGE_NODES):
            held |= cls(reads=everything.reads, writes=everything.writes)
        if has_right(user, Right.MANAGE_PROJECTS):
            projects = everything.projects
            held |= cls(projects=projects, held_lists=projects, reidentified=projects)
        return held

    @classmethod
    def everything(cls) -> "Access":
        nodes = frozenset(Node.objects.values_list("pk", flat=True))
        projects = frozenset(Project.objects.values_list("pk", flat=True))
        return cls(
            frozenset(named_permissions().values_list("codename", flat=True)),
            nodes,
            nodes,
            projects,
            projects,
            projects,
        )

    def __or__(self, other: "Access") -> "Access":
        return Access(*(getattr(self, f.name) | getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: "Access") -> "Access":
        return Access(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def __bool__(self) -> bool:
        return any(getattr(self, f.name) for f in fields(self))


def _find_projects(relation: str, value: User | list[int]) -> frozenset[int]:
    return frozenset(Project.objects.filter(**{relation: value}).values_list("pk", flat=True))


def named_permissions() -> QuerySet[Permission]:
    """Return the permissions that groups can have; those of Django's own models are not used."""
    return Permission.objects.filter(
        content_type__app_label=User._meta.app_label, content_type__model=User._meta.model_name
    ).exclude(codename__in=_OF_DJANGO)


_OF_DJANGO = tuple(f"{verb}_user" for verb in ("add", "change", "delete", "view"))
