"""Models of jobs, tasks, their results, mails and order drafts.

Used by the worker, the scheduler, the pages and the REST API.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from adit.jobs.kinds import get_capabilities
from adit.jobs.kinds.base import Kind
from adit.messages import MessageField, MessageListField
from adit.nodes.models import Lane, Node
from adit.notifications.outbox import OutgoingMail
from adit.projects.models import ProfileVersion, Project
from adit.vault.fields import EncryptedField
from adit_engine.messages import Message


class SeriesResult(models.Model):
    """The outcome of one series of a transfer, or, for a query, one found record."""

    task = models.ForeignKey("jobs.Task", on_delete=models.CASCADE, related_name="items")
    attempt = models.PositiveIntegerField()
    """The last attempt that wrote this row."""
    index = models.CharField(max_length=64)
    """Keyed hash of the series UID: identifies the row without storing the UID."""
    sealed = models.BinaryField()
    """UIDs, the series description and the ledger, encrypted with the key of the project."""
    modality = models.CharField(max_length=16, blank=True)
    number = models.IntegerField(null=True)
    expected = models.PositiveIntegerField(null=True)
    stored = models.PositiveIntegerField(default=0)
    """Accepted by the destination, but not yet confirmed as kept."""
    delivered = models.PositiveIntegerField(default=0)
    withheld = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    reasons = MessageListField()
    """(message, number of images), most frequent first. Counted by the category of the message."""
    notes = MessageListField()
    """Messages about the series as a whole. Each of them is a gap."""
    remarks = MessageListField()
    """Messages that report no gap, such as how the destination confirmed the images."""
    elements = models.JSONField(default=list)
    """[tag, action, count] over the delivered images, summed from the ledger; no values."""
    skip_reason = MessageField()
    """Why the selection excludes the series; NULL if it is included."""
    is_final = models.BooleanField(default=False)
    """The outcome is known. Until then the counts are preliminary."""

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
    """A finished 7-Zip file: one part of what was packed for a job in one round."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="archives")
    round = models.PositiveIntegerField()
    """Counts from 0. Later rounds are supplements with the images that a retry delivered."""
    name = models.CharField(max_length=120)
    size_bytes = models.BigIntegerField()
    images = models.PositiveIntegerField()
    built_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    removed_at = models.DateTimeField(null=True)
    marks = models.BinaryField(default=b"")
    """The images packed in this round, 16 bytes each; stored with the first part of the round."""

    class Meta:
        ordering = ["-built_at", "-id"]
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_archive_per_name")]

    def __str__(self) -> str:
        return self.name


class PendingArchiveFile(models.Model):
    """The name of a 7-Zip file that becomes visible before its ArchiveFile row exists.

    A worker that is killed in between leaves a file that could otherwise not be found and deleted.
    """

    job = models.ForeignKey(
        "jobs.Job", on_delete=models.CASCADE, related_name="pending_archive_files"
    )
    name = models.CharField(max_length=120)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "name"], name="one_showing_per_name")]

    def __str__(self) -> str:
        return self.name


class ResultLine(models.Model):
    """One result line of a sheet: a study or series, or a row without a result (yet).

    Each row of the sheet has at least one line for each node that is queried, from the order on.
    The lines are replaced when the task returns its result.
    """

    task = models.ForeignKey("jobs.Task", null=True, on_delete=models.CASCADE, related_name="lines")
    """None for a row that is not processed: it has an error or was excluded before the order."""
    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="lines")
    """Also the job of the task, so that one index serves the pages of results."""
    line = models.PositiveIntegerField()
    """The line number in the sheet."""
    number = models.PositiveIntegerField(default=1)
    """Counts the results of one line of the sheet."""
    sealed = models.BinaryField()
    """The user's own columns and the found record, encrypted with the key of the project."""
    is_found = models.BooleanField(default=False)
    """The line holds a record."""
    is_asked = models.BooleanField(default=False)
    """The node has answered."""
    notes = models.JSONField(default=list)
    """Values of kinds.base.RowNote."""
    facts = models.JSONField(default=dict)
    """Counts and reasons without identifying values: many lines are summed without decryption."""
    modalities = models.CharField(max_length=64, blank=True)
    instances = models.PositiveIntegerField(null=True)

    class Meta:
        ordering = ["job_id", "line", "task_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["task", "line", "number"], name="one_result_per_number")
        ]
        indexes = [models.Index(fields=["job", "line", "task", "number"])]

    def __str__(self) -> str:
        return f"{self.job} line {self.line}.{self.number}"


