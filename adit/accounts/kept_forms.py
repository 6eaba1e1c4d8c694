"""Keep the values of a form that was sent after its session had ended, and fill it in again.

The values are stored encrypted in the session of the browser for half an hour. Only the user for
whom the form was rendered gets them back. Passwords, keys and files are never kept. Used by the
middleware and by the view for failed CSRF checks.
"""

import re
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.middleware import csrf
from django.shortcuts import resolve_url
from django.template.loader import render_to_string
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from adit.accounts.filled_html import fill_form
from adit.accounts.models import User
from adit.vault.cipher import DecryptionError
from adit.vault.master_key import master_cipher

COOKIE = "form_owner"
COOKIE_S = 12 * 3600
KEEP_S = 1800
MAX_CHARACTERS = 200_000
MAX_TOKENS = 3

_SALT = "adit.accounts.kept_forms"
_SESSION_KEY = "kept_form"
_SECRET_NAME = re.compile(r"password|passphrase|secret|token|key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KeptForm:
    """The values of one form: the page that showed it, the address that it was sent to."""

    page: str
    action: str
    values: Mapping[str, list[str]]
    lacks_secrets: bool
    """Whether it had passwords or files, which have to be entered again."""


# Whose form it was -----------------------------------------------------------------------------


def mark_owner(request: HttpRequest, response: HttpResponseBase) -> None:
    """Note in a signed cookie that forms with the current CSRF secret belong to this user.

    A later sign-in changes the secret, so the cookie tells forms of two users of one browser apart.
    """
    secret = request.META.get("CSRF_COOKIE")
    user = cast(User, request.user)
    if not secret or not user.is_authenticated:
        return
    known = _read_cookie(request)
    digests = known["forms"] if known.get("user") == user.pk else []
    digest = _digest(secret)
    if digest in digests:
        return
    value = signing.dumps({"user": user.pk, "forms": [*digests, digest][-MAX_TOKENS:]}, salt=_SALT)
    response.set_cookie(
        COOKIE,
        value,
        max_age=COOKIE_S,
        httponly=True,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )


def _find_owner(request: HttpRequest) -> int | None:
    """Return the user for whom the form was rendered; None if that is not known."""
    token = request.POST.get("csrfmiddlewaretoken", "")
    if len(token) != csrf.CSRF_TOKEN_LENGTH or not token.isascii() or not token.isalnum():
        return None
    known = _read_cookie(request)
    secret = csrf._unmask_cipher_token(token)  # type: ignore[attr-defined]
    return known["user"] if _digest(secret) in known.get("forms", ()) else None


def _read_cookie(request: HttpRequest) -> dict[str, Any]:
    try:
        found = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=COOKIE_S)
    except signing.BadSignature:
        return {}
    return dict(found)


def _digest(secret: str) -> str:
    return salted_hmac(_SALT, secret, algorithm="sha256").hexdigest()[:32]


# Keep and return -------------------------------------------------------------------------------


def keep_form(request: HttpRequest) -> str:
    """Store the values of a refused POST; return the address of the page with the form.

    Empty if nothing is kept: the form is not known to be ours, or too large, or belongs to another
    user than the one who is signed in.
    """
    owner = _find_owner(request)
    user = cast(User, request.user)
    is_foreign = user.is_authenticated and user.pk != owner
    if owner is None or is_foreign or not _is_same_origin(request):
        return ""
    values = {name: texts for name, texts in request.POST.lists() if not is_secret_name(name)}
    if sum(len(text) for texts in values.values() for text in texts) > MAX_CHARACTERS:
        return ""
    left_out = set(request.POST) - set(values) - {"csrfmiddlewaretoken"}
    lacks = bool(request.FILES or any(request.POST[name] for name in left_out))
    page = _find_page(request)
    content = [time.time(), page, request.path, values, lacks]
    sealed = master_cipher().seal(content, _context(owner))
    request.session[_SESSION_KEY] = b64encode(sealed).decode()
    if not user.is_authenticated:
        request.session.set_expiry(KEEP_S)  # sign-in sets it anew
    return page


def _take_form(request: HttpRequest) -> KeptForm | None:
    """Return and delete the kept form of the page that is requested, if it is this user's."""
    text = request.session.get(_SESSION_KEY)
    if text is None:
        return None
    try:
        opened = master_cipher().open(b64decode(text), _context(cast(User, request.user).pk))
    except (DecryptionError, ValueError):
        del request.session[_SESSION_KEY]  # it is another user's
        return None
    at, *content = opened
    kept = KeptForm(*content)
    is_old = time.time() - at > KEEP_S
    if not is_old and urlsplit(kept.page).path != request.path:
        return None
    del request.session[_SESSION_KEY]
    return None if is_old else kept


def is_secret_name(name: str) -> bool:
    """Return whether a field with this name may hold a password, a key or a token."""
    return _SECRET_NAME.search(name) is not None


def fill_page(request: HttpRequest, response: HttpResponse) -> None:
    """Put the kept values into the form of this page, if there are any, with a note above."""
    kept = _take_form(request)
    if kept is None:
        return
    html, is_complete = fill_form(response.content.decode(), request.path, kept.action, kept.values)
    next_steps = [
        _("Check the form and send it again."),
        _("Passwords and files have to be entered again.") if kept.lacks_secrets else "",
        "" if is_complete else _("Some entries have no field on this page any more."),
    ]
    context = {
        "tone": "info" if is_complete else "warn",
        "role": "status",
        "text": _("You were signed out. What you typed is back; nothing was sent."),
        "next": " ".join(filter(None, next_steps)),
    }
    note = render_to_string("components/note.html", context, request)
    response.content = re.sub(r"<main\b[^>]*>", lambda tag: tag[0] + note, html, count=1)


def redirect_to_sign_in(page: str) -> HttpResponse:
    return HttpResponseRedirect(f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': page})}")


def _context(owner: int) -> str:
    return f"kept form of user {owner}"


def _is_same_origin(request: HttpRequest) -> bool:
    """Another site must not be able to place values into a form."""
    origin = request.headers.get("Origin", "")
    own = f"{request.scheme}://{request.get_host()}"
    return origin == own or origin in settings.CSRF_TRUSTED_ORIGINS


def _find_page(request: HttpRequest) -> str:
    """Return the page from which the form was sent: that of the Referer, else its own address."""
    sent_from = urlsplit(request.headers.get("Referer", ""))
    if sent_from.netloc != request.get_host():
        return request.path
    return f"{sent_from.path}?{sent_from.query}" if sent_from.query else sent_from.path
