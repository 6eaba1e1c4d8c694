"""Node: a PACS or folder that this installation knows, and which groups may use it how."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.utils.translation import gettext_lazy as _

from adit.notifications.outbox import OutgoingMail
from adit.vault.fields import EncryptedField
from adit_engine.nodes import recipient_of


class Node(models.Model):
    name = models.CharField(_("name"), max_length=64, unique=True)
    kind = models.CharField(_("kind"), max_length=32)
    """A word of adit_engine.nodes.KINDS; its settings dataclass says what `settings` holds."""
    settings = models.JSONField(default=dict)
    secrets = EncryptedField(null=True)
    """`values` of those settings that are secret, and `for` whom they were given (recipient_of).

    Written by `give_secrets` and read by `secrets_for`: no other recipient is sent any of them.
    """

    is_open = models.BooleanField(_("in use"), default=False)
    """A newly created node is closed until a person opens it."""
    is_clinical = models.BooleanField(_("clinical PACS"), default=False)
    """Writing to it needs a right of its own."""
    windows = models.JSONField(_("allowed hours"), default=list, blank=True)
    """The weekly calendar as adit.nodes.calendar.allowed_hours reads it; an empty list is always open."""
    exceptions = models.JSONField(_("special days"), default=list, blank=True)
    """Dated exceptions from the weekly calendar, as adit.nodes.calendar.allowed_hours reads them."""
    retrieve_limit = models.PositiveSmallIntegerField(_("connections for transfers"), default=2)
    search_limit = models.PositiveSmallIntegerField(_("connections for searches"), default=2)
    gap_s = models.PositiveIntegerField(_("seconds between two studies"), default=0)
    rate_kb_s = models.PositiveIntegerField(_("kB a second"), null=True, blank=True)
    """Of all transfers together, each way; None: as fast as it goes."""
    takes_images = models.BooleanField(_("images may be sent to it"), default=True)
    """Else it is a source only, whatever its groups may."""

    paused_at = models.DateTimeField(null=True, blank=True)
    stopped_at = models.DateTimeField(null=True, blank=True)
    """Set for a stop, that is a pause in which nothing is finished: all connections are cut."""
    paused_by = models.ForeignKey(
        "accounts.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    pause_reason = models.CharField(_("why it is paused"), max_length=200, blank=True)

    names_originator = models.BooleanField(null=True, editable=False)
    """Whether its images name the C-MOVE that asked for them; None: not seen yet."""
    moves = models.BooleanField(default=False, editable=False)
    """Its images were seen to come by C-MOVE, that is over a second connection."""

    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, update_fields: Iterable[str] | None = None, **more: Any) -> None:
        """Drops secrets that were given for another recipient than the settings name now."""
        if self.secrets and not self.secrets_for(self.settings):
            self.secrets = None
            if update_fields is not None:
                update_fields = {*update_fields, "secrets"}
        super().save(*args, update_fields=update_fields, **more)

    def give_secrets(self, values: Mapping[str, Any]) -> None:
        """Replaces all secrets. They are for the recipient that the settings name now."""
        recipient = recipient_of(self.kind, self.settings)
        self.secrets = {"for": recipient, "values": dict(values)} if values else None

    def secrets_for(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The secrets, by name, if they were given for the recipient that these settings name."""
        stored = self.secrets or {}
        if not stored or stored.get("for") != recipient_of(self.kind, settings):
            return {}
        return dict(stored["values"])

    @property
    def secret_names(self) -> frozenset[str]:
        """Of which settings a secret is stored."""
        return frozenset((self.secrets or {}).get("values", ()))


class NodeAccess(models.Model):
    """A group may read from a node, write to it, or both."""

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
    """A node that did not answer when it was asked last; gone when it does."""

    node = models.OneToOneField(Node, on_delete=models.CASCADE, related_name="breaker")
    failures = models.PositiveIntegerField(default=0)
    """In a row."""
    since = models.DateTimeField()
    rests_until = models.DateTimeField(null=True)
    tried_until = models.DateTimeField(null=True)
    """For so long one task is trying, and no other one."""

    def __str__(self) -> str:
        return f"{self.node} {self.failures}"


