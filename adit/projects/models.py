"""Models of profile versions, research projects and their patients."""

from datetime import date
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from adit.nodes.models import Node
from adit.vault.fields import EncryptedField


class ProfileVersionIsFrozen(Exception):
    """The profile version has been used: create a new version to change it."""


class ProfileVersion(models.Model):
    """One version of a de-identification profile; frozen once it is used."""

    name = models.CharField(_("name"), max_length=48)
    version = models.PositiveIntegerField(_("version"), default=1)
    text = models.TextField(_("rules"))
    """The profile in the format of
    adit_engine.pseudonymize.profile.ConfidentialityProfile.from_toml.
    """
    frozen_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "-version"]
        constraints = [models.UniqueConstraint(fields=["name", "version"], name="one_version")]

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if self.pk and ProfileVersion.objects.filter(pk=self.pk, frozen_at__isnull=False).exists():
            raise ProfileVersionIsFrozen(
                f"{self} has been used. Create a new version to change it."
            )
        super().save(*args, **kwargs)


class RiskChoice(models.TextChoices):
    """The decision of a project on images with a risk (risks.py); there is no default."""

    WITHHOLD = "withhold", _("withhold these images")
    ACCEPT = "accept", _("accept the risk (requires a reason)")


class Project(models.Model):
    """A research project. It owns a key, pseudonyms and a patient mapping."""

    protocol_id = models.CharField(
        _("project ID"),
        max_length=64,
        unique=True,
        validators=[
            RegexValidator(
                r"^[A-Za-z0-9_.-]+$",
                _("Only letters, digits, dots, hyphens and underscores are allowed."),
            )
        ],
    )
    protocol_name = models.CharField(_("project name"), max_length=64, blank=True)
    sponsor = models.CharField(_("sponsor"), max_length=64)
    site_name = models.CharField(_("site name"), max_length=64, blank=True)
    site_id = models.CharField(_("site ID"), max_length=64, blank=True)
    is_default = models.BooleanField(default=False, editable=False)
    """The site's own project, used when none is chosen. It is not written to image headers."""

    key = EncryptedField(null=True)
    """The 256-bit key of the project as hex, encrypted under the master key; None once it is
    destroyed.
    """
    key_destroyed_at = models.DateTimeField(null=True, editable=False)
    generation = models.PositiveIntegerField(default=1, editable=False)
    profile = models.ForeignKey(ProfileVersion, on_delete=models.PROTECT, related_name="projects")
    pattern = models.CharField(_("pseudonym pattern"), max_length=48, blank=True)
    """Pattern of generated pseudonyms, such as LUNG-####; empty: derived from the key of the
    project.
    """
    last_number = models.PositiveIntegerField(default=0, editable=False)
    """The last number that was used in the pattern."""

    members = models.ManyToManyField(Group, related_name="projects", blank=True)
    list_holders = models.ManyToManyField(Group, related_name="+", blank=True)
    """Hold the identification list: see services.may_hold_list."""
    reidentifiers = models.ManyToManyField(Group, related_name="+", blank=True)
    """May find the patient of a pseudonym: see services.may_reidentify."""
    member_users = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="+", blank=True, verbose_name=_("single members")
    )
    """Members by person, without a group; the next two fields likewise."""
    list_holder_users = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="+", blank=True
    )
    reidentifier_users = models.ManyToManyField(
        settings.AUTH_USER_MODEL, related_name="+", blank=True
    )
    sources = models.ManyToManyField(Node, related_name="+", blank=True)
    """Allowed sources; if empty, none. The same applies to destinations."""
    destinations = models.ManyToManyField(Node, related_name="+", blank=True)
    all_modalities = models.BooleanField(_("all modalities"), default=False)
    modalities = models.CharField(
        _("modalities"),
        max_length=100,
        blank=True,
        validators=[
            RegexValidator(
                r"^[A-Z]{2,16}(, [A-Z]{2,16})*$",
                _("Enter modalities separated by a comma and a space, such as CT, MR."),
            )
        ],
    )
    """Allowed modalities, such as "CT, MR"; empty allows none, unless `all_modalities` is set.
    Series of others are not transferred.
    """
    patient_cap = models.PositiveIntegerField(
        _("maximum number of patients"), null=True, blank=True
    )
    second_person = models.BooleanField(
        _("each transfer requires approval by a second person"), default=False
    )
    expires_on = models.DateField(_("ends on"), null=True, blank=True)
    deletion_on = models.DateField(_("data must be deleted by"), null=True, blank=True)
    is_revoked = models.BooleanField(_("revoked"), default=False)

    faces = models.CharField(
        _("thin slices that may show a face"), max_length=8, choices=RiskChoice, blank=True
    )
    """Empty until a decision is made; until then such images are withheld."""
    faces_reason = models.CharField(_("why the risk is accepted"), max_length=200, blank=True)
    header_word = models.CharField(
        _("radiographs without burned-in text according to their header only"),
        max_length=8,
        choices=RiskChoice,
        blank=True,
    )
    """As for `faces`."""
    header_word_reason = models.CharField(_("why the risk is accepted"), max_length=200, blank=True)
    approval_number = models.CharField(_("approval number"), max_length=64, blank=True)
    responsible = models.CharField(_("responsible person"), max_length=100, blank=True)
    purpose = models.CharField(_("purpose"), max_length=300, blank=True)
    legal_basis = models.CharField(_("legal basis"), max_length=200, blank=True)
    recipient = models.CharField(_("recipient"), max_length=200, blank=True)
    """The final recipient of the images, beyond our own destinations."""
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="+",
    )
    is_accepted = models.BooleanField(default=True, editable=False)
    """False for a proposal that no project manager has accepted yet."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["protocol_id"]

    def __str__(self) -> str:
        return self.protocol_name or self.protocol_id

    def clean(self) -> None:
        if self.all_modalities and self.modalities:
            text = _("Enter modalities, or select all modalities, but not both.")
            raise ValidationError({"modalities": text})

    @property
    def allowed_modalities(self) -> tuple[str, ...]:
        """Return the allowed modalities for a selection, in which empty means all.

        A project that allows none is refused by `pseudonyms.require_project`.
        """
        return tuple(part.strip() for part in self.modalities.split(",") if part.strip())

    def is_over(self, today: date) -> bool:
        return self.is_revoked or (self.expires_on is not None and self.expires_on < today)


class MergedPatientId(models.Model):
    """Another patient ID of a patient: merged IDs, or one person in two hospitals."""

    patient = models.ForeignKey("Patient", on_delete=models.CASCADE, related_name="merged_ids")
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    index = models.CharField(max_length=64)
    """As in Patient. This one takes precedence."""
    sealed = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "index"], name="one_patient_per_joined_id")
        ]

    def __str__(self) -> str:
        return str(self.patient)


class Patient(models.Model):
    """A patient of a project. Patients and pseudonyms are one to one."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="patients")
    index = models.CharField(max_length=64)
    """Keyed hash of (patient ID domain, patient ID) under the key of the project."""
    sealed = models.BinaryField()
    """Domain and patient ID, encrypted under the key of the project."""
    pseudonym = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["project", "index"], name="one_pseudonym_per_patient"),
            # Case-insensitive folders and archives would mix the images of two patients.
            models.UniqueConstraint(
                "project", Lower("pseudonym"), name="one_patient_per_pseudonym"
            ),
        ]

    def __str__(self) -> str:
        return self.pseudonym


class ApprovalDocument(models.Model):
    """The ethics approval of a project as a PDF file."""

    NAME_LENGTH = 100

    project = models.OneToOneField(
        Project, on_delete=models.PROTECT, related_name="approval_document"
    )
    content = EncryptedField()
    """The file in base64. See approval_documents.py."""
    name = models.CharField(max_length=NAME_LENGTH)
    """The file name on the computer of the user. It is shown, but not used for the download."""
    size_bytes = models.PositiveIntegerField()
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    uploaded_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"approval of {self.project_id}"
