"""Outcomes: what came of a job's tasks, series by series, row by row and file by file.
Job and task: what a person ordered, and the piece one worker does; what came of it is in outcomes.py."""

from functools import cached_property

from django.conf import settings
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from adit.nodes.models import Lane, Node
from adit.notifications.outbox import OutgoingMail
from adit.projects.models import ProfileVersion, Project
from adit.vault.fields import EncryptedField


class SeriesResult(models.Model):
    """What came of one series of a transfer (or, of a query, one found record)."""

    task = models.ForeignKey("jobs.Task", on_delete=models.CASCADE, related_name="items")
    attempt = models.PositiveIntegerField()
    """The attempt that wrote it last."""
    index = models.CharField(max_length=64)
    """Keyed hash of the series UID: finds the row again without holding the UID."""
    sealed = models.BinaryField()
    """UIDs, what the series is called, and the manifest, under the project's key."""
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


class ArchiveFile(models.Model):
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


class PendingArchiveFile(models.Model):
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
    """The person's own columns and the found record, under the project's key."""
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


class DeliveredSeries(models.Model):
    """One series that a project has delivered whole to a destination: so it need not go again."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    destination = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="+")
    index = models.CharField(max_length=64)
    """Keyed hash, under the project's key, of the series UID and of how it was changed."""
    images = models.PositiveIntegerField()
    """How many the source had listed."""
    job = models.ForeignKey("jobs.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["project", "destination", "index"], name="one_delivery_per_series"
            )
        ]

    def __str__(self) -> str:
        return f"delivery {self.pk}"


class ReviewDecision(models.TextChoices):
    """What a reviewer decided on images that were held back."""

    OPEN = "open", _("open")
    LEFT = "left", _("stays withheld")
    MASKED = "masked", _("masked")
    RELEASED = "released", _("released")


class WithheldImages(models.Model):
    """Images of one series that were held back for one reason, made by one device.

    The device's words are those of the header; which images it is stands in the item, sealed.
    """

    item = models.ForeignKey(SeriesResult, on_delete=models.CASCADE, related_name="held_back")
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
    decision = models.CharField(max_length=16, choices=ReviewDecision, default=ReviewDecision.OPEN)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    decided_because = models.CharField(max_length=200, blank=True)
    profile = models.ForeignKey(
        ProfileVersion, null=True, on_delete=models.PROTECT, related_name="+"
    )
    """The version into which the decision was written."""

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["decision", "item"])]

    def __str__(self) -> str:
        return f"{self.item} {self.code}"


class JobState(models.TextChoices):
    WAITING_FOR_APPROVAL = "waiting_for_approval", _("waits for approval")
    PENDING = "pending", _("waiting")
    IN_PROGRESS = "in_progress", _("running")
    WAITING_FOR_OWNER = "waiting_for_owner", _("waits for its owner")
    HELD = "held", _("waits for a decision")
    CANCELING = "canceling", _("being canceled")
    CANCELED = "canceled", _("canceled")
    SUCCESS = "success", _("complete")
    WARNING = "warning", _("complete with gaps")
    FAILURE = "failure", _("failed")


class TaskState(models.TextChoices):
    PENDING = "pending", _("waiting")
    IN_PROGRESS = "in_progress", _("running")
    HELD = "held", _("waits for a decision")
    CANCELED = "canceled", _("canceled")
    SUCCESS = "success", _("complete")
    WARNING = "warning", _("complete with gaps")
    FAILURE = "failure", _("failed")


RUNNABLE_JOBS = frozenset({JobState.PENDING, JobState.IN_PROGRESS})
OPEN_TASKS = frozenset({TaskState.PENDING, TaskState.IN_PROGRESS, TaskState.HELD})

NOTHING_DELIVERED = "empty"
"""How a page shows the state of what ended as ordered with nothing delivered."""


def state_label(state: str, *, came_empty: bool) -> str:
    """Of a job or task. Nobody shall read "complete" where nothing has come."""
    if came_empty:
        return gettext("as ordered, nothing delivered")
    return str(JobState(state).label)


