"""The versions and entries of consent lists. Entries are replaced, but never deleted.

Patients and reasons are encrypted under the key of the project, and end with it.
"""

from django.conf import settings
from django.db import models
from django.utils.functional import cached_property

from adit.projects.models import Project
from adit.projects.services import get_project_cipher


class ConsentVersion(models.Model):
    """One version of the consent list of a project. The one with the highest number is valid."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    number = models.PositiveIntegerField()
    is_in_use = models.BooleanField(default=True)
    """False after the list was removed: then the project needs no consent list."""
    sealed_reason = models.BinaryField()
    """May name a patient, so it is encrypted under the key of the project."""
    upload_index = models.CharField(max_length=64, blank=True)
    """Keyed hash of an uploaded list, which recognizes it again; empty: not from a file."""
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="one_consent_version")
        ]

    def __str__(self) -> str:
        return f"consent list {self.project_id}, version {self.number}"

    @property
    def reason(self) -> str:
        """Raise DecryptionError if the key of the project was destroyed."""
        return str(get_project_cipher(self.project).open(self.sealed_reason, self.seal_context))

    @property
    def seal_context(self) -> str:
        return f"consent version {self.number}"


class ConsentEntry(models.Model):
    """The consent of one patient, in the versions from `added_in` to before `replaced_in`."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    index = models.CharField(max_length=64)
    """Keyed hash of the domain and the patient ID, with leading zeros and case."""
    sealed = models.BinaryField()
    """[domain, patient ID], encrypted under the key of the project."""
    modalities = models.CharField(max_length=100, blank=True)
    """Such as "CT, MR"; empty: all."""
    valid_until = models.DateField(null=True)
    """The last day; None: without a limit."""
    withdrawn_on = models.DateField(null=True)
    added_in = models.ForeignKey(ConsentVersion, on_delete=models.PROTECT, related_name="added")
    replaced_in = models.ForeignKey(
        ConsentVersion, null=True, on_delete=models.PROTECT, related_name="replaced"
    )
    """None: in the current version."""

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "index"],
                condition=models.Q(replaced_in=None),
                name="one_consent_per_patient",
            )
        ]

    def __str__(self) -> str:
        return f"consent {self.pk}"

    @cached_property
    def patient(self) -> tuple[str, str]:
        """Domain and patient ID. Raise DecryptionError if the key of the project was destroyed."""
        domain, patient_id = get_project_cipher(self.project).open(self.sealed, self.seal_context)
        return domain, patient_id

    @property
    def domain(self) -> str:
        return self.patient[0]

    @property
    def patient_id(self) -> str:
        return self.patient[1]

    @property
    def seal_context(self) -> str:
        return f"consent {self.index}"

    @property
    def allowed_modalities(self) -> tuple[str, ...]:
        """The modalities that the consent covers; empty = all."""
        return tuple(part.strip() for part in self.modalities.split(",") if part.strip())


class ConsentUpload(models.Model):
    """A list that a user uploaded and did not confirm yet."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    sealed = models.BinaryField()
    """The cells of the sheet, encrypted under the key of the project."""

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "user"], name="one_consent_upload_per_user")
        ]

    def __str__(self) -> str:
        return f"consent upload {self.pk}"
