"""Pages of the pseudonyms of a project: table, re-identification, merge, export, import."""

from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.nodes import access
from adit.nodes.models import Node
from adit.projects import services
from adit.projects.forms import PatientMergeForm, PseudonymImportForm, ReasonForm
from adit.projects.models import Patient, Project
from adit.projects.patient_merge import merge_patient_id
from adit.projects.pseudonym_import import ImportRejected, import_pairs
from adit.projects.reidentification import export_patient_map, reidentify
from adit.projects.tables import PseudonymTable
from adit.projects.views.access import (
    current_user,
    get_member_project,
    require_for,
    require_rights,
)
from adit.table_files import make_table_response
from adit_engine.errors import AditError

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def project_pseudonyms(request: HttpRequest, pk: int) -> HttpResponse:
    user = current_user(request)
    project = get_member_project(user, pk)
    has_key = project.key_destroyed_at is None
    may_reidentify = has_key and services.may_reidentify(user, project)
    may_merge = has_key and services.may_hold_list(user, project)
    rows = project.patients.order_by("pseudonym").defer("sealed", "index")
    context = {
        "project": project,
        "table": PseudonymTable(
            rows, request, exclude=() if may_reidentify or may_merge else ("actions",)
        ),
        "may_reidentify": may_reidentify,
        "may_merge": may_merge,
        "may_import": has_key and has_right(user, Right.CHOOSE_PSEUDONYMS),
    }
    return render(request, "projects/pseudonyms.html", context)


@get_or_post
def project_reidentify(request: HttpRequest, pk: int, patient: int) -> HttpResponse:
    """Ask for a reason, and show the patient once. The URL never shows the patient."""
    user = current_user(request)
    project = get_member_project(user, pk)
    require_for(services.require_reidentify, user, project)
    row = _get_patient(project, patient)
    form, found = ReasonForm(request.POST or None), None
    if request.method == "POST" and form.is_valid():
        try:
            found = reidentify(user, row, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
    context = {"project": project, "patient": row, "form": form, "found": found}
    status = 422 if form.errors else 200
    return render(request, "projects/reidentify.html", context, status=status)


@get_or_post
def project_merge_patient(request: HttpRequest, pk: int, patient: int) -> HttpResponse:
    """Merge another patient ID of the same person."""
    user = current_user(request)
    project = get_member_project(user, pk)
    require_for(services.require_list, user, project)
    row = _get_patient(project, patient)
    form = PatientMergeForm(request.POST or None, nodes=_selectable_nodes(user, project))
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            merge_patient_id(
                user,
                row,
                given["node"],
                given["patient_id"],
                given["reason"],
                new_generation=given["new_generation"],
            )
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The patient ID has the pseudonym %s from now on.") % row)
            return redirect("project_pseudonyms", pk)
    context = {"project": project, "patient": row, "form": form}
    status = 422 if form.errors else 200
    return render(request, "projects/merge_patient.html", context, status=status)


@get_or_post
def project_export(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Download all pseudonyms with their patients, for the key holder."""
    user = current_user(request)
    project = get_member_project(user, pk)
    require_for(services.require_reidentify, user, project)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            found = export_patient_map(user, project, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            rows = [
                (each.pseudonym, patient_id, domain)
                for each in found
                for domain, patient_id in ((each.domain, each.patient_id), *each.merged_ids)
            ]
            columns = ("pseudonym", "patient_id", "patient_id_domain")
            return make_table_response("csv", f"{project.protocol_id}-pseudonyms", columns, rows)
    context = {"project": project, "form": form, "patients": project.patients.count()}
    status = 422 if form.errors else 200
    return render(request, "projects/export.html", context, status=status)


@get_or_post
def project_import(request: HttpRequest, pk: int) -> HttpResponse:
    """Import all rows or none. Messages name rows, never patients."""
    user = current_user(request)
    project = get_member_project(user, pk)
    require_rights(user, Right.CHOOSE_PSEUDONYMS)
    posted = request.method == "POST"
    form = PseudonymImportForm(
        request.POST if posted else None,
        request.FILES if posted else None,
        nodes=_selectable_nodes(user, project),
    )
    if posted and form.is_valid():
        try:
            pairs = form.cleaned_data["file"]
            new, known = import_pairs(user, project, form.cleaned_data["node"], pairs)
        except ImportRejected as error:
            for problem in error.problems:
                form.add_error("file", str(problem))
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _describe_import(new, known))
            return redirect("project_pseudonyms", pk)
    status = 422 if form.errors else 200
    return render(
        request, "projects/import.html", {"project": project, "form": form}, status=status
    )


def _selectable_nodes(user: User, project: Project) -> QuerySet[Node]:
    nodes = access.readable_nodes(user).order_by("name")
    allowed = project.sources.values("pk")
    return nodes if project.is_default else nodes.filter(pk__in=allowed)


def _describe_import(new: int, known: int) -> str:
    added = ngettext("%d pseudonym was added.", "%d pseudonyms were added.", new) % new
    existed = ngettext("%d already existed.", "%d already existed.", known) % known
    return f"{added} {existed}"


def _get_patient(project: Project, pk: int) -> Patient:
    patient = project.patients.select_related("project").filter(pk=pk).first()
    if patient is None:
        raise Http404
    return patient
