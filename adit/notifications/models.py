"""Notifications of users, their choices of mails, and the mails about notifications."""

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from adit.messages import MessageField
from adit.notifications.outbox import OutgoingMail


class NotificationKind(models.TextChoices):
    JOB_FINISHED = "job_finished", _("My job is finished")
    JOB_FAILED = "job_failed", _("My job has failed")
    OTHER_JOB_FAILED = "other_job_failed", _("A job of another person has failed")
    START_NEEDED = "start_needed", _("My list is checked and waits for its start")
    PATIENT_CONFIRMATION = "patient_confirmation", _("A changed patient ID needs my confirmation")
    APPROVAL_ASKED = "approval_asked", _("A job needs my approval")
    APPROVAL_DECIDED = "approval_decided", _("My job was approved or returned")
    IMAGES_RELEASED = "images_released", _("Withheld images of my job were released")
    PROJECT_ENDS = "project_ends", _("A project of mine ends soon")
    RECALL = "recall", _("Images were recalled, or a recall is overdue")
    WEBHOOK = "webhook", _("A webhook of mine does not work")
    ACCOUNT_REQUESTED = "account_requested", _("Somebody asks for an account")


MAILED_BY_DEFAULT = frozenset(
    {
        NotificationKind.OTHER_JOB_FAILED,
        NotificationKind.PATIENT_CONFIRMATION,
        NotificationKind.APPROVAL_ASKED,
        NotificationKind.APPROVAL_DECIDED,
        NotificationKind.RECALL,
        NotificationKind.WEBHOOK,
        NotificationKind.ACCOUNT_REQUESTED,
    }
)


class Notification(models.Model):
    """One event for one user. It names jobs, projects and users, never a patient."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications"
    )
    kind = models.CharField(max_length=24, choices=NotificationKind)
    message = MessageField(null=False)
    link = models.CharField(max_length=200)
    """The path of the page about the event."""
    event = models.CharField(max_length=64, blank=True)
    """Identifies events that are found repeatedly, so that each is reported once."""
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "event"],
                condition=~models.Q(event=""),
                name="one_notification_of_an_event",
            )
        ]
        indexes = [
            models.Index(
                fields=["user"],
                condition=models.Q(read_at=None),
                name="unread_notifications",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.user}"


class MailChoice(models.Model):
    """Whether a user wants one kind of notification by mail, if it differs from the default."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="mail_choices"
    )
    kind = models.CharField(max_length=24, choices=NotificationKind)
    by_mail = models.BooleanField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "kind"], name="one_mail_choice_per_kind")
        ]

    def __str__(self) -> str:
        return f"{self.kind} for {self.user}: {self.by_mail}"


class NotificationMail(OutgoingMail):
    """The mail about a notification, for kinds whose mails are not those of `adit.jobs`."""

    notification = models.OneToOneField(Notification, on_delete=models.CASCADE, related_name="mail")

    class Meta:
        ordering = ["id"]
        indexes = [
            models.Index(
                fields=["id"],
                condition=models.Q(sent_at=None, given_up=False),
                name="notification_mails_that_wait",
            )
        ]

    def __str__(self) -> str:
        return f"mail about {self.notification}"
