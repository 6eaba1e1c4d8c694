"""Profiles: the list of versions, one version in words, a new one, and trying it on an image."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.permissions import Right, may
from adit.nodes import access
from adit.projects import profile_text, profile_versions, services
from adit.projects.forms import ProfileForm, TryForm
from adit.projects.models import Profile
from adit.projects.profile_preview import Tried, try_it
from adit.projects.profile_text import plain_sections
from adit.projects.views.access import known_profile, only_with, person
from adit_engine.errors import AditError
from adit_engine.pseudonymize.tables import EDITION

asks = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def profile_list(request: HttpRequest) -> HttpResponse:
    user = person(request)
    profile_versions.make_presets()
    mine = services.visible_to(user)
    rows = [
        (
            profile,
            sorted(profile_versions.rules_of(profile).options),
            mine.filter(profile=profile).count(),
        )
        for profile in Profile.objects.all()
    ]
    context = {"rows": rows, "manages": may(user, Right.MANAGE_PROFILES)}
    return render(request, "projects/profile_list.html", context)


@require_safe
def profile_page(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    profile = known_profile(pk)
    rules = profile_versions.rules_of(profile)
    manages = may(user, Right.MANAGE_PROFILES)
    context = {
        "profile": profile,
        "options": profile_text.options_of(rules),
        "without_dates": profile_text.WITHOUT_DATES if profile_text.keeps_no_dates(rules) else "",
        "edition": EDITION,
        "projects": services.visible_to(user).filter(profile=profile),
        "manages": manages,
        "may_try": may(user, Right.SEE_IDENTIFIED),
    }
    return render(request, "projects/profile.html", context)


@require_safe
def profile_plain(request: HttpRequest, pk: int) -> HttpResponse:
    """One page in plain words, to print for an ethics board."""
    person(request)
    profile = known_profile(pk)
    context = {"profile": profile, "sections": plain_sections(profile_versions.rules_of(profile))}
    return render(request, "projects/profile_plain.html", context)


@asks
def profile_new(request: HttpRequest, pk: int) -> HttpResponse:
    """The next version of a profile, or the first of another name."""
    user = person(request)
    only_with(user, Right.MANAGE_PROFILES)
    profile = known_profile(pk)
    initial = {"text": profile_versions.draft_of(profile)}
    form = ProfileForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            made = profile_versions.new_version(user, form.cleaned_data["text"])
        except AditError as error:
            form.add_error("text", str(error))
        else:
            messages.success(request, _("%s is saved. Projects use it once you choose it.") % made)
            return redirect("profile_version", made.pk)
    context = {"profile": profile, "form": form, "available": profile_text.available()}
    status = 422 if form.errors else 200
    return render(request, "projects/profile_new.html", context, status=status)


@asks
def profile_try(request: HttpRequest, pk: int) -> HttpResponse:
    """One image, before and after; nothing of it is stored, and no address shows it."""
    user = person(request)
    only_with(user, Right.SEE_IDENTIFIED)
    profile = known_profile(pk)
    nodes = access.readable_nodes(user).order_by("name")
    form = TryForm(request.POST or None, nodes=nodes)
    tried: Tried | None = None
    if request.method == "POST" and form.is_valid():
        try:
            tried = try_it(user, profile, form.cleaned_data["node"], form.cleaned_data["study_uid"])
        except AditError as error:
            form.add_error(None, str(error))
    everything = "everything" in request.POST
    context = {
        "profile": profile,
        "form": form,
        "tried": tried,
        "lines": _shown(tried, everything),
        "everything": everything,
    }
    status = 422 if form.errors else 200
    return render(request, "projects/profile_try.html", context, status=status)


def _shown(tried: Tried | None, everything: bool) -> list[object]:
    if tried is None:
        return []
    return [
        line for line in tried.lines if everything or tried.withheld or line.fate.value != "same"
    ]
