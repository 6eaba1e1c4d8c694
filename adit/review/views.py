"""Pages of withheld images, by device and reason, and of the decisions on them."""

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, has_right, require
from adit.jobs.models import DeviceDecision, ReviewDecision
from adit.jobs.views.access import current_user
from adit.nodes.sample_images import MAX_PNG_PIXELS, THUMBNAIL_PIXELS, render_png
from adit.numbers import parse_number
from adit.projects import risks
from adit.projects.models import ProfileVersion
from adit.projects.profile_versions import parse_rules
from adit.review import decisions, forms, images
from adit.review import groups as review_groups
from adit.review.forms import DecisionForm, RectangleFormSet, get_rectangles
from adit.review.groups import WithheldGroup
from adit.review.tables import (
    DecisionTable,
    LeftGroupTable,
    RuledGroupTable,
    RuledImagesTable,
)
from adit_engine.errors import AditError
from adit_engine.pseudonymize.pixel_rules import Rectangle
from adit_engine.pseudonymize.tables import admitted_sop_classes
from adit_engine.pseudonymize.text_detection.detector import is_installed
from adit_engine.pseudonymize.text_detection.inspection import must_inspect
from adit_engine.rendering import count_frames

MAX_GROUPS = 100


@require_safe
def withheld_list(request: HttpRequest) -> HttpResponse:
    user = _require_reviewer(request)
    groups = review_groups.list_groups(user, *ReviewDecision)
    by = {decision: [g for g in groups if g.decision is decision] for decision in ReviewDecision}
    context = {
        "open": [
            (group, images.get_cached(user, group.rows[0]) is not None)
            for group in by[ReviewDecision.OPEN][:MAX_GROUPS]
        ],
        "more": max(0, len(by[ReviewDecision.OPEN]) - MAX_GROUPS),
        "ruled": RuledGroupTable(
            by[ReviewDecision.MASKED] + by[ReviewDecision.RELEASED], request, prefix="ruled-"
        ),
        "left": LeftGroupTable(by[ReviewDecision.LEFT], request, prefix="left-"),
        "sees": has_right(user, Right.SEE_IDENTIFIED),
    }
    return render(request, "review/withheld_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def withheld_group(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one group: view an image, draw rectangles, preview, decide.

    The input is kept if a decision is refused.
    """
    user = _require_reviewer(request)
    group = _get_group(user, pk)
    posted = request.method == "POST"
    initial = (
        forms.rectangles_to_initial(decisions.suggest_rectangles(group)) if not posted else None
    )
    page = _GroupPage(
        user,
        group,
        RectangleFormSet(request.POST if posted else None, initial=initial, prefix="r"),
        DecisionForm(request.POST if posted else None),
    )
    if posted:
        action = REVIEW_ACTIONS.get(request.POST.get("do", ""))
        if action is None:
            raise Http404
        try:
            answer = action(request, page)
        except AditError as error:
            page.decision.add_error(None, str(error))
        else:
            if answer is not None:
                return answer
    return render(request, "review/withheld.html", page.context(request), status=page.status)


@require_POST
def withheld_devices(request: HttpRequest, pk: int) -> HttpResponse:
    """Detect the devices of images that were not fetched."""
    user = _require_reviewer(request)
    group = _get_group(user, pk)
    try:
        left = images.detect_devices(user, [row for row in group.rows if not row.rows])
    except (AditError, IndexError) as error:
        messages.error(request, str(error) or _("The devices are already known."))
        return redirect("withheld")
    if left:
        text = ngettext("%d series is not inspected yet.", "%d series are not inspected yet.", left)
        messages.info(request, text % left)
    else:
        messages.success(request, _("The devices are detected."))
    return redirect("withheld")


@require_safe
def withheld_picture(request: HttpRequest, pk: int) -> HttpResponse:
    """Return a PNG for a user who has opened the image; `look` fetches it first.

    The address names a row of the group. No URL contains patient data.
    """
    user = _require_reviewer(request)
    group = _get_group(user, pk)
    row = group.get_row(pk) or group.rows[0]
    try:
        require(user, Right.SEE_IDENTIFIED)
        if "look" not in request.GET and images.get_cached(user, row) is None:
            raise Http404
        image = images.get_image(user, row)
        if "mask" in request.GET:
            mask = forms.parse_mask(request.GET["mask"])
            tried = decisions.preview_rule(user, group, mask, row)
            if tried.image is None:
                raise Http404
            image = tried.image
        largest = THUMBNAIL_PIXELS if "small" in request.GET else MAX_PNG_PIXELS
        data = render_png(
            image,
            parse_number(request.GET.get("frame", "")) or 0,
            largest=largest,
            whole_range="whole" in request.GET,
        )
    except AditError as error:
        return HttpResponse(str(error), status=409, content_type="text/plain; charset=utf-8")
    return HttpResponse(data, content_type="image/png", headers={"Cache-Control": "no-store"})


@require_safe
def withheld_decisions(request: HttpRequest) -> HttpResponse:
    """List the decisions of reviewers, newest first, with those that were revoked."""
    user = _require_reviewer(request)
    table = DecisionTable(decisions.list_decisions(user), request)
    return render(request, "review/decisions.html", {"table": table})


@require_http_methods(["GET", "HEAD", "POST"])
def withheld_decision(request: HttpRequest, pk: int) -> HttpResponse:
    """Show one decision, what was delivered under its rule, and revoke it."""
    user = _require_reviewer(request)
    decision = decisions.list_decisions(user).filter(pk=pk).first()
    if decision is None:
        raise Http404
    form = DecisionForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            profile = decisions.revoke(user, decision, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            text = _("Revoked by %s.") % profile
            messages.success(request, f"{text} {_describe_without_rule(decision, profile)}")
            return redirect("withheld_decision", decision.pk)
    delivered = decisions.list_delivered(decision)
    context = {
        "decision": decision,
        "kind": review_groups.describe_kind(decision.sop_class),
        "form": form,
        "may_revoke": decisions.find_rule(decision) is not None,
        "images": sum(row.images for row in delivered),
        "delivered": RuledImagesTable(delivered, request),
    }
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "review/decision.html", context, status=status)


def _describe_without_rule(decision: DeviceDecision, profile: ProfileVersion) -> str:
    """Return what now happens to images of the device."""
    admitted = admitted_sop_classes()[decision.sop_class]
    if must_inspect(parse_rules(profile), admitted.modality):
        return _(
            "From now on, images of this device leave only if the text detection finds no text in "
            "them."
        )
    if admitted.needs_rule(risks.get_chosen(decision.project)["header_word"]):
        return _("Images of this device are withheld from now on.")
    return _("From now on, images of this device leave only if their header announces no text.")


class _GroupPage:
    """The page of one group, with the input of the user."""

    def __init__(
        self, user: User, group: WithheldGroup, rectangles: Any, decision: DecisionForm
    ) -> None:
        self.user, self.group = user, group
        self.rectangles, self.decision = rectangles, decision
        self.previews: list[decisions.RulePreview] = []
        self.proposed: int | None = None

    @property
    def status(self) -> int:
        return 422 if self.decision.is_bound and self.decision.errors and not self.previews else 200

    @property
    def mask(self) -> tuple[Rectangle, ...]:
        valid = self.rectangles.is_bound and self.rectangles.is_valid()
        return get_rectangles(self.rectangles) if valid else ()

    def context(self, request: HttpRequest) -> dict[str, Any]:
        group = self.group
        layouts = images.list_layouts(self.user, group)
        asked = parse_number(request.GET.get("image", ""))
        row = group.get_row(asked) if asked is not None else None
        if row is None or images.get_cached(self.user, row) is None:
            row = images.list_viewable(group)[0]
        image = images.get_cached(self.user, row)
        frames = count_frames(image) if image is not None else 0
        also = decisions.covered_images(group).exclude(code=group.code)
        return {
            "group": group,
            "is_open": group.decision is ReviewDecision.OPEN,
            "is_left": group.decision is ReviewDecision.LEFT,
            "sees": has_right(self.user, Right.SEE_IDENTIFIED),
            "is_own": decisions.is_own(self.user, group),
            "may_release": group.code not in decisions.CODES_NOT_ANNOUNCED,
            "also": sum(row.images for row in also),
            "is_shown": image is not None,
            "row": row,
            "layouts": layouts,
            "seen_series": sum(len(layout.rows) for layout in layouts),
            "series": len(group.rows),
            "frames": frames,
            "steps": sorted({0, frames // 2, frames - 1}) if frames else [],
            "frame": _read_frame(request, frames),
            "whole": bool(request.POST.get("whole")),
            "rectangles": self.rectangles,
            "decision": self.decision,
            "tried": self.previews,
            "detects_text": is_installed(),
            "proposed": self.proposed,
            "mask": forms.format_mask(self.mask),
        }


ReviewAction = Callable[[HttpRequest, _GroupPage], HttpResponse | None]


def _view_image(request: HttpRequest, page: _GroupPage) -> HttpResponse | None:
    images.get_images(page.user, page.group)
    return redirect("withheld_group", page.group.pk)


def _preview_rule(request: HttpRequest, page: _GroupPage) -> HttpResponse | None:
    page.decision = DecisionForm(initial={"reason": request.POST.get("reason", "")})
    if page.rectangles.is_valid():
        page.previews = decisions.preview_layouts(page.user, page.group, page.mask)
    return None


def _propose_mask(request: HttpRequest, page: _GroupPage) -> HttpResponse | None:
    found = decisions.propose_mask(page.user, page.group)
    page.decision = DecisionForm(initial={"reason": request.POST.get("reason", "")})
    page.rectangles = RectangleFormSet(initial=forms.rectangles_to_initial(found), prefix="r")
    page.proposed = len(found)
    return None


def _mask_device(request: HttpRequest, page: _GroupPage) -> HttpResponse | None:
    if not (page.rectangles.is_valid() and page.decision.is_valid()):
        return None
    reason = page.decision.cleaned_data["reason"]
    return _announce_profile(request, decisions.mask(page.user, page.group, page.mask, reason))


def _release_device(request: HttpRequest, page: _GroupPage) -> HttpResponse | None:
    if not page.decision.is_valid():
        return None
    return _announce_profile(
        request, decisions.release(page.user, page.group, page.decision.cleaned_data["reason"])
    )


def _keep_withheld(request: HttpRequest, page: _GroupPage) -> HttpResponse | None:
    if not page.decision.is_valid():
        return None
    decisions.keep_withheld(page.user, page.group, page.decision.cleaned_data["reason"])
    messages.success(request, _("The images stay withheld."))
    return redirect("withheld")


def _reopen_group(request: HttpRequest, page: _GroupPage) -> HttpResponse | None:
    if not page.decision.is_valid():
        return None
    decisions.reopen(page.user, page.group, page.decision.cleaned_data["reason"])
    return redirect("withheld_group", page.group.pk)


REVIEW_ACTIONS: Mapping[str, ReviewAction] = {
    "look": _view_image,
    "propose": _propose_mask,
    "try": _preview_rule,
    "mask": _mask_device,
    "release": _release_device,
    "leave": _keep_withheld,
    "reopen": _reopen_group,
}


def _announce_profile(request: HttpRequest, profile: ProfileVersion) -> HttpResponse:
    text = _("Saved as %s. The owners of the jobs below can now retry the withheld images.")
    messages.success(request, text % profile)
    return redirect("withheld")


def _require_reviewer(request: HttpRequest) -> User:
    user = current_user(request)
    try:
        require(user, Right.REVIEW_WITHHELD)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    return user


def _get_group(user: User, pk: int) -> WithheldGroup:
    group = review_groups.find_group(user, pk)
    if group is None:
        raise Http404
    return group


def _read_frame(request: HttpRequest, frames: int) -> int:
    number = parse_number(request.POST.get("frame", "")) or 1
    return min(max(number - 1, 0), max(frames - 1, 0))
