"""Mails about alarms, and the daily mail with the head of the audit trail. Used by Celery tasks.

New alarms go to those who can fix the problem, in one mail per address, each once. The head of the
audit trail leaves the machine daily, so that a rewritten trail is detected.
"""

import logging
import re
from collections import defaultdict

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from adit.accounts.models import User
from adit.accounts.permissions import Right, has_right
from adit.audit import trail
from adit.nodes.models import Alarm, AlarmMail, AuditHeadMail
from adit.notifications.outbox import Outbox

_ADDRESS = re.compile(r"[^\s<>,;()]+@[^\s<>,;()]+")


def mail_alarms() -> int:
    """Create mails for new alarms and send all that wait; return the number of mails sent."""
    if not settings.MAIL:
        return 0
    _create_alarm_mails()
    return ALARM_OUTBOX.send()


def _create_alarm_mails() -> None:
    """Create the mails and mark the alarms as mailed in one transaction: none twice, none lost."""
    with transaction.atomic():
        untold = list(
            Alarm.objects.select_for_update(of=("self",), no_key=True)
            .select_related("node")
            .filter(mailed_at=None, ended_at=None)
        )
        mails: dict[str, list[Alarm]] = defaultdict(list)
        staff = _staff_addresses() if untold else set()
        for alarm in untold:
            for address in staff | _contact_addresses(alarm):
                mails[address].append(alarm)
        for address, about in sorted(mails.items()):
            AlarmMail.objects.create(address=address).alarms.set(about)
        told = {alarm.pk for about in mails.values() for alarm in about}
        Alarm.objects.filter(pk__in=told).update(mailed_at=timezone.now())


def _staff_addresses() -> set[str]:
    """The addresses in the settings, or else of all users who see alarms."""
    if settings.MAIL_ADMINS:
        return set(settings.MAIL_ADMINS)
    people = User.objects.filter(~Q(email=""), is_active=True)
    return {user.email for user in people if user.is_staff or has_right(user, Right.MANAGE_NODES)}


def _contact_addresses(alarm: Alarm) -> set[str]:
    contact = str(alarm.node.settings.get("contact") or "") if alarm.node is not None else ""
    return set(_ADDRESS.findall(contact))


def _compose_alarm_mail(mail: AlarmMail) -> tuple[str, str]:
    alarms = list(mail.alarms.select_related("node").order_by("pk"))
    lines = [f"{_alarm_title(alarm)}\n{alarm.text}" for alarm in alarms]
    place = settings.SITE_URL + reverse("nodes")
    body = "\n\n".join([*lines, _("Details: %(address)s") % {"address": place}])
    subject = ngettext("%(count)d alarm", "%(count)d alarms", len(alarms))
    return subject % {"count": len(alarms)}, body


def _alarm_title(alarm: Alarm) -> str:
    what = str(alarm.get_cause_display())
    return f"{alarm.node.name}: {what}" if alarm.node is not None else what


ALARM_OUTBOX = Outbox(AlarmMail, _compose_alarm_mail, lambda mail: f"alarms.{mail.pk}")


log = logging.getLogger(__name__)


def mail_audit_head() -> None:
    """Write the head of the audit trail to the log and create mails of it, once a day.

    Sites forward the log to another system. The mails go to the addresses in the settings.
    """
    with transaction.atomic():
        head = trail.claim_due_head()
        if head is None:
            return
        count, last = head
        if settings.MAIL:
            for address in settings.TRAIL_MAIL:
                AuditHeadMail.objects.create(address=address, count=count, hash=last)
    log.info("audit trail: %d events, hash of the last one %s", count, last)


def _compose_head_mail(mail: AuditHeadMail) -> tuple[str, str]:
    command = f"adit manage audit verify --head {mail.count} {mail.hash}"
    lines = [
        _("On %(day)s the audit trail had %(count)d events. Hash of the last event:")
        % {"day": f"{mail.created_at:%Y-%m-%d}", "count": mail.count},
        mail.hash,
        _(
            "Keep this mail where administrators of ADIT cannot change it. To compare it with the "
            "audit trail later, run:"
        ),
        command,
    ]
    return _("state of the audit trail"), "\n\n".join(lines)


AUDIT_HEAD_OUTBOX = Outbox(AuditHeadMail, _compose_head_mail, lambda mail: f"trail.{mail.pk}")
