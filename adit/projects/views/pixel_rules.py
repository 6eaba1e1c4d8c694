"""Pixel rules of a profile: added, changed and taken away in a draft, saved as the next version."""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from adit.accounts.permissions import Right
from adit.projects import pixel_rule_forms, profile_versions
from adit.projects.models import Profile
from adit.projects.pixel_rule_forms import DraftForm, PixelRuleForm, initial_of
from adit.projects.views.access import known_profile, only_with, person
from adit_engine.errors import AditError
from adit_engine.pseudonymize.tables import admitted_sop_classes


@require_http_methods(["GET", "HEAD", "POST"])
def profile_pixels(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    only_with(user, Right.MANAGE_PROFILES)
    profile = known_profile(pk)
    if request.method != "POST":
        return _shown(request, profile, pixel_rule_forms.begun(profile), PixelRuleForm())
    draft = DraftForm(request.POST)
    if not draft.is_valid():
        raise Http404
    text: str = draft.cleaned_data["text"].replace("\r\n", "\n")
    try:
        return _done(request, profile, text)
    except AditError as error:
        form = PixelRuleForm(request.POST)
        form.add_error(None, str(error))
        return _shown(request, profile, text, form, _place(request), status=422)


def _done(request: HttpRequest, profile: Profile, text: str) -> HttpResponse:
    """One click's deed. Raises ProfileError with the line, Refused, WrongInput."""
    deed, _sep, number = request.POST.get("do", "").partition("-")
    rules = pixel_rule_forms.rules_in(text)
    place = int(number) if number.isdecimal() and int(number) < len(rules) else None
    if deed == "save":
        made = profile_versions.new_version(person(request), text)
        messages.success(request, _("%s is saved. Projects use it once you choose it.") % made)
        return redirect("profile_version", made.pk)
    if deed == "change" and place is not None:
        return _shown(
            request, profile, text, PixelRuleForm(initial=initial_of(rules[place])), place
        )
    if deed == "remove" and place is not None:
        return _shown(request, profile, pixel_rule_forms.without(text, place), PixelRuleForm())
    if deed != "put":
        raise Http404
    form = PixelRuleForm(request.POST)
    if not form.is_valid():
        return _shown(request, profile, text, form, _place(request), status=422)
    return _shown(
        request, profile, pixel_rule_forms.put(text, form.rule, _place(request)), PixelRuleForm()
    )


def _place(request: HttpRequest) -> int | None:
    """Which rule is being changed; None for a new one."""
    text = request.POST.get("place", "")
    return int(text) if text.isdecimal() and len(text) < 5 else None


def _shown(
    request: HttpRequest,
    profile: Profile,
    text: str,
    form: PixelRuleForm,
    place: int | None = None,
    **answer: Any,
) -> HttpResponse:
    try:
        rules = pixel_rule_forms.rules_in(text)
    except AditError:
        rules = ()
    context = {
        "profile": profile,
        "draft": DraftForm(initial={"text": text}),
        "text": text,
        "form": form,
        "place": place,
        "rules": [
            (rule, admitted_sop_classes()[rule.sop_class].name.removesuffix(" Storage"))
            for rule in rules
        ],
        "is_changed": text != pixel_rule_forms.begun(profile),
        "due": profile_versions.next_version(profile.name),
    }
    return render(request, "projects/profile_pixels.html", context, **answer)
