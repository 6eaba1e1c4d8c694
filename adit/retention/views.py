"""Pages of retention: the periods, a preview of what is due, the ledgers of deleted jobs."""

from datetime import timedelta
from typing import cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.numbers import parse_number
from adit.retention import changes, cleaning, ledgers
from adit.retention.forms import RetentionForm
from adit.retention.models import JobLedger, LastCleaning
from adit.retention.periods import DataKind, get_days

LEDGERS_PER_PAGE = 50


@require_http_methods(["GET", "HEAD", "POST"])
def retention(request: HttpRequest) -> HttpResponse:
    user = _require_administrator(request)
    form = RetentionForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if changes.save_periods(user, form.get_days()):
            messages.success(request, _("Saved. The next cleaning uses the new periods."))
        else:
            messages.info(request, _("Nothing was changed."))
        return redirect("retention")
    last = {row.kind: row for row in LastCleaning.objects.all()}
    rows = [(field, rule, last.get(field.name)) for field, rule in form.rows()]
    context = {"form": form, "rows": rows}
    status = 422 if form.errors else 200
    return render(request, "retention/retention.html", context, status=status)


@require_safe
def retention_preview(request: HttpRequest) -> HttpResponse:
    """Show what would be deleted now, with the periods in the query string or the current ones."""
    _require_administrator(request)
    form = RetentionForm(request.GET if DataKind.JOBS in request.GET else None)
    days = {kind: get_days(kind) for kind in DataKind}
    if form.is_bound and not form.is_valid():
        return redirect("retention")
    if form.is_bound:
        days = form.get_days()
    now = timezone.now()
    rows = []
    for kind, count in days.items():
        before = None if count is None else now - timedelta(days=count)
        rows.append((kind.label, count, cleaning.preview_kind(kind, before)))
    context = {"rows": rows, "is_proposal": form.is_bound}
    return render(request, "retention/preview.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def retention_ledgers(request: HttpRequest) -> HttpResponse:
    """List the ledgers of deleted jobs; POST verifies all of them."""
    user = _require_administrator(request)
    if request.method == "POST":
        faults = list(ledgers.verify_ledgers())
        record("retention.ledgers_verified", user=user, details={"faults": len(faults)})
        for fault in faults[:LEDGERS_PER_PAGE]:
            messages.error(request, str(fault.reason))
        if not faults:
            messages.success(request, _("All ledgers are intact."))
        return redirect("retention_ledgers")
    found = JobLedger.objects.exclude(sealed_at=None).select_related("project", "ordered_by")
    page = Paginator(found, LEDGERS_PER_PAGE).get_page(parse_number(request.GET.get("page", "")))
    return render(request, "retention/ledgers.html", {"page": page})


def _require_administrator(request: HttpRequest) -> User:
    user = cast(User, request.user)
    try:
        require(user, Right.ADMINISTER)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None
    return user
