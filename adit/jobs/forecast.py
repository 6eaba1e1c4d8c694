"""Forecast: about when a transfer will have ended, by its size and the allowed hours of its nodes."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.models import Sum
from django.utils import timezone

from adit.jobs.models import Item, Task, TaskState
from adit.nodes import window
from adit.nodes.models import Lane, Node

USUAL_BYTES_S = 5_000_000
"""Of a source from which nothing was fetched yet: a guess on the careful side."""
STUDY_S = 2.0
LOOKED_AT = 50
MOST_SPANS = 200


def finish(
    source: Node, destination: Node, size_bytes: int, studies: int, *, urgent: bool = False
) -> datetime | None:
    """None when a node is closed for good. Other people's jobs are not considered."""
    seconds = size_bytes / rate(source) + STUDY_S * studies
    return walked((source, destination), Lane.URGENT if urgent else Lane.RETRIEVE, seconds)


def rate(source: Node) -> float:
    """Bytes a second of the latest studies fetched from there, one connection."""
    ended = Task.objects.filter(
        source=source, lane=Lane.RETRIEVE, state=TaskState.SUCCESS, started_at__isnull=False
    ).order_by("-id")[:LOOKED_AT]
    spans = {
        task.pk: task.ended_at - task.started_at
        for task in ended
        if task.ended_at and task.started_at
    }
    seconds = sum((span.total_seconds() for span in spans.values()), 0.0)
    size = Item.objects.filter(task__in=list(spans)).aggregate(n=Sum("size_bytes"))["n"] or 0
    return max(size / seconds, 1.0) if seconds > 0 and size else USUAL_BYTES_S


def walked(nodes: Sequence[Node], lane: str, seconds: float) -> datetime | None:
    """When so many seconds of work are done that goes on only while all nodes are open."""
    at, left = timezone.now(), timedelta(seconds=seconds)
    for _span in range(MOST_SPANS):
        closed = [node for node in nodes if not window.allowed_now(node, lane, at)]
        if closed:
            opens = [window.opens_next(node, lane, at) for node in closed]
            known = [each for each in opens if each is not None]
            if len(known) < len(opens):
                return None
            at = max(known)
            continue
        ends = [end for node in nodes if (end := window.closes_next(node, lane, at))]
        if not ends or at + left <= min(ends):
            return at + left
        left -= min(ends) - at
        at = min(ends)
    return None
