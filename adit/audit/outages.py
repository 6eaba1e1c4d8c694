"""Record when a service that ADIT needs begins to fail, and when it works again.

The number of events is limited, however often the service is tried.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, transaction
from django.utils import timezone

from adit.audit.models import AuditEvent
from adit.audit.trail import lock_head, record
from adit_engine.messages import Message

MAIL = "mail"
DIRECTORY = "directory"
FAILURE_INTERVAL = timedelta(hours=1)
"""A service that fails again and again is recorded once in this time."""

log = logging.getLogger(__name__)


def note_failure(service: str, reason: Message) -> None:
    """Record that the service fails, unless that is known already."""
    with _log_errors():
        if find_outage(service) is not None or _is_recent(f"{service}.failed", FAILURE_INTERVAL):
            return
        with _lock_trail():
            if find_outage(service) is None:
                record(f"{service}.failed", details={"reason": reason.to_json()})


def note_success(service: str) -> None:
    """Record that the service works again, if a failure was recorded."""
    with _log_errors():
        if find_outage(service) is None:
            return
        with _lock_trail():
            if find_outage(service) is not None:
                record(f"{service}.works")


def find_outage(service: str) -> AuditEvent | None:
    """Return the event with which the present outage began; None if the service works."""
    failed, works = (
        AuditEvent.objects.filter(action=f"{service}.{what}").last() for what in ("failed", "works")
    )
    if failed is None or (works is not None and works.pk > failed.pk):
        return None
    return failed


def record_daily(action: str, *, about: str = "", details: Mapping[str, Any] | None = None) -> None:
    """Record an event, unless the same action was recorded for this subject within a day."""
    with _log_errors(), _lock_trail():
        if not _is_recent(action, timedelta(days=1), about):
            record(action, about=about, details=details)


@contextmanager
def _log_errors() -> Iterator[None]:
    """Log that the database failed: the caller's work goes on, and a mail is not sent twice."""
    try:
        yield
    except DatabaseError as error:
        log.warning("The audit trail was not written: %s", type(error).__name__)


@contextmanager
def _lock_trail() -> Iterator[None]:
    """Let no other process record meanwhile."""
    with transaction.atomic():
        lock_head()
        yield


def _is_recent(action: str, interval: timedelta, about: str = "") -> bool:
    since = timezone.now() - interval
    return AuditEvent.objects.filter(action=action, about=about, at__gt=since).exists()
