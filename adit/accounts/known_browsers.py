"""Recognize the browsers in which a user has signed in before. Used at sign-in.

A cookie names the browser; it signs nobody in. The table holds a keyed hash of it.
"""

import secrets
from datetime import timedelta

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

from adit.accounts.models import KnownBrowser, User
from adit.vault.master_key import master_cipher

COOKIE = "browser"
KEPT = timedelta(days=365)
"""A browser that was not used for this time is unknown again."""

_NEW_NAME = "adit.new_browser"


def note_sign_in(request: HttpRequest, user: User) -> bool:
    """Remember the browser for this user; return whether it is new for the account.

    The first browser of an account is not new: nobody has to be warned of it.
    """
    now = timezone.now()
    name = request.COOKIES.get(COOKIE, "") or secrets.token_urlsafe(24)
    request.META[_NEW_NAME] = name
    known = KnownBrowser.objects.filter(user=user)
    is_first = not known.exists()
    known.filter(last_used_at__lt=now - KEPT).delete()
    digest = master_cipher().index(name, "known browser")
    _row, is_new = KnownBrowser.objects.update_or_create(
        user=user, digest=digest, defaults={"last_used_at": now}
    )
    return is_new and not is_first


def set_cookie(request: HttpRequest, response: HttpResponseBase) -> None:
    """Store the name of the browser in it, if somebody has signed in with this request."""
    name = request.META.get(_NEW_NAME)
    if name is not None:
        response.set_cookie(
            COOKIE,
            name,
            max_age=int(KEPT.total_seconds()),
            httponly=True,
            secure=settings.SESSION_COOKIE_SECURE,
            samesite="Lax",
        )
