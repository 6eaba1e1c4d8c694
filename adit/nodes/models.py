"""Models of nodes: the nodes, access of groups, slots, usage, alarms and receiver state.

Used by all parts of `adit.nodes` and by the apps above it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib.auth.models import Group
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from adit.messages import MessageField
from adit.notifications.outbox import OutgoingMail
from adit.vault.fields import EncryptedField
from adit_engine.nodes import get_capabilities, get_recipient, kinds_with
from adit_engine.nodes.base import NodeCapabilities


class Node(models.Model):
    """A PACS, DICOMweb service or folder that this installation knows."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    kind = models.CharField(_("kind"), max_length=32)
    """A key of adit_engine.nodes.KINDS. The settings dataclass of the kind defines `settings`."""
    api_ae_title = models.CharField(
        _("AE title in the API"),
        max_length=16,
        unique=True,
        blank=True,
        validators=[
            RegexValidator(
                r"^[A-Za-z0-9_.-]+$",
                _("Only letters, digits, dots, hyphens and underscores are allowed."),
            )
        ],
    )
    """Its name in the addresses of the DICOMweb API. Empty: proposed from its called AE title."""
    settings = models.JSONField(default=dict)
    secrets = EncryptedField(null=True)
    """`values` of the secret settings, and the recipient they are `for` (see `recipient_of`).

    Written by `give_secrets` and read by `secrets_for`. They are never sent to another recipient.
    """

    is_open = models.BooleanField(_("open"), default=False)
    """A new node is closed until a user opens it."""
    is_clinical = models.BooleanField(_("clinical PACS"), default=False)
    """Writing to it needs an extra permission."""
    windows = models.JSONField(_("allowed hours"), default=list, blank=True)
    """The weekly calendar as defined in adit.nodes.calendar.allowed_hours. Empty: always open."""
    special_days = models.JSONField(_("special days"), default=list, blank=True)
    """Dated exceptions from the weekly calendar, in the format of the same module."""
    retrieve_limit = models.PositiveSmallIntegerField(_("connections for transfers"), default=2)
    search_limit = models.PositiveSmallIntegerField(_("connections for searches"), default=2)
    pause_between_studies_s = models.PositiveIntegerField(
        _("seconds between two studies"), default=0
    )
    rate_kb_s = models.PositiveIntegerField(_("speed (kB per second)"), null=True, blank=True)
    """The rate of all transfers together, in each direction. None: unlimited."""
    takes_images = models.BooleanField(_("images may be sent to it"), default=True)
    """If false, the node is a source only, regardless of the access of groups."""

    paused_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    """Set for a stop: a pause that also cuts all connections, so nothing is finished."""
    paused_by = models.ForeignKey(
        "accounts.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    pause_reason = models.CharField(_("reason of the pause"), max_length=200, blank=True)

    sends_move_originator = models.BooleanField(null=True, editable=False)
    """Whether its images name the C-MOVE that requested them. None: not known yet."""
    uses_c_move = models.BooleanField(default=False, editable=False)
    """Whether it has sent images by C-MOVE, which needs a second connection."""
    learned_limits = models.JSONField(default=dict, editable=False)
    """How many associations it serves at once; see adit.nodes.limits.learned_limits."""
    response_times = models.JSONField(default=dict, editable=False)
    """How fast it answers and answered before; see adit.nodes.limits.response_times."""

    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    @property
    def capabilities(self) -> type[NodeCapabilities]:
        """What nodes of this kind can do."""
        return get_capabilities(self.kind)

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **more: Any) -> None:
        """Delete secrets that were entered for another recipient; propose a missing AE title."""
        if not self.api_ae_title:
            self.api_ae_title = propose_api_ae_title(self.settings, self.name, _is_title_taken)
        if self.secrets and not self.get_secrets(self.settings):
            self.secrets = None
            if update_fields is not None:
                update_fields = {*update_fields, "secrets"}
        super().save(*args, update_fields=update_fields, **more)

    def set_secrets(self, values: Mapping[str, Any]) -> None:
        """Replace all secrets. They are for the recipient in the current settings."""
        recipient = get_recipient(self.kind, self.settings)
        self.secrets = {"for": recipient, "values": dict(values)} if values else None

    def get_secrets(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the secrets by name, if they were entered for the recipient in `settings`."""
        stored = self.secrets or {}
        if not stored or stored.get("for") != get_recipient(self.kind, settings):
            return {}
        return dict(stored["values"])

    @property
    def secret_names(self) -> frozenset[str]:
        """The settings for which a secret is stored."""
        return frozenset((self.secrets or {}).get("values", ()))


def propose_api_ae_title(
    settings: Mapping[str, Any], name: str, is_taken: Callable[[str], bool]
) -> str:
    """Return a free title from the called AE title, or from the name of a node without one."""
    wanted = str(settings.get("called_ae_title") or name)
    title = re.sub(r"[^A-Za-z0-9_.-]+", "_", wanted).strip("_.-")[:16] or "NODE"
    proposed, number = title, 1
    while is_taken(proposed):
        number += 1
        proposed = f"{title[: 15 - len(str(number))]}_{number}"
    return proposed


def _is_title_taken(title: str) -> bool:
    return Node.objects.filter(api_ae_title=title).exists()


class NodeAccess(models.Model):
    """The access of a group to a node: read, write, or both."""

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="node_access")
    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="access")
    may_read = models.BooleanField(_("may fetch from it"), default=False)
    may_write = models.BooleanField(_("may send to it"), default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["group", "node"], name="one_access_row")]

    def __str__(self) -> str:
        return f"{self.group} → {self.node}"


class Lane(models.TextChoices):
    RETRIEVE = "retrieve"
    SEARCH = "search"
    URGENT = "urgent"


class CircuitBreaker(models.Model):
    """The state of a node that did not answer the last time. Deleted when it answers."""

    node = models.OneToOneField(Node, on_delete=models.CASCADE, related_name="breaker")
    failures = models.PositiveIntegerField(default=0)
    """Consecutive failures."""
    since = models.DateTimeField()
    paused_until = models.DateTimeField(null=True)
    trial_until = models.DateTimeField(null=True)
    """Until then one task tries the node, and no other task may."""

    def __str__(self) -> str:
        return f"{self.node} {self.failures}"


class Slot(models.Model):
    """A permit to use a node with `weight` associations. Deleted when released or expired."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="slots")
    lane = models.CharField(max_length=16, choices=Lane)
    holder = models.CharField(max_length=64)
    """The holder: task:12, search:ab3f, check:7."""
    taken_at = models.DateTimeField()
    is_new = False
    """Whether the current call created it; otherwise its holder already had it."""
    expires_at = models.DateTimeField(db_index=True)
    weight = models.PositiveSmallIntegerField(default=1)
    """How many associations the holder may open at once."""
    purposes = models.PositiveSmallIntegerField(default=1)
    """2: the node is source and destination at once, with one association (or C-MOVE) for each."""
    user = models.ForeignKey(
        "accounts.User", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    """The user who ordered or searches."""
    job = models.PositiveBigIntegerField(null=True)
    """The primary key of the job, if it is for a job."""
    ended_by = models.ForeignKey(
        "accounts.User", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    """The user who ended this connection. The holder checks every two seconds."""
    images = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    """Images and bytes so far, in both directions."""
    counts_for_budget = models.BooleanField(default=False)
    """Whether images are fetched from the node. They count against the budget of the user."""
    lane_weight = models.PositiveSmallIntegerField(default=1)
    """Peak number of associations in use in the lane, including this slot.

    `allowed` is the limit at that time.
    """
    allowed = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node", "lane", "holder"], name="one_slot_per_holder")
        ]

    def __str__(self) -> str:
        return f"{self.node} {self.lane} {self.holder}"


class NodeDailyUsage(models.Model):
    """The use of a node on one day, for its page and to compare with the agreed limits."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="daily_usage")
    day = models.DateField()
    """The day on which the connection ended, in the time zone of the settings."""
    lane = models.CharField(max_length=16, choices=Lane)
    connections = models.PositiveIntegerField(default=0)
    """How often the node was opened: once per study, search or test."""
    peak_connections = models.PositiveSmallIntegerField(default=0)
    allowed = models.PositiveSmallIntegerField(default=0)
    """The limit at that time."""
    images = models.PositiveBigIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0)
    """Total time for which associations were held."""

    class Meta:
        ordering = ["-day", "lane"]
        constraints = [
            models.UniqueConstraint(fields=["node", "day", "lane"], name="one_use_a_day_and_lane")
        ]

    def __str__(self) -> str:
        return f"{self.node} {self.day} {self.lane}"


class NodeHourlyUsage(models.Model):
    """The use of a node in one hour and how fast it answered, for the sheet of its administrator."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="hourly_usage")
    hour = models.DateTimeField()
    """The begin of the hour (UTC)."""
    searches = models.PositiveIntegerField(default=0)
    transfers = models.PositiveIntegerField(default=0)
    """Connections for searches and for transfers that ended in this hour."""
    peak_connections = models.PositiveSmallIntegerField(default=0)
    allowed = models.PositiveSmallIntegerField(default=0)
    """The most connections for transfers at the same time, and the limit at that time."""
    images = models.PositiveBigIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)
    outside_hours = models.PositiveIntegerField(default=0)
    """Connections for transfers that began or ended outside the allowed hours."""
    echo_count = models.PositiveIntegerField(default=0)
    echo_s = models.FloatField(default=0)
    echo_max_s = models.FloatField(default=0)
    retrieval_count = models.PositiveIntegerField(default=0)
    retrieval_s = models.FloatField(default=0)
    retrieval_max_s = models.FloatField(default=0)
    """Number, sum and maximum of the times until an echo or the first image was answered."""

    class Meta:
        ordering = ["hour"]
        constraints = [models.UniqueConstraint(fields=["node", "hour"], name="one_use_an_hour")]

    def __str__(self) -> str:
        return f"{self.node} {self.hour}"


class UserDailyUsage(models.Model):
    """What one user has fetched in a day, over all interfaces together."""

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="daily_usage")
    day = models.DateField()
    studies = models.PositiveIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "day"], name="one_spent_a_day_and_person")
        ]

    def __str__(self) -> str:
        return f"{self.user} {self.day}"


