"""Read the settings of sign-in by OpenID Connect and LDAP. Used by the settings."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

GroupMap = dict[str, tuple[str, ...]]
"""Our group names by a group name of the provider."""
_PROVIDER_ID = re.compile(r"[a-z][a-z0-9_]{0,29}")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}
Read = Callable[[str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenIdProvider:
    provider_id: str
    """Part of the redirect URI, and of the link between subject and account."""
    name: str
    issuer: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    username_claim: str = "preferred_username"
    groups_claim: str = "groups"
    group_map: GroupMap
    creates_accounts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """An LDAP server. Either `bind_dn` is set, or `user_dn`, with which the user binds."""

    url: str
    start_tls: bool = True
    ca_file: str = ""
    bind_dn: str = ""
    bind_password: str = ""
    base: str = ""
    user_filter: str = "(uid=%(user)s)"
    """Finds exactly those who may sign in."""
    user_dn: str = ""
    """With %(user)s."""
    username_attribute: str = "uid"
    id_attribute: str = "entryUUID"
    group_base: str = ""
    group_filter: str = "(member=%(dn)s)"
    """Finds the groups of a person by %(dn)s or %(user)s."""
    group_map: GroupMap
    creates_accounts: bool = False
    checks_accounts: bool = False
    timeout_s: int = 5


def read_openid_providers(read: Read) -> dict[str, OpenIdProvider]:
    """Return the providers that ADIT_OIDC_PROVIDERS names. Raise ImproperlyConfigured."""
    names = [name.strip() for name in read("ADIT_OIDC_PROVIDERS", "").split(",")]
    return {name: _read_provider(name, read) for name in filter(None, names)}


def _read_provider(provider_id: str, read: Read) -> OpenIdProvider:
    if not _PROVIDER_ID.fullmatch(provider_id) or provider_id == "ldap":
        raise ImproperlyConfigured(
            f"ADIT_OIDC_PROVIDERS: {provider_id!r} is not a name of lower-case letters and digits"
        )
    prefix = f"ADIT_OIDC_{provider_id.upper()}_"

    def require(name: str) -> str:
        return _require(read, prefix + name)

    issuer = require("ISSUER")
    if not is_allowed_address(issuer):
        raise ImproperlyConfigured(f"{prefix}ISSUER must be an https:// address")
    return OpenIdProvider(
        provider_id=provider_id,
        name=read(prefix + "NAME", provider_id),
        issuer=issuer,
        client_id=require("CLIENT_ID"),
        client_secret=require("CLIENT_SECRET"),
        scopes=tuple(read(prefix + "SCOPES", "openid profile email").split()),
        username_claim=read(prefix + "USER_NAME_CLAIM", "preferred_username"),
        groups_claim=read(prefix + "GROUPS_CLAIM", "groups"),
        group_map=read_group_map(read, prefix + "GROUPS"),
        creates_accounts=_read_bool(read, prefix + "CREATE_ACCOUNTS"),
    )


def read_directory(read: Read) -> Directory | None:
    """Return the directory that ADIT_LDAP_URL names. Raise ImproperlyConfigured."""
    url = read("ADIT_LDAP_URL", "")
    if not url:
        return None
    if urlsplit(url).scheme not in ("ldap", "ldaps"):
        raise ImproperlyConfigured("ADIT_LDAP_URL must begin with ldap:// or ldaps://")
    directory = Directory(
        url=url,
        start_tls=url.startswith("ldap:") and _read_bool(read, "ADIT_LDAP_START_TLS", "true"),
        ca_file=read("ADIT_LDAP_CA_FILE", ""),
        bind_dn=read("ADIT_LDAP_BIND_DN", ""),
        bind_password=read("ADIT_LDAP_BIND_PASSWORD", ""),
        base=read("ADIT_LDAP_BASE", ""),
        user_filter=read("ADIT_LDAP_USER_FILTER", "(uid=%(user)s)"),
        user_dn=read("ADIT_LDAP_USER_DN", ""),
        username_attribute=read("ADIT_LDAP_USER_NAME_ATTRIBUTE", "uid"),
        id_attribute=read("ADIT_LDAP_ID_ATTRIBUTE", "entryUUID"),
        group_base=read("ADIT_LDAP_GROUP_BASE", ""),
        group_filter=read("ADIT_LDAP_GROUP_FILTER", "(member=%(dn)s)"),
        group_map=read_group_map(read, "ADIT_LDAP_GROUPS"),
        creates_accounts=_read_bool(read, "ADIT_LDAP_CREATE_ACCOUNTS"),
        checks_accounts=_read_bool(read, "ADIT_LDAP_CHECK_ACCOUNTS"),
    )
    if not directory.user_dn:
        for name in ("ADIT_LDAP_BASE", "ADIT_LDAP_BIND_DN", "ADIT_LDAP_BIND_PASSWORD"):
            _require(read, name)
    elif directory.checks_accounts:
        raise ImproperlyConfigured("ADIT_LDAP_CHECK_ACCOUNTS needs ADIT_LDAP_BIND_DN")
    if directory.group_map and not directory.group_base:
        raise ImproperlyConfigured("ADIT_LDAP_GROUPS needs ADIT_LDAP_GROUP_BASE")
    return directory


def read_group_map(read: Read, name: str) -> GroupMap:
    """Read "their name=Our name; another=Our name". Raise ImproperlyConfigured."""
    found: dict[str, list[str]] = {}
    for pair in filter(None, (part.strip() for part in read(name, "").split(";"))):
        theirs, _, ours = (text.strip() for text in pair.rpartition("="))
        if not theirs or not ours:
            raise ImproperlyConfigured(f"{name}: write “their group=our group”, not {pair!r}")
        found.setdefault(theirs, []).append(ours)
    return {theirs: tuple(ours) for theirs, ours in found.items()}


def _require(read: Read, name: str) -> str:
    value = read(name, "")
    if not value:
        raise ImproperlyConfigured(f"{name} is missing")
    return value


def _read_bool(read: Read, name: str, default: str = "false") -> bool:
    text = read(name, default).lower()
    if text not in _TRUE | _FALSE:
        raise ImproperlyConfigured(f"{name} must be true or false")
    return text in _TRUE


def is_allowed_address(url: str) -> bool:
    """Whether it is encrypted, or on this machine."""
    parts = urlsplit(url)
    is_local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" or (parts.scheme == "http" and is_local)
