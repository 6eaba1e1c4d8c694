"""Store the outcome of each instance of a running task in its series results, fenced.

Used by the runner.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from adit.jobs import encrypted_payload, states
from adit.jobs.encrypted_payload import SeriesContent
from adit.jobs.models import SeriesResult, Task, TaskState
from adit.jobs.queue import LeaseLost
from adit.review import groups
from adit.vault.cipher import DecryptionError, ValueCipher
from adit_engine.messages import Message
from adit_engine.values.outcome import (
    InstanceEvent,
    InstanceState,
    SeriesLedger,
    SeriesOutcome,
    SourceListing,
    sum_changes,
)
from adit_engine.values.references import SeriesRef

WRITE_EVERY_INSTANCES = 200
WRITE_EVERY_S = 5.0


_OUTCOME_OF_UNREACHED = {
    TaskState.CANCELED: (InstanceState.SKIPPED, Message("canceled")),
    TaskState.FAILURE: (InstanceState.FAILED, Message("not-reached")),
}
"""The outcome of images that were listed but not reached when the task ended."""


def close_ended_tasks() -> None:
    """Close the open series of ended tasks, to complete the sums. Safe to repeat."""
    open_items = SeriesResult.objects.filter(
        is_final=False, task__state__in=list(_OUTCOME_OF_UNREACHED)
    )
    for pk in set(open_items.values_list("task", flat=True)):
        with transaction.atomic():
            task = Task.objects.select_for_update(of=("self",), no_key=True).get(pk=pk)
            if task.state not in _OUTCOME_OF_UNREACHED:
                continue
            end = _OUTCOME_OF_UNREACHED[TaskState(task.state)]
            try:
                Ledger(task, encrypted_payload.get_cipher(task.job.project)).close(*end)
            except DecryptionError:
                # The key of the project was destroyed: the counts stay as they are.
                task.items.filter(is_final=False).update(is_final=True)


@dataclass
class _SeriesProgress:
    """The current state of one series; `dirty` if it is not stored yet."""

    manifest: SeriesLedger
    description: str = ""
    reason: Message | None = None
    number: int | None = None
    modality: str = ""
    outcome: SeriesOutcome | None = None
    dirty: bool = True
    item_id: int | None = None
    """The primary key of its row; None if there is none yet."""


@dataclass
class Ledger:
    """All series of one task. Starts with the ledgers that earlier attempts have stored."""

    task: Task
    cipher: ValueCipher
    _series: dict[str, _SeriesProgress] = field(default_factory=dict)
    _unwritten: int = 0
    _has_stored: bool = False
    _is_stored_marked: bool = False

    def __post_init__(self) -> None:
        self._written_at = time.monotonic()
        self._fence = self.task.current_attempt()
        for item in self.task.items.all():
            content = encrypted_payload.open_series(item, self.cipher)
            self._series[content.manifest.ref.series_uid] = _SeriesProgress(
                content.manifest,
                content.description,
                content.reason_without_list,
                item.number,
                item.modality,
                dirty=False,
                item_id=item.pk,
            )

    @property
    def earlier_ledgers(self) -> Mapping[str, SeriesLedger]:
        """Ledgers of earlier attempts, by series UID; a copy, not changed by later events."""
        return {
            uid: SeriesLedger(m.ref, m.expected, dict(m.entries))
            for uid, m in ((uid, series.manifest) for uid, series in self._series.items())
            if m.entries
        }

    def record(self, output: SourceListing | InstanceEvent | SeriesOutcome) -> None:
        """Add an event; write at each SeriesOutcome, every 200 instances and every 5 s.

        Raises LeaseLost.
        """
        if isinstance(output, SourceListing):
            self._record_listing(output)
        elif isinstance(output, InstanceEvent):
            self._record_event(output)
        else:
            if output.listing is not None:
                self._record_listing(output.listing)
            series = self._get_series(output.ref)
            series.outcome, series.dirty = output, True
        overdue = time.monotonic() - self._written_at > WRITE_EVERY_S
        if isinstance(output, SeriesOutcome) or self._unwritten >= WRITE_EVERY_INSTANCES or overdue:
            self.flush()

    def flush(self) -> None:
        """Store all changed series in one transaction with the fence.

        An attempt that lost its lease writes nothing. Raises LeaseLost.
        """
        changed = {uid: series for uid, series in self._series.items() if series.dirty}
        with transaction.atomic():
            if self._has_stored and not self._is_stored_marked:
                # The job before its task: the order in which all code locks.
                states.mark_stored(self.task.job_id)
            if self._fence.update(attempt=self.task.attempt) != 1:
                raise LeaseLost("task.taken-over")
            items = {uid: self._write(uid, series) for uid, series in changed.items()}
        self._is_stored_marked = self._has_stored
        for uid, series in changed.items():
            series.item_id, series.dirty = items[uid].pk, False
        self._unwritten = 0
        self._written_at = time.monotonic()

    def _write(self, uid: str, series: _SeriesProgress) -> SeriesResult:
        """Store one series and return its row. Below the fence, no other attempt writes it."""
        index = encrypted_payload.series_index(self.cipher, self.task, uid)
        item = SeriesResult(pk=series.item_id, task=self.task, index=index, **self._row(series))
        item.save(force_insert=series.item_id is None)
        _record_withheld(item, series)
        return item

    def close(self, state: InstanceState, reason: Message) -> None:
        """Close each series without an outcome. Not fenced, since the task has ended."""
        for uid, series in self._series.items():
            index = encrypted_payload.series_index(self.cipher, self.task, uid)
            series.manifest.close(state, reason)
            series.outcome = SeriesOutcome.from_ledger(series.manifest)
            if self.task.items.filter(index=index, is_final=False).update(**self._row(series)):
                _record_withheld(self.task.items.get(index=index), series)

    def _record_listing(self, listed: SourceListing) -> None:
        """Start a new attempt: delivered instances are kept, all others are decided again."""
        series = self._get_series(listed.ref)
        delivered = series.manifest.delivered_entries()
        if listed.expected is not None:
            delivered = {u: entry for u, entry in delivered.items() if u in listed.expected}
        series.manifest = SeriesLedger(listed.ref, listed.expected, delivered)
        series.description, series.reason = listed.description, listed.reason
        series.number, series.modality = listed.number, listed.modality
        series.outcome, series.dirty = None, True

    def _record_event(self, event: InstanceEvent) -> None:
        series = self._get_series(event.ref.series)
        series.manifest.add(event)
        if series.manifest.expected is not None:
            series.manifest.expected |= {event.ref.instance_uid}
        series.dirty = True
        self._has_stored |= event.state in (InstanceState.STORED, InstanceState.DELIVERED)
        self._unwritten += 1

    def _get_series(self, ref: SeriesRef) -> _SeriesProgress:
        return self._series.setdefault(ref.series_uid, _SeriesProgress(SeriesLedger(ref)))

    def _row(self, series: _SeriesProgress) -> dict[str, Any]:
        is_final = series.outcome is not None
        outcome = series.outcome or SeriesOutcome.from_ledger(series.manifest)
        entries = series.manifest.delivered_entries().values()
        content = SeriesContent(series.manifest, series.description, series.reason)
        return {
            "attempt": self.task.attempt,
            "sealed": encrypted_payload.seal_series(self.cipher, self.task, content),
            "modality": series.modality[:16],
            "number": series.number,
            "expected": outcome.expected,
            "stored": series.manifest.count(InstanceState.STORED),
            "delivered": outcome.delivered,
            "withheld": outcome.withheld,
            "failed": outcome.failed,
            "skipped": outcome.skipped,
            "size_bytes": sum(entry.size_bytes for entry in entries),
            "reasons": list(outcome.reasons),
            "notes": list(outcome.notes),
            "remarks": list(outcome.remarks),
            "elements": sum_changes(series.manifest.all_changes.items()),
            "skip_reason": outcome.skip_reason,
            "is_final": is_final,
        }


def _record_withheld(item: SeriesResult, series: _SeriesProgress) -> None:
    is_new = series.item_id is None
    if series.outcome is not None and (
        series.outcome.withheld or (not is_new and item.withheld_images.exists())
    ):
        groups.record_withheld(item, series.manifest)
    groups.record_ruled(item, series.manifest)
