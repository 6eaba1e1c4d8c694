"""Alarms: what somebody should look at, one open row of a sort; nobody else opens or ends one."""

from collections.abc import Iterable
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.permissions import Person, Right, may
from adit.nodes.models import Alarm, AlarmLetter, Node

KEPT_DAYS = 90
SHOWN = timedelta(days=2)
"""What nobody can end, such as changed hours, is shown for so long."""
UNSAID = timedelta(hours=1)
"""What a machine has not said for so long, it will not end any more."""


def sound(
    what: Alarm.What, about: str, text: str, node: Node | None = None, machine: str = ""
) -> None:
    """Opens an alarm, or says anew what an open one is about. Texts name no patient."""
    now = timezone.now()
    which = {"what": what, "machine": machine, "about": about, "ended_at": None}
    if Alarm.objects.filter(**which).update(text=text, last_at=now):
        return
    try:
        with transaction.atomic():
            Alarm.objects.create(**which, text=text, node=node, first_at=now, last_at=now)
    except IntegrityError:
        Alarm.objects.filter(**which).update(text=text, last_at=now)


def end(what: Alarm.What, about: str) -> None:
    """It is over."""
    _end(Alarm.objects.filter(what=what, machine="", about=about))


def end_others(what: Alarm.What, lasting: Iterable[str], machine: str = "", kin: str = "") -> None:
    """Ends the alarms of a sort that this machine tells, but for those that last.

    `kin` is what the `about` of those begins with that are meant, where a sort has several.
    """
    found = Alarm.objects.filter(what=what, machine=machine, about__startswith=kin)
    _end(found.exclude(about__in=list(lasting)))


def end_old() -> None:
    """Ends what is only news, and what a machine said that is gone; forgets what ended long ago."""
    now = timezone.now()
    _end(Alarm.objects.filter(what=Alarm.What.HOURS, last_at__lt=now - SHOWN))
    _end(Alarm.objects.exclude(machine="").filter(last_at__lt=now - UNSAID))
    before = now - timedelta(days=KEPT_DAYS)
    AlarmLetter.objects.filter(created_at__lt=before).delete()
    Alarm.objects.filter(ended_at__lt=before).delete()


def hours_changed(user: Person, node: Node, changed: Iterable[str]) -> None:
    """A window or a limit of a node was changed by somebody; not an alarm that lasts."""
    who = getattr(user, "get_full_name", str)() or user.get_username()
    words = {"who": who, "what": ", ".join(sorted(str(_said(name)) for name in changed))}
    text = _("Changed by %(who)s: %(what)s.") % words
    Alarm.objects.filter(what=Alarm.What.HOURS, about=f"node:{node.pk}", ended_at=None).exclude(
        mailed_at=None
    ).update(mailed_at=None)
    sound(Alarm.What.HOURS, f"node:{node.pk}", text, node)


def open_for(user: Person, node: Node | None = None) -> QuerySet[Alarm]:
    """What staff and those who manage nodes see; of one node, or all."""
    if not (user.is_active and (getattr(user, "is_staff", False) or may(user, Right.MANAGE_NODES))):
        return Alarm.objects.none()
    found = Alarm.objects.select_related("node").filter(ended_at=None)
    return found if node is None else found.filter(node=node)


def _end(found: QuerySet[Alarm]) -> None:
    found.filter(ended_at=None).update(ended_at=timezone.now())


def _said(name: str) -> object:
    return Node._meta.get_field(name).verbose_name  # type: ignore[union-attr]
