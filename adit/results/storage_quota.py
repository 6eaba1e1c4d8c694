"""Limit how much jobs may store in a folder, and raise an alarm when little space is left.

Used by orders and the worker.
"""

from django.db.models import Sum

from adit.jobs.models import SeriesResult
from adit.jobs.progress import format_size
from adit.nodes import alarms, destination_folders
from adit.nodes.models import Alarm, Node
from adit_engine.errors import StorageFull
from adit_engine.messages import Message

GB = 1_000_000_000
WARN_FRACTION = 0.9
ALARM_SUBJECT = "quota:"


def used_bytes(node: Node) -> int:
    """Return the bytes that jobs have delivered to the node, without archived jobs."""
    rows = SeriesResult.objects.filter(
        task__job__destination=node, task__job__archived_at__isnull=True
    )
    return int(rows.aggregate(total=Sum("size_bytes"))["total"] or 0)


def explain_no_space(node: Node, size_bytes: int) -> Message | None:
    """Return why an order of about this size does not fit; None if it does.

    The size is an estimate.
    """
    quota = _quota_bytes(node)
    used = used_bytes(node) if quota else 0
    if quota and used >= quota:
        return Message("storage-quota.used-up", node=node.name, quota=format_size(quota))
    if quota and used + size_bytes > quota:
        return Message(
            "storage-quota.too-small",
            node=node.name,
            used=format_size(used),
            quota=format_size(quota),
            needed=format_size(size_bytes),
        )
    return destination_folders.explain_no_space(node, size_bytes)


def require_space(node: Node | None) -> None:
    """Raise StorageFull if the quota is used up. Called before a study is sent."""
    quota = _quota_bytes(node) if node is not None else 0
    if node is not None and quota and used_bytes(node) >= quota:
        raise StorageFull(node.name, "storage-quota.used-up", quota=format_size(quota))


def update_quota_alarms() -> int:
    """Raise and end quota alarms; return how many are open.

    Called every hour by the scheduler.
    """
    little: list[str] = []
    for node in Node.objects.filter(kind__in=destination_folders.delivery_list_kinds()):
        quota = _quota_bytes(node)
        used = used_bytes(node) if quota else 0
        if quota and used >= WARN_FRACTION * quota:
            alarm = Message(
                "storage-quota.nearly-used-up", used=format_size(used), quota=format_size(quota)
            )
            little.append(f"{ALARM_SUBJECT}{node.pk}")
            alarms.raise_alarm(Alarm.Cause.DISK, little[-1], alarm, node)
    alarms.end_other_alarms(Alarm.Cause.DISK, little, prefix=ALARM_SUBJECT)
    return len(little)


def _quota_bytes(node: Node) -> int:
    return int(node.settings.get("quota_gb") or 0) * GB
