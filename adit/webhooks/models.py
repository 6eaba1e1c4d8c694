"""Webhooks of users, and the requests that are to be sent or were sent."""

from uuid import uuid4

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from adit.messages import MessageField
from adit.projects.models import Project
from adit.vault.fields import EncryptedField


class WebhookEvent(models.TextChoices):
    """What a webhook can be called for. The values are part of the API."""

    JOB_ENDED = "job.ended", _("A job has ended")
    WAITING_FOR_START = "job.waiting_for_start", _("A list is checked and waits for its start")
    WAITING_FOR_DECISION = (
        "job.waiting_for_decision",
        _("A job waits for a decision about a changed patient ID"),
    )


TEST_EVENT = "test"


class Webhook(models.Model):
    """An address that is called when something happens to jobs of a user or a project."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="webhooks"
    )
    name = models.CharField(_("name"), max_length=64)
    url = EncryptedField(null=False)
    """Encrypted, because addresses of some services contain a key."""
    secret = EncryptedField(null=False)
    events = models.JSONField(default=list)
    """Values of `WebhookEvent`."""
    project = models.ForeignKey(Project, on_delete=models.CASCADE, null=True, related_name="+")
    """All jobs of this project; None: the jobs of the user."""
    created_at = models.DateTimeField(auto_now_add=True)
    last_attempt_at = models.DateTimeField(null=True)
    failures = models.PositiveIntegerField(default=0)
    """Number of failed attempts since the last success."""
    failing_since = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)
    """The pause after failures. It applies to all requests of the webhook."""
    disabled_at = models.DateTimeField(null=True)
    """When ADIT gave up calling it."""

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("webhook", args=[self.pk])


class WebhookDelivery(models.Model):
    """One request about one event. It is sent if `sent_at` is set."""

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event_id = models.UUIDField(default=uuid4, unique=True)
    event = models.CharField(max_length=32)
    job = models.PositiveBigIntegerField(null=True)
    body = models.TextField()
    """JSON without patient data."""
    created_at = models.DateTimeField(auto_now_add=True)
    attempt = models.PositiveIntegerField(default=0)
    """Number of attempts to send it. Used for fencing, like the attempt of a task."""
    not_before = models.DateTimeField(null=True)
    """End of the lease of the process that sends it."""
    last_attempt_at = models.DateTimeField(null=True)
    status = models.PositiveSmallIntegerField(null=True)
    """The HTTP status of the last answer."""
    message = MessageField()
    """Why the last attempt has failed."""
    sent_at = models.DateTimeField(null=True)
    given_up = models.BooleanField(default=False)

    class Meta:
        ordering = ["-pk"]
        indexes = [
            models.Index(
                fields=["webhook", "id"],
                condition=models.Q(sent_at=None, given_up=False),
                name="webhook_requests_that_wait",
            )
        ]

    def __str__(self) -> str:
        return f"{self.event} {self.event_id}"

    @property
    def state(self) -> str:
        """delivered, given_up or waiting."""
        if self.sent_at is not None:
            return "delivered"
        return "given_up" if self.given_up else "waiting"
