"""Event: one line of the trail; append only, each holds the hash of the one before."""

from django.conf import settings
from django.db import models

from adit.vault.fields import SealedField


class Event(models.Model):
    at = models.DateTimeField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    action = models.CharField(max_length=64)
    """What was done, as noun.verb: job.created, node.opened, search.run, signin.failed."""
    about = models.CharField(max_length=128, blank=True)
    """What it was done to: job:12, node:3, trial:LUNG. Never a patient."""
    details = models.JSONField(default=dict)
    """Counts, names of nodes, reasons. Never identifying values."""
    patient_index = models.CharField(max_length=64, blank=True, db_index=True)
    """Keyed hash of the patient-id domain and patient id."""
    patient_sealed = SealedField(null=True)
    """Domain and patient id, for those who may."""
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(fields=["about"]), models.Index(fields=["action", "at"])]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.about}"
