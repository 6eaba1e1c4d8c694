"""Create and delete webhooks, and queue requests about events.

Used by pages, the API and the apps that report events. Call `queue_event` in the transaction of the
event, so that a request exists exactly if the event does.
"""

import json
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from adit.accounts.models import User
from adit.accounts.permissions import NotPermitted, require_active
from adit.audit.trail import record
from adit.jobs.wakeup import send_webhooks_on_commit
from adit.projects.models import Project
from adit.projects.services import member_projects
from adit.webhooks.http import parse_url
from adit.webhooks.models import TEST_EVENT, Webhook, WebhookDelivery, WebhookEvent
from adit_engine.errors import InvalidInput

MAX_PER_USER = 10
MAX_NAME_LENGTH = 64


def create_webhook(
    user: User, name: str, url: str, events: Collection[str], project: Project | None
) -> tuple[Webhook, str]:
    """Create a webhook of the user, and return it with its secret, which is not shown again.

    Raise InvalidInput, NotPermitted.
    """
    require_active(user)
    name = name.strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidInput("webhook.name-missing", limit=MAX_NAME_LENGTH)
    if not events:
        raise InvalidInput("webhook.event-missing")
    for event in events:
        if event not in WebhookEvent.values:
            raise InvalidInput("webhook.unknown-event", event=event, events=WebhookEvent.values)
    host = parse_url(url).host
    if project is not None and not member_projects(user).filter(pk=project.pk).exists():
        raise NotPermitted("webhook.not-a-member")
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # two requests must not pass the limit
        if Webhook.objects.filter(user=user).count() >= MAX_PER_USER:
            raise InvalidInput("webhook.too-many", limit=MAX_PER_USER)
        webhook = Webhook.objects.create(
            user=user,
            name=name,
            url=url,
            secret=secret,
            events=[value for value in WebhookEvent.values if value in events],
            project=project,
        )
        details = {
            "name": name,
            "host": host,
            "events": webhook.events,
            "project": project.protocol_id if project else "",
        }
        record("webhook.created", user=user, about=f"webhook:{webhook.pk}", details=details)
    return webhook, secret


def delete_webhook(webhook: Webhook) -> None:
    """Delete a webhook of its user, with the requests that were not sent."""
    with transaction.atomic():
        details = {"name": webhook.name}
        record("webhook.deleted", user=webhook.user, about=f"webhook:{webhook.pk}", details=details)
        webhook.delete()


def enable_webhook(webhook: Webhook) -> None:
    """Call a webhook again that was disabled after many failures, or end its pause."""
    Webhook.objects.filter(pk=webhook.pk).update(
        disabled_at=None, failures=0, failing_since=None, not_before=None
    )
    send_webhooks_on_commit()


def queue_test(webhook: Webhook) -> WebhookDelivery:
    """Queue a test request. It is sent once, also to a disabled or paused webhook.

    A test that was not sent yet is returned instead of a second one.
    """
    with transaction.atomic():
        Webhook.objects.select_for_update().get(pk=webhook.pk)
        waiting = webhook.deliveries.filter(event=TEST_EVENT, sent_at=None, given_up=False)
        delivery = waiting.first() or _create_delivery(webhook, TEST_EVENT, None, {})
        send_webhooks_on_commit()
    return delivery


def queue_event(
    event: WebhookEvent,
    job: int,
    owner: User,
    project: Project | None,
    describe: Callable[[], Mapping[str, Any]],
) -> None:
    """Queue a request for each webhook that wants this event. `describe` returns the job's part."""
    webhooks = Webhook.objects.filter(
        Q(project=None, user=owner) | Q(project__isnull=False, project=project), disabled_at=None
    ).select_related("user")
    wanted = [one for one in webhooks if event in one.events and is_permitted(one)]
    if not wanted:
        return
    values = {"job": dict(describe())}
    for webhook in wanted:
        _create_delivery(webhook, event, job, values)
    send_webhooks_on_commit()


def is_permitted(webhook: Webhook) -> bool:
    """Return whether the user is active and still a member of the project, if there is one."""
    if not webhook.user.is_active:
        return False
    mine = member_projects(webhook.user)
    return webhook.project_id is None or mine.filter(pk=webhook.project_id).exists()


def own_webhooks(user: User) -> QuerySet[Webhook]:
    return Webhook.objects.filter(user=user).select_related("project", "user")


def _create_delivery(
    webhook: Webhook, event: str, job: int | None, values: Mapping[str, Any]
) -> WebhookDelivery:
    event_id = uuid4()
    body = {
        "event": event,
        "event_id": str(event_id),
        "time": timezone.now().isoformat(timespec="seconds"),
        **values,
    }
    return WebhookDelivery.objects.create(
        webhook=webhook, event=event, event_id=event_id, job=job, body=json.dumps(body)
    )
