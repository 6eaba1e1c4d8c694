"""The page that lists what was delivered of a blocked patient, with a file for the recall."""

from typing import cast

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.blocklist.models import BlockedPatient
from adit.projects.forms import ReasonForm
from adit.results import patient_deliveries
from adit.table_files import CSV, stream_csv


@require_http_methods(["GET", "HEAD", "POST"])
def block_deliveries(request: HttpRequest, pk: int) -> HttpResponseBase:
    user = cast(User, request.user)
    try:
        require(user, Right.MANAGE_BLOCK_LIST)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    entry = get_object_or_404(BlockedPatient.objects.select_related("project"), pk=pk)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        rows = patient_deliveries.export_deliveries(user, entry, form.cleaned_data["reason"])
        lines = stream_csv(patient_deliveries.HEADING, rows)
        name = f"deliveries-{entry.pk}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingHttpResponse(lines, content_type=CSV, headers=headers)
    found = patient_deliveries.find_deliveries(entry)
    if request.method == "GET":
        patient = (entry.domain, entry.patient_id)
        record("blocklist.deliveries_read", user=user, details={"entry": pk}, patient=patient)
    context = {
        "entry": entry,
        "form": form,
        "unreadable": found.unreadable,
        "rows": [(task, patient_deliveries.count_images(task)) for task in found.tasks],
    }
    status = 422 if form.errors else 200
    return render(request, "results/block_deliveries.html", context, status=status)
