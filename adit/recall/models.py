"""Recalls, the deliveries that they cover, and the confirmations of the recipients."""

from datetime import date

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from adit.blocklist.models import BlockedPatient
from adit.jobs.models import Job, Task
from adit.messages import MessageField
from adit.nodes.models import Node
from adit.projects.models import Project
from adit.vault.fields import EncryptedField


class Recall(models.Model):
    """The order to delete everything that was delivered of a blocked patient, or by a job."""

    entry = models.ForeignKey(
        BlockedPatient, null=True, on_delete=models.PROTECT, related_name="recalls"
    )
    """The patient; None for the recall of a job."""
    job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="recalls")
    reason = EncryptedField()
    deletes_shared_archives = models.BooleanField()
    """7-Zip files that hold other patients as well are deleted, not left to their recipients."""
    confirm_by = models.DateField()
    """The day until which the recipients have to confirm that they deleted their copies."""
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    continued_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    """The user whose permission counts: who ordered or last continued it."""
    quarantine_deleted = models.PositiveIntegerField(default=0)
    """Images of the patient, or of the studies of the job, deleted from the quarantine."""
    quarantine_checked_at = models.DateTimeField(null=True)
    quarantine_due_at = models.DateTimeField(null=True, db_index=True)
    """When the quarantine is searched next."""
    ended_at = models.DateTimeField(null=True)
    """When everything was deleted, or found to be gone, and every recipient had confirmed."""

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"recall {self.pk}"

    def is_overdue(self, today: date) -> bool:
        return self.ended_at is None and self.confirm_by < today


class RecallState(models.TextChoices):
    WAITING = "waiting", _("waiting")
    DELETED = "deleted", _("deleted and checked")
    INCOMPLETE = "incomplete", _("not deleted completely")
    TO_DELETE = "to_delete", _("to be deleted by the recipient")
    PRESENT = "present", _("still at the destination")
    GONE = "gone", _("no longer at the destination")


DONE_STATES = (RecallState.DELETED, RecallState.GONE)


class RecalledDelivery(models.Model):
    """What one task delivered, and what became of it. Kept as proof when the task is deleted."""

    recall = models.ForeignKey(Recall, on_delete=models.CASCADE, related_name="deliveries")
    task = models.ForeignKey(
        Task, null=True, on_delete=models.SET_NULL, related_name="recalled_deliveries"
    )
    job_number = models.PositiveBigIntegerField()
    position = models.PositiveIntegerField()
    destination = models.ForeignKey(Node, null=True, on_delete=models.PROTECT, related_name="+")
    """None if the job was deleted, and later its destination."""
    state = models.CharField(max_length=12, choices=RecallState, default=RecallState.WAITING)
    images = models.PositiveIntegerField(default=0)
    found = models.PositiveIntegerField(default=0)
    """Files that were where they had been delivered, at any attempt. Others prove nothing."""
    deleted = models.PositiveIntegerField(default=0)
    """Images that the recall deleted, or that a PACS does not find."""
    present = models.PositiveIntegerField(default=0)
    """Images that were found at the destination at the last check."""
    message = MessageField()
    """Why it waits or is incomplete, or what the recipient has to do."""
    due_at = models.DateTimeField(null=True, db_index=True)
    """When it is tried or checked next; None: nothing is left to do."""
    checked_at = models.DateTimeField(null=True)
    """When the images were last looked for."""

    class Meta:
        ordering = ["job_number", "position", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["recall", "task"], name="one_delivery_per_recalled_task"
            )
        ]

    def __str__(self) -> str:
        return f"{self.recall} job {self.job_number} task {self.position}"

    @property
    def place(self) -> Node:
        """The destination of a delivery that is due; those without one never are."""
        assert self.destination is not None
        return self.destination

    @property
    def is_done(self) -> bool:
        return self.state in DONE_STATES


class RecipientConfirmation(models.Model):
    """The confirmation of who received images of a project: at a destination, or through the API."""

    recall = models.ForeignKey(Recall, on_delete=models.CASCADE, related_name="confirmations")
    destination = models.ForeignKey(Node, null=True, on_delete=models.PROTECT, related_name="+")
    former_destination = models.CharField(max_length=64, blank=True)
    """Its name in the ledger of the deleted job, if ADIT does not know the destination any more."""
    receiver = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    """The user who got the images through the API; None if they went to a destination."""
    project = models.ForeignKey(Project, null=True, on_delete=models.PROTECT, related_name="+")
    confirmed_at = models.DateTimeField(null=True)
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    note = EncryptedField(null=True)
    """How the recipient confirmed, for example by letter."""

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["recall", "destination", "project"], name="one_confirmation_per_recipient"
            ),
            models.UniqueConstraint(
                fields=["recall", "receiver", "project"], name="one_confirmation_per_receiver"
            ),
            models.CheckConstraint(
                condition=models.Q(destination=None) | models.Q(receiver=None),
                name="not_confirmed_by_a_destination_and_a_receiver",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.recall} {self.destination or self.receiver or self.former_destination}"

    @property
    def recipient(self) -> str:
        """Name the recipient as far as the project does, else the contact of the destination."""
        named = self.project.recipient if self.project is not None else ""
        if named or self.destination is None:
            return named
        return str(self.destination.settings.get("contact") or "")
