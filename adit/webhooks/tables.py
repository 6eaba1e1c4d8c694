"""Tables of webhooks: those of a user, and the last requests of one of them."""

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from django_tables2 import Column

from adit.tables import (
    ROW_HEADER,
    ComputedColumn,
    LocalDateTimeColumn,
    Table,
    muted,
    name_and_note,
    state_badge,
)
from adit.webhooks.http import parse_url
from adit.webhooks.models import TEST_EVENT, Webhook, WebhookDelivery, WebhookEvent
from adit_engine.errors import InvalidInput


class WebhookTable(Table):
    label = _lazy("Webhooks")
    name = Column(
        _lazy("Name"), attrs=ROW_HEADER, linkify=True, orderable=True, order_by=("name", "pk")
    )
    state = ComputedColumn(_lazy("State"))
    host = ComputedColumn(_lazy("Server"))
    events = ComputedColumn(_lazy("Called when"))
    jobs = ComputedColumn(_lazy("Jobs"))
    last_attempt_at = LocalDateTimeColumn(
        _lazy("Last called"), orderable=True, order_by=("last_attempt_at", "pk")
    )

    def render_state(self, record: Webhook) -> str:
        return describe_state(record)

    def render_host(self, record: Webhook) -> str:
        return get_host(record)

    def render_events(self, record: Webhook) -> str:
        return describe_events(record)

    def render_jobs(self, record: Webhook) -> str:
        return describe_jobs(record)


class DeliveryTable(Table):
    label = _lazy("Last requests")
    created_at = LocalDateTimeColumn(_lazy("Event of"), attrs=ROW_HEADER)
    event = ComputedColumn(_lazy("Event"))
    state = ComputedColumn(_lazy("State"))
    status = Column(_lazy("HTTP status"))
    attempt = Column(_lazy("Attempts"))
    last_attempt_at = LocalDateTimeColumn(_lazy("Last attempt"))

    def render_event(self, record: WebhookDelivery) -> SafeString | str:
        label = _("Test") if record.event == TEST_EVENT else WebhookEvent(record.event).label
        job = "" if record.job is None else _("job %(n)s") % {"n": record.job}
        return name_and_note(label, job)

    def render_state(self, record: WebhookDelivery) -> SafeString:
        looks = {
            "delivered": ("good", _("delivered")),
            "given_up": ("bad", _("given up")),
            "waiting": ("pending", _("waiting")),
        }
        badge = state_badge(*looks[record.state])
        if record.message is None:
            return format_html("{}", badge)
        return format_html("{}<br>{}", badge, muted(record.message))


def describe_state(webhook: Webhook) -> str:
    if webhook.disabled_at is not None:
        return state_badge("bad", _("disabled after failures"))
    if webhook.failures:
        return state_badge("warning", _("does not answer"))
    return state_badge("good", _("active"))


def describe_events(webhook: Webhook) -> str:
    return "; ".join(str(WebhookEvent(value).label) for value in webhook.events)


def describe_jobs(webhook: Webhook) -> str:
    if webhook.project is None:
        return _("my own")
    return _("project %(name)s") % {"name": webhook.project.protocol_id}


def get_host(webhook: Webhook) -> str:
    """Return the host of the address, which may have become invalid by a changed setting."""
    try:
        return parse_url(webhook.url).host
    except InvalidInput:
        return _("address no longer allowed")
