"""Alarms: what somebody should look at, one open row of a sort, told once to those who can mend it."""

import logging
import re
import shutil
import smtplib
from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.rights import Person, Right, may
from adit.nodes import health, quarantine
from adit.nodes.models import Alarm, Node
from adit_engine.nodes.base import Grade

KEPT_DAYS = 90
SHOWN = timedelta(days=2)
"""What nobody can end, such as changed hours, is shown for so long."""
LOW_DISK = 0.1
"""A disk of which no more than this is free is almost full."""

_ADDRESS = re.compile(r"[^\s<>,;]+@[^\s<>,;]+")
log = logging.getLogger(__name__)


def sound(what: Alarm.What, about: str, text: str, node: Node | None = None) -> None:
    """Opens an alarm, or says anew what an open one is about. Texts name no patient."""
    now = timezone.now()
    which = {"what": what, "about": about, "ended_at": None}
    if Alarm.objects.filter(**which).update(text=text, last_at=now):
        return
    try:
        with transaction.atomic():
            Alarm.objects.create(
                what=what, about=about, text=text, node=node, first_at=now, last_at=now
            )
    except IntegrityError:
        Alarm.objects.filter(**which).update(text=text, last_at=now)


def end_others(what: Alarm.What, lasting: Iterable[str]) -> None:
    """Ends the alarms of a sort, but for those that last."""
    over = Alarm.objects.filter(what=what, ended_at=None).exclude(about__in=list(lasting))
    over.update(ended_at=timezone.now())


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


def look_around() -> None:
    """Disk, certificates and quarantine; and the end of what is only news."""
    _look_at_disks()
    _look_at_certificates()
    _look_at_quarantine()
    news = Alarm.objects.filter(what=Alarm.What.HOURS, ended_at=None)
    news.filter(last_at__lt=timezone.now() - SHOWN).update(ended_at=timezone.now())
    Alarm.objects.filter(ended_at__lt=timezone.now() - timedelta(days=KEPT_DAYS)).delete()


def tell() -> int:
    """Mails what has not been told: one letter an address, with all of it; how many letters.

    A letter that cannot be sent is tried again at the next round.
    """
    if not settings.MAIL:
        return 0
    with transaction.atomic():
        untold = list(
            Alarm.objects.select_for_update(of=("self",), no_key=True)
            .select_related("node")
            .filter(mailed_at=None, ended_at=None)
        )
        Alarm.objects.filter(pk__in=[alarm.pk for alarm in untold]).update(mailed_at=timezone.now())
    letters: dict[str, list[Alarm]] = defaultdict(list)
    for alarm in untold:
        for address in _addresses(alarm):
            letters[address].append(alarm)
    failed = {alarm.pk for to, about in letters.items() if not _sent(to, about) for alarm in about}
    Alarm.objects.filter(pk__in=failed).update(mailed_at=None)
    return len(letters)


def _addresses(alarm: Alarm) -> set[str]:
    staff = set(settings.MAIL_ADMINS)
    if not staff:
        people = User.objects.filter(Q(is_staff=True) | Q(is_superuser=True), is_active=True)
        staff = {user.email for user in people if user.email}
    contact = str(alarm.node.settings.get("contact") or "") if alarm.node is not None else ""
    return staff | set(_ADDRESS.findall(contact))


def _sent(to: str, alarms: list[Alarm]) -> bool:
    lines = [f"{_title(alarm)}\n{alarm.text}" for alarm in alarms]
    place = settings.SITE_URL + reverse("nodes")
    body = "\n\n".join([*lines, _("More on %(address)s") % {"address": place}])
    try:
        EmailMessage(_("ADIT: %(n)d alarms") % {"n": len(alarms)}, body, to=[to]).send()
    except (smtplib.SMTPException, OSError) as error:
        log.warning("alarms were not mailed (%s)", type(error).__name__)
        return False
    return True


def _title(alarm: Alarm) -> str:
    what = str(alarm.get_what_display())
    return f"{alarm.node.name}: {what}" if alarm.node is not None else what


def _look_at_disks() -> None:
    full = []
    for name, path in (("data", settings.DATA_DIR), ("spool", settings.SPOOL_DIR)):
        if not path.exists():
            continue
        disk = shutil.disk_usage(path)
        if disk.free <= LOW_DISK * disk.total:
            percent = round(100 * disk.free / disk.total)
            text = _("The disk of the folder for %(name)s has %(percent)d %% left.")
            sound(Alarm.What.DISK, name, text % {"name": name, "percent": percent})
            full.append(name)
    end_others(Alarm.What.DISK, full)


def _look_at_certificates() -> None:
    ending = []
    for about, finding in health.certificates():
        if finding.grade is not Grade.GOOD:
            node = Node.objects.filter(pk=about.partition(":")[2].partition(":")[0] or 0).first()
            text = f"{finding.what}: {finding.next_step}"
            sound(Alarm.What.CERTIFICATE, about, text, node if about[:5] == "node:" else None)
            ending.append(about)
    end_others(Alarm.What.CERTIFICATE, ending)


def _look_at_quarantine() -> None:
    count = quarantine.count()
    if count:
        text = _("Images lie in quarantine that nobody asked for: %(n)d. Look from whom.")
        sound(Alarm.What.QUARANTINE, "quarantine", text % {"n": count})
    end_others(Alarm.What.QUARANTINE, ["quarantine"] if count else [])


def _said(name: str) -> object:
    return Node._meta.get_field(name).verbose_name  # type: ignore[union-attr]
