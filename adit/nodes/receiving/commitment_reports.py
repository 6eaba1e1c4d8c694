"""Pending Storage Commitment requests as database rows.

The worker that sends a request creates the row. The receiver, possibly on another machine, stores
the report in it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from django.db import Error
from django.utils import timezone

from adit.nodes.models import PendingCommitment
from adit_engine.storage_scp.pending_moves import AllowedSender, PendingReport
from adit_engine.values.commitment_report import CommitmentReport, ReportReceipt

GRACE_S = 60
"""How long the row of a crashed worker stays valid after its deadline."""

_POLL_S = 0.25


@contextmanager
def expect_report(
    node_id: int, asked: PendingReport, within_s: float
) -> Iterator[Callable[[], CommitmentReport | None]]:
    """Create the row for the block; yield a function that returns the report, or None.

    The function queries the database at most every `_POLL_S`.
    """
    row = PendingCommitment.objects.create(
        node_id=node_id,
        transaction_uid=asked.transaction_uid,
        allowed_senders=[[one.ae_title, list(one.networks)] for one in asked.allowed_senders],
        expires_at=timezone.now() + timedelta(seconds=within_s + GRACE_S),
    )
    next_query_at = 0.0

    def get_report() -> CommitmentReport | None:
        nonlocal next_query_at
        if time.monotonic() < next_query_at:
            return None
        next_query_at = time.monotonic() + _POLL_S
        found = PendingCommitment.objects.filter(pk=row.pk).values_list("report", flat=True).first()
        return None if found is None else _parse_report(asked.transaction_uid, found)

    try:
        yield get_report
    finally:
        # If this fails, the row is deleted after it has expired.
        with suppress(Error):
            row.delete()


def store_report(report: CommitmentReport, ae_title: str, address: str) -> ReportReceipt:
    """Store a report from this sender in the row of its request. Only the first one counts."""
    row = PendingCommitment.objects.filter(
        transaction_uid=report.transaction_uid, expires_at__gt=timezone.now()
    ).first()
    if row is None:
        return ReportReceipt.UNKNOWN
    senders = tuple(
        AllowedSender(title, tuple(networks)) for title, networks in row.allowed_senders
    )
    if not PendingReport("", row.transaction_uid, senders).is_from(ae_title, address):
        return ReportReceipt.STRANGER
    held = {"kept": sorted(report.committed), "failed": dict(report.failed)}
    PendingCommitment.objects.filter(pk=row.pk, report__isnull=True).update(report=held)
    return ReportReceipt.TAKEN


def delete_expired() -> None:
    """Delete rows that crashed workers left behind."""
    PendingCommitment.objects.filter(expires_at__lt=timezone.now()).delete()


def _parse_report(transaction_uid: str, held: dict[str, Any]) -> CommitmentReport:
    kept = frozenset((class_uid, instance_uid) for class_uid, instance_uid in held["kept"])
    return CommitmentReport(transaction_uid, kept, dict(held["failed"]))
