"""Pages of one's own notifications."""

from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.models import User
from adit.notifications import services
from adit.notifications.forms import MailForm
from adit.notifications.models import Notification
from adit.notifications.tables import NotificationTable


@require_safe
def notification_list(request: HttpRequest) -> HttpResponse:
    rows = Notification.objects.filter(user=_current_user(request))
    context = {"table": NotificationTable(rows, request)}
    return render(request, "notifications/list.html", context)


@require_POST
def notification_read(request: HttpRequest, pk: int) -> HttpResponse:
    """Mark as read; with `open` in the form, go on to the page about the event."""
    row = get_object_or_404(Notification, pk=pk, user=_current_user(request))
    services.mark_read(row.user, row.pk)
    return redirect(row.link if "open" in request.POST else "notifications")


@require_POST
def notifications_read(request: HttpRequest) -> HttpResponse:
    services.mark_read(_current_user(request))
    messages.success(request, _("All notifications are marked as read."))
    return redirect("notifications")


@require_http_methods(["GET", "HEAD", "POST"])
def notification_mails(request: HttpRequest) -> HttpResponse:
    """Choose which notifications also come by mail."""
    user = _current_user(request)
    form = MailForm(request.POST or None, initial={"kinds": services.get_mailed_kinds(user)})
    if request.method == "POST" and form.is_valid():
        services.save_mailed_kinds(user, form.cleaned_data["kinds"])
        messages.success(request, _("Your choice is saved."))
        return redirect("notification_mails")
    context = {"form": form}
    return render(request, "notifications/mails.html", context, status=422 if form.errors else 200)


def _current_user(request: HttpRequest) -> User:
    return cast(User, request.user)
