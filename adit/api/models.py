"""The model of answered requests. Used by `idempotency`."""

from django.db import models

from adit.api_tokens.models import ApiToken
from adit.vault.fields import EncryptedField


class IdempotentRequest(models.Model):
    """A request with an `Idempotency-Key`, and its answer once there is one. Kept for a day."""

    token = models.ForeignKey(ApiToken, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    """Keyed hash of method, address and body."""
    status = models.PositiveSmallIntegerField(null=True)
    """None: not answered yet."""
    answer = EncryptedField(null=True)
    location = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    claimed_at = models.DateTimeField()
    """When a process began to execute it."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["token", "key"], name="one_request_per_key")]

    def __str__(self) -> str:
        return f"request {self.pk}"
