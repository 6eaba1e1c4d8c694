"""Pages of the consent list of a project: the list and its versions, each change, the upload."""

from django.contrib import messages
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.forms import Form
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.audit.trail import record
from adit.consent import changes, uploads
from adit.consent.checking import get_version
from adit.consent.forms import (
    ChangeReasonForm,
    ConfirmUploadForm,
    ConsentForm,
    UploadForm,
    WithdrawForm,
)
from adit.consent.models import ConsentEntry, ConsentVersion
from adit.consent.tables import (
    CheckedRowTable,
    ConsentTable,
    ConsentVersionTable,
    OldConsentTable,
    RemovedConsentTable,
    list_checked_rows,
)
from adit.consent.uploads import RowEffect, UploadedList
from adit.projects import services
from adit.projects.forms import ReasonForm
from adit.projects.models import Project
from adit.projects.views.access import current_user, get_member_project, require_for
from adit.spreadsheets.columns import SheetKind
from adit.spreadsheets.row_reader import DateOrder
from adit.spreadsheets.row_verdicts import RowVerdict
from adit.spreadsheets.template import make_template_csv, make_template_xlsx
from adit.table_files import XLSX, make_table_response
from adit_engine.errors import AditError

get_or_post = require_http_methods(["GET", "HEAD", "POST"])


@require_safe
def project_consent(request: HttpRequest, pk: int) -> HttpResponse:
    user, project = _get_project(request, pk)
    rows = ConsentEntry.objects.filter(project=project, replaced_in=None)
    rows = rows.select_related("project")
    version = get_version(project)
    table = ConsentTable(rows, request)
    if request.method == "GET":
        record("consent.viewed", user=user, about=services.audit_subject(project))
    context = {
        "project": project,
        "version": version,
        "is_in_use": version is not None and version.is_in_use,
        "table": table,
        "versions": ConsentVersionTable(_list_versions(project), request, prefix="versions-"),
        "may_export": services.may_reidentify(user, project),
        "may_block": has_right(user, Right.MANAGE_BLOCK_LIST),
    }
    return render(request, "consent/consent_list.html", context)