class Budget(models.Model):
    """How much the members of one group may fetch in a day, together."""

    group = models.OneToOneField(Group, on_delete=models.CASCADE, related_name="budget")
    studies = models.PositiveIntegerField(_("studies per day"), null=True, blank=True)
    size_gb = models.PositiveIntegerField(_("GB per day"), null=True, blank=True)

    def __str__(self) -> str:
        return str(self.group)


class Alarm(models.Model):
    """A problem that needs attention; one row for as long as it lasts."""

    class Cause(models.TextChoices):
        BREAKER = "breaker", _("does not answer")
        QUARANTINE = "quarantine", _("images in quarantine")
        DISK = "disk", _("disk almost full")
        CERTIFICATE = "certificate", _("certificate problem")
        STUCK = "stuck", _("job without progress")
        HOURS = "hours", _("hours or limits changed")
        SLOW = "slow", _("answers slowly")

    cause = models.CharField(max_length=16, choices=Cause)
    subject = models.CharField(max_length=100, blank=True)
    """Opaque key that distinguishes alarms of one cause: a job, a certificate."""
    host = models.CharField(max_length=100, blank=True)
    """The machine that reports it about itself. Empty: found by a check of the database."""
    node = models.ForeignKey(Node, null=True, on_delete=models.CASCADE, related_name="alarms")
    text = MessageField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField(db_index=True)
    mailed_at = models.DateTimeField(null=True)
    """When mails about it were created."""
    ended_at = models.DateTimeField(null=True, db_index=True)

    class Meta:
        ordering = ["-last_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["cause", "host", "subject"],
                condition=models.Q(ended_at=None),
                name="one_open_alarm_per_cause",
            )
        ]

    def __str__(self) -> str:
        return f"{self.cause} {self.host} {self.subject}"


