"""Create, change, deactivate and reactivate users. Used by the pages of users.

Users are never deleted, because the audit trail names them; see anonymization.py.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from adit.accounts.mails import mail_user
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right, order_right
from adit.accounts.second_factor import has_second_factor, remove_second_factor
from adit.accounts.sessions import end_sessions
from adit.administration import one_time_links
from adit.administration.anonymization import require_not_anonymous
from adit.administration.checks import (
    lock_groups,
    recording_refusal,
    require_administrator,
    require_may_manage,
)
from adit.administration.effective_access import Access
from adit.api_tokens import tokens
from adit.audit.changes import compare_values
from adit.audit.trail import record
from adit.jobs import actions
from adit.jobs.models import Job
from adit.jobs.progress import ENDED_JOB_STATES
from adit_engine.errors import InvalidInput

_AUDITED_FIELDS = ("username", "first_name", "last_name", "email", "is_staff")


@dataclass(frozen=True, slots=True)
class UserData:
    """The values of an account that its page shows."""

    username: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    is_staff: bool = False
    groups: Collection[Group] = field(default_factory=tuple)


def create_user(actor: User, data: UserData) -> tuple[User, str]:
    """Create an account without password; return it with the token to set one.

    Raise NotPermitted.
    """
    user = User(username=data.username)
    with recording_refusal(actor, user), transaction.atomic():
        lock_groups()
        user.set_unusable_password()
        _save(actor, user, data)
        record("user.created", user=actor, about=_subject(user), details=_describe(user))
        return user, one_time_links.create_password_link(actor, user)


def create_service_account(actor: User, data: UserData) -> User:
    """Create an account for a program; it cannot sign in. Raise NotPermitted."""
    user = User(username=data.username, is_service=True)
    with recording_refusal(actor, user), transaction.atomic():
        lock_groups()
        user.set_unusable_password()
        _save(actor, user, data)
        details = {**_describe(user), "is_service": True}
        record("user.service_created", user=actor, about=_subject(user), details=details)
        return user


def require_may_create_token(actor: User, user: User) -> None:
    """Raise NotPermitted unless the actor may create API tokens of this service account.

    Who has such a token can do what the account may do. Raise InvalidInput for a person.
    """
    with recording_refusal(actor, user):
        require_may_manage(actor, Access.of_user(user))
        if not user.is_service:
            raise InvalidInput("user.not-a-service-account")


def change_user(actor: User, user: User, data: UserData) -> None:
    """Change names, mail address and groups. Raise NotPermitted, InvalidInput."""
    with recording_refusal(actor, user), transaction.atomic():
        lock_groups()
        user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        before = _describe(user)
        require_may_manage(actor, Access.of_user(user))
        require_not_anonymous(user)
        _save(actor, user, data)
        require_administrator()
        changes = compare_values(before, _describe(user))
        record("user.changed", user=actor, about=_subject(user), details=changes)


def get_new_access(user: User | None, groups: Iterable[Group]) -> Access:
    """Return what membership in these groups would newly allow."""
    held = Access.of_user(user) if user is not None else Access()
    return Access.of_groups(groups) - held


def deactivate_user(actor: User, user: User, *, successor: User | None) -> None:
    """Deactivate an account, and end its sessions and API tokens at once.

    Its jobs that have not ended go to the successor, whose permissions then apply, or are
    canceled if there is none. Raise NotPermitted, InvalidInput.
    """
    with recording_refusal(actor, user), transaction.atomic():
        lock_groups()
        user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if user.pk == actor.pk:
            raise InvalidInput("user.deactivates-itself")
        require_may_manage(actor, Access.of_user(user))
        # The owner's permissions count, so this comes before the deactivation.
        jobs = _hand_over(actor, user, successor) if successor else _cancel_jobs(actor, user)
        User.objects.filter(pk=user.pk).update(is_active=False)
        require_administrator()
        one_time_links.discard_link(user)
        details = {
            "user": user.username,
            "sessions": end_sessions(user),
            "tokens": tokens.revoke_all(actor, user),
            "jobs": jobs,
            "successor": successor.username if successor else "",
        }
        record("user.deactivated", user=actor, about=_subject(user), details=details)


def reactivate_user(actor: User, user: User) -> None:
    """Let the person sign in again, with the former password. Raise NotPermitted, InvalidInput."""
    with recording_refusal(actor, user), transaction.atomic():
        user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
        require_may_manage(actor, Access.of_user(user))
        require_not_anonymous(user)
        User.objects.filter(pk=user.pk).update(is_active=True)
        details = {"user": user.username}
        record("user.reactivated", user=actor, about=_subject(user), details=details)


def reset_password(actor: User, user: User) -> str:
    """Return the token of a new link to set the password. The old password stays valid until then.

    Raise NotPermitted.
    """
    with recording_refusal(actor, user):
        require_may_manage(actor, Access.of_user(user))
    return one_time_links.create_password_link(actor, user)


def reset_second_factor(actor: User, user: User) -> None:
    """Remove the second factor of a person who lost it, end the sessions, and mail the person.

    Raise NotPermitted, InvalidInput.
    """
    with recording_refusal(actor, user), transaction.atomic():
        require_may_manage(actor, Access.of_user(user))
        if user.pk == actor.pk:
            raise InvalidInput("user.resets-own-second-factor")
        if not has_second_factor(user):
            raise InvalidInput("user.no-second-factor")
        details = {
            "user": user.username,
            "removed": remove_second_factor(user),
            "sessions": end_sessions(user),
        }
        record("user.second_factor_reset", user=actor, about=_subject(user), details=details)
        text = _(
            "An administrator has removed the second factor of your ADIT account %(user)s. You "
            "sign in with your password only, and can set up a new second factor on the page My "
            "account."
        ) % {"user": user.username}
        transaction.on_commit(lambda: mail_user(user, _("second factor reset"), text))


def open_jobs(user: User) -> QuerySet[Job]:
    """Return the user's jobs that have not ended."""
    return Job.objects.filter(owner=user).exclude(state__in=ENDED_JOB_STATES).order_by("pk")


