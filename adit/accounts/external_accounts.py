"""Accounts of people whom an OpenID provider or a directory identifies.

A row of allauth's SocialAccount links a subject of the provider with our user. Used by
`openid_connect` and `ldap`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction

from adit.accounts.models import User
from adit.audit.outages import record_daily
from adit.audit.trail import record
from adit_engine.errors import AditError

DIRECTORY = "ldap"
"""The provider of links with the LDAP directory."""


class SignInRefused(AditError):
    """The person is not signed in; the message says why and what to do."""

    subject: str = ""
    """Identifies the person at the provider, if that is known."""


class DirectoryUnavailable(Exception):
    """The directory did not answer, so nothing is known about the person."""

    def __init__(self, code: str = "directory.away") -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class ExternalPerson:
    """What a provider or a directory says about a person."""

    provider: str
    subject: str
    """Identifies the person at the provider for good, unlike names and mail addresses."""
    username: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    groups: frozenset[str] = frozenset()
    """Names of groups at the provider."""


def find_user(provider: str, subject: str) -> User | None:
    row = SocialAccount.objects.filter(provider=provider, uid=subject).select_related("user")
    return next((one.user for one in row), None)


def sign_in_person(
    person: ExternalPerson, group_map: Mapping[str, Collection[str]], *, creates: bool
) -> User:
    """Return the account of the person with current names and groups; create it if allowed.

    `group_map` has our group names by a name of the provider. Raise SignInRefused.
    """
    try:
        with transaction.atomic():
            user = find_user(person.provider, person.subject)
            if user is None:
                user = _create_user(person, creates=creates)
            if not user.is_active:
                raise SignInRefused("permission.account-deactivated")
            if user.is_service:
                raise SignInRefused("signin.service-account")
            _update_names(user, person)
            _update_groups(user, person, group_map)
    except SignInRefused as error:
        error.subject = person.subject
        raise
    return user


def _create_user(person: ExternalPerson, *, creates: bool) -> User:
    if not creates:
        raise SignInRefused("signin.no-account")
    if not person.username or len(person.username) > 150:
        raise SignInRefused("signin.no-user-name")
    if User.objects.filter(username__iexact=person.username).exists():
        raise SignInRefused("signin.user-name-taken")
    user = User(username=person.username)
    user.set_unusable_password()
    try:
        with transaction.atomic():
            user.save()
            SocialAccount.objects.create(user=user, provider=person.provider, uid=person.subject)
    except IntegrityError:  # the same person signs in twice at the same time
        raise SignInRefused("signin.user-name-taken") from None
    details = {"username": user.username, "provider": person.provider}
    record("user.created", about=f"user:{user.pk}", details=details)
    return user


def _update_names(user: User, person: ExternalPerson) -> None:
    names = {
        "first_name": person.first_name[:150],
        "last_name": person.last_name[:150],
        "email": person.email if len(person.email) <= 254 else "",
    }
    changed = {
        name: value for name, value in names.items() if value and value != getattr(user, name)
    }
    if changed:
        User.objects.filter(pk=user.pk).update(**changed)
        user.refresh_from_db()


def _update_groups(
    user: User, person: ExternalPerson, group_map: Mapping[str, Collection[str]]
) -> None:
    """Set the groups that the map names; membership in other groups stays as it is."""
    managed = {name for names in group_map.values() for name in names}
    wanted = {name for one in person.groups for name in group_map.get(one, ())}
    held = set(user.groups.filter(name__in=managed).values_list("name", flat=True))
    added = Group.objects.filter(name__in=wanted - held)
    removed = Group.objects.filter(name__in=held - wanted)
    missing = wanted - held - {group.name for group in added}
    if missing:
        record_daily(
            "signin.groups_missing", about=f"user:{user.pk}", details={"groups": sorted(missing)}
        )
    if added or removed:
        details = {
            "provider": person.provider,
            "groups": {
                "added": sorted(group.name for group in added),
                "removed": sorted(group.name for group in removed),
            },
        }
        user.groups.add(*added)
        user.groups.remove(*removed)
        record("user.changed", about=f"user:{user.pk}", details=details)