class AlarmMail(OutgoingMail):
    """One mail to one address, with all alarms that had not been mailed yet."""

    alarms = models.ManyToManyField(Alarm, related_name="mails")

    def __str__(self) -> str:
        return f"alarms {self.pk}"


class AuditHeadMail(OutgoingMail):
    """One mail to one address with the head of the audit trail on that day."""

    count = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"head {self.count}"


class MoveInProgress(models.Model):
    """A C-MOVE in progress and the images that the receiver accepts for it. Deleted at its end."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="moves_in_progress")
    token = models.CharField(max_length=64, unique=True)
    """The folder of its images in the spool."""
    calling_ae_title = models.CharField(max_length=16)
    allowed_senders = models.JSONField()
    """Allowed senders: pairs of an AE title and a list of networks."""
    study_uid = models.CharField(max_length=64, db_index=True)
    series_uids = models.JSONField()
    instance_uids = models.JSONField()
    expires_at = models.DateTimeField(db_index=True)
    key = EncryptedField(null=True)
    """The key (hex) that encrypts its images on their way through the broker."""
    activity_count = models.PositiveIntegerField(default=0)
    """A counter that changes while the receiver has or receives images for it. 0: none."""
    waiting_count = models.PositiveIntegerField(default=0)
    """How many images wait at the receiver, according to its last report."""
    is_full = models.BooleanField(default=False)
    """The receiver has no space left and refuses images."""

    def __str__(self) -> str:
        return f"{self.node} {self.token}"

    @property
    def message_id(self) -> int:
        """The message ID, 1 to 65535. Keys are never reused, so all others come before a repeat."""
        return int(self.pk - 1) % 0xFFFF + 1


class PendingCommitment(models.Model):
    """A Storage Commitment request that waits for its report. Deleted when the requester has it.

    The report holds SOP classes and instance UIDs, as they were sent.
    """

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="pending_commitments")
    transaction_uid = models.CharField(max_length=64, unique=True)
    allowed_senders = models.JSONField()
    """Who may send the report: pairs of an AE title and a list of networks."""
    expires_at = models.DateTimeField(db_index=True)
    report = models.JSONField(null=True)
    """`kept`: pairs of class and instance; `failed`: reasons by instance. None: no report yet."""

    def __str__(self) -> str:
        return f"{self.node} {self.transaction_uid}"


class NodeTestResult(models.Model):
    """The findings of the last test of a node, one row for each kind of test."""

    class TestKind(models.TextChoices):
        PLAIN = "plain", _("Test")
        FETCH = "fetch", _("Fetch test")
        WRITE = "write", _("Write test")

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="test_results")
    kind = models.CharField(max_length=16, choices=TestKind)
    at = models.DateTimeField()
    by = models.ForeignKey("accounts.User", null=True, on_delete=models.SET_NULL, related_name="+")
    findings = models.JSONField(default=list)
    """NodeFinding objects of the engine as mappings. They name no patient."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node", "kind"], name="one_test_result_of_a_kind")
        ]

    def __str__(self) -> str:
        return f"{self.node} {self.kind}"


