"""Rights: every permission by name, and who has it; they come from groups, superusers have all."""

from collections.abc import Iterable
from enum import StrEnum

from django.contrib.auth.models import AnonymousUser, Permission
from django.contrib.contenttypes.models import ContentType
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit_engine.errors import AditError

Person = User | AnonymousUser

_ORDER = "order_"


class Refused(AditError):
    """This person may not do this, for good. The text says which right is missing, or why."""


class Right(StrEnum):
    """The named rights; those to order a kind of job come from `order_right`."""

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
    MANAGE_TRIALS = "manage_projects"
    MANAGE_PROFILES = "manage_profiles"
    MANAGE_USERS = "manage_users"
    REIDENTIFY = "reidentify"
    CONFIRM_PATIENTS = "confirm_patients"
    REVIEW_WITHHELD = "review_withheld"
    READ_TRAIL = "read_trail"


def order_right(kind: str) -> str:
    """The right to order jobs of a kind. The kinds themselves are known to the jobs room alone."""
    return f"{_ORDER}{kind}"


def ensure_order_rights(kinds: Iterable[str]) -> None:
    """Makes the right to order each kind, so that groups can be given it. Safe to repeat."""
    content_type = ContentType.objects.get_for_model(User)
    for kind in kinds:
        Permission.objects.get_or_create(
            content_type=content_type,
            codename=order_right(kind),
            defaults={"name": f"Order: {kind.replace('_', ' ')}"},
        )


def may(user: Person, right: str) -> bool:
    """Whether an active user has the right. Unknown words are nobody's right."""
    return user.is_active and user.has_perm(f"accounts.{right}")


def require(user: Person, right: str) -> None:
    """Raises Refused with the right's name and who can give it."""
    if not may(user, right):
        raise Refused(
            _(
                "You need the right “%(right)s” for this. "
                "Whoever manages users and groups can give it to one of your groups."
            )
            % {"right": label(right)}
        )


def label(right: str) -> str:
    """The right in the users' words."""
    names = dict(User._meta.permissions)
    return names.get(right, right.removeprefix(_ORDER).replace("_", " "))


def require_active(user: Person) -> None:
    """Raises Refused for accounts that were closed, and for those who did not sign in."""
    if not user.is_active:
        raise Refused(_("This account is closed. Ask whoever manages users and groups."))