def possible_successors(user: User) -> list[User]:
    """Return the active users who may order all kinds of the jobs that have not ended."""
    kinds = set(open_jobs(user).values_list("kind", flat=True))
    people = User.objects.filter(is_active=True, is_service=False)
    others = people.exclude(pk=user.pk).order_by("username")
    return [one for one in others if all(has_right(one, order_right(kind)) for kind in kinds)]


def _save(actor: User, user: User, data: UserData) -> None:
    if user.is_staff != data.is_staff and not has_right(actor, Right.ADMINISTER):
        raise NotPermitted("user.staff-by-administrators")
    require_may_manage(actor, Access.of_groups(data.groups))
    for name in _AUDITED_FIELDS:
        setattr(user, name, getattr(data, name))
    user.save()
    user.groups.set(data.groups)


def _hand_over(actor: User, user: User, successor: User) -> list[int]:
    if successor not in possible_successors(user):
        raise NotPermitted("user.successor-not-permitted", user=successor.username)
    jobs = list(open_jobs(user).select_for_update(of=("self",), no_key=True))
    for job in jobs:
        key = f"handed over {job.pk}"  # the key of the submit could be one of the successor's
        Job.objects.filter(pk=job.pk).update(owner=successor, idempotency_key=key)
        details = {"from": user.username, "to": successor.username}
        record("job.handed_over", user=actor, about=f"job:{job.pk}", details=details)
    return [job.pk for job in jobs]


def _cancel_jobs(actor: User, user: User) -> list[int]:
    jobs = list(open_jobs(user))
    for job in jobs:
        actions.perform(actor, job, "cancel", on_behalf_of=user)
    return [job.pk for job in jobs]


def _describe(user: User) -> dict[str, object]:
    return {name: getattr(user, name) for name in _AUDITED_FIELDS} | {
        "groups": sorted(user.groups.values_list("name", flat=True))
    }


def _subject(user: User) -> str:
    return f"user:{user.pk}"
