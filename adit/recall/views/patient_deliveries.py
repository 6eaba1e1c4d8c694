"""Pages that answer where the images of a patient went, for any patient and for blocked ones."""

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.blocklist import blocking
from adit.blocklist.models import BlockedPatient
from adit.jobs.views.access import current_user
from adit.nodes.access import get_domain
from adit.nodes.models import Node
from adit.projects.forms import ReasonForm
from adit.recall.patient_answer import write_answer
from adit.recall.patient_deliveries import (
    DELIVERY_COLUMNS,
    IMAGE_COLUMNS,
    PatientDeliveries,
    PatientQuestion,
    export_images,
    find_deliveries,
)
from adit.table_files import make_table_response

TEMPLATE = "recall/patient_deliveries.html"


class PatientForm(forms.Form):
    """A patient, named by the patient ID and the PACS that uses it. Never part of a URL."""

    node = forms.ModelChoiceField(
        Node.objects.order_by("name"), label=_("PACS that uses the patient ID")
    )
    patient_id = forms.CharField(label=_("Patient ID"), max_length=blocking.MAX_ID_LENGTH)

    @property
    def question(self) -> PatientQuestion:
        return PatientQuestion(
            get_domain(self.cleaned_data["node"]), self.cleaned_data["patient_id"]
        )


@require_http_methods(["GET", "HEAD", "POST"])
def trail_patient(request: HttpRequest) -> HttpResponseBase:
    """Answer for any patient, as a page or a file. Each answer is recorded."""
    user = current_user(request)
    _require(user, Right.READ_TRAIL, Right.SEE_IDENTIFIED)
    form = PatientForm(request.POST or None)
    context: dict[str, Any] = {"form": form}
    if request.method == "POST" and form.is_valid():
        found = find_deliveries(user, form.question)
        node = form.cleaned_data["node"]
        details = {"node": node.name, "found": len(found.deliveries)}
        record("trail.patient_searched", user=user, details=details, patient=form.question.key)
        if kind := request.POST.get("form"):
            return _make_file(user, kind, form.question, found)
        context |= {"found": found, "entry": _find_entry(user, form.question)}
    return render(request, TEMPLATE, context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def block_deliveries(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Answer for a blocked patient. The list of single images needs a reason."""
    user = current_user(request)
    _require(user, Right.MANAGE_BLOCK_LIST)
    entry = get_object_or_404(BlockedPatient.objects.select_related("project"), pk=pk)
    question = PatientQuestion.of_entry(entry)
    kind = request.POST.get("form", "")
    if kind == "pdf":
        return _make_file(user, kind, question, find_deliveries(user, question))
    reason_form = ReasonForm(request.POST or None)
    if request.method == "POST" and reason_form.is_valid():
        rows = export_images(user, entry, reason_form.cleaned_data["reason"])
        return make_table_response(kind or "csv", f"deliveries-{entry.pk}", IMAGE_COLUMNS, rows)
    found = find_deliveries(user, question)
    if request.method == "GET":
        record("blocklist.deliveries_read", user=user, details={"entry": pk}, patient=question.key)
    context = {"entry": entry, "reason_form": reason_form, "found": found}
    return render(request, TEMPLATE, context, status=422 if reason_form.errors else 200)


def _make_file(
    user: User, kind: str, question: PatientQuestion, found: PatientDeliveries
) -> HttpResponseBase:
    if kind != "pdf":
        cells = [one.cells for one in found.deliveries]
        return make_table_response(kind, "patient-deliveries", DELIVERY_COLUMNS, cells)
    headers = {"Content-Disposition": 'attachment; filename="patient-answer.pdf"'}
    content = write_answer(user, question, found)
    return HttpResponse(content, content_type="application/pdf", headers=headers)


def _find_entry(user: User, question: PatientQuestion) -> BlockedPatient | None:
    """Return the valid entry of the block list that starts a recall of all the patient's images."""
    if not user.has_perm(f"accounts.{Right.MANAGE_BLOCK_LIST}"):
        return None
    index = blocking.compute_index(*question.key)
    return BlockedPatient.objects.filter(index=index, project=None, ended_at=None).first()


def _require(user: User, *rights: Right) -> None:
    try:
        for right in rights:
            require(user, right)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
