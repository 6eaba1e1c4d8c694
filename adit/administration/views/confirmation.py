"""The page that shows what a change newly allows, before it is saved."""

import hashlib
from collections.abc import Sequence
from typing import cast

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require

Section = tuple[str, Sequence[str]]
"""A sentence about who gets it, and one line for each permission, node and project."""


def get_manager(request: HttpRequest) -> User:
    """Return the signed-in user. Raise PermissionDenied unless they manage users."""
    user = cast(User, request.user)
    try:
        require(user, Right.MANAGE_USERS)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    return user


def ask_before_granting(
    request: HttpRequest, sections: Sequence[Section], heading: str
) -> HttpResponse | None:
    """Return a page to confirm exactly this, or None if it was confirmed or nothing is granted.

    The form is repeated in hidden fields. If the change means something else when it is confirmed,
    the page is shown again.
    """
    if not sections:
        return None
    shown = hashlib.sha256(repr(sections).encode()).hexdigest()
    if request.POST.get("confirmed") == shown:
        return None
    fields = [
        (name, value)
        for name, values in request.POST.lists()
        if name not in ("csrfmiddlewaretoken", "confirmed", "back")
        for value in values
    ]
    context = {"sections": sections, "heading": heading, "fields": fields, "shown": shown}
    return render(request, "administration/confirm_access.html", context)
