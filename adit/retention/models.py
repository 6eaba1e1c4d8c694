"""Retention periods, the last cleaning of each kind of data, and the ledgers of deleted jobs."""

from django.conf import settings
from django.db import models


class RetentionPeriod(models.Model):
    """The period that an administrator chose for one kind of data instead of its default."""

    kind = models.CharField(max_length=16, unique=True)
    """A value of periods.DataKind."""
    days = models.PositiveIntegerField(null=True)
    """None: kept for ever."""

    def __str__(self) -> str:
        return f"{self.kind} {self.days}"


class LastCleaning(models.Model):
    """The last cleaning of one kind of data."""

    kind = models.CharField(max_length=16, unique=True)
    at = models.DateTimeField()
    removed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    """What could not be deleted; it is tried again in the next cleaning."""
    error = models.CharField(max_length=100, blank=True)
    """The type of the error that ended the cleaning; empty if there was none."""

    class Meta:
        ordering = ["kind"]

    def __str__(self) -> str:
        return f"{self.kind} {self.at:%Y-%m-%d %H:%M}"


class JobLedger(models.Model):
    """What a deleted job delivered, by whom and to where. It never changes once it is sealed.

    It names no patient; those are in its parts.
    """

    job = models.PositiveBigIntegerField(unique=True)
    """The number of the deleted job."""
    kind = models.CharField(max_length=32)
    project = models.ForeignKey(
        "projects.Project", null=True, on_delete=models.PROTECT, related_name="+"
    )
    destination = models.CharField(max_length=64, blank=True)
    destination_kind = models.CharField(max_length=32, blank=True)
    ordered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    ordered_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    images = models.PositiveIntegerField()
    """Images that are, or may be, at the destination."""
    hash = models.CharField(max_length=64, blank=True)
    """Over all fields and parts. It is also in the audit trail."""
    signature = models.CharField(max_length=64, blank=True)
    """Keyed hash of `hash`."""
    sealed_at = models.DateTimeField(null=True)
    """When the job was deleted. None: the job still exists, and the ledger is being written."""

    class Meta:
        ordering = ["-job"]

    def __str__(self) -> str:
        return f"ledger of job {self.job}"


class LedgerPart(models.Model):
    """The deliveries of one task of a deleted job, encrypted under the key of the project."""

    ledger = models.ForeignKey(JobLedger, on_delete=models.CASCADE, related_name="parts")
    position = models.PositiveIntegerField()
    """The position of the task in the job."""
    sealed = models.BinaryField()
    """See ledgers.SealedDelivery."""

    class Meta:
        ordering = ["ledger_id", "position"]
        constraints = [
            models.UniqueConstraint(fields=["ledger", "position"], name="one_part_per_task")
        ]

    def __str__(self) -> str:
        return f"{self.ledger} task {self.position}"
