"""Pages of one's own webhooks."""

from typing import cast

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from adit.accounts.models import User
from adit.webhooks import services
from adit.webhooks.forms import WebhookForm
from adit.webhooks.models import Webhook
from adit.webhooks.sending import KEPT_DELIVERIES
from adit.webhooks.tables import (
    DeliveryTable,
    WebhookTable,
    describe_events,
    describe_jobs,
    describe_state,
    get_host,
)
from adit_engine.errors import AditError


@require_safe
def webhook_list(request: HttpRequest) -> HttpResponse:
    table = WebhookTable(services.own_webhooks(_current_user(request)), request)
    return render(request, "webhooks/list.html", {"table": table})


@require_http_methods(["GET", "HEAD", "POST"])
def webhook_new(request: HttpRequest) -> HttpResponse:
    """Add a webhook. Its secret is in the response and on no other page."""
    user = _current_user(request)
    form = WebhookForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            webhook, secret = services.create_webhook(
                user, given["name"], given["url"].strip(), given["events"], given["project"]
            )
        except AditError as error:
            form.add_error(None, str(error))
        else:
            return render(request, "webhooks/created.html", {"webhook": webhook, "secret": secret})
    context = {"form": form}
    return render(request, "webhooks/new.html", context, status=422 if form.errors else 200)


@require_safe
def webhook_page(request: HttpRequest, pk: int) -> HttpResponse:
    webhook = _get_own(request, pk)
    rows = webhook.deliveries.order_by("-pk")[:KEPT_DELIVERIES]
    context = {
        "webhook": webhook,
        "state": describe_state(webhook),
        "host": get_host(webhook),
        "events": describe_events(webhook),
        "jobs": describe_jobs(webhook),
        "table": DeliveryTable(rows, request),
    }
    return render(request, "webhooks/webhook.html", context)


@require_POST
def webhook_test(request: HttpRequest, pk: int) -> HttpResponse:
    webhook = _get_own(request, pk)
    services.queue_test(webhook)
    messages.success(
        request,
        _("A test request is being sent. Load this page again in some seconds to see its result."),
    )
    return redirect("webhook", webhook.pk)


@require_POST
def webhook_enable(request: HttpRequest, pk: int) -> HttpResponse:
    webhook = _get_own(request, pk)
    services.enable_webhook(webhook)
    messages.success(request, _("%(name)s is called again.") % {"name": webhook.name})
    return redirect("webhook", webhook.pk)


@require_POST
def webhook_delete(request: HttpRequest, pk: int) -> HttpResponse:
    webhook = _get_own(request, pk)
    services.delete_webhook(webhook)
    messages.success(request, _("%(name)s is deleted.") % {"name": webhook.name})
    return redirect("webhooks")


def _get_own(request: HttpRequest, pk: int) -> Webhook:
    return get_object_or_404(services.own_webhooks(_current_user(request)), pk=pk)


def _current_user(request: HttpRequest) -> User:
    return cast(User, request.user)
