"""Create, revoke and check API tokens.

`authenticate_token` is for the authentication classes of the API; it raises and never returns None
for a token that must not be used.
"""

import hmac
import secrets
from collections.abc import Collection
from datetime import timedelta

from django.db import models, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right, require, require_active
from adit.api_tokens.models import ApiToken
from adit.audit.models import AuditEvent
from adit.audit.trail import record
from adit.nodes.access import visible_nodes
from adit.nodes.models import Node
from adit.vault.master_key import master_cipher
from adit_engine.errors import AditError, InvalidInput


class Scope(models.TextChoices):
    """What a token may be used for, within the permissions of its user."""

    QUERY = "query", _("Query: search PACS and folders")
    RETRIEVE = "retrieve", _("Retrieve: get pseudonymized images and their headers")
    STORE = "store", _("Store: send images to PACS and folders")
    JOBS_READ = "jobs:read", _("Read jobs: all that you may see of them, names included")
    JOBS_WRITE = "jobs:write", _("Order: create jobs and act on them")
    IDENTIFIED = "identified", _("Identified: also get images that are not pseudonymized")


LIFETIMES_DAYS = (1, 7, 30, 90)
MAX_DAYS = 90
_LABEL = "adit"
_USE_INTERVAL = timedelta(minutes=1)
_REFUSAL_INTERVAL = timedelta(hours=1)


class TokenRefused(AditError):
    """The request is not authenticated; the text never repeats the token."""


def create_token(
    actor: User | None,
    user: User,
    name: str,
    scopes: Collection[str],
    *,
    days: int | None,
    nodes: Collection[Node] | None,
) -> tuple[ApiToken, str]:
    """Create a token of the user; return it with its text, which is not stored.

    `days` is None for a token that never expires, `nodes` for all nodes of the user. The actor is
    None on the command line. Raise NotPermitted, InvalidInput.
    """
    require_active(user)
    if days is None:
        require(user, Right.TOKENS_WITHOUT_EXPIRY)
    elif not 1 <= days <= MAX_DAYS:
        raise InvalidInput("api-token.invalid-days", most=MAX_DAYS)
    if not name.strip():
        raise InvalidInput("api-token.name-missing")
    if not scopes:
        raise InvalidInput("api-token.scope-missing")
    for scope in scopes:
        if scope not in Scope.values:
            raise InvalidInput("api-token.unknown-scope", scope=scope, scopes=Scope.values)
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    text = f"{_LABEL}_{prefix}_{secret}"
    with transaction.atomic():
        token = ApiToken.objects.create(
            user=user,
            name=name.strip(),
            prefix=prefix,
            digest=_digest(text),
            scopes=[value for value in Scope.values if value in scopes],
            all_nodes=nodes is None,
            expires_at=None if days is None else timezone.now() + timedelta(days=days),
        )
        token.nodes.set(nodes or ())
        details = {
            "user": user.username,
            "name": token.name,
            "scopes": token.scopes,
            "nodes": "all" if nodes is None else sorted(node.name for node in nodes),
            "expires": token.expires_at.isoformat(timespec="seconds") if token.expires_at else "",
        }
        record("token.created", user=actor, about=_subject(token), details=details)
    return token, text


def authenticate_token(header: str) -> tuple[User, ApiToken]:
    """Return user and token for the value of an `Authorization` header. Raise TokenRefused.

    The header is `Token …` or `Bearer …`.
    """
    scheme, _space, text = header.strip().partition(" ")
    text = text.strip()
    prefix = text.removeprefix(f"{_LABEL}_").partition("_")[0]
    if scheme.lower() not in ("token", "bearer") or not text.isascii():
        raise TokenRefused("api-token.invalid")
    token = ApiToken.objects.select_related("user").filter(prefix=prefix[:16]).first()
    digest = token.digest if token is not None else ""
    if not hmac.compare_digest(digest, _digest(text)) or token is None:
        raise TokenRefused("api-token.invalid")
    why = _explain_refusal(token)
    if why:
        _record_refusal(token, why)
        raise TokenRefused(why)
    _note_use(token)
    return token.user, token


