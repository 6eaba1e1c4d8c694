"""Home, help and error pages. The error pages need no database."""

import sys
from typing import cast

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.utils import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_POST, require_safe

from adit.accounts import kept_forms
from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.pages import first_steps
from adit.pages import help as manuals
from adit.pages.home import HomePage


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/home.html", {"home": HomePage.from_request(request)})


@require_safe
def home_live(request: HttpRequest) -> HttpResponse:
    """Render the part of the home page that is refreshed."""
    return render(request, "pages/home_live.html", {"home": HomePage.from_request(request)})


@require_POST
def confirm_key_backup(request: HttpRequest) -> HttpResponse:
    """Tick the backup of the master key on the checklist of a new installation."""
    user = cast(User, request.user)
    try:
        require(user, Right.ADMINISTER)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    first_steps.confirm_key_backup(user)
    return redirect("home")


@login_not_required
@require_safe
def help_index(request: HttpRequest) -> HttpResponse:
    """List all topics, or those that contain the search words."""
    words = request.GET.get("words", "").strip()[:100]
    hits = manuals.search_topics(words) if words else []
    context = {"topics": manuals.TOPICS, "words": words, "hits": hits}
    return render(request, "help/index.html", context)


@login_not_required
@require_safe
def help_topic(request: HttpRequest, slug: str) -> HttpResponse:
    try:
        topic = manuals.get_topic(slug)
    except KeyError:
        raise Http404 from None
    return render(request, "help/page.html", {"topic": topic, "topics": manuals.TOPICS})


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Name the missing permission if the refusal comes from the permissions of ADIT.

    The texts of other exceptions may contain values of patients.
    """
    cause = exception.__cause__ or exception.__context__
    reason = str(cause) if isinstance(cause, NotPermitted) else ""
    return render(request, "403.html", {"reason": reason}, status=403)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Lead back to the form with what was typed; explain the error if that is not possible."""
    page = kept_forms.keep_form(request)
    if not page:
        return render(request, "403_csrf.html", status=403)
    if not request.user.is_authenticated:
        return kept_forms.redirect_to_sign_in(page)
    if "HX-Request" in request.headers:
        return HttpResponse(headers={"HX-Redirect": page})
    return redirect(page)


def server_error(request: HttpRequest) -> HttpResponse:
    """Ask the user to wait (503, database unavailable) or to report the error (500)."""
    if isinstance(sys.exc_info()[1], OperationalError):
        response = HttpResponse(render_to_string("503.html"), status=503)
        response["Retry-After"] = "30"
        return response
    return HttpResponse(render_to_string("500.html"), status=500)
