"""Pages of the audit trail, for users who may read it or a part of it. Reading is recorded."""

from collections.abc import Callable
from functools import wraps
from typing import cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import (
    NotPermitted,
    Right,
    has_right,
    require,
)
from adit.audit.trail import record
from adit.pages import audit_trail
from adit.pages.audit_sentences import name_user
from adit.pages.history import get_history
from adit.pages.tables import EventTable
from adit.table_files import make_table_response

View = Callable[[HttpRequest], HttpResponseBase]


def _all_required(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponseBase:
        _require_all(cast(User, request.user))
        return view(request)

    return guarded


def _part_required(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponseBase:
        user = cast(User, request.user)
        if not audit_trail.may_read(user):
            _require_all(user)
        return view(request)

    return guarded


def _require_all(user: User) -> None:
    try:
        require(user, Right.READ_TRAIL)
    except NotPermitted as error:
        raise PermissionDenied(str(error)) from None


@require_safe
@_part_required
def trail_page(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    reads_all = has_right(user, Right.READ_TRAIL)
    form = audit_trail.AuditTrailForm(user, request.GET)
    page = audit_trail.read_page(form) if form.is_valid() else None
    last = audit_trail.get_last_verification() if reads_all else None
    context = {
        "form": form,
        "fields": form.visible_fields(),
        "page": page,
        "table": EventTable(page.lines, request, per_page=None) if page else None,
        "asked": form.asked if page else {},
        "reads_all": reads_all,
        "last": last,
        "verified_by": name_user(last.user) if last else "",
        "why_broken": audit_trail.explain_break(last) if last else "",
        "per_page": audit_trail.PER_PAGE,
    }
    return render(request, "pages/trail.html", context, status=200 if page else 422)


@require_POST
@_all_required
def trail_verify(request: HttpRequest) -> HttpResponse:
    """Verify the whole chain. The result is recorded in the audit trail."""
    event = audit_trail.verify_and_record(cast(User, request.user))
    if event.details["whole"]:
        messages.success(request, _("The audit trail is intact. No event was changed or removed."))
    else:
        why = audit_trail.explain_break(event)
        words = {"row": event.details["event"] or "–", "why": why}
        messages.error(request, _("The audit trail is broken at event %(row)s: %(why)s") % words)
    return redirect("trail")


@require_POST
@_part_required
def trail_export(request: HttpRequest) -> HttpResponseBase:
    """Download the matching events as a CSV or Excel file."""
    user = cast(User, request.user)
    form = audit_trail.AuditTrailForm(user, request.POST)
    kind = request.POST.get("form", "csv")
    if not form.is_valid() or kind not in ("csv", "xlsx"):
        return redirect("trail")
    events = audit_trail.find_events(form)
    newest = events.values_list("pk", flat=True).first() or 0
    details = {"asked": form.asked, "events": events.count()}
    record(audit_trail.EXPORTED, user=user, details=details)
    return make_table_response(
        kind,
        f"trail-{timezone.localdate():%Y-%m-%d}",
        audit_trail.EXPORT_COLUMNS,
        audit_trail.export_rows(user, events.filter(pk__lte=newest)),
    )


_PAGES = {
    "node": "node",
    "project": "project",
    "profile": "profile_version",
    "group": "group",
    "user": "user",
}


@require_safe
def history_page(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """Show who changed an object, when, and from which to which values."""
    user = cast(User, request.user)
    before = request.GET.get("before", "")
    is_number = before.isascii() and before.isdigit() and len(before) < 19
    history = get_history(user, kind, pk, int(before) if is_number else 0)
    audit_trail.record_reading(user, {"asked": {"history": f"{kind}:{pk}"}})
    context = {"history": history, "address": reverse(_PAGES[kind], args=[pk])}
    return render(request, "pages/history.html", context)