class DeliveredSeries(models.Model):
    """One series that a project has delivered completely to a destination.

    It does not have to be transferred again.
    """

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="+")
    destination = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="+")
    index = models.CharField(max_length=64)
    """Keyed hash, with the key of the project, of the series UID and the change applied to it."""
    images = models.PositiveIntegerField()
    """The number of images that the source listed."""
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
    """The decision of a reviewer on withheld images."""

    OPEN = "open", _("open")
    LEFT = "left", _("remains withheld")
    MASKED = "masked", _("masked")
    RELEASED = "released", _("released")


class _OfDevice(models.Model):
    """The device that made images, as in their header, and their size."""

    sop_class = models.CharField(max_length=64, blank=True)
    manufacturer = models.CharField(max_length=256, blank=True)
    model = models.CharField(max_length=256, blank=True)
    software = models.CharField(max_length=256, blank=True)
    rows = models.PositiveIntegerField(default=0)
    columns = models.PositiveIntegerField(default=0)

    class Meta:
        abstract = True


class WithheldImages(_OfDevice):
    """Images of one series, made by one device, that were withheld for one reason.

    Until an image has been inspected, only the SOP class of the device is known. The instance UIDs
    are in the encrypted part of the SeriesResult.
    """

    item = models.ForeignKey(SeriesResult, on_delete=models.CASCADE, related_name="withheld_images")
    code = models.CharField(max_length=40)
    """The category of the reason, by which images are grouped."""
    reason = MessageField()
    images = models.PositiveIntegerField()
    decision = models.CharField(max_length=16, choices=ReviewDecision, default=ReviewDecision.OPEN)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    decided_because = models.CharField(max_length=200, blank=True)
    profile = models.ForeignKey(
        ProfileVersion, null=True, on_delete=models.PROTECT, related_name="+"
    )
    """The profile version that includes the decision."""

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["decision", "item"])]

    def __str__(self) -> str:
        return f"{self.item} {self.code}"