@get_or_post
def project_consent_new(request: HttpRequest, pk: int) -> HttpResponse:
    user, project = _get_project(request, pk)
    form = ConsentForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            changes.save_consent(user, project, form.get_consent(), form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The consent of the patient is on the list."))
            return redirect("project_consent", pk)
    version = get_version(project)
    starts_list = version is None or not version.is_in_use
    context = {"project": project, "form": form, "starts_list": starts_list}
    return render(request, "consent/consent_new.html", context, status=_status_code(form))


@get_or_post
def project_consent_withdraw(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    user, project = _get_project(request, pk)
    entries = ConsentEntry.objects.filter(project=project, replaced_in=None)
    entry = entries.select_related("project").filter(pk=number).first()
    if entry is None:
        raise Http404
    form = WithdrawForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            changes.withdraw_consent(user, entry, given["withdrawn_on"], given["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _describe_withdrawal(user))
            return redirect("project_consent", pk)
    context = {"project": project, "form": form, "entry": entry}
    return render(request, "consent/consent_withdraw.html", context, status=_status_code(form))


@get_or_post
def project_consent_remove(request: HttpRequest, pk: int) -> HttpResponse:
    user, project = _get_project(request, pk)
    form = ChangeReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            changes.remove_list(user, project, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The project needs no consent list any more."))
            return redirect("project_consent", pk)
    context = {"project": project, "form": form}
    return render(request, "consent/consent_remove.html", context, status=_status_code(form))


@get_or_post
def project_consent_upload(request: HttpRequest, pk: int) -> HttpResponse:
    """Read a file; its rows are checked on the next page, and nothing takes effect yet."""
    user, project = _get_project(request, pk)
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            uploads.store_upload(
                user,
                project,
                given["sheet"],
                given["sheet"].name,
                default_domain=given["domain"],
                order=DateOrder(given["dates"]),
            )
        except AditError as error:
            form.add_error("sheet", str(error))
        else:
            return redirect("project_consent_check", pk)
    context = {"project": project, "form": form}
    return render(request, "consent/consent_upload.html", context, status=_status_code(form))


@get_or_post
def project_consent_check(request: HttpRequest, pk: int) -> HttpResponse:
    """Show each row with its verdict, and what the list changes; confirm or discard it."""
    user, project = _get_project(request, pk)
    if request.POST.get("do") == "discard":
        uploads.discard_upload(user, project)
        return redirect("project_consent", pk)
    uploaded = uploads.load_upload(user, project)
    if uploaded is None:
        messages.info(request, _("This list has expired. Please upload it again."))
        return redirect("project_consent_upload", pk)
    form = ConfirmUploadForm(uploaded, request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            version = uploads.confirm_upload(
                user,
                project,
                given["reason"],
                token=given["token"],
                skip_errors=given.get("skip_errors", False),
                accept_old=given.get("accept_old", False),
            )
        except AditError as error:
            # What the user sees now is what counts for the next confirmation.
            form = ConfirmUploadForm(uploaded)
            return _render_check(request, uploaded, form, str(error))
        text = _("The list is in use as version %d. Running transfers follow within a minute.")
        messages.success(request, text % version.number)
        return redirect("project_consent", pk)
    if request.method == "GET":
        record("consent.viewed", user=user, about=services.audit_subject(project))
    return _render_check(request, uploaded, form)


def _render_check(
    request: HttpRequest, uploaded: UploadedList, form: ConfirmUploadForm, problem: str = ""
) -> HttpResponse:
    counts = uploaded.validated.counts
    context = {
        "project": uploaded.project,
        "uploaded": uploaded,
        "form": form,
        "problem": problem,
        "rows": CheckedRowTable(list_checked_rows(uploaded), request),
        "removed": RemovedConsentTable(uploaded.removed, request, prefix="removed-"),
        "errors": uploaded.errors,
        "warnings": counts[RowVerdict.WARNING],
        "correct": counts[RowVerdict.OK],
        "added": uploaded.count(RowEffect.ADDED),
        "changed": uploaded.count(RowEffect.CHANGED),
        "withdrawn": uploaded.count(RowEffect.WITHDRAWN),
        "unchanged": uploaded.count(RowEffect.UNCHANGED),
    }
    status = 422 if problem else _status_code(form)
    return render(request, "consent/consent_check.html", context, status=status)


@require_safe
def project_consent_template(request: HttpRequest, pk: int, form: str) -> HttpResponse:
    """Download an empty list with text columns and two examples, which are ignored."""
    _get_project(request, pk)
    makers = {"xlsx": (make_template_xlsx, XLSX), "csv": (make_template_csv, "text/csv")}
    if form not in makers:
        raise Http404
    make, content_type = makers[form]
    headers = {"Content-Disposition": f'attachment; filename="adit-consent.{form}"'}
    return HttpResponse(make(SheetKind.CONSENT), content_type=content_type, headers=headers)


@require_safe
def project_consent_version(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """Show the entries of an earlier version, and what it removed."""
    user, project = _get_project(request, pk)
    version = _list_versions(project).filter(number=number).first()
    if version is None:
        raise Http404
    entries = ConsentEntry.objects.filter(project=project).select_related("project")
    valid = entries.filter(Q(replaced_in=None) | Q(replaced_in__number__gt=number))
    rows = valid.filter(added_in__number__lte=number)
    changed = rows.filter(added_in=version).values("index")
    removed = entries.filter(replaced_in=version).exclude(index__in=changed)
    if request.method == "GET":
        about = services.audit_subject(project)
        record("consent.viewed", user=user, about=about, details={"version": number})
    context = {
        "project": project,
        "version": version,
        "table": OldConsentTable(rows, request, version),
        "removed": RemovedConsentTable(removed, request, prefix="removed-"),
    }
    return render(request, "consent/consent_version.html", context)


@get_or_post
def project_consent_export(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Download the current version, with a reason; for those who may also re-identify."""
    user, project = _get_project(request, pk)
    require_for(services.require_reidentify, user, project)
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            entries = changes.export_list(user, project, form.cleaned_data["reason"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            columns = ("PatientID", "Domain", "Modalities", "ValidUntil", "WithdrawnOn")
            rows = [
                (
                    entry.patient_id,
                    entry.domain,
                    entry.modalities,
                    str(entry.valid_until or ""),
                    str(entry.withdrawn_on or ""),
                )
                for entry in entries
            ]
            return make_table_response("xlsx", f"{project.protocol_id}-consent", columns, rows)
    context = {"project": project, "form": form}
    return render(request, "consent/consent_export.html", context, status=_status_code(form))


def _get_project(request: HttpRequest, pk: int) -> tuple[User, Project]:
    """Return user and project. Raises Http404, PermissionDenied."""
    user = current_user(request)
    project = get_member_project(user, pk)
    require_for(services.require_list, user, project)
    if project.is_default:
        raise Http404
    require_for(lambda _user, one: services.require_key(one), user, project)
    return user, project


def _list_versions(project: Project) -> QuerySet[ConsentVersion]:
    added = ConsentEntry.objects.filter(added_in=OuterRef("pk"))
    return (
        ConsentVersion.objects.filter(project=project)
        .select_related("created_by", "project")
        .annotate(
            has_added=Exists(added),
            has_withdrawn=Exists(added.exclude(withdrawn_on=None)),
            has_replaced=Exists(ConsentEntry.objects.filter(replaced_in=OuterRef("pk"))),
        )
    )


def _describe_withdrawal(user: User) -> str:
    text = _(
        "The consent is withdrawn. Running transfers of the patient stop within a minute. What was "
        "delivered before stays until it is recalled."
    )
    if has_right(user, Right.MANAGE_BLOCK_LIST):
        return f"{text} {_('Select Block and recall in the row of the patient.')}"
    return f"{text} {_('Ask the data protection officer for a recall.')}"


def _status_code(form: Form) -> int:
    return 422 if form.errors else 200
