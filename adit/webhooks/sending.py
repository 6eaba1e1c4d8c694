"""Send the queued requests of webhooks at least once each. Used by the scheduler.

A failure pauses the whole webhook, so that an address that is down costs one attempt per pause and
others are not delayed.
"""

import logging
import time
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from adit.notifications.models import NotificationKind
from adit.notifications.services import notify
from adit.webhooks import http
from adit.webhooks.models import TEST_EVENT, Webhook, WebhookDelivery
from adit.webhooks.services import is_permitted
from adit_engine.errors import AditError
from adit_engine.messages import Message

LEASE_S = 120
"""How long a process that sends a request keeps others from sending it."""
MAX_ROUND_S = 10.0
"""Time limit of one round; the request that began last may exceed it by its own deadline."""
PAUSES_S = (30, 120, 600, 1800, 3600)
GIVE_UP_AFTER = timedelta(days=1)
DISABLE_AFTER = timedelta(days=5)
KEPT_DELIVERIES = 50
"""Ended requests of a webhook that its log shows. Older ones are deleted."""

log = logging.getLogger(__name__)


def send_due() -> int:
    """Send the requests that are due, and return how many were accepted."""
    end, sent = time.monotonic() + MAX_ROUND_S, 0
    while time.monotonic() < end:
        delivery = _claim_due()
        if delivery is None:
            break
        sent += _send(delivery)
    return sent


def _claim_due() -> WebhookDelivery | None:
    """Claim the next request: that of the webhook that was not called for the longest time."""
    now = timezone.now()
    is_callable = Q(webhook__disabled_at=None) & (
        Q(webhook__not_before=None) | Q(webhook__not_before__lte=now)
    )
    waiting = WebhookDelivery.objects.filter(
        Q(not_before=None) | Q(not_before__lte=now), sent_at=None, given_up=False
    )
    due = waiting.filter(is_callable | Q(event=TEST_EVENT)).select_related("webhook__user")
    for delivery in due.order_by(F("webhook__last_attempt_at").asc(nulls_first=True), "pk")[:20]:
        mine = waiting.filter(pk=delivery.pk, attempt=delivery.attempt)
        until = now + timedelta(seconds=LEASE_S)
        if mine.update(attempt=F("attempt") + 1, not_before=until, last_attempt_at=now):
            Webhook.objects.filter(pk=delivery.webhook_id).update(last_attempt_at=now)
            delivery.attempt += 1
            return delivery
    return None


def _send(delivery: WebhookDelivery) -> bool:
    webhook = delivery.webhook
    if not is_permitted(webhook):
        _update(delivery, given_up=True, message=Message("webhook.owner-not-permitted"))
        return False
    try:
        url = http.parse_url(webhook.url)
        body, event_id = delivery.body.encode(), str(delivery.event_id)
        status = http.post(url, webhook.secret, delivery.event, event_id, body)
    except AditError as error:
        log.warning("webhook %s: %s", webhook.pk, error.message.code)
        _note_failure(delivery, error)
        return False
    with transaction.atomic():
        _update(delivery, sent_at=timezone.now(), status=status, message=None)
        Webhook.objects.filter(pk=webhook.pk).update(
            failures=0, failing_since=None, not_before=None
        )
        _delete_old(webhook)
    return True


def _note_failure(delivery: WebhookDelivery, error: AditError) -> None:
    status = error.status if isinstance(error, http.DeliveryFailed) else None
    now, webhook = timezone.now(), delivery.webhook
    is_test = delivery.event == TEST_EVENT
    with transaction.atomic():
        _update(delivery, status=status, message=error.message, given_up=is_test)
        if not is_test:
            _pause(webhook, now)
        _delete_old(webhook)


def _pause(webhook: Webhook, now: datetime) -> None:
    """Pause the webhook, give up what is too old, and disable it if it has failed for days."""
    since = webhook.failing_since or now
    pause = PAUSES_S[min(webhook.failures, len(PAUSES_S) - 1)]
    values: dict[str, object] = {
        "failures": webhook.failures + 1,
        "failing_since": since,
        "not_before": now + timedelta(seconds=pause),
    }
    waiting = webhook.deliveries.filter(sent_at=None, given_up=False).exclude(event=TEST_EVENT)
    outdated = waiting.filter(created_at__lte=now - GIVE_UP_AFTER)
    if now - since >= DISABLE_AFTER:
        values["disabled_at"] = now
        _tell(webhook, since, "notification.webhook-disabled")
        outdated = waiting
    if outdated.update(given_up=True) and "disabled_at" not in values:
        _tell(webhook, since, "notification.webhook-failing")
    Webhook.objects.filter(pk=webhook.pk).update(**values)


def _tell(webhook: Webhook, since: datetime, code: str) -> None:
    """Notify the user, once for a time of failures."""
    notify(
        [webhook.user],
        NotificationKind.WEBHOOK,
        Message(code, name=webhook.name),
        webhook.get_absolute_url(),
        event=f"webhook:{webhook.pk}:{int(since.timestamp())}:{code.rpartition('-')[2]}",
        with_mail=True,
    )


def _update(delivery: WebhookDelivery, **values: object) -> None:
    """Record the end of an attempt, unless another process has claimed the request meanwhile."""
    mine = WebhookDelivery.objects.filter(pk=delivery.pk, attempt=delivery.attempt, sent_at=None)
    mine.update(not_before=None, **values)


def _delete_old(webhook: Webhook) -> None:
    ended = webhook.deliveries.exclude(sent_at=None, given_up=False).order_by("-pk")
    old = list(ended.values_list("pk", flat=True)[KEPT_DELIVERIES : KEPT_DELIVERIES + 500])
    WebhookDelivery.objects.filter(pk__in=old).delete()
