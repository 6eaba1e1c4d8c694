"""Models of the audit trail: append-only events in a hash chain. Written by `trail` only."""

from typing import Any, NoReturn

from django.conf import settings
from django.db import models

from adit.vault.fields import EncryptedField

GENESIS_HASH = "0" * 64
"""The previous hash of the first event."""


class TrailIsAppendOnly(Exception):
    """An attempt to change or delete an audit event."""


def _refuse(*_args: object, **_kwargs: object) -> NoReturn:
    raise TrailIsAppendOnly("Events are recorded by adit.audit.trail and cannot be changed.")


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    update = _refuse
    delete = _refuse
    bulk_update = _refuse
    bulk_create = _refuse


class AuditEvent(models.Model):
    """One entry of the audit trail. It holds the hash of the entry before it."""

    at = models.DateTimeField()
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    action = models.CharField(max_length=64)
    """The action as noun.verb: job.created, node.opened, search.run, signin.failed."""
    about = models.CharField(max_length=128, blank=True)
    """The object of the action: job:12, node:3, project:LUNG. Never a patient."""
    details = models.JSONField(default=dict)
    """Counts, node names, reasons. Never identifying values."""
    patient_index = models.CharField(max_length=64, blank=True, db_index=True)
    """Keyed hash of the patient ID domain and patient ID. For the key see trail.SealedPatient."""
    patient_sealed = EncryptedField(null=True)
    """Patient ID domain and patient ID, for permitted users only.

    A string is encrypted once more under another key.
    """
    previous_hash = models.CharField(max_length=64, unique=True)
    """Unique, so that the chain cannot fork."""
    hash = models.CharField(max_length=64, unique=True)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        base_manager_name = "objects"
        indexes = [
            models.Index(fields=["about", "id"]),
            models.Index(fields=["user", "id"]),
            models.Index(fields=["action", "id"]),
            models.Index(fields=["action", "at"]),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.about}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            _refuse()
        super().save(*args, **{**kwargs, "force_insert": True})

    delete = _refuse


class AuditSegment(models.Model):
    """A file with old events that were removed from the table. See `segments`."""

    name = models.CharField(max_length=64, unique=True)
    first = models.PositiveBigIntegerField(unique=True)
    """The number of its first event in the whole trail, counted from 1."""
    count = models.PositiveIntegerField()
    last_event = models.BigIntegerField()
    """The primary key that its last event had in the table."""
    last_hash = models.CharField(max_length=64)
    sha256 = models.CharField(max_length=64)
    """Of the file."""
    signature = models.CharField(max_length=64)
    """Keyed hash of name and sha256."""
    sealed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["first"]

    def __str__(self) -> str:
        return self.name


class ChainHead(models.Model):
    """The end of the chain, in one row. It reveals when the last events are missing."""

    hash = models.CharField(max_length=64, default=GENESIS_HASH)
    count = models.PositiveBigIntegerField(default=0)
    signature = models.CharField(max_length=64, blank=True)
    """Keyed hash of count and hash. Empty after a wrong one was found: it is not repaired."""
    sent_at = models.DateTimeField(null=True)
    """When the head was last sent to another system."""

    def __str__(self) -> str:
        return f"{self.count} {self.hash}"
