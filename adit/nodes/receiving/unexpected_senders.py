"""Count unexpected images and calls in the receiver process and write the counts to the database.

Used by the receiver process and by workers that look for images of a C-MOVE.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q

from adit.nodes.models import UnexpectedSender as Row
from adit_engine.storage_scp.pending_moves import Disposition, UnexpectedArrival

MAX_ROWS = 500
"""Limit, so that a caller with a thousand AE titles cannot fill the database."""
WRITE_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class SenderCount:
    """Unexpected arrivals of one kind: the newest, their number, and the time of the first."""

    newest: UnexpectedArrival
    count: int
    size_bytes: int
    first_at: datetime

    def with_arrival(self, unexpected: UnexpectedArrival) -> "SenderCount":
        size = self.size_bytes + unexpected.size_bytes
        return replace(self, newest=unexpected, count=self.count + 1, size_bytes=size)


class SenderCounter:
    """Counts in memory, because there may be thousands per second. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, ...], SenderCount] = {}
        self._written_at = 0.0

    def add(self, unexpected: UnexpectedArrival) -> bool:
        """Count one arrival; return whether it is time to write."""
        key = tuple(_get_row_key(unexpected).values())
        with self._lock:
            held = self._counts.get(key)
            once = SenderCount(unexpected, 1, unexpected.size_bytes, unexpected.at)
            self._counts[key] = held.with_arrival(unexpected) if held else once
            return time.monotonic() - self._written_at > WRITE_INTERVAL_S

    def take(self) -> list[SenderCount]:
        """Return and clear the counts. The caller has to write them."""
        with self._lock:
            taken, self._counts = list(self._counts.values()), {}
            self._written_at = time.monotonic()
            return taken


def write_counts(counts: Sequence[SenderCount]) -> None:
    """Add the counts to the rows. Only the newest `MAX_ROWS` rows are kept."""
    if not counts:
        return
    with transaction.atomic():
        for one in counts:
            row, _ = Row.objects.get_or_create(
                **_get_row_key(one.newest),
                defaults={"first_at": one.first_at, "last_at": one.newest.at},
            )
            Row.objects.filter(pk=row.pk).update(
                count=F("count") + one.count,
                size_bytes=F("size_bytes") + one.size_bytes,
                last_at=one.newest.at,
            )
        old = Row.objects.order_by("-last_at", "-pk").values_list("pk", flat=True)[MAX_ROWS:]
        Row.objects.filter(pk__in=list(old)).delete()


def find_for_node(source: str, since: datetime) -> list[UnexpectedArrival]:
    """Return arrivals since `since` that seem to come from this node, or that were turned away.

    Of a caller that was turned away it is unknown what it wanted to send.
    """
    rows = Row.objects.filter(last_at__gte=since)
    mine = rows.filter(Q(source=source) | Q(disposition=Disposition.REJECTED))
    return [
        UnexpectedArrival(
            Disposition(row.disposition),
            row.calling,
            row.called,
            row.address,
            row.class_uid,
            row.size_bytes,
            row.source,
            row.last_at,
        )
        for row in mine
    ]


def _get_row_key(unexpected: UnexpectedArrival) -> dict[str, str]:
    return {
        "disposition": unexpected.disposition.value,
        "calling": unexpected.calling[:16],
        "called": unexpected.called[:16],
        "address": unexpected.address[:64],
        "class_uid": unexpected.class_uid[:64],
        "source": unexpected.source[:64],
    }
