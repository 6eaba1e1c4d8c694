"""What processes report about themselves and the disks of their machine."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class ProcessRole(models.TextChoices):
    WEB = "web", _("Web pages")
    WORKER = "worker", _("Worker")
    SCHEDULER = "scheduler", _("Scheduler")
    RECEIVER = "receiver", _("Receiver")
    DICOMWEB = "dicomweb", _("DICOMweb")


class ProcessSign(models.Model):
    """The last sign of life of one process."""

    name = models.CharField(max_length=200, unique=True)
    """As returned by `get_process_name()`."""
    role = models.CharField(max_length=16, choices=ProcessRole)
    host = models.CharField(max_length=100)
    version = models.CharField(max_length=32)
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ["role", "host", "name"]

    def __str__(self) -> str:
        return self.name


class DiskUsage(models.Model):
    """Size and use of the disk of one folder on one day; the last value of the day."""

    host = models.CharField(max_length=100)
    folder = models.CharField(max_length=300)
    day = models.DateField()
    total_bytes = models.BigIntegerField()
    free_bytes = models.BigIntegerField()

    class Meta:
        ordering = ["host", "folder", "day"]
        constraints = [
            models.UniqueConstraint(fields=["host", "folder", "day"], name="one_disk_usage_per_day")
        ]

    def __str__(self) -> str:
        return f"{self.host}:{self.folder} {self.day}"
