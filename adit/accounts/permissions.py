"""Permissions by name, checks for them, and the standard groups of a new installation.

Users get permissions from their groups; superusers have all. Used by all apps above accounts.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from django.contrib.auth.models import AnonymousUser, Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db.models import Q, QuerySet

from adit.accounts.models import User
from adit_engine.errors import AditError
from adit_engine.messages import Message

AnyUser = User | AnonymousUser

_ORDER_PREFIX = "order_"


class NotPermitted(AditError):
    """The user may not do this; a retry is pointless. The text names the permission or reason."""


class Right(StrEnum):
    """The named permissions. Those to order a kind of job come from `order_right`."""

    SEE_IDENTIFIED = "see_identified"
    TRANSFER_IDENTIFIED = "transfer_identified"
    CHOOSE_PSEUDONYMS = "choose_pseudonyms"
    USE_ARCHIVES = "use_archives"
    DOWNLOAD = "download"
    BE_URGENT = "be_urgent"
    APPROVE_JOBS = "approve_jobs"
    SEE_ALL_JOBS = "see_all_jobs"
    MANAGE_NODES = "manage_nodes"
    WRITE_CLINICAL = "write_clinical"
    MANAGE_PROJECTS = "manage_projects"
    MANAGE_PROFILES = "manage_profiles"
    MANAGE_USERS = "manage_users"
    ADMINISTER = "administer"
    TOKENS_WITHOUT_EXPIRY = "tokens_without_expiry"
    CONFIRM_PATIENTS = "confirm_patients"
    REVIEW_WITHHELD = "review_withheld"
    READ_TRAIL = "read_trail"
    MANAGE_BLOCK_LIST = "manage_block_list"


def order_right(kind: str) -> str:
    """Return the permission to order jobs of a kind. The kinds are defined in `adit.jobs` only."""
    return f"{_ORDER_PREFIX}{kind}"


def create_order_rights(kinds: Iterable[str]) -> None:
    """Create the permission to order each kind, so that groups can have it. Idempotent."""
    content_type = ContentType.objects.get_for_model(User)
    for kind in kinds:
        Permission.objects.get_or_create(
            content_type=content_type,
            codename=order_right(kind),
            defaults={"name": f"Order: {kind.replace('_', ' ')}"},
        )


def has_right(user: AnyUser, right: str) -> bool:
    """Return whether the user is active and has the permission; False for unknown ones."""
    return user.is_active and user.has_perm(f"accounts.{right}")


def require(user: AnyUser, right: str) -> None:
    """Raise NotPermitted, with the label of the permission and whom to ask unless `has_right`."""
    if not has_right(user, right):
        raise NotPermitted("permission.missing", permission=right_label(right))


def explain_missing_right(right: str) -> Message:
    """Return the label of the permission and whom to ask for it."""
    return Message("permission.missing", permission=right_label(right))


def right_label(right: str) -> str:
    """Return the name of the permission that pages show."""
    names = dict(User._meta.permissions)
    return names.get(right, right.removeprefix(_ORDER_PREFIX).replace("_", " "))


def require_active(user: AnyUser) -> None:
    """Raise NotPermitted for deactivated accounts and for anonymous users."""
    if not user.is_active:
        raise NotPermitted("permission.account-deactivated")


def administrators() -> QuerySet[User]:
    """Return the active people who manage users and may grant any permission."""
    users = User.objects.filter(is_active=True, is_service=False)
    for right in (Right.MANAGE_USERS, Right.ADMINISTER):
        held = Permission.objects.filter(content_type__app_label="accounts", codename=right)
        has_it = Q(groups__permissions__in=held) | Q(user_permissions__in=held)
        users = users.filter(Q(is_superuser=True) | has_it)
    return users.distinct()


ADMINISTRATORS = "Administrators"
COORDINATORS = "Coordinators"
PACS_ADMINISTRATORS = "PACS administrators"
DATA_PROTECTION = "Data protection"
REVIEWERS = "Reviewers"
RE_IDENTIFICATION = "Re-identification"

STANDARD_GROUPS: Mapping[str, frozenset[str]] = {
    ADMINISTRATORS: frozenset(
        {
            Right.ADMINISTER,
            Right.MANAGE_USERS,
            Right.MANAGE_NODES,
            Right.MANAGE_PROJECTS,
            Right.MANAGE_PROFILES,
            Right.SEE_ALL_JOBS,
            Right.READ_TRAIL,
        }
    ),
    COORDINATORS: frozenset(
        {
            order_right("selective"),
            order_right("batch_query"),
            order_right("batch_transfer"),
            Right.SEE_IDENTIFIED,
            Right.CHOOSE_PSEUDONYMS,
            Right.USE_ARCHIVES,
            Right.DOWNLOAD,
        }
    ),
    PACS_ADMINISTRATORS: frozenset(
        {
            Right.MANAGE_NODES,
            Right.SEE_ALL_JOBS,
            Right.BE_URGENT,
            Right.APPROVE_JOBS,
            Right.WRITE_CLINICAL,
        }
    ),
    DATA_PROTECTION: frozenset(
        {
            Right.READ_TRAIL,
            Right.SEE_ALL_JOBS,
            Right.MANAGE_PROJECTS,
            Right.MANAGE_PROFILES,
            Right.MANAGE_BLOCK_LIST,
        }
    ),
    REVIEWERS: frozenset({Right.REVIEW_WITHHELD, Right.SEE_IDENTIFIED, Right.SEE_ALL_JOBS}),
    RE_IDENTIFICATION: frozenset({Right.SEE_IDENTIFIED}),
}
"""No standard group may transfer identified data. Administrators do not see patients. Who may link
pseudonyms and patients is decided by project: see projects.services.
"""


def create_standard_groups() -> dict[str, Group]:
    """Return the standard groups by name. Existing groups keep their permissions."""
    create_order_rights(["selective", "batch_query", "batch_transfer"])
    groups = {}
    for name, rights in STANDARD_GROUPS.items():
        groups[name], is_new = Group.objects.get_or_create(name=name)
        if is_new:
            groups[name].permissions.set(_find_permissions(rights))
    return groups


def _find_permissions(rights: frozenset[str]) -> list[Permission]:
    found = Permission.objects.filter(
        content_type__app_label=User._meta.app_label, codename__in=rights
    )
    return list(found)