class Slot(models.Model):
    """One association that may be open now at a node; gone when released or expired."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="slots")
    lane = models.CharField(max_length=16, choices=Lane)
    holder = models.CharField(max_length=64)
    """What holds it: task:12, search:ab3f, check:7."""
    taken_at = models.DateTimeField()
    is_new = False
    """Whether this very call took it; else its holder had it before."""
    expires_at = models.DateTimeField(db_index=True)
    weight = models.PositiveSmallIntegerField(default=1)
    """How many associations at once its holder may open."""
    user = models.ForeignKey(
        "accounts.User", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    """Who ordered or searches."""
    job = models.PositiveBigIntegerField(null=True)
    """The number of the job, where it is one."""
    ended_by = models.ForeignKey(
        "accounts.User", null=True, on_delete=models.SET_NULL, related_name="+"
    )
    """Who wants this one to end; its holder looks every two seconds."""
    images = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    """So far, in both directions."""
    fetches = models.BooleanField(default=False)
    """Whether images are taken from there: they count for the budget of whoever ordered."""
    at_once = models.PositiveSmallIntegerField(default=1)
    """How many associations its lane had in use with this one, and how many it was allowed then."""
    allowed = models.PositiveSmallIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node", "lane", "holder"], name="one_slot_per_holder")
        ]

    def __str__(self) -> str:
        return f"{self.node} {self.lane} {self.holder}"


class NodeDailyUsage(models.Model):
    """What one day asked of a node, for its page and for whoever agreed on the limits."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="uses")
    day = models.DateField()
    """In the zone of the settings, on which the connection ended."""
    lane = models.CharField(max_length=16, choices=Lane)
    connections = models.PositiveIntegerField(default=0)
    """How often the node was opened: once for each study, search or test."""
    most_at_once = models.PositiveSmallIntegerField(default=0)
    allowed = models.PositiveSmallIntegerField(default=0)
    """How many were allowed at that time."""
    images = models.PositiveBigIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)
    seconds = models.FloatField(default=0)
    """For how long associations were held, all of them together."""

    class Meta:
        ordering = ["-day", "lane"]
        constraints = [
            models.UniqueConstraint(fields=["node", "day", "lane"], name="one_use_a_day_and_lane")
        ]

    def __str__(self) -> str:
        return f"{self.node} {self.day} {self.lane}"


class UserDailyUsage(models.Model):
    """What one person has fetched in a day, by all doors together."""

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="spent")
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
    studies = models.PositiveIntegerField(_("studies a day"), null=True, blank=True)
    size_gb = models.PositiveIntegerField(_("GB a day"), null=True, blank=True)

    def __str__(self) -> str:
        return str(self.group)


class Alarm(models.Model):
    """Something that somebody should look at; one row for as long as it lasts."""

    class Cause(models.TextChoices):
        BREAKER = "breaker", _("does not answer")
        QUARANTINE = "quarantine", _("quarantine used")
        DISK = "disk", _("disk almost full")
        CERTIFICATE = "certificate", _("certificate ends soon")
        STUCK = "stuck", _("job does not get on")
        HOURS = "hours", _("hours or limits changed")

    what = models.CharField(max_length=16, choices=Cause)
    about = models.CharField(max_length=100, blank=True)
    """Tells alarms of one sort apart: a job, a certificate; opaque."""
    machine = models.CharField(max_length=100, blank=True)
    """Which one tells it, of itself; empty: whoever looks into the database."""
    node = models.ForeignKey(Node, null=True, on_delete=models.CASCADE, related_name="alarms")
    text = models.TextField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField(db_index=True)
    mailed_at = models.DateTimeField(null=True)
    """When letters were written that tell it."""
    ended_at = models.DateTimeField(null=True, db_index=True)

    class Meta:
        ordering = ["-last_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["what", "machine", "about"],
                condition=models.Q(ended_at=None),
                name="one_open_alarm_of_a_sort",
            )
        ]

    def __str__(self) -> str:
        return f"{self.what} {self.machine} {self.about}"


