"""Pages of recalls: order one, follow it, export its list of images, record confirmations."""

from contextlib import suppress

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.blocklist.models import BlockedPatient
from adit.dates import format_date
from adit.jobs.models import Job
from adit.jobs.views.access import current_user, get_visible_job
from adit.recall import recalls
from adit.recall.api_retrievals import ApiRetrieval
from adit.recall.forms import ConfirmationForm, RecallForm
from adit.recall.models import Recall, RecallState
from adit.recall.patient_deliveries import (
    IMAGE_COLUMNS,
    PatientQuestion,
    find_given_out,
    given_out_rows,
    image_rows,
    sealed_image_rows,
)
from adit.recall.tables import TONES, RecallTable, describe_subject, state_of
from adit.retention import ledgers
from adit.table_files import Cell, make_table_response
from adit.vault.cipher import DecryptionError
from adit_engine.errors import AditError


@require_safe
def recall_list(request: HttpRequest) -> HttpResponse:
    user = _require_user(request)
    rows = Recall.objects.select_related("entry").prefetch_related("confirmations")
    if request.method == "GET":
        record("blocklist.read", user=user)
    return render(request, "recall/recall_list.html", {"table": RecallTable(rows, request)})


@require_http_methods(["GET", "HEAD", "POST"])
def block_recall(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what would be deleted of a blocked patient; order the recall."""
    user = _require_user(request)
    entry = get_object_or_404(BlockedPatient.objects.select_related("project"), pk=pk)
    return _order(request, user, entry)


@require_http_methods(["GET", "HEAD", "POST"])
def job_recall(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what would be deleted of a job; order the recall."""
    job = get_visible_job(current_user(request), pk)
    return _order(request, _require_user(request), job)


@require_safe
def recall_page(request: HttpRequest, pk: int) -> HttpResponse:
    user = _require_user(request)
    recall = _get(pk)
    if request.method == "GET":
        record("recall.viewed", user=user, about=f"recall:{pk}")
    return _show(request, recall, ConfirmationForm())


@require_POST
def recall_continue(request: HttpRequest, pk: int) -> HttpResponse:
    user = _require_user(request)
    recalls.continue_recall(user, _get(pk))
    messages.success(request, _("What is not deleted yet is tried and looked for again."))
    return redirect("recall", pk)


@require_POST
def recall_images(request: HttpRequest, pk: int) -> HttpResponseBase:
    """Export one row per image: the sheet for the administrator of a PACS or folder."""
    user = _require_user(request)
    rows: list[tuple[Cell, ...]] = []
    recall = _get(pk)
    for one in recall.deliveries.select_related("task__job__project", "task__job__owner"):
        with suppress(DecryptionError):
            if one.task is not None:
                rows += image_rows(user, one.task)
            elif part := ledgers.find_part(one.job_number, one.position):
                rows += sealed_image_rows(user, part, ledgers.open_part(part))
    rows += [row for retrieval in _find_given_out(recall) for row in given_out_rows(retrieval)]
    record("recall.list_exported", user=user, about=f"recall:{pk}", details={"images": len(rows)})
    return make_table_response(request.POST.get("form", "csv"), f"recall-{pk}", IMAGE_COLUMNS, rows)


@require_POST
def recall_confirm(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    user = _require_user(request)
    recall = _get(pk)
    confirmation = get_object_or_404(recall.confirmations, pk=number)
    form = ConfirmationForm(request.POST)
    if form.is_valid():
        try:
            recalls.confirm_deletion(user, confirmation, form.cleaned_data["note"])
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The confirmation was recorded."))
            return redirect("recall", pk)
    return _show(request, recall, form, status=422)


def _order(request: HttpRequest, user: User, subject: BlockedPatient | Job) -> HttpResponse:
    preview = recalls.preview_recall(user, subject)
    form = RecallForm(request.POST or None, has_shared_archives=bool(preview.shared_jobs))
    if request.method == "POST" and form.is_valid():
        try:
            recall = recalls.start_recall(user, subject, **form.values)
        except AditError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("The recall is ordered. The deletion starts now."))
            return redirect("recall", recall.pk)
    context = {
        "form": form,
        "preview": preview,
        "entry": subject if isinstance(subject, BlockedPatient) else None,
        "job": subject if isinstance(subject, Job) else None,
        "images": sum(study.images for study in preview.studies),
    }
    status = 422 if form.errors else 200
    return render(request, "recall/recall_new.html", context, status=status)


def _show(
    request: HttpRequest, recall: Recall, form: ConfirmationForm, status: int = 200
) -> HttpResponse:
    tone, label = state_of(recall)
    context = {
        "recall": recall,
        "subject": describe_subject(recall),
        "tone": tone,
        "label": label,
        "deliveries": [
            (one, TONES[RecallState(one.state)])
            for one in recall.deliveries.select_related("destination")
        ],
        "confirmations": recall.confirmations.select_related(
            "destination", "receiver", "project", "confirmed_by"
        ),
        "confirm_by": format_date(recall.confirm_by),
        "is_overdue": recall.is_overdue(timezone.localdate()),
        "given_out": _find_given_out(recall),
        "form": form,
    }
    return render(request, "recall/recall.html", context, status=status)


def _find_given_out(recall: Recall) -> list[ApiRetrieval]:
    """Return what the API gave out of the patient of a recall; a job gives nothing out."""
    if recall.entry is None:
        return []
    return find_given_out(PatientQuestion.of_entry(recall.entry))


def _get(pk: int) -> Recall:
    return get_object_or_404(
        Recall.objects.select_related("entry__project", "job", "created_by"), pk=pk
    )


def _require_user(request: HttpRequest) -> User:
    user = current_user(request)
    try:
        require(user, Right.MANAGE_BLOCK_LIST)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    return user
