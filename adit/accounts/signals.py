"""Signal receivers: the audit trail of sign-ins, and the sessions that a changed factor ends."""

from typing import Any

from allauth.account.adapter import get_adapter
from allauth.account.signals import password_changed, password_reset, password_set
from allauth.mfa.models import Authenticator
from allauth.mfa.signals import (
    authentication_failed,
    authenticator_added,
    authenticator_removed,
    authenticator_reset,
)
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.exceptions import PermissionDenied
from django.dispatch import Signal, receiver
from django.http import HttpRequest

from adit.accounts import known_browsers, sessions
from adit.accounts.mails import mail_change_of_second_factor, mail_new_browser
from adit.accounts.models import User
from adit.audit.trail import record
from adit.vault.master_key import master_cipher


@receiver(user_logged_in)
def record_sign_in(request: HttpRequest | None, user: User, **_: Any) -> None:
    client = get_client_details(request)
    record("signin.done", user=user, about=f"user:{user.pk}", details=client)
    if request is not None:
        agent = request.headers.get("User-Agent", "")
        browser = sessions.describe_browser(agent)
        request.session[sessions.CLIENT] = {**client, "browser": browser}
        if known_browsers.note_sign_in(request, user):
            mail_new_browser(user, browser, client["address"])


@receiver(password_changed)
@receiver(password_set)
@receiver(password_reset)
def end_other_sessions(request: HttpRequest, user: User, **_: Any) -> None:
    """Keep only the session in which the user has changed the own password."""
    is_own = request.user == user
    count = sessions.end_sessions(user, keep=request.session if is_own else None)
    record(
        "password.changed",
        user=request.user,
        about=f"user:{user.pk}",
        details={**get_client_details(request), "ended_sessions": count},
    )


@receiver(user_logged_out)
def record_sign_out(request: HttpRequest | None, user: User | None, **_: Any) -> None:
    if user is not None:
        record(
            "signout.done", user=user, about=f"user:{user.pk}", details=get_client_details(request)
        )


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
        record("signin.failed", about=f"user:{user.pk}", details=get_client_details(request))
        return
    name = master_cipher().index(typed, "sign-in name")[:16]
    record("signin.failed", details={**get_client_details(request), "unknown_name": name})


@receiver(authenticator_added)
@receiver(authenticator_removed)
@receiver(authenticator_reset)
def record_change_of_second_factor(
    signal: Signal, request: HttpRequest, user: User, authenticator: Authenticator, **_: Any
) -> None:
    action = {authenticator_added: "added", authenticator_removed: "removed"}.get(signal, "renewed")
    details: dict[str, Any] = {**get_client_details(request), "type": str(authenticator.type)}
    is_asked_for = authenticator.type != Authenticator.Type.RECOVERY_CODES
    if is_asked_for and action == "added":
        # The other sessions were never asked for it.
        details["ended_sessions"] = sessions.end_sessions(user, keep=request.session)
    record(f"second_factor.{action}", user=user, about=f"user:{user.pk}", details=details)
    if is_asked_for:
        mail_change_of_second_factor(user, was_added=action == "added")


@receiver(authentication_failed)
def record_wrong_code(request: HttpRequest, user: User, **_: Any) -> None:
    record("second_factor.failed", about=f"user:{user.pk}", details=get_client_details(request))


def get_client_details(request: HttpRequest | None) -> dict[str, str]:
    """Return the client address that rate limiting uses: as our last proxy reports it."""
    if request is None:
        return {}
    try:
        return {"address": get_adapter().get_client_ip(request)}
    except PermissionDenied:  # the request bypassed the proxies
        return {"address": request.META.get("REMOTE_ADDR", "")}
