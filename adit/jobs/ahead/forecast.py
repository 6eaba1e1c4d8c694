"""Forecast: about when a transfer would have ended that is not started yet, by its size.

Of one that is under way outlook.py tells more, from what its own studies took.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Sum

from adit.jobs.ahead import spans
from adit.jobs.models import Item, Task, TaskState
from adit.nodes.models import Lane, Node

USUAL_BYTES_S = 5_000_000
"""Of a source from which nothing was fetched yet: a guess on the careful side."""
STUDY_S = 2.0
LOOKED_AT = 50


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
    """When so many seconds of work are done, one study after the other."""
    return spans.when_done(nodes, lane, seconds, at_once=1)
