"""The entries of the block list. They end, but are never deleted."""

from django.conf import settings
from django.db import models

from adit.projects.models import Project
from adit.vault.fields import EncryptedField


class BlockedPatient(models.Model):
    """A patient whose images must not be transferred, for one project or for all."""

    project = models.ForeignKey(Project, null=True, on_delete=models.PROTECT, related_name="+")
    """None: for all projects."""
    index = models.CharField(max_length=64)
    """Keyed hash of the domain and the patient ID, without leading zeros and case."""
    patient = EncryptedField()
    """[domain, patient ID] as entered; an empty domain means every domain."""
    reason = EncryptedField()
    """May name the patient, so it is encrypted."""
    withdrawn_on = models.DateField()
    """When the patient objected or withdrew consent. The entry counts from its creation."""
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    ended_at = models.DateTimeField(null=True)
    ended_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    end_reason = EncryptedField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(
                fields=["index"], condition=models.Q(ended_at=None), name="blocked_patients_now"
            )
        ]

    def __str__(self) -> str:
        return f"block list entry {self.pk}"

    @property
    def domain(self) -> str:
        return str(self.patient[0])

    @property
    def patient_id(self) -> str:
        return str(self.patient[1])
