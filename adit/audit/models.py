"""Event: one line of the trail; append only, each holds the hash of the one before."""

from typing import Any, NoReturn

from django.conf import settings
from django.db import models

from adit.vault.fields import EncryptedField

GENESIS_HASH = "0" * 64
"""What stands before the first event."""


class TrailIsAppendOnly(Exception):
    """Somebody tried to change or remove what the trail holds."""


def _refuse(*_args: object, **_kwargs: object) -> NoReturn:
    raise TrailIsAppendOnly("Events are recorded by adit.audit.trail and never change afterwards.")


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    update = _refuse
    delete = _refuse
    bulk_update = _refuse
    bulk_create = _refuse


class AuditEvent(models.Model):
    at = models.DateTimeField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    action = models.CharField(max_length=64)
    """What was done, as noun.verb: job.created, node.opened, search.run, signin.failed."""
    about = models.CharField(max_length=128, blank=True)
    """What it was done to: job:12, node:3, project:LUNG. Never a patient."""
    details = models.JSONField(default=dict)
    """Counts, names of nodes, reasons. Never identifying values."""
    patient_index = models.CharField(max_length=64, blank=True, db_index=True)
    """Keyed hash of the patient-id domain and patient id; under which key, see trail.Veiled."""
    patient_sealed = EncryptedField(null=True)
    """Domain and patient id, for those who may; a text is sealed once more under another key."""
    previous_hash = models.CharField(max_length=64, unique=True)
    """Unique as well, so that the chain cannot fork."""
    hash = models.CharField(max_length=64, unique=True)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        base_manager_name = "objects"
        indexes = [models.Index(fields=["about"]), models.Index(fields=["action", "at"])]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.about}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            _refuse()
        super().save(*args, **{**kwargs, "force_insert": True})

    delete = _refuse


class ChainHead(models.Model):
    """The end of the chain, one row: what a missing last event is noticed by."""

    hash = models.CharField(max_length=64, default=GENESIS_HASH)
    count = models.PositiveBigIntegerField(default=0)
    told_at = models.DateTimeField(null=True)
    """When it left the machine last."""

    def __str__(self) -> str:
        return f"{self.count} {self.hash}"
