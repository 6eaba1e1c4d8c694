"""Door: who may enter the pages of research projects and profiles."""

from typing import cast

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, require
from adit.projects import services
from adit.projects.models import ProfileVersion, Project


def current_user(request: HttpRequest) -> User:
    """Who stands at the door: the middleware lets nobody in who is not signed in."""
    return cast(User, request.user)


def get_visible_project(user: User, pk: int) -> Project:
    """Raises Http404 for what is not there and for what is none of this person's business."""
    project = services.visible_projects(user).select_related("profile").filter(pk=pk).first()
    if project is None:
        raise Http404
    return project


def get_profile(pk: int) -> ProfileVersion:
    """Raises Http404."""
    profile = ProfileVersion.objects.filter(pk=pk).first()
    if profile is None:
        raise Http404
    return profile


def require_rights(user: User, *rights: str) -> None:
    """Raises PermissionDenied, with the right's name."""
    try:
        for right in rights:
            require(user, right)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
