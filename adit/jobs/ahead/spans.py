"""Spans: the hours ahead, in each of which nothing opens or closes; when work is done in them."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from django.utils import timezone

from adit.nodes import window
from adit.nodes.models import Node

FARTHEST = timedelta(days=60)


def when_done(nodes: Sequence[Node], lane: str, work_s: float, at_once: int) -> datetime | None:
    """When so many seconds of work are done, by as many at once as all nodes allow just then.

    None where that is beyond all that is looked at. Raises WrongInput for hours that cannot be read.
    """
    for begin, end in _spans(nodes, lane):
        most = min([at_once, *(window.allowed_now(node, lane, begin) for node in nodes)])
        lasts_s = (end - begin).total_seconds()
        if most and work_s / most <= lasts_s:
            return begin + timedelta(seconds=work_s / most)
        work_s -= most * lasts_s
    return None


def _spans(nodes: Sequence[Node], lane: str) -> Iterator[tuple[datetime, datetime]]:
    begin = timezone.now()
    last = begin + FARTHEST
    while begin < last:
        edges = (next(window.Calendar.of(node).edges(lane, begin), last) for node in nodes)
        end = min([*edges, last])
        yield begin, end
        begin = end
