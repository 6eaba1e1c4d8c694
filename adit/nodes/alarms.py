"""Open, update and end alarms: one open row per problem. All other code uses these functions.

Used by limits, host checks, the worker and the pages of nodes.
"""

from collections.abc import Iterable
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from adit.accounts.permissions import AnyUser, Right, has_right
from adit.nodes.models import Alarm, Node
from adit_engine.messages import Message

CHANGES_SHOWN_FOR = timedelta(days=2)
"""How long an alarm is shown that has no end of its own, such as changed hours."""
SILENT_AFTER = timedelta(hours=1)
"""An alarm that its machine has not repeated for this time is ended; the machine is gone."""

_FIELD_LABELS = {
    "windows": Message("clause.allowed-hours"),
    "exceptions": Message("clause.special-days"),
    "retrieve_limit": Message("clause.transfer-connections"),
    "search_limit": Message("clause.search-connections"),
    "pause_between_studies_s": Message("clause.gap"),
    "rate_kb_s": Message("clause.rate"),
}
"""The fields that `raise_hours_changed` reports."""


def raise_alarm(
    cause: Alarm.Cause, subject: str, text: Message, node: Node | None = None, host: str = ""
) -> None:
    """Open an alarm, or update the text of the open one. The text must not name a patient."""
    now = timezone.now()
    which = {"cause": cause, "host": host, "subject": subject, "ended_at": None}
    if Alarm.objects.filter(**which).update(text=text, last_at=now):
        return
    try:
        with transaction.atomic():
            Alarm.objects.create(**which, text=text, node=node, first_at=now, last_at=now)
    except IntegrityError:
        Alarm.objects.filter(**which).update(text=text, last_at=now)


def end_alarm(cause: Alarm.Cause, subject: str) -> None:
    """End the alarm with this key, if it is open."""
    _end_alarms(Alarm.objects.filter(cause=cause, host="", subject=subject))


def end_other_alarms(
    cause: Alarm.Cause, kept_subjects: Iterable[str], host: str = "", prefix: str = ""
) -> None:
    """End the alarms of a cause that this machine reports, except those in `lasting`.

    `kin` restricts this to alarms whose `about` starts with it, if a cause has several groups.
    """
    found = Alarm.objects.filter(cause=cause, host=host, subject__startswith=prefix)
    _end_alarms(found.exclude(subject__in=list(kept_subjects)))


def end_old_alarms() -> None:
    """End notices and alarms of machines that are gone."""
    now = timezone.now()
    _end_alarms(Alarm.objects.filter(cause=Alarm.Cause.HOURS, last_at__lt=now - CHANGES_SHOWN_FOR))
    _end_alarms(Alarm.objects.exclude(host="").filter(last_at__lt=now - SILENT_AFTER))


def raise_hours_changed(user: AnyUser, node: Node, changed: Iterable[str]) -> None:
    """Raise a notice that a user changed windows or limits of a node. It ends by itself."""
    who = getattr(user, "get_full_name", str)() or user.get_username()
    fields = tuple(label for name, label in _FIELD_LABELS.items() if name in set(changed))
    text = Message("alarm.hours-changed", user=who, fields=fields)
    Alarm.objects.filter(cause=Alarm.Cause.HOURS, subject=f"node:{node.pk}", ended_at=None).exclude(
        mailed_at=None
    ).update(mailed_at=None)
    raise_alarm(Alarm.Cause.HOURS, f"node:{node.pk}", text, node)


def visible_alarms(user: AnyUser, node: Node | None = None) -> QuerySet[Alarm]:
    """Return the open alarms that the user may see (staff and node managers)."""
    if not (
        user.is_active and (getattr(user, "is_staff", False) or has_right(user, Right.MANAGE_NODES))
    ):
        return Alarm.objects.none()
    found = Alarm.objects.select_related("node").filter(ended_at=None)
    return found if node is None else found.filter(node=node)


def _end_alarms(found: QuerySet[Alarm]) -> None:
    found.filter(ended_at=None).update(ended_at=timezone.now())
