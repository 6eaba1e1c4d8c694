"""Check who may open the pages of research projects and profiles."""

from collections.abc import Callable
from typing import cast

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, require
from adit.projects import services
from adit.projects.models import ProfileVersion, Project


def current_user(request: HttpRequest) -> User:
    """Return the signed-in user. The middleware redirects anonymous users."""
    return cast(User, request.user)


def get_visible_project(user: User, pk: int) -> Project:
    """Return the project; raise Http404 if the user may not see it.

    This includes projects that do not exist.
    """
    project = services.visible_projects(user).select_related("profile").filter(pk=pk).first()
    if project is None:
        raise Http404
    return project


def get_member_project(user: User, pk: int) -> Project:
    """Return the project; raise Http404 unless the user is a member or manages projects.

    Who proposed a project is not a member of it.
    """
    project = get_visible_project(user, pk)
    if not services.is_member(user, project):
        raise Http404
    return project


def get_profile(pk: int) -> ProfileVersion:
    """Return the profile version; raise Http404 if it does not exist."""
    profile = ProfileVersion.objects.filter(pk=pk).first()
    if profile is None:
        raise Http404
    return profile


def require_rights(user: User, *rights: str) -> None:
    """Raise PermissionDenied, with the name of the permission, if one is missing."""
    try:
        for right in rights:
            require(user, right)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None


def require_for(check: Callable[[User, Project], None], user: User, project: Project) -> None:
    """Raise PermissionDenied if the check of services.py raises NotPermitted."""
    try:
        check(user, project)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