class DeviceDecision(_OfDevice):
    """A decision of a reviewer on the withheld images of one device in one project.

    Never changed, except that a rule is revoked once. Kept longer than the jobs it was made for.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    code = models.CharField(max_length=40)
    """The category of the reason for which the images were withheld."""
    decision = models.CharField(max_length=16, choices=ReviewDecision)
    """OPEN: a decision to keep images withheld was reopened."""
    rectangles = models.JSONField(default=list)
    images = models.PositiveIntegerField()
    """The number of withheld images at that time."""
    reason = models.CharField(max_length=200)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField()
    profile = models.ForeignKey(
        ProfileVersion, null=True, on_delete=models.PROTECT, related_name="+"
    )
    """The first profile version with the rule; NULL if there is no rule."""
    revoked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    revoked_at = models.DateTimeField(null=True)
    revoked_because = models.CharField(max_length=200, blank=True)
    revoked_profile = models.ForeignKey(
        ProfileVersion, null=True, on_delete=models.PROTECT, related_name="+"
    )
    """The first profile version without the rule."""

    class Meta:
        ordering = ["-decided_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.project} {self.decision} {self.pk}"


class RuledImages(_OfDevice):
    """Images of one series that were delivered although a pixel rule of the profile covers them.

    Kept when the study is sent again under other rules, so that it can be listed what a revoked
    rule let pass.
    """

    task = models.ForeignKey("jobs.Task", on_delete=models.CASCADE, related_name="ruled_images")
    index = models.CharField(max_length=64)
    """The index of the SeriesResult."""
    profile = models.ForeignKey(ProfileVersion, on_delete=models.PROTECT, related_name="+")
    """The profile version of the first attempt that delivered some of them."""
    generation = models.PositiveIntegerField()
    images = models.PositiveIntegerField()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.task} {self.pk}"


class JobState(models.TextChoices):
    WAITING_FOR_APPROVAL = "waiting_for_approval", _("waiting for approval")
    PENDING = "pending", _("waiting")
    IN_PROGRESS = "in_progress", _("running")
    WAITING_FOR_OWNER = "waiting_for_owner", _("waiting for the owner's confirmation")
    HELD = "held", _("waiting for a decision")
    CANCELING = "canceling", _("being canceled")
    CANCELED = "canceled", _("canceled")
    SUCCESS = "success", _("complete")
    WARNING = "warning", _("complete with gaps")
    FAILURE = "failure", _("failed")


class TaskState(models.TextChoices):
    PENDING = "pending", _("waiting")
    IN_PROGRESS = "in_progress", _("running")
    HELD = "held", _("waiting for a decision")
    CANCELED = "canceled", _("canceled")
    SUCCESS = "success", _("complete")
    WARNING = "warning", _("complete with gaps")
    FAILURE = "failure", _("failed")


RUNNABLE_JOBS = frozenset({JobState.PENDING, JobState.IN_PROGRESS})
OPEN_TASKS = frozenset({TaskState.PENDING, TaskState.IN_PROGRESS, TaskState.HELD})

NOTHING_DELIVERED = "empty"
"""The state that pages show for a job or task that succeeded with all images withheld."""


@dataclass(frozen=True, slots=True)
class DeliveredCounts:
    """Images that a successful job or task delivered, withheld and skipped."""

    delivered: int = 0
    withheld: int = 0
    skipped: int = 0

    @property
    def is_nothing(self) -> bool:
        return not self.delivered and self.withheld + self.skipped > 0


def state_label(state: str, counts: DeliveredCounts) -> str:
    """Return the label of a job or task state.

    If images were withheld, as announced, the label must not read "complete".
    """
    if state == JobState.SUCCESS and counts.is_nothing:
        return gettext("nothing to deliver (all images withheld)")
    if state == JobState.SUCCESS and counts.withheld + counts.skipped:
        withheld = counts.withheld + counts.skipped
        return str(Message("job.delivered-as-ordered-withheld", count=withheld)).rstrip(".")
    return str(JobState(state).label)


_STATES_FOR_PROGRAMS = {
    JobState.WAITING_FOR_OWNER: "waiting_for_start",
    JobState.HELD: "pending",
}


def name_for_programs(state: str) -> str:
    """Return the name of a job state in the REST API and in webhooks.

    A held job is pending there; the API and the event say what it waits for.
    """
    return _STATES_FOR_PROGRAMS.get(JobState(state), state)


class EndStateMixin:
    """Properties that jobs and tasks share once they have ended."""

    state: str

    def series_results(self) -> "models.QuerySet[SeriesResult]":
        raise NotImplementedError

    @cached_property
    def delivered_counts(self) -> DeliveredCounts:
        """What was delivered and withheld; nothing unless the state is SUCCESS.

        Queries the database. For many jobs use progress.set_delivered_counts().
        """
        if self.state != JobState.SUCCESS:
            return DeliveredCounts()
        items = self.series_results().filter(skip_reason__isnull=True)
        names = ("delivered", "withheld", "skipped")
        sums = items.aggregate(*(models.Sum(name) for name in names))
        return DeliveredCounts(*(sums[f"{name}__sum"] or 0 for name in names))

    @property
    def delivered_nothing(self) -> bool:
        """Whether the state is SUCCESS although all images were withheld, as announced."""
        return self.state == JobState.SUCCESS and self.delivered_counts.is_nothing

    @property
    def displayed_state(self) -> str:
        return NOTHING_DELIVERED if self.delivered_nothing else self.state

    @property
    def state_text(self) -> str:
        return state_label(self.state, self.delivered_counts)


START_POSITION = 0
"""The position of a start task, before all tasks that have a number on pages."""


class TaskType(models.TextChoices):
    """The purpose of a task."""

    ORDERED = "", _("ordered task")
    START = "start", _("start of the transfer")
    """The task that creates the tasks of a batch transfer from its checked rows."""
    PACK = "pack", _("7-Zip file")
    """The last task of a job that ends in a 7-Zip file: builds it when all others have ended."""


class JobStage(models.TextChoices):
    """The stage of a job that runs in steps. After each step it waits for its owner."""

    WHOLE = "", _("complete job")
    CHECK = "check", _("check")
    PILOT = "pilot", _("pilot")


AS_IS = "as_is"
"""Value of "change" in an order: images are sent without de-identification."""


class Job(EndStateMixin, models.Model):
    """An order of a user: one kind and at most one destination."""

    kind = models.CharField(max_length=32)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs"
    )
    destination = models.ForeignKey(Node, null=True, on_delete=models.PROTECT, related_name="+")
    project = models.ForeignKey(Project, null=True, on_delete=models.PROTECT, related_name="jobs")
    """Its key encrypts payloads and results. The default project if none was chosen."""
    order = models.JSONField(default=dict)
    """The facts of the order, with a version; no identifying values (those are in the payloads)."""
    archive_password = EncryptedField(null=True)
    """The password of the 7-Zip file. Deleted when the job has ended, see states.py."""
    delivery_list_due_at = models.DateTimeField(null=True, db_index=True)
    """When the delivery list is due to be written next; None: it is up to date.

    See adit/results/deliveries.py.
    """
    state = models.CharField(max_length=24, choices=JobState, default=JobState.PENDING)
    """Changed only by states.py."""
    stage = models.CharField(max_length=8, choices=JobStage, default=JobStage.WHOLE, blank=True)
    priority = models.SmallIntegerField(default=0)
    urgent = models.BooleanField(default=False)
    idempotency_key = models.CharField(max_length=64)
    mail_at_end = models.BooleanField(default=False)
    """The owner wants a mail when the job has ended."""
    title = models.CharField(max_length=100, blank=True)
    message = MessageField()
    """How the job ended, or why it waits for its owner."""
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    may_have_stored = models.BooleanField(default=False)
    """A destination has, or may have, received an image. Never reset; such a job is not deleted."""
    archived_at = models.DateTimeField(null=True)
    """When a user has hidden the ended job from lists; None if it is listed."""

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
    def capabilities(self) -> Kind:
        """What jobs of this kind can do."""
        return get_capabilities(self.kind)

    def state_text_for(self, user: AbstractBaseUser) -> str:
        """Return the label of the state as it is shown to this user."""
        if self.state == JobState.WAITING_FOR_OWNER and self.owner_id == user.pk:
            return gettext("waiting for your confirmation")
        return self.state_text

    @property
    def state_text(self) -> str:
        """Return the label of the state; "complete" also says which rows of a sheet are not."""
        label = super().state_text
        if self.state != JobState.SUCCESS:
            return label
        said = _find_message(self.message, ("job.rows-delivered", "job.rows-invalid"))
        return label if said is None else f"{label} ({str(said).rstrip('.')})"

    @property
    def is_as_is(self) -> bool:
        """Whether images are sent without de-identification, with names and dates."""
        return self.order.get("change") == AS_IS

    def series_results(self) -> "models.QuerySet[SeriesResult]":
        return SeriesResult.objects.filter(task__job=self)


def _find_message(message: Message | None, codes: Collection[str]) -> Message | None:
    """Return the first message with one of the codes within a combined message."""
    if message is None or message.code in codes:
        return message
    parts = message.values.get("parts", ())
    return next((found for part in parts if (found := _find_message(part, codes))), None)


class TaskGroup(models.Model):
    """The tasks of one job with the same source and lane: they wait for the same nodes.

    A claim sorts groups, of which there are few, instead of all pending tasks.
    """

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="task_groups")
    source = models.ForeignKey(Node, null=True, on_delete=models.PROTECT, related_name="+")
    lane = models.CharField(max_length=16, choices=Lane)
    wait_reason = MessageField()
    """Why no task of the group starts now; None if nothing prevents it."""

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
    """The unit of work that one worker executes: one study, or one row of a query sheet."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="tasks")
    position = models.PositiveIntegerField()
    source = models.ForeignKey(Node, null=True, on_delete=models.PROTECT, related_name="+")
    lane = models.CharField(max_length=16, choices=Lane, default=Lane.RETRIEVE)
    """The lane of its nodes. A search opens only the source. Urgency is a property of the job."""
    group = models.ForeignKey(
        TaskGroup, null=True, on_delete=models.SET_NULL, related_name="tasks", db_index=False
    )
    """Set by assign_groups(). A task without a group is never claimed."""
    type = models.CharField(max_length=8, choices=TaskType, default=TaskType.ORDERED, blank=True)
    payload = models.BinaryField()
    """The payload of the kind, encrypted with the key of the project."""
    state = models.CharField(max_length=16, choices=TaskState, default=TaskState.PENDING)
    attempt = models.PositiveIntegerField(default=0)
    """Number of claims, used for fencing only. The limit applies to `failures`."""
    failures = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)
    """Written only by the queue."""
    worker = models.CharField(max_length=100, blank=True)
    message = MessageField()
    """The progress, how the task ended, or why the last attempt ended."""
    has_broken_rule = models.BooleanField(default=False)
    """The task failed because continuing could have mixed up patients or studies."""
    stop_requested = models.BooleanField(default=False)
    """A user has requested to stop this task. Its worker checks twice per second."""
    rules = models.JSONField(default=list)
    """The de-identification rules applied, as written by adit.results.applied_rules.

    Empty if images are sent without de-identification.
    """
    recalled_at = models.DateTimeField(null=True)
    """When a recall of its images was ordered, see adit/recall. Such a task never runs again."""
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["job_id", "position"]
        constraints = [
            models.UniqueConstraint(fields=["job", "position"], name="one_task_per_position")
        ]
        indexes = [
            # The only index by group: with a second one, PostgreSQL also reads ended tasks.
            models.Index(fields=["group", "state", "id", "not_before"], name="due_tasks_of_group"),
            models.Index(fields=["job", "state"]),
            models.Index(fields=["state", "lease_until"]),
        ]

    def __str__(self) -> str:
        return f"{self.job} task {self.position}"

    def series_results(self) -> "models.QuerySet[SeriesResult]":
        return SeriesResult.objects.filter(task=self)

    def current_attempt(self) -> "models.QuerySet[Task]":
        """Return the row of this task if this attempt of this worker still holds it.

        Each write of an attempt uses this query as its fence. It compares worker and attempt: a
        database that was killed may lose a claim and assign the same attempt number again.
        """
        return Task.objects.filter(
            pk=self.pk, attempt=self.attempt, worker=self.worker, state=TaskState.IN_PROGRESS
        )


