"""Export of the configuration as a file, and import with a plan that is confirmed first."""

from collections.abc import Sequence
from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.administration.configuration import importing
from adit.administration.configuration.document import MAX_BYTES, read_document
from adit.administration.configuration.kinds import ConfigurationKind
from adit_engine.errors import AditError


@require_safe
def configuration_page(request: HttpRequest) -> HttpResponse:
    """Choose what to export, or a file to import."""
    _user, kinds = _get_manager(request)
    return _render_page(request, kinds)


@require_POST
def configuration_export(request: HttpRequest) -> HttpResponse:
    """Download the chosen kinds as one file."""
    user, kinds = _get_manager(request)
    try:
        text = importing.export_configuration(user, request.POST.getlist("kinds"))
    except AditError as error:
        return _render_page(request, kinds, export_problem=str(error))
    name = f"adit-configuration-{timezone.localdate().isoformat()}.json"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return HttpResponse(text, content_type="application/json; charset=utf-8", headers=headers)


@require_POST
def configuration_import(request: HttpRequest) -> HttpResponse:
    """Show what the import of a file would do; import it if exactly this was confirmed."""
    user, kinds = _get_manager(request)
    confirmed = request.POST.get("confirmed", "")
    try:
        document = read_document(_read_upload(request))
        if confirmed:
            plan, is_done = importing.run_import(user, document, confirmed)
        else:
            plan, is_done = importing.plan_import(user, document), False
    except AditError as error:
        return _render_page(request, kinds, import_problem=str(error))
    if is_done:
        count = len(plan.new) + len(plan.changed)
        text = ngettext("%(n)d object is imported.", "%(n)d objects are imported.", count)
        messages.success(request, text % {"n": count})
        return redirect("configuration")
    context = {
        "plan": plan,
        "content": document.to_line(),
        "is_outdated": bool(confirmed),
        "sections": [
            (_("Cannot be imported"), "alert-triangle", plan.conflicts),
            (_("New"), "plus", plan.new),
            (_("Changed"), "edit", plan.changed),
            (_("Unchanged"), "check", plan.unchanged),
        ],
    }
    status = 409 if confirmed or plan.conflicts else 200
    return render(request, "administration/configuration_plan.html", context, status=status)


def _read_upload(request: HttpRequest) -> bytes:
    file = request.FILES.get("file")
    if file is not None:
        return file.read(MAX_BYTES + 1)
    return request.POST.get("content", "").encode("utf-8", "replace")


def _get_manager(request: HttpRequest) -> tuple[User, Sequence[ConfigurationKind]]:
    """Return the user and the kinds. Raise PermissionDenied for who manages none of them."""
    user = cast(User, request.user)
    kinds = importing.manageable_kinds(user)
    if not kinds:
        try:
            require(user, Right.MANAGE_NODES)
        except NotPermitted as error:
            raise PermissionDenied(str(error)) from None
    return user, kinds


def _render_page(
    request: HttpRequest, kinds: Sequence[ConfigurationKind], **problems: Any
) -> HttpResponse:
    context = {"kinds": kinds, "chosen": request.POST.getlist("kinds"), **problems}
    status = 422 if problems else 200
    return render(request, "administration/configuration.html", context, status=status)
