"""Old segments of the audit trail: files of events that are no longer in the table.

A file holds the events as they were recorded, so that the hash chain is verified through all files
into the table. Used by `trail` and by the cleaning of old data.
"""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Sum

from adit.audit.models import AuditEvent, AuditSegment
from adit.vault.cipher import DecryptionError
from adit.vault.master_key import master_cipher

MAX_EVENTS = 5000
"""Events of one file."""
_CONTEXT = "trail segment"


class SegmentUnreadable(Exception):
    """The file of a segment is missing, or was changed."""


def find_old_events(before: datetime) -> list[AuditEvent]:
    """Return the first events of the table that were recorded before this time, in order."""
    found = []
    for event in AuditEvent.objects.order_by("id")[:MAX_EVENTS]:
        if event.at >= before:
            break
        found.append(event)
    return found


def write_segment(events: list[AuditEvent]) -> AuditSegment:
    """Write the first events of the table to a file; return the row that describes it, unsaved.

    Raises OSError. A file that a crash left behind is replaced.
    """
    first = count_sealed() + 1
    name = f"audit-{first:012}-{first + len(events) - 1:012}.jsonl"
    content = b"".join(_encode(event) for event in events)
    folder = get_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = folder / f".{name}.{os.getpid()}"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(folder / name)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    digest = sha256(content).hexdigest()
    return AuditSegment(
        name=name,
        first=first,
        count=len(events),
        last_event=events[-1].pk,
        last_hash=events[-1].hash,
        sha256=digest,
        signature=sign(name, digest),
    )


def remove_events(segment: AuditSegment) -> int:
    """Save the row of a written segment and delete its events from the table.

    The file is read again before. Raises SegmentUnreadable.
    """
    kept = list(read_segment(segment))
    with transaction.atomic():
        rows: models.QuerySet[AuditEvent] = models.QuerySet(AuditEvent).filter(
            pk__lte=segment.last_event
        )
        if rows.count() != len(kept) or kept[-1].hash != segment.last_hash:
            raise SegmentUnreadable(segment.name)
        segment.save()
        return int(rows._raw_delete(rows.db))


def read_segment(segment: AuditSegment) -> Iterator[AuditEvent]:
    """Yield the events in the file of a segment. Raises SegmentUnreadable."""
    try:
        content = (get_folder() / segment.name).read_bytes()
        digest = sha256(content).hexdigest()
        if digest != segment.sha256 or segment.signature != sign(segment.name, digest):
            raise SegmentUnreadable(segment.name)
        for line in content.splitlines():
            yield _decode(json.loads(line))
    except (OSError, ValueError, KeyError, TypeError, DecryptionError):
        raise SegmentUnreadable(segment.name) from None


def read_all() -> Iterator[AuditEvent]:
    """Yield the events of all segments in order. Raises SegmentUnreadable."""
    for segment in AuditSegment.objects.order_by("first"):
        yield from read_segment(segment)


def get_hash(number: int) -> str:
    """Return the hash of a sealed event, counted from 1. Raises SegmentUnreadable."""
    segment = AuditSegment.objects.filter(first__lte=number).order_by("-first").first()
    events = [] if segment is None else list(read_segment(segment))
    place = number - (segment.first if segment else 0)
    return events[place].hash if place < len(events) else ""


def count_sealed() -> int:
    """Return the number of events in all segments."""
    return AuditSegment.objects.aggregate(count=Sum("count"))["count"] or 0


def sign(name: str, digest: str) -> str:
    return master_cipher().index(f"{name} {digest}", _CONTEXT)


def get_folder() -> Path:
    return settings.AUDIT_SEGMENTS_DIR


def _encode(event: AuditEvent) -> bytes:
    sealed = event.patient_sealed
    values: dict[str, Any] = {
        "at": event.at.isoformat(timespec="microseconds"),
        "user": event.user_id,
        "action": event.action,
        "about": event.about,
        "details": event.details,
        "patient": event.patient_index,
        "previous": event.previous_hash,
        "hash": event.hash,
    }
    if sealed is not None:
        values["sealed"] = b64encode(master_cipher().seal(sealed, _CONTEXT)).decode()
    return json.dumps(values, sort_keys=True).encode() + b"\n"


def _decode(values: dict[str, Any]) -> AuditEvent:
    sealed = None
    if "sealed" in values:
        sealed = master_cipher().open(b64decode(values["sealed"]), _CONTEXT)
    return AuditEvent(
        at=datetime.fromisoformat(values["at"]),
        user_id=values["user"],
        action=values["action"],
        about=values["about"],
        details=values["details"],
        patient_index=values["patient"],
        patient_sealed=sealed,
        previous_hash=values["previous"],
        hash=values["hash"],
    )
