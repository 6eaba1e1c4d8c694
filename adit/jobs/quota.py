"""Quota: how much jobs may lay down in a folder, and who is told when little of it is left."""

import re

from django.conf import settings
from django.core.mail import send_mail
from django.db.models import Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import User
from adit.accounts.rights import Right, may
from adit.jobs.models import Item
from adit.nodes import room
from adit.nodes.models import Alarm, Node
from adit_engine.errors import StorageFull

GB = 1_000_000_000
WARN_AT = 0.9
ABOUT = "quota"
_MAIL = re.compile(r"[^\s<>,;()]+@[^\s<>,;()]+")


def used_bytes(node: Node) -> int:
    """By what the jobs that ADIT still lists have delivered there."""
    rows = Item.objects.filter(task__job__destination=node)
    return int(rows.aggregate(total=Sum("size_bytes"))["total"] or 0)


def why_no_room(node: Node, size_bytes: int) -> str:
    """Why an order of about this size does not fit there; empty when it does, as far as is known."""
    quota = _quota(node)
    if quota and used_bytes(node) + size_bytes > quota:
        return _full(node, quota)
    return room.why_none(node, size_bytes)


def require(node: Node | None) -> None:
    """Before a study is sent there. Raises StorageFull."""
    quota = _quota(node) if node is not None else 0
    if node is not None and quota and used_bytes(node) >= quota:
        raise StorageFull(node.name, _full(node, quota).removeprefix(f"{node.name}: "))


def look() -> int:
    """Opens and ends alarms, and mails each once; how many are open. The scheduler's hourly work."""
    count = 0
    for node in Node.objects.filter(kind="folder"):
        quota = _quota(node)
        used = used_bytes(node) if quota else 0
        alarms = Alarm.objects.filter(
            what=Alarm.What.DISK, about=f"{ABOUT}:{node.pk}", ended_at=None
        )
        if not quota or used < WARN_AT * quota:
            alarms.update(ended_at=timezone.now())
            continue
        count += 1
        _tell(node, used, quota)
    return count


def _tell(node: Node, used: int, quota: int) -> None:
    now = timezone.now()
    words = {"node": node.name, "used": used / GB, "quota": quota / GB}
    text = _("%(node)s: %(used).1f of %(quota).0f GB are used that were agreed on.") % words
    alarm, _is_new = Alarm.objects.update_or_create(
        what=Alarm.What.DISK,
        about=f"{ABOUT}:{node.pk}",
        ended_at=None,
        defaults={"node": node, "text": text, "last_at": now},
        create_defaults={"node": node, "text": text, "first_at": now, "last_at": now},
    )
    if alarm.mailed_at is None and settings.MAIL:
        step = _("Make room there and delete jobs that are not needed, or agree on more.")
        subject = _("ADIT: little room left in %(node)s") % {"node": node.name}
        send_mail(subject, f"{text}\n\n{step}\n", None, _who(node), fail_silently=True)
        Alarm.objects.filter(pk=alarm.pk).update(mailed_at=now)


def _who(node: Node) -> list[str]:
    """Whoever looks after the folder, and whoever manages places."""
    contact = _MAIL.findall(str(node.settings.get("contact") or ""))
    people = User.objects.filter(is_active=True).exclude(email="")
    return sorted({*contact, *(u.email for u in people if may(u, Right.MANAGE_NODES))})


def _quota(node: Node) -> int:
    return int(node.settings.get("quota_gb") or 0) * GB


def _full(node: Node, quota: int) -> str:
    words = {"node": node.name, "quota": quota // GB}
    return (
        _(
            "%(node)s: the %(quota)d GB agreed on for this folder are used up. Make room there and "
            "delete jobs that are not needed, or choose another place."
        )
        % words
    )
