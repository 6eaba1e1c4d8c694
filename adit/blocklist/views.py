"""Pages of the block list: all entries, add a patient, end an entry."""

from typing import Any, cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.blocklist import blocking
from adit.blocklist.forms import BlockForm, EndBlockForm
from adit.blocklist.models import BlockedPatient
from adit.blocklist.tables import BlockListTable
from adit.consent.models import ConsentEntry
from adit.projects.services import may_hold_list
from adit_engine.errors import InvalidInput


@require_safe
def block_list(request: HttpRequest) -> HttpResponse:
    user = _require_user(request)
    rows = BlockedPatient.objects.select_related("project", "created_by", "ended_by")
    table = BlockListTable(rows, request)
    if request.method == "GET":
        record("blocklist.read", user=user)
    return render(request, "blocklist/block_list.html", {"table": table})


@require_http_methods(["GET", "HEAD", "POST"])
def block_new(request: HttpRequest) -> HttpResponse:
    user = _require_user(request)
    form = BlockForm(request.POST or None, initial=_get_withdrawn(user, request))
    if request.method == "POST" and form.is_valid():
        try:
            blocking.block_patient(user, **form.cleaned_data)
        except InvalidInput as error:
            form.add_error(None, str(error))
        else:
            messages.success(
                request,
                _("The patient is blocked. Running transfers of the patient stop within a minute."),
            )
            return redirect("block_list")
    status = 422 if form.errors else 200
    return render(request, "blocklist/block_new.html", {"form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def block_end(request: HttpRequest, pk: int) -> HttpResponse:
    user = _require_user(request)
    entry = get_object_or_404(BlockedPatient, pk=pk)
    form = EndBlockForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            blocking.end_block(user, entry, form.cleaned_data["reason"])
        except InvalidInput as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The entry has ended. The patient may be transferred."))
            return redirect("block_list")
    status = 422 if form.errors else 200
    context = {"form": form, "entry": entry}
    return render(request, "blocklist/block_end.html", context, status=status)


def _get_withdrawn(user: User, request: HttpRequest) -> dict[str, Any]:
    """Return the initial values for a patient whose consent was withdrawn."""
    number = request.GET.get("consent", "")
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return {}
    entries = ConsentEntry.objects.select_related("project").exclude(withdrawn_on=None)
    entry = entries.filter(pk=number).first()
    if entry is None or entry.project.key is None or not may_hold_list(user, entry.project):
        return {}
    return {
        "patient_id": entry.patient_id,
        "domain": entry.domain,
        "project": entry.project_id,
        "withdrawn_on": entry.withdrawn_on,
    }


def _require_user(request: HttpRequest) -> User:
    user = cast(User, request.user)
    try:
        require(user, Right.MANAGE_BLOCK_LIST)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    return user
