"""Page of the pixel rules of a profile.

Rules are added, changed and removed in a draft, which is saved as the next version.
"""

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from adit.accounts.permissions import Right
from adit.numbers import parse_number
from adit.projects import pixel_rule_forms, profile_versions
from adit.projects.models import ProfileVersion
from adit.projects.pixel_rule_forms import PixelRuleForm, ProfileDraftForm, pixel_rule_to_initial
from adit.projects.views.access import current_user, get_profile, require_rights
from adit_engine.errors import AditError
from adit_engine.pseudonymize.tables import admitted_sop_classes


@require_http_methods(["GET", "HEAD", "POST"])
def profile_pixels(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    require_rights(user, Right.MANAGE_PROFILES)
    profile = get_profile(pk)
    if request.method != "POST":
        return _render_draft(
            request, profile, pixel_rule_forms.start_draft(profile), PixelRuleForm()
        )
    draft = ProfileDraftForm(request.POST)
    if not draft.is_valid():
        raise Http404
    text: str = draft.cleaned_data["text"].replace("\r\n", "\n")
    try:
        return _handle_button(request, profile, text)
    except AditError as error:
        form = PixelRuleForm(request.POST)
        form.add_error(None, str(error))
        return _render_draft(request, profile, text, form, _parse_index(request), status=422)


def _handle_button(request: HttpRequest, profile: ProfileVersion, text: str) -> HttpResponse:
    """Execute the button that was clicked.

    Raises ProfileError with the line, NotPermitted, InvalidInput.
    """
    button, _sep, number = request.POST.get("do", "").partition("-")
    rules = pixel_rule_forms.parse_pixel_rules(text)
    place = parse_number(number, len(rules) - 1)
    if button == "save":
        made = profile_versions.create_version(current_user(request), text)
        messages.success(request, _("%s is saved. Select it in a project to use it.") % made)
        return redirect("profile_version", made.pk)
    if button == "change" and place is not None:
        return _render_draft(
            request,
            profile,
            text,
            PixelRuleForm(initial=pixel_rule_to_initial(rules[place])),
            place,
        )
    if button == "remove" and place is not None:
        return _render_draft(
            request, profile, pixel_rule_forms.remove_pixel_rule(text, place), PixelRuleForm()
        )
    if button != "put":
        raise Http404
    form = PixelRuleForm(request.POST)
    if not form.is_valid():
        return _render_draft(request, profile, text, form, _parse_index(request), status=422)
    return _render_draft(
        request,
        profile,
        pixel_rule_forms.put_pixel_rule(text, form.rule, _parse_index(request)),
        PixelRuleForm(),
    )


def _parse_index(request: HttpRequest) -> int | None:
    """The index of the rule that is being changed; None for a new one."""
    return parse_number(request.POST.get("place", ""))


def _render_draft(
    request: HttpRequest,
    profile: ProfileVersion,
    text: str,
    form: PixelRuleForm,
    place: int | None = None,
    **answer: Any,
) -> HttpResponse:
    try:
        rules = pixel_rule_forms.parse_pixel_rules(text)
    except AditError:
        rules = ()
    context = {
        "profile": profile,
        "draft": ProfileDraftForm(initial={"text": text}),
        "text": text,
        "form": form,
        "place": place,
        "rules": [
            (rule, admitted_sop_classes()[rule.sop_class].name.removesuffix(" Storage"))
            for rule in rules
        ],
        "is_changed": text != pixel_rule_forms.start_draft(profile),
        "due": profile_versions.get_next_version(profile.name),
    }
    return render(request, "projects/profile_pixels.html", context, **answer)