class AlarmMail(OutgoingMail):
    """One mail to one address, with all alarms that were untold at the time."""

    alarms = models.ManyToManyField(Alarm, related_name="letters")

    def __str__(self) -> str:
        return f"alarms {self.pk}"


class AuditHeadMail(OutgoingMail):
    """One mail to one address with the end of the trail as it was that day."""

    count = models.PositiveBigIntegerField()
    hash = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"head {self.count}"


class MoveInProgress(models.Model):
    """One C-MOVE under way: which images the receiver takes, and for whom; gone when it ends."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="expectations")
    token = models.CharField(max_length=64, unique=True)
    """The folder in the spool where its images lie."""
    calling = models.CharField(max_length=16)
    senders = models.JSONField()
    """Pairs of an AE title and a list of networks."""
    study_uid = models.CharField(max_length=64, db_index=True)
    series_uids = models.JSONField()
    instance_uids = models.JSONField()
    expires_at = models.DateTimeField(db_index=True)
    key = EncryptedField(null=True)
    """Under which its images are sealed on their way through the broker; in hex."""
    beats = models.PositiveIntegerField(default=0)
    """Changes while the receiver has images for it, or gets one; 0: none."""
    untaken = models.PositiveIntegerField(default=0)
    """How many images lie at the receiver, as far as it has told."""
    is_full = models.BooleanField(default=False)
    """The receiver has no room, and refuses images."""

    def __str__(self) -> str:
        return f"{self.node} {self.token}"

    @property
    def message_id(self) -> int:
        """1 to 65535; as keys are never used twice, a number comes back only after all others."""
        return int(self.pk - 1) % 0xFFFF + 1


class PendingCommitment(models.Model):
    """A node was asked what it keeps (Storage Commitment); gone when who asked has the report.

    It holds what a report names: classes and UIDs, under which the images went out.
    """

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="questions")
    transaction_uid = models.CharField(max_length=64, unique=True)
    senders = models.JSONField()
    """Who may bring the report: pairs of an AE title and a list of networks."""
    expires_at = models.DateTimeField(db_index=True)
    report = models.JSONField(null=True)
    """`kept`: pairs of class and instance; `failed`: reasons by instance. None: none came yet."""

    def __str__(self) -> str:
        return f"{self.node} {self.transaction_uid}"


class NodeTestResult(models.Model):
    """What the last test of a node found, of each sort of test."""

    class TestKind(models.TextChoices):
        PLAIN = "plain", _("Test")
        FETCH = "fetch", _("One image fetched")
        WRITE = "write", _("Something written")

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="checks")
    what = models.CharField(max_length=16, choices=TestKind)
    at = models.DateTimeField()
    by = models.ForeignKey("accounts.User", null=True, on_delete=models.SET_NULL, related_name="+")
    findings = models.JSONField(default=list)
    """Of the engine, as mappings; they name no patient."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "what"], name="one_check_of_a_sort")]

    def __str__(self) -> str:
        return f"{self.node} {self.what}"


class UnexpectedSender(models.Model):
    """What the receiver got and nobody expected, added up by sender and kind; names no patient."""

    class Fate(models.TextChoices):
        TURNED_AWAY = "turned_away", _("turned away")
        REFUSED = "refused", _("refused")
        LAID_APART = "laid_apart", _("laid apart")

    fate = models.CharField(max_length=16, choices=Fate)
    calling = models.CharField(max_length=16, blank=True)
    called = models.CharField(max_length=16, blank=True)
    address = models.CharField(max_length=64)
    class_uid = models.CharField(max_length=64, blank=True)
    source = models.CharField(max_length=64, blank=True)
    """The node whose C-MOVE it seems to answer: all fits but the sender."""
    count = models.PositiveBigIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["-last_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["fate", "calling", "called", "address", "class_uid", "source"],
                name="one_row_per_stray",
            )
        ]

    def __str__(self) -> str:
        return f"{self.calling}@{self.address} {self.fate}"


class SharedFolder(models.Model):
    """A folder that all machines share, by the mark that lies in it."""

    word = models.CharField(max_length=32, unique=True)
    """Which one it is."""
    mark = models.CharField(max_length=32)

    def __str__(self) -> str:
        return self.word