class JobMail(OutgoingMail):
    """One mail to one address about a job. It was sent if `sent_at` is set."""

    class Reason(models.TextChoices):
        ENDED = "ended", _("finished")
        FAILED = "failed", _("failed")
        ASKED = "asked", _("waiting for approval")
        APPROVED = "approved", _("approved")
        RETURNED = "returned", _("returned")
        HELD = "held", _("waiting for the confirmation of a patient ID")

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="mails")
    reason = models.CharField(max_length=16, choices=Reason)
    number = models.PositiveIntegerField()
    """Distinguishes repeated events, such as the second end of a job after a retry."""
    state = models.CharField(max_length=24)
    """The state of the job when the mail was created."""

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["job", "reason", "number", "address"], name="one_letter_each"
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
        return f"{self.job} {self.reason}"


class OrderDraft(models.Model):
    """Found studies, a basket or an order that a user prepares on the web page, encrypted.

    Rows are short-lived. Losing one means repeating a search; no job is lost.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="drafts"
    )
    key = models.CharField(max_length=64)
    """Opaque and not guessable, or the fixed name of a draft that a user has once per kind."""
    content = EncryptedField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_draft_per_key")]

    def __str__(self) -> str:
        return f"draft {self.pk}"


class SheetColumns(models.Model):
    """The column mapping that a user chose for sheets with certain headers. Holds no text."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sheet_columns"
    )
    kind = models.CharField(max_length=16)
    signature = models.CharField(max_length=64)
    """Keyed hash of the headers."""
    header_line = models.PositiveIntegerField()
    columns = models.JSONField(default=dict)
    """Column numbers, counted from 0, by the values of columns.SheetField."""
    used_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "kind", "signature"], name="one_answer_per_headers"
            )
        ]

    def __str__(self) -> str:
        return f"columns {self.pk}"
