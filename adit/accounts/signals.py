"""Signal receivers that record sign-ins, sign-outs and failed attempts in the audit trail."""

from typing import Any

from allauth.account.adapter import get_adapter
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import PermissionDenied
from django.dispatch import receiver
from django.http import HttpRequest

from adit.accounts.models import User
from adit.audit.trail import record
from adit.vault.master_key import master_cipher


@receiver(user_logged_in)
def record_sign_in(request: HttpRequest | None, user: User, **_: Any) -> None:
    record("signin.done", user=user, about=f"user:{user.pk}", details=_client_details(request))


@receiver(user_logged_out)
def record_sign_out(request: HttpRequest | None, user: User | None, **_: Any) -> None:
    if user is not None:
        record("signout.done", user=user, about=f"user:{user.pk}", details=_client_details(request))


@receiver(user_login_failed)
def record_failed_sign_in(
    credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any
) -> None:
    """Record a failed sign-in. Of an unknown name only a keyed hash is stored.

    An unknown name may be a password that was typed into the wrong field.
    """
    typed = str(credentials.get("username") or credentials.get("email") or "")
    user = User.objects.filter(username=typed).first()
    if user is not None:
        record("signin.failed", about=f"user:{user.pk}", details=_client_details(request))
        return
    name = master_cipher().index(typed, "sign-in name")[:16]
    record("signin.failed", details={**_client_details(request), "unknown_name": name})


def _client_details(request: HttpRequest | None) -> dict[str, str]:
    """Return the client address that rate limiting uses: as our last proxy reports it."""
    if request is None:
        return {}
    try:
        return {"address": get_adapter().get_client_ip(request)}
    except PermissionDenied:  # the request bypassed the proxies
        return {"address": request.META.get("REMOTE_ADDR", "")}