class EndStateMixin:
    """What a job and a task have in common once they have ended."""

    state: str

    def series_results(self) -> "models.QuerySet[SeriesResult]":
        raise NotImplementedError

    @cached_property
    def delivered_nothing(self) -> bool:
        """It is a success, and yet all was held back, as announced and accepted. Asks the database;
        progress.look_for_empty does so for many.
        """
        if self.state != JobState.SUCCESS:
            return False
        items = self.series_results().filter(left_out="")
        has_come = items.filter(delivered__gt=0).exists()
        return not has_come and items.exclude(withheld=0, skipped=0).exists()

    @property
    def state_shown(self) -> str:
        return NOTHING_DELIVERED if self.delivered_nothing else self.state

    @property
    def state_words(self) -> str:
        return state_label(self.state, came_empty=self.delivered_nothing)


class TaskType(models.TextChoices):
    """What a task is there for."""

    KIND = "", _("what was ordered")
    START = "start", _("the start")
    """The one before all others, at position 0: makes the tasks of a transfer of checked rows."""
    PACK = "pack", _("the 7-Zip file")
    """The last one of a job that ends in a 7-Zip file: builds it when all others have ended."""


class JobStage(models.TextChoices):
    """Of a job that goes in steps: after each of them it waits for its owner."""

    WHOLE = "", _("all of it")
    CHECK = "check", _("check")
    PILOT = "pilot", _("pilot")


AS_IS = "as_is"
"""The change of an order by which images go as they are."""


class Job(EndStateMixin, models.Model):
    """What a person ordered: one kind, one destination where there is one."""

    kind = models.CharField(max_length=32)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs"
    )
    destination = models.ForeignKey(Node, null=True, on_delete=models.PROTECT, related_name="+")
    project = models.ForeignKey(Project, null=True, on_delete=models.PROTECT, related_name="jobs")
    """Whose key seals payloads and items; the site's default project where none was chosen."""
    order = models.JSONField(default=dict)
    """The kind's Order, with a version; never identifying values (those stand in payloads)."""
    archive_password = EncryptedField(null=True)
    """Of the 7-Zip file in which it ends; only until the job has ended, see states.py."""
    contents_at = models.DateTimeField(null=True, db_index=True)
    """When the list beside its images is to be written next; None: it is written, see contents.py."""
    state = models.CharField(max_length=24, choices=JobState, default=JobState.PENDING)
    """Moved by states.py alone."""
    stage = models.CharField(max_length=8, choices=JobStage, default=JobStage.WHOLE, blank=True)
    priority = models.SmallIntegerField(default=0)
    urgent = models.BooleanField(default=False)
    idempotency_key = models.CharField(max_length=64)
    mail_at_end = models.BooleanField(default=False)
    """Its owner wants to be told by mail."""
    title = models.CharField(max_length=100, blank=True)
    message = models.TextField(blank=True)
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="one_job_per_submit")
        ]
        indexes = [
            models.Index(fields=["owner", "-id"]),
            models.Index(fields=["state", "-id"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def is_as_is(self) -> bool:
        """Whether its images go as they are, with names and dates."""
        return self.order.get("change") == AS_IS

    def series_results(self) -> "models.QuerySet[SeriesResult]":
        return SeriesResult.objects.filter(task__job=self)


class TaskGroup(models.Model):
    """The tasks of one job with the same source and lane: they wait for the same nodes.

    A claim sorts groups, of which there are few, instead of all pending tasks.
    """

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="task_groups")
    source = models.ForeignKey(Node, null=True, on_delete=models.PROTECT, related_name="+")
    lane = models.CharField(max_length=16, choices=Lane)
    wait_reason = models.CharField(max_length=200, blank=True)
    """Why no task of the group starts now; empty if nothing prevents it."""

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["job", "source", "lane"], name="one_task_group_per_source_and_lane"
            )
        ]

    def __str__(self) -> str:
        return f"{self.job} from {self.source}"


class LastClaim(models.Model):
    """When a task of this user was last claimed: users take turns, the longest waiting first."""

    owner = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="last_claim"
    )
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.owner} {self.at}"


