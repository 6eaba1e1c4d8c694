"""Sign-in with the password of an LDAP directory, and checks whether accounts are still allowed.

Needs the extra `ldap`. Used as authentication backend and by the scheduler.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import ldap
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.contrib.auth.backends import BaseBackend
from django.http import HttpRequest
from ldap.dn import escape_dn_chars
from ldap.filter import escape_filter_chars
from ldap.ldapobject import SimpleLDAPObject

from adit.accounts.external_accounts import (
    DIRECTORY,
    DirectoryUnavailable,
    ExternalPerson,
    SignInRefused,
    sign_in_person,
)
from adit.accounts.models import User
from adit.accounts.sign_in_settings import Directory
from adit.audit import outages
from adit_engine.messages import Message

log = logging.getLogger(__name__)

Attributes = dict[str, list[bytes]]
_ALL = ["*", "+"]
"""The attributes of people and those that the server manages, such as entryUUID."""
_REASONS: dict[tuple[type[ldap.LDAPError], ...], str] = {
    (ldap.SERVER_DOWN, ldap.TIMEOUT, ldap.CONNECT_ERROR, ldap.UNAVAILABLE): "directory.away",
    (ldap.INVALID_CREDENTIALS, ldap.INSUFFICIENT_ACCESS): "directory.sign-in-rejected",
    (ldap.NO_SUCH_OBJECT, ldap.INVALID_DN_SYNTAX): "directory.base-missing",
}


class DirectoryBackend(BaseBackend):
    """Check names and passwords by binding to the directory.

    Passwords of accounts that are not linked with the directory are never sent to it.
    """

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **_: Any,
    ) -> User | None:
        """Return the user. Raise DirectoryUnavailable, SignInRefused."""
        one: Directory | None = settings.LDAP
        name = (username or "").strip()
        # A bind without password is anonymous and succeeds (RFC 4513, 5.1.2).
        if one is None or not name or not password or "\0" in name + password or _is_local(name):
            return None
        with _errors_as_unavailable():
            person = find_person(one, name, password)
        if person is None:
            return None
        return sign_in_person(person, one.group_map, creates=one.creates_accounts)

    def get_user(self, user_id: int) -> User | None:
        return User.objects.filter(pk=user_id, is_active=True, is_service=False).first()


def find_person(one: Directory, username: str, password: str) -> ExternalPerson | None:
    """Return the person if name and password are right. Raise LDAPError if that is unknown."""
    with _connect(one) as connection:
        if one.user_dn:
            dn = one.user_dn % {"user": escape_dn_chars(username)}
            if not _bind_as_user(connection, dn, password):
                return None
            found = _search_users(connection, one, username, base=dn, scope=ldap.SCOPE_BASE)
        else:
            connection.simple_bind_s(one.bind_dn, one.bind_password)
            found = _search_users(connection, one, username)
        if len(found) != 1:
            return None
        dn, attributes = found[0]
        if not one.user_dn:
            if not _bind_as_user(connection, dn, password):
                return None
            connection.simple_bind_s(one.bind_dn, one.bind_password)
        return _read_person(connection, one, dn, attributes)


def find_missing_users(one: Directory) -> list[User]:
    """Return the active users of whom the directory says that they may not sign in any more.

    Raise DirectoryUnavailable if it cannot be asked, or finds nobody at all: then base or filter
    are wrong.
    """
    rows = SocialAccount.objects.filter(provider=DIRECTORY, user__is_active=True)
    with _errors_as_unavailable(), _connect(one) as connection:
        connection.simple_bind_s(one.bind_dn, one.bind_password)
        known = {
            row.user: _find_by_id(connection, one, row.uid) for row in rows.select_related("user")
        }
        if known and not any(known.values()) and not _finds_anybody(connection, one):
            raise DirectoryUnavailable("directory.nobody-found")
    return [user for user, is_found in known.items() if not is_found]


def find_missing_groups(one: Directory) -> list[str]:
    """Return the groups that the settings name and the directory lacks.

    Raise DirectoryUnavailable.
    """
    wanted = sorted(one.group_map)
    if not wanted:
        return []
    text = "(|{})".format("".join(f"(cn={escape_filter_chars(name)})" for name in wanted))
    with _errors_as_unavailable(), _connect(one) as connection:
        connection.simple_bind_s(one.bind_dn, one.bind_password)
        found = _search(connection, one.group_base, ldap.SCOPE_SUBTREE, text, ["cn"])
    there = {name.casefold() for name in _read_names(found)}
    return [name for name in wanted if name.casefold() not in there]


@contextmanager
def _errors_as_unavailable() -> Iterator[None]:
    """Record in the audit trail when the directory begins to fail, and when it works again."""
    try:
        yield
    except DirectoryUnavailable as error:
        outages.note_failure(outages.DIRECTORY, Message(error.code))
        raise
    except ldap.LDAPError as error:
        # Its details contain names of people.
        log.warning("The directory does not answer: %s", type(error).__name__)
        outages.note_failure(outages.DIRECTORY, _explain(error))
        raise DirectoryUnavailable from error
    outages.note_success(outages.DIRECTORY)


def _explain(error: ldap.LDAPError) -> Message:
    for kinds, code in _REASONS.items():
        if isinstance(error, kinds):
            return Message(code)
    return Message("directory.error", error=type(error).__name__)


@contextmanager
def _connect(one: Directory) -> Iterator[SimpleLDAPObject]:
    connection = ldap.initialize(one.url)
    try:
        connection.protocol_version = ldap.VERSION3
        connection.set_option(ldap.OPT_REFERRALS, 0)
        connection.set_option(ldap.OPT_NETWORK_TIMEOUT, one.timeout_s)
        connection.timeout = one.timeout_s
        connection.set_option(ldap.OPT_TIMEOUT, one.timeout_s)
        connection.set_option(ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND)
        if one.ca_file:
            connection.set_option(ldap.OPT_X_TLS_CACERTFILE, one.ca_file)
        connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
        if one.start_tls:
            connection.start_tls_s()
        yield connection
    finally:
        connection.unbind_s()


def _bind_as_user(connection: SimpleLDAPObject, dn: str, password: str) -> bool:
    try:
        connection.simple_bind_s(dn, password)
    except (
        ldap.INVALID_CREDENTIALS,
        ldap.NO_SUCH_OBJECT,
        ldap.INVALID_DN_SYNTAX,
        ldap.INAPPROPRIATE_AUTH,
        ldap.UNWILLING_TO_PERFORM,
    ):
        return False
    return True


def _search_users(
    connection: SimpleLDAPObject,
    one: Directory,
    username: str,
    *,
    base: str = "",
    scope: int = ldap.SCOPE_SUBTREE,
) -> list[tuple[str, Attributes]]:
    text = one.user_filter % {"user": escape_filter_chars(username)}
    return _search(connection, base or one.base, scope, text, _ALL)


def _search(
    connection: SimpleLDAPObject, base: str, scope: int, text: str, attributes: list[str]
) -> list[tuple[str, Attributes]]:
    found = connection.search_s(base, scope, text, attributes)
    return [(dn, values) for dn, values in found if dn is not None]  # None: a referral


def _find_by_id(connection: SimpleLDAPObject, one: Directory, subject: str) -> bool:
    everybody = one.user_filter % {"user": "*"}
    text = f"(&{everybody}({one.id_attribute}={_escape_id(subject)}))"
    return bool(_search(connection, one.base, ldap.SCOPE_SUBTREE, text, ["1.1"]))


def _finds_anybody(connection: SimpleLDAPObject, one: Directory) -> bool:
    text = one.user_filter % {"user": "*"}
    try:
        return bool(_search(connection, one.base, ldap.SCOPE_SUBTREE, text, ["1.1"]))
    except ldap.SIZELIMIT_EXCEEDED:
        return True


def _read_person(
    connection: SimpleLDAPObject, one: Directory, dn: str, attributes: Attributes
) -> ExternalPerson:
    values = {name.lower(): value for name, value in attributes.items()}

    def text(name: str) -> str:
        return values.get(name.lower(), [b""])[0].decode(errors="replace").strip()

    subject = _read_id(values.get(one.id_attribute.lower(), [b""])[0])
    if not subject:
        raise SignInRefused("signin.no-identifier", attribute=one.id_attribute)
    username = text(one.username_attribute).lower()
    return ExternalPerson(
        provider=DIRECTORY,
        subject=subject,
        username=username,
        first_name=text("givenName"),
        last_name=text("sn"),
        email=text("mail"),
        groups=_find_groups(connection, one, dn, username),
    )


def _find_groups(
    connection: SimpleLDAPObject, one: Directory, dn: str, username: str
) -> frozenset[str]:
    if not one.group_map:
        return frozenset()
    values = {"dn": escape_filter_chars(dn), "user": escape_filter_chars(username)}
    text = one.group_filter % values
    found = _search(connection, one.group_base, ldap.SCOPE_SUBTREE, text, ["cn"])
    return frozenset(_read_names(found))


def _read_names(found: Iterable[tuple[str, Attributes]]) -> Iterator[str]:
    for _dn, values in found:
        yield from (name.decode(errors="replace") for name in values.get("cn", []))


def _read_id(value: bytes) -> str:
    """Return the identifier as text; of a binary one, such as objectGUID, the hexadecimal digits."""
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        return f"0x{value.hex()}"
    return text if text.isprintable() else f"0x{value.hex()}"


def _escape_id(subject: str) -> str:
    if subject.startswith("0x"):
        return "".join(f"\\{byte:02x}" for byte in bytes.fromhex(subject[2:]))
    return escape_filter_chars(subject)


def _is_local(username: str) -> bool:
    """Whether there is an account of this name that is not linked with the directory."""
    users = User.objects.filter(username__iexact=username)
    linked = SocialAccount.objects.filter(provider=DIRECTORY, user__in=users)
    return users.exists() and not linked.exists()
