"""Create and read notifications, and choose which of them come by mail.

Used by the apps that report events. Call `notify` in the transaction of the event.
"""

from collections.abc import Collection, Iterable

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.notifications.models import (
    MAILED_BY_DEFAULT,
    MailChoice,
    Notification,
    NotificationKind,
    NotificationMail,
)
from adit.notifications.outbox import Outbox
from adit_engine.messages import Message


@transaction.atomic
def notify(
    users: Iterable[User],
    kind: NotificationKind,
    message: Message,
    link: str,
    *,
    event: str = "",
    with_mail: bool = False,
) -> None:
    """Create a notification for each user, once per event if `event` is given.

    With `with_mail`, users who chose this kind also get a mail. The mails of jobs are created by
    `adit.jobs.notifications`.
    """
    wanted = {user.pk: user for user in users if user.is_active}
    if event:
        told = Notification.objects.filter(event=event, user__in=wanted)
        for pk in told.values_list("user", flat=True):
            del wanted[pk]
    rows = Notification.objects.bulk_create(
        Notification(user=user, kind=kind, message=message, link=link, event=event)
        for _pk, user in sorted(wanted.items())
    )
    if with_mail and settings.MAIL:
        mailed = {user.pk for user in select_mailed(wanted.values(), kind)}
        NotificationMail.objects.bulk_create(
            NotificationMail(notification=row, address=row.user.email)
            for row in rows
            if row.user_id in mailed and row.user.email
        )


def select_mailed(users: Collection[User], kind: NotificationKind) -> list[User]:
    """Return the users who get this kind of notification also by mail."""
    rows = MailChoice.objects.filter(kind=kind, user__in=[user.pk for user in users])
    chosen = dict(rows.values_list("user", "by_mail"))
    return [user for user in users if chosen.get(user.pk, kind in MAILED_BY_DEFAULT)]


def get_mailed_kinds(user: User) -> set[str]:
    """Return the kinds of notifications that the user also gets by mail."""
    chosen = dict(MailChoice.objects.filter(user=user).values_list("kind", "by_mail"))
    return {
        kind.value for kind in NotificationKind if chosen.get(kind.value, kind in MAILED_BY_DEFAULT)
    }


@transaction.atomic
def save_mailed_kinds(user: User, kinds: Collection[str]) -> None:
    for kind in NotificationKind:
        MailChoice.objects.update_or_create(
            user=user, kind=kind, defaults={"by_mail": kind.value in kinds}
        )


def count_unread(user: User) -> int:
    return Notification.objects.filter(user=user, read_at=None).count()


def mark_read(user: User, pk: int | None = None) -> None:
    """Mark one notification of the user as read, or all."""
    rows = Notification.objects.filter(user=user, read_at=None)
    if pk is not None:
        rows = rows.filter(pk=pk)
    rows.update(read_at=timezone.now())


def _compose(mail: NotificationMail) -> tuple[str, str]:
    row = mail.notification
    ending = _("Mails contain no patient data. Sign in and open the page for details.")
    choice = _("Choose which mails you get: %(address)s") % {
        "address": settings.SITE_URL + reverse("notification_mails")
    }
    subject = str(row.get_kind_display())
    return subject, f"{row.message}\n\n{settings.SITE_URL}{row.link}\n\n{ending}\n{choice}\n"


NOTIFICATION_OUTBOX = Outbox(
    NotificationMail, _compose, lambda mail: f"notification.{mail.notification_id}"
)
