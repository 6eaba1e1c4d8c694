"""Outcomes: what came of a job's tasks, series by series, row by row and file by file."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from adit.nodes.models import Node
from adit.profiles.models import Profile, Trial


class Item(models.Model):
    """What came of one series of a transfer (or, of a query, one found record)."""

    task = models.ForeignKey("jobs.Task", on_delete=models.CASCADE, related_name="items")
    attempt = models.PositiveIntegerField()
    """The attempt that wrote it last."""
    index = models.CharField(max_length=64)
    """Keyed hash of the series UID: finds the row again without holding the UID."""
    sealed = models.BinaryField()
    """UIDs, what the series is called, and the manifest, under the trial's key."""
    modality = models.CharField(max_length=16, blank=True)
    number = models.IntegerField(null=True)
    expected = models.PositiveIntegerField(null=True)
    stored = models.PositiveIntegerField(default=0)
    """Taken by the destination, which has not proven yet that it keeps them."""
    delivered = models.PositiveIntegerField(default=0)
    withheld = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    reasons = models.JSONField(default=list)
    """[code, sentence, count], without identifying values."""
    notes = models.JSONField(default=list)
    """Sentences about the series as a whole, each of them a gap."""
    remarks = models.JSONField(default=list)
    """Sentences that leave nothing open, such as how it was proven that images are kept."""
    elements = models.JSONField(default=list)
    """[tag, what was done, count] over the delivered images, as the manifest adds up; no values."""
    left_out = models.CharField(max_length=200, blank=True)
    is_final = models.BooleanField(default=False)
    """The outcome is in; before that the counts are those so far."""

    class Meta:
        ordering = ["task_id", "number", "id"]
        constraints = [
            models.UniqueConstraint(fields=["task", "index"], name="one_item_per_series")
        ]
        indexes = [
            models.Index(
                fields=["task"], condition=models.Q(is_final=False), name="items_without_an_outcome"
            )
        ]

    def __str__(self) -> str:
        return f"{self.task} item {self.pk}"


class Archive(models.Model):
    """A finished 7-Zip file: one part of what a job has packed at a time."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="archives")
    round = models.PositiveIntegerField()
    """Counts from 0; later ones are supplements, with what a retry brought."""
    name = models.CharField(max_length=120)
    size_bytes = models.BigIntegerField()
    images = models.PositiveIntegerField()
    built_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    removed_at = models.DateTimeField(null=True)
    marks = models.BinaryField(default=b"")
    """Which images its round has packed: 16 bytes for each, with the round's first part."""

    class Meta:
        ordering = ["-built_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_archive_per_name")]

    def __str__(self) -> str:
        return self.name


class Showing(models.Model):
    """The name of a 7-Zip file that was about to be shown, until it is listed as an Archive.

    Whoever is killed in between leaves a file that nobody would ever find or delete.
    """

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="showings")
    name = models.CharField(max_length=120)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_showing_per_name")]

    def __str__(self) -> str:
        return self.name


class ResultLine(models.Model):
    """One line of what a sheet's questions found: a study or series, or a row without any (yet).

    Each row of the sheet has at least one line for each node it is asked of, from the order on;
    made anew when its task answers.
    """

    task = models.ForeignKey("jobs.Task", on_delete=models.CASCADE, related_name="lines")
    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="lines")
    """Its task's, so that one index serves pages of results."""
    line = models.PositiveIntegerField()
    """Of the sheet."""
    number = models.PositiveIntegerField(default=1)
    """Counts the answers to one line."""
    sealed = models.BinaryField()
    """The person's own columns and the found record, under the trial's key."""
    is_found = models.BooleanField(default=False)
    """There is a record."""
    is_asked = models.BooleanField(default=False)
    """The node has answered."""
    notes = models.JSONField(default=list)
    """Words of kinds.base.Note."""
    facts = models.JSONField(default=dict)
    """Counts and reasons without identifying values, so that many lines are added up unopened."""
    modalities = models.CharField(max_length=64, blank=True)
    instances = models.PositiveIntegerField(null=True)

    class Meta:
        ordering = ["job_id", "line", "task_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["task", "line", "number"], name="one_result_per_number")
        ]
        indexes = [models.Index(fields=["job", "line", "task", "number"])]

    def __str__(self) -> str:
        return f"{self.task} line {self.line}.{self.number}"


class Delivery(models.Model):
    """One series that a trial has delivered whole to a destination: so it need not go again."""

    trial = models.ForeignKey(Trial, on_delete=models.CASCADE, related_name="+")
    destination = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="+")
    index = models.CharField(max_length=64)
    """Keyed hash, under the trial's key, of the series UID and of how it was changed."""
    images = models.PositiveIntegerField()
    """How many the source had listed."""
    job = models.ForeignKey("jobs.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["trial", "destination", "index"], name="one_delivery_per_series"
            )
        ]

    def __str__(self) -> str:
        return f"delivery {self.pk}"


class Decision(models.TextChoices):
    """What a reviewer decided on images that were held back."""

    OPEN = "open", _("open")
    LEFT = "left", _("stays withheld")
    MASKED = "masked", _("masked")
    RELEASED = "released", _("released")


class HeldBack(models.Model):
    """Images of one series that were held back for one reason, made by one device.

    The device's words are those of the header; which images it is stands in the item, sealed.
    """

    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="held_back")
    code = models.CharField(max_length=40)
    reason = models.TextField()
    images = models.PositiveIntegerField()
    sop_class = models.CharField(max_length=64, blank=True)
    """The rest of the device is empty until somebody has looked at an image."""
    manufacturer = models.CharField(max_length=256, blank=True)
    model = models.CharField(max_length=256, blank=True)
    software = models.CharField(max_length=256, blank=True)
    rows = models.PositiveIntegerField(default=0)
    columns = models.PositiveIntegerField(default=0)
    decision = models.CharField(max_length=16, choices=Decision, default=Decision.OPEN)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    decided_because = models.CharField(max_length=200, blank=True)
    profile = models.ForeignKey(Profile, null=True, on_delete=models.PROTECT, related_name="+")
    """The version into which the decision was written."""

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["decision", "item"])]

    def __str__(self) -> str:
        return f"{self.item} {self.code}"
