"""Views of the quarantine: list and delete unexpected images and rejected senders."""

import json

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from adit.nodes.receiving import quarantine as receiver_quarantine
from adit.nodes.tables import RejectedSenderTable
from adit.nodes.views.nodes import current_user, require_manager


@never_cache
@require_safe
def quarantine(request: HttpRequest) -> HttpResponse:
    user = current_user(request)
    require_manager(user)
    held = receiver_quarantine.list_quarantine(user)
    context = {"held": held, "rejected": RejectedSenderTable(held.rejected, request)}
    return render(request, "nodes/quarantine.html", context)


@require_POST
def quarantine_delete(request: HttpRequest) -> HttpResponse:
    """Delete the selected lots, or clear the list of rejected senders."""
    user = current_user(request)
    require_manager(user)
    if "forget" in request.POST:
        receiver_quarantine.clear_rejected(user)
        messages.success(request, _("The list was cleared."))
        return redirect("quarantine")
    lots = [lot for text in request.POST.getlist("lot") if (lot := _parse_lot(text)) is not None]
    if not lots:
        messages.error(request, _("Select the images to delete."))
        return redirect("quarantine")
    count = receiver_quarantine.delete_images(user, lots)
    words = ngettext("%(n)d image was deleted.", "%(n)d images were deleted.", count)
    messages.success(request, words % {"n": count})
    return redirect("quarantine")


def _parse_lot(text: str) -> receiver_quarantine.SenderKey | None:
    try:
        calling, address, class_uid = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    lot = calling, address, class_uid
    return lot if all(isinstance(part, str) for part in lot) else None