class Task(EndStateMixin, models.Model):
    """The piece of a job that one worker does: one study, one row of a query sheet."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="tasks")
    position = models.PositiveIntegerField()
    source = models.ForeignKey(Node, null=True, on_delete=models.PROTECT, related_name="+")
    lane = models.CharField(max_length=16, choices=Lane, default=Lane.RETRIEVE)
    """What it needs of its nodes: searching opens the source alone; urgent is the job's word."""
    group = models.ForeignKey(
        TaskGroup, null=True, on_delete=models.SET_NULL, related_name="tasks", db_index=False
    )
    """Set by assign_groups(). A task without a group is never claimed."""
    work = models.CharField(max_length=8, choices=TaskType, default=TaskType.KIND, blank=True)
    payload = models.BinaryField()
    """The kind's payload, sealed under the project's key."""
    state = models.CharField(max_length=16, choices=TaskState, default=TaskState.PENDING)
    attempt = models.PositiveIntegerField(default=0)
    """Counts claims; only fences. What is bounded is `failures`."""
    failures = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)
    """Written by the queue alone."""
    worker = models.CharField(max_length=100, blank=True)
    message = models.TextField(blank=True)
    broke_rule = models.BooleanField(default=False)
    """It failed because going on could have mixed patients or studies."""
    stop_asked = models.BooleanField(default=False)
    """A person wants this one task to end; its worker looks every second."""
    rules = models.JSONField(default=list)
    """By which rules its images were changed, as adit.results.applied_rules writes them; empty as it is."""
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["job_id", "position"]
        constraints = [
            models.UniqueConstraint(fields=["job", "position"], name="one_task_per_position")
        ]
        indexes = [
            # The only index by group: with another one PostgreSQL reads tasks that have ended, too.
            models.Index(fields=["group", "state", "id", "not_before"], name="due_tasks_of_group"),
            models.Index(fields=["job", "state"]),
            models.Index(fields=["state", "lease_until"]),
        ]

    def __str__(self) -> str:
        return f"{self.job} task {self.position}"

    def series_results(self) -> "models.QuerySet[SeriesResult]":
        return SeriesResult.objects.filter(task=self)

    def current_attempt(self) -> "models.QuerySet[Task]":
        """Its row, while this attempt of this worker has it: the fence of whatever an attempt writes.

        Both, since a database that was killed may forget a claim, and give its number once more.
        """
        return Task.objects.filter(
            pk=self.pk, attempt=self.attempt, worker=self.worker, state=TaskState.IN_PROGRESS
        )


class JobMail(OutgoingMail):
    """One mail to one address about a job; gone out when `sent_at` is set."""

    class Reason(models.TextChoices):
        ENDED = "ended", _("has ended")
        FAILED = "failed", _("has failed")
        ASKED = "asked", _("waits for approval")
        APPROVED = "approved", _("is approved")
        RETURNED = "returned", _("is returned")
        HELD = "held", _("waits for a decision about a patient")

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="letters")
    what = models.CharField(max_length=16, choices=Reason)
    number = models.PositiveIntegerField()
    """Tells apart that a job ended a second time, after a retry."""
    state = models.CharField(max_length=24)
    """Of the job when it was written."""

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["job", "what", "number", "address"], name="one_letter_each"
            )
        ]
        indexes = [
            models.Index(
                fields=["id"],
                condition=models.Q(sent_at=None, given_up=False),
                name="letters_that_wait",
            )
        ]

    def __str__(self) -> str:
        return f"{self.job} {self.what}"


class OrderDraft(models.Model):
    """What a person is preparing in the web page, sealed: found studies, a basket, an order.

    Rows are short-lived; losing one costs a search, never a job.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="drafts"
    )
    key = models.CharField(max_length=64)
    """Opaque and unguessable, or the name of the one basket that a person has per kind."""
    content = EncryptedField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_draft_per_key")]

    def __str__(self) -> str:
        return f"draft {self.pk}"


class SheetColumns(models.Model):
    """What a person said of sheets with certain headers: which column is what. Holds no text."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sheet_columns"
    )
    kind = models.CharField(max_length=16)
    signature = models.CharField(max_length=64)
    """Keyed hash of the headers."""
    header_line = models.PositiveIntegerField()
    places = models.JSONField(default=dict)
    """Columns, counted from 0, by the words of sheet.Field."""
    used_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind", "signature"], name="one_answer_per_headers"
            )
        ]

    def __str__(self) -> str:
        return f"columns {self.pk}"
