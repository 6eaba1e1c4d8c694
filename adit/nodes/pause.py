"""Pause: stops a node for everybody at once; only a person opens it again."""

from django.db import transaction
from django.utils import timezone

from adit.audit.trail import record
from adit.nodes.models import Node


def stop_by_name(name: str, reason: str) -> bool:
    """From the machine itself, without pages: what runs ends within seconds. False: no such node."""
    with transaction.atomic():
        row = Node.objects.select_for_update().filter(name=name).first()
        if row is None:
            return False
        if row.paused_at is None:
            row.paused_at = timezone.now()
        row.paused_by, row.pause_reason = None, reason[:200]
        row.save(update_fields=["paused_at", "paused_by", "pause_reason"])
        record("node.stopped", about=f"node:{row.pk}", details={"node": name, "reason": reason})
    return True
