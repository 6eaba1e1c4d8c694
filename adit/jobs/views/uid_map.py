"""Uid map of a research project, as a file; with a right, a reason and a trail record."""

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from adit.accounts.rights import Refused, Right, require
from adit.audit.table import csv_lines
from adit.jobs.provenance.uid_map import HEADING, exported
from adit.jobs.views.door import person
from adit.profiles import trials
from adit.profiles.forms import ReasonForm
from adit_engine.errors import AditError


@require_http_methods(["GET", "HEAD", "POST"])
def uid_map(request: HttpRequest, pk: int) -> HttpResponse:
    user = person(request)
    trial = trials.visible_to(user).filter(pk=pk).first()
    if trial is None:
        raise Http404
    try:
        require(user, Right.REIDENTIFY)
    except Refused as error:
        raise PermissionDenied(str(error)) from None
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            rows = exported(user, trial, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            text = "".join(csv_lines([HEADING, *rows]))
            answer = HttpResponse(text, content_type="text/csv; charset=utf-8")
            answer["Content-Disposition"] = f'attachment; filename="{trial.protocol_id}-uids.csv"'
            return answer
    status = 422 if form.errors else 200
    return render(request, "jobs/uid_map.html", {"trial": trial, "form": form}, status=status)