def _explain_refusal(token: ApiToken) -> str:
    """Return the code of the message why the token may not be used; empty if it may."""
    if token.revoked_at is not None:
        return "api-token.revoked"
    if not token.user.is_active:
        return "permission.account-deactivated"
    if token.has_expired or (
        token.expires_at is None and not has_right(token.user, Right.TOKENS_WITHOUT_EXPIRY)
    ):
        return "api-token.expired"
    return ""


def _record_refusal(token: ApiToken, reason: str) -> None:
    """Record that a token was used in vain, at most once per hour, token and reason.

    Unknown tokens are not recorded: anyone could fill the audit trail with them.
    """
    recent = AuditEvent.objects.filter(
        action="token.refused", about=_subject(token), at__gt=timezone.now() - _REFUSAL_INTERVAL
    )
    if all(event.details["reason"] != reason for event in recent):
        details = {"user": token.user.username, "name": token.name, "reason": reason}
        record("token.refused", about=_subject(token), details=details)


def require_scope(token: ApiToken, scope: Scope) -> None:
    """Raise NotPermitted unless the token has the scope."""
    if scope not in token.scopes:
        _record_refusal(token, "api-token.scope-not-granted")
        raise NotPermitted("api-token.scope-not-granted", scope=scope.value)


def allowed_nodes(token: ApiToken, nodes: QuerySet[Node]) -> QuerySet[Node]:
    """Return those of the nodes for which the token may be used.

    The caller passes the nodes that the user may use. A token for single nodes allows nothing when
    these are removed.
    """
    return nodes if token.all_nodes else nodes.filter(pk__in=token.nodes.values("pk"))


def find_node(token: ApiToken, nodes: QuerySet[Node], **lookup: object) -> Node | None:
    """Return the node if the token may be used for it; the vain use of one is recorded.

    The caller passes the nodes that the user may use.
    """
    node = nodes.filter(**lookup).first()
    if node is None or allowed_nodes(token, nodes).filter(pk=node.pk).exists():
        return node
    _record_refusal(token, "api-token.node-not-granted")
    return None


def revoke_token(actor: User, token: ApiToken) -> None:
    """Revoke a token at once. Raise NotPermitted unless it is the actor's, or actor manages users."""
    if token.user_id != actor.pk:
        require(actor, Right.MANAGE_USERS)
    with transaction.atomic():
        if _valid().filter(pk=token.pk).update(revoked_at=timezone.now()):
            details = {"user": token.user.username, "name": token.name}
            record("token.revoked", user=actor, about=_subject(token), details=details)


def revoke_all(actor: User | None, user: User) -> int:
    """Revoke all tokens of the user, and return how many. The caller checks the permission.

    The actor is None if the directory has disabled the user.
    """
    tokens = list(_valid().filter(user=user).select_related("user"))
    for token in tokens:
        _valid().filter(pk=token.pk).update(revoked_at=timezone.now())
        details = {"user": user.username, "name": token.name}
        record("token.revoked", user=actor, about=_subject(token), details=details)
    return len(tokens)


def possible_nodes(user: User) -> QuerySet[Node]:
    """Return the nodes to which a token of the user can be limited."""
    return visible_nodes(user).order_by("name")


def describe_scopes(token: ApiToken) -> list[str]:
    return [str(Scope(value).label).partition(":")[0] for value in token.scopes]


def _valid() -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(revoked_at=None)


def _note_use(token: ApiToken) -> None:
    now = timezone.now()
    unused = Q(last_used_at=None) | Q(last_used_at__lte=now - _USE_INTERVAL)
    ApiToken.objects.filter(unused, pk=token.pk).update(last_used_at=now)


def _digest(text: str) -> str:
    return master_cipher().index(text, "API token")


def _subject(token: ApiToken) -> str:
    return f"token:{token.pk}"
