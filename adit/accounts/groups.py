"""Groups: the three that a fresh installation starts with, and the rights they carry."""

from collections.abc import Mapping

from django.contrib.auth.models import Group, Permission

from adit.accounts.models import User
from adit.accounts.permissions import Right, ensure_order_rights, order_right

COORDINATORS = "Coordinators"
PACS_ADMINISTRATORS = "PACS administrators"
DATA_PROTECTION = "Data protection"

STANDARD_GROUPS: Mapping[str, frozenset[str]] = {
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
        {Right.READ_TRAIL, Right.SEE_ALL_JOBS, Right.MANAGE_TRIALS, Right.MANAGE_PROFILES}
    ),
}
"""Nobody starts with the rights to re-identify or to transfer identified data."""


def make_standard_groups() -> dict[str, Group]:
    """The standard groups by name. A group that exists already keeps the rights it has."""
    ensure_order_rights(["selective", "batch_query", "batch_transfer"])
    groups = {}
    for name, rights in STANDARD_GROUPS.items():
        groups[name], is_new = Group.objects.get_or_create(name=name)
        if is_new:
            groups[name].permissions.set(_permissions(rights))
    return groups


def _permissions(rights: frozenset[str]) -> list[Permission]:
    found = Permission.objects.filter(
        content_type__app_label=User._meta.app_label, codename__in=rights
    )
    return list(found)
