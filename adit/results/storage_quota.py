"""Limit how much jobs may store in a folder, and raise an alarm when little space is left.

Used by orders and the worker.
"""

from django.db.models import Sum
from django.utils.translation import gettext as _

from adit.jobs.models import SeriesResult
from adit.nodes import alarms, destination_folders
from adit.nodes.models import Alarm, Node
from adit_engine.errors import StorageFull
from adit_engine.messages import Message

GB = 1_000_000_000
WARN_FRACTION = 0.9
ALARM_SUBJECT = "quota:"


def used_bytes(node: Node) -> int:
    """Return the bytes that the jobs listed in ADIT have delivered to the node."""
    rows = SeriesResult.objects.filter(task__job__destination=node)
    return int(rows.aggregate(total=Sum("size_bytes"))["total"] or 0)


def explain_no_space(node: Node, size_bytes: int) -> str:
    """Return why an order of about this size does not fit; empty if it does.

    The size is an estimate.
    """
    quota = _quota_bytes(node)
    used = used_bytes(node) if quota else 0
    if quota and used >= quota:
        return _describe_full(node, quota)
    if quota and used + size_bytes > quota:
        words = {"node": node.name, "used": used / GB, "quota": quota // GB, "n": size_bytes / GB}
        return (
            _(
                "%(node)s: %(used).1f of the %(quota)d GB agreed on for this folder are used, and "
                "about %(n).1f GB are needed. Make room there and delete jobs that are not needed, "
                "or choose another place."
            )
            % words
        )
    return str(destination_folders.explain_no_space(node, size_bytes) or "")


def require_space(node: Node | None) -> None:
    """Raise StorageFull if the quota is used up. Called before a study is sent."""
    quota = _quota_bytes(node) if node is not None else 0
    if node is not None and quota and used_bytes(node) >= quota:
        raise StorageFull(node.name, _describe_full(node, quota).removeprefix(f"{node.name}: "))


def update_quota_alarms() -> int:
    """Raise and end quota alarms; return how many are open.

    Called every hour by the scheduler.
    """
    little: set[str] = set()
    for node in Node.objects.filter(kind__in=destination_folders.delivery_list_kinds()):
        quota = _quota_bytes(node)
        used = used_bytes(node) if quota else 0
        if quota and used >= WARN_FRACTION * quota:
            text = Message(
                "alarm.quota-almost-used", used=f"{used / GB:.1f}", quota=f"{quota / GB:.0f}"
            )
            little.add(f"{ALARM_SUBJECT}{node.pk}")
            alarms.raise_alarm(Alarm.Cause.DISK, f"{ALARM_SUBJECT}{node.pk}", text, node)
    alarms.end_other_alarms(Alarm.Cause.DISK, little, kin=ALARM_SUBJECT)
    return len(little)


def _quota_bytes(node: Node) -> int:
    return int(node.settings.get("quota_gb") or 0) * GB


def _describe_full(node: Node, quota: int) -> str:
    words = {"node": node.name, "quota": quota // GB}
    return (
        _(
            "%(node)s: the %(quota)d GB agreed on for this folder are used up. Make room there and "
            "delete jobs that are not needed, or choose another place."
        )
        % words
    )
