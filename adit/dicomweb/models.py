"""The record of what the DICOMweb API delivered to whom."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from adit.messages import MessageField, MessageListField
from adit.nodes.models import Node
from adit.projects.models import Project


class Retrieval(models.Model):
    """The images of one request, as far as they were sent."""

    class State(models.TextChoices):
        RUNNING = "running"
        COMPLETE = "complete"
        """Everything was sent that may leave."""
        INCOMPLETE = "incomplete"

    key = models.CharField(max_length=32, unique=True)
    """In its address."""
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    token_name = models.CharField(max_length=64, blank=True)
    """Empty: retrieved by a page."""
    node = models.ForeignKey(Node, null=True, on_delete=models.SET_NULL, related_name="+")
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    is_identified = models.BooleanField(default=False)
    only_headers = models.BooleanField(default=False)
    """The metadata were sent, not the images."""
    state = models.CharField(max_length=16, choices=State, default=State.RUNNING)
    started_at = models.DateTimeField(auto_now_add=True, db_index=True)
    seen_at = models.DateTimeField(default=timezone.now)
    """When the process that answers the request was last alive."""
    ended_at = models.DateTimeField(null=True)
    expected = models.PositiveIntegerField(null=True)
    """None: the node gave no reliable list."""
    delivered = models.PositiveIntegerField(default=0)
    withheld = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)
    reasons = MessageListField()
    """Why images were withheld or failed, each with its number."""
    error = MessageField()
    """Why it is incomplete."""
    patient_index = models.CharField(max_length=64, blank=True, db_index=True)
    """Keyed hash of the patient under the key of the project, without leading zeros and case."""
    sealed = models.BinaryField(null=True)
    """Patient and ledgers of the series, encrypted under the key of the project."""

    class Meta:
        ordering = ["-started_at", "-pk"]

    def __str__(self) -> str:
        return self.key
