"""Pages of the audit trail, for users with the permission to read it. Reading is recorded too."""

from collections.abc import Callable
from functools import wraps
from typing import cast

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, Right, require
from adit.audit.trail import record
from adit.pages import audit_trail
from adit.pages.tables import EventTable
from adit.table_files import make_table_response

View = Callable[[HttpRequest], HttpResponseBase]


def _right_required(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponseBase:
        try:
            require(cast(User, request.user), Right.READ_TRAIL)
        except NotPermitted as error:
            raise PermissionDenied(str(error)) from None
        return view(request)

    return guarded


@require_safe
@_right_required
def trail_page(request: HttpRequest) -> HttpResponse:
    form = audit_trail.AuditTrailForm(request.GET)
    page = audit_trail.read_page(cast(User, request.user), form) if form.is_valid() else None
    last = audit_trail.get_last_verification()
    context = {
        "form": form,
        "fields": form.visible_fields(),
        "page": page,
        "table": EventTable(page.lines, request, per_page=None) if page else None,
        "asked": form.asked if page else {},
        "last": audit_trail.make_row(last) if last else None,
        "per_page": audit_trail.PER_PAGE,
    }
    return render(request, "pages/trail.html", context, status=200 if page else 422)


@require_POST
@_right_required
def trail_verify(request: HttpRequest) -> HttpResponse:
    """Verify the whole chain. The result is recorded in the audit trail."""
    event = audit_trail.verify_and_record(cast(User, request.user))
    if event.details["whole"]:
        messages.success(request, _("The audit trail is intact. No event was changed or removed."))
    else:
        why = audit_trail.make_row(event).problem
        words = {"row": event.details["event"] or "–", "why": why}
        messages.error(request, _("The audit trail is broken at event %(row)s: %(why)s") % words)
    return redirect("trail")


@require_POST
@_right_required
def trail_export(request: HttpRequest) -> HttpResponseBase:
    """Download the matching events as a CSV file."""
    form = audit_trail.AuditTrailForm(request.POST)
    if not form.is_valid():
        return redirect("trail")
    events = audit_trail.find_events(form)
    newest = events.values_list("pk", flat=True).first() or 0
    record(
        audit_trail.EXPORTED,
        user=cast(User, request.user),
        details={"asked": form.asked, "events": events.count()},
    )
    return make_table_response(
        "csv",
        f"trail-{timezone.localdate():%Y-%m-%d}",
        audit_trail.EXPORT_COLUMNS,
        audit_trail.export_rows(events.filter(pk__lte=newest)),
    )