class UnexpectedSender(models.Model):
    """Unexpected images or calls at the receiver, summed by sender and SOP class.

    It names no patient.
    """

    class Fate(models.TextChoices):
        REJECTED = "turned_away", _("connection rejected")
        REFUSED = "refused", _("image refused")
        QUARANTINED = "laid_apart", _("image quarantined")

    disposition = models.CharField(max_length=16, choices=Fate)
    calling = models.CharField(max_length=16, blank=True)
    called = models.CharField(max_length=16, blank=True)
    address = models.CharField(max_length=64)
    class_uid = models.CharField(max_length=64, blank=True)
    source = models.CharField(max_length=64, blank=True)
    """The node whose C-MOVE it seems to belong to: everything matches except the sender."""
    count = models.PositiveBigIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-last_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["disposition", "calling", "called", "address", "class_uid", "source"],
                name="one_row_per_stray",
            )
        ]

    def __str__(self) -> str:
        return f"{self.calling}@{self.address} {self.disposition}"


class SharedFolder(models.Model):
    """A folder that all machines share, identified by a mark file in it."""

    name = models.CharField(max_length=32, unique=True)
    """The name of the folder, see `shared_folders`."""
    mark = models.CharField(max_length=32)

    def __str__(self) -> str:
        return self.name


def receiver_nodes() -> models.QuerySet[Node]:
    """Return the nodes whose images may arrive through our receiver."""
    return Node.objects.filter(kind__in=kinds_with(lambda kind: kind.uses_receiver))
