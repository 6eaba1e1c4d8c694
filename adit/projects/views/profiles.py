"""Pages of profiles: list and versions, description, and a preview on one image."""

from collections import Counter

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.permissions import Right, has_right
from adit.nodes import access
from adit.projects import profile_text, profile_versions, services
from adit.projects.forms import ProfilePreviewForm, ProfileTextForm
from adit.projects.models import ProfileVersion
from adit.projects.profile_preview import ProfilePreview, preview_profile
from adit.projects.profile_text import build_sections
from adit.projects.tables import ProfileTable
from adit.projects.views.access import current_user, get_profile, require_rights
from adit_engine.errors import AditError
from adit_engine.pseudonymize.tables import EDITION

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def profile_list(request: HttpRequest) -> HttpResponse:
    user = current_user(request)
    profile_versions.create_presets()
    used = Counter(services.visible_projects(user).values_list("profile", flat=True))
    table = ProfileTable(ProfileVersion.objects.all(), request, projects=used)
    context = {"table": table, "manages": has_right(user, Right.MANAGE_PROFILES)}
    return render(request, "projects/profile_list.html", context)


@require_safe
def profile_page(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    profile = get_profile(pk)
    rules = profile_versions.parse_rules(profile)
    manages = has_right(user, Right.MANAGE_PROFILES)
    context = {
        "profile": profile,
        "options": profile_text.list_options(rules),
        "without_dates": profile_text.WITHOUT_DATES if profile_text.removes_dates(rules) else "",
        "edition": EDITION,
        "projects": services.visible_projects(user).filter(profile=profile),
        "manages": manages,
        "may_try": has_right(user, Right.SEE_IDENTIFIED),
    }
    return render(request, "projects/profile.html", context)


@require_safe
def profile_as_text(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the profile in plain language on one page, to print for an ethics board."""
    current_user(request)
    profile = get_profile(pk)
    context = {
        "profile": profile,
        "sections": build_sections(profile_versions.parse_rules(profile)),
    }
    return render(request, "projects/profile_as_text.html", context)


@get_or_post
def profile_new(request: HttpRequest, pk: int) -> HttpResponse:
    """Create the next version of a profile, or the first one of another name."""
    user = current_user(request)
    require_rights(user, Right.MANAGE_PROFILES)
    profile = get_profile(pk)
    initial = {"text": profile_versions.draft_next_version(profile)}
    form = ProfileTextForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            made = profile_versions.create_version(user, form.cleaned_data["text"])
        except AditError as error:
            form.add_error("text", str(error))
        else:
            messages.success(request, _("%s is saved. Select it in a project to use it.") % made)
            return redirect("profile_version", made.pk)
    context = {"profile": profile, "form": form, "available": profile_text.list_available_options()}
    status = 422 if form.errors else 200
    return render(request, "projects/profile_new.html", context, status=status)


@get_or_post
def profile_preview_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one image before and after the profile is applied.

    Nothing of it is stored, and no URL shows it.
    """
    user = current_user(request)
    require_rights(user, Right.SEE_IDENTIFIED)
    profile = get_profile(pk)
    nodes = access.readable_nodes(user).order_by("name")
    form = ProfilePreviewForm(request.POST or None, nodes=nodes)
    tried: ProfilePreview | None = None
    if request.method == "POST" and form.is_valid():
        try:
            tried = preview_profile(
                user, profile, form.cleaned_data["node"], form.cleaned_data["study_uid"]
            )
        except AditError as error:
            form.add_error(None, str(error))
    everything = "everything" in request.POST
    context = {
        "profile": profile,
        "form": form,
        "tried": tried,
        "lines": _select_lines(tried, everything),
        "everything": everything,
    }
    status = 422 if form.errors else 200
    return render(request, "projects/profile_preview_page.html", context, status=status)


def _select_lines(tried: ProfilePreview | None, everything: bool) -> list[object]:
    if tried is None:
        return []
    return [
        line for line in tried.lines if everything or tried.reason or line.change.value != "same"
    ]
