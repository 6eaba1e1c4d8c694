"""Door: who may enter the pages of research projects and profiles."""

from typing import cast

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from adit.accounts.models import User
from adit.accounts.rights import Refused, require
from adit.profiles import trials
from adit.profiles.models import Profile, Trial


def person(request: HttpRequest) -> User:
    """Who stands at the door: the middleware lets nobody in who is not signed in."""
    return cast(User, request.user)


def visible_trial(user: User, pk: int) -> Trial:
    """Raises Http404 for what is not there and for what is none of this person's business."""
    trial = trials.visible_to(user).select_related("profile").filter(pk=pk).first()
    if trial is None:
        raise Http404
    return trial


def known_profile(pk: int) -> Profile:
    """Raises Http404."""
    profile = Profile.objects.filter(pk=pk).first()
    if profile is None:
        raise Http404
    return profile


def only_with(user: User, *rights: str) -> None:
    """Raises PermissionDenied, with the right's name."""
    try:
        for right in rights:
            require(user, right)
    except Refused as error:
        raise PermissionDenied(str(error)) from None
