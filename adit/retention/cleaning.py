"""Delete data whose retention period is over, in small portions. Called by the scheduler.

Each portion is deleted in one transaction together with its event in the audit trail, so that a
crash loses neither. What is left is deleted in the next cleaning.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from django.conf import settings
from django.db import DatabaseError, models, transaction
from django.db.models import Min, Q, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from adit.accounts.models import KnownBrowser, UserSession
from adit.administration.models import AccountRequest, OneTimeLink
from adit.api_tokens.models import ApiToken
from adit.audit import segments
from adit.audit.models import AuditEvent
from adit.audit.segments import SegmentUnreadable
from adit.audit.trail import record
from adit.blocklist import blocking
from adit.consent.models import ConsentUpload
from adit.jobs import block_check, states
from adit.jobs.models import (
    ArchiveFile,
    Job,
    OrderDraft,
    ReviewDecision,
    SheetColumns,
    Task,
    WithheldImages,
)
from adit.nodes.models import (
    Alarm,
    AlarmMail,
    AuditHeadMail,
    NodeDailyUsage,
    NodeHourlyUsage,
    UserDailyUsage,
)
from adit.nodes.receiving import quarantine
from adit.notifications.models import Notification
from adit.results import archives, deliveries
from adit.retention import ledgers
from adit.retention.models import JobLedger, LastCleaning
from adit.retention.periods import DataKind, get_cutoff
from adit.vault.cipher import DecryptionError
from adit_engine.errors import AditError

PORTION = 500
"""Rows that are deleted in one transaction."""
MAX_CLEANING_S = 20.0
"""Time limit of one cleaning, since the scheduler does nothing else meanwhile."""
SHOWN_ROWS = 5

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be deleted now."""

    count: int = 0
    size_bytes: int = 0
    oldest: datetime | date | None = None
    first: Sequence[str] = ()
    kept: Sequence[str] = ()
    """What is old enough, but stays, and why."""


@dataclass(slots=True)
class Outcome:
    removed: int = 0
    failed: int = 0


class Cleaner(Protocol):
    """How one part of a kind of data is found and deleted. `before` is the end of its period."""

    def preview(self, before: datetime) -> Preview: ...

    def clean(self, kind: DataKind, before: datetime, deadline: float, done: Outcome) -> None:
        """Delete until the deadline (of time.monotonic) and add to `done`."""


@dataclass(frozen=True, slots=True)
class RowCleaner:
    """Deletes rows of one model. `age` is the field that tells their age."""

    find: Callable[[datetime], QuerySet[Any]]
    age: str
    describe: Callable[[Any], str] = str

    def preview(self, before: datetime) -> Preview:
        rows = self.find(before)
        return Preview(
            count=rows.count(),
            oldest=rows.aggregate(oldest=Min(self.age))["oldest"],
            first=[self.describe(row) for row in rows.order_by(self.age, "pk")[:SHOWN_ROWS]],
        )

    def clean(self, kind: DataKind, before: datetime, deadline: float, done: Outcome) -> None:
        while time.monotonic() < deadline:
            with transaction.atomic():
                rows = self.find(before)
                portion = list(rows.order_by("pk").values_list("pk", flat=True)[:PORTION])
                _total, by_model = rows.filter(pk__in=portion).delete()
                count = by_model.get(rows.model._meta.label, 0)
                _record_cleaning(kind, count)
            done.removed += count
            if len(portion) < PORTION:
                return


@dataclass(frozen=True, slots=True)
class ArchiveCleaner:
    """Deletes 7-Zip files and what was collected for them. Files keep the end they were given."""

    def _find(self) -> QuerySet[ArchiveFile]:
        return ArchiveFile.objects.filter(removed_at=None, expires_at__lte=timezone.now())

    def preview(self, before: datetime) -> Preview:
        rows = self._find()
        sums = rows.aggregate(oldest=Min("built_at"), size=Sum("size_bytes"))
        first = [one.name for one in rows.order_by("built_at", "pk")[:SHOWN_ROWS]]
        return Preview(rows.count(), sums["size"] or 0, sums["oldest"], first)

    def clean(self, kind: DataKind, before: datetime, deadline: float, done: Outcome) -> None:
        for one in self._find().select_related("job__destination").order_by("pk"):
            if time.monotonic() > deadline:
                return
            removed = archives.remove_files([one], "expired")  # records an event of its own
            done.removed += removed
            done.failed += 1 - removed
        archives.remove_unlisted_of_idle_jobs()
        archives.delete_staged_images()


@dataclass(frozen=True, slots=True)
class QuarantineCleaner:
    """Deletes images in the quarantine of this machine."""

    def preview(self, before: datetime) -> Preview:
        found = quarantine.find_old_images(before)
        names = [f"{one.calling}@{one.address}" for one in found[:SHOWN_ROWS]]
        size = sum(one.size_bytes for one in found)
        return Preview(len(found), size, found[0].at if found else None, names)

    def clean(self, kind: DataKind, before: datetime, deadline: float, done: Outcome) -> None:
        for one in quarantine.find_old_images(before):
            if time.monotonic() > deadline:
                break
            try:
                done.removed += quarantine.remove_image(one)
            except OSError:
                done.failed += 1
        _record_cleaning(kind, done.removed)


@dataclass(frozen=True, slots=True)
class JobCleaner:
    """Deletes ended jobs after their ledgers are written."""

    def preview(self, before: datetime) -> Preview:
        jobs = [job for job in find_old_jobs(before) if not waits_for_recall(job)]
        old = Job.objects.filter(state__in=states.ENDED_JOBS, ended_at__lt=before).count()
        kept = _(
            "%(count)d old jobs stay, because something is not finished: images that wait for a "
            "review, a 7-Zip file, a recall, or images of a blocked patient."
        )
        first = [
            _("Job %(number)d of %(owner)s") % {"number": job.pk, "owner": job.owner.username}
            for job in jobs[:SHOWN_ROWS]
        ]
        stays = [kept % {"count": old - len(jobs)}] if old > len(jobs) else []
        return Preview(len(jobs), 0, jobs[0].ended_at if jobs else None, first, stays)

    def clean(self, kind: DataKind, before: datetime, deadline: float, done: Outcome) -> None:
        JobLedger.objects.filter(sealed_at=None).delete()  # left by a crash
        for job in find_old_jobs(before):
            if time.monotonic() > deadline:
                return
            if waits_for_recall(job):
                continue
            done.removed += delete_job(job, before)


@dataclass(frozen=True, slots=True)
class TrailCleaner:
    """Moves old events of the audit trail to signed files."""

    def preview(self, before: datetime) -> Preview:
        old = AuditEvent.objects.filter(at__lt=before)
        return Preview(old.count(), oldest=old.aggregate(oldest=Min("at"))["oldest"])

    def clean(self, kind: DataKind, before: datetime, deadline: float, done: Outcome) -> None:
        while time.monotonic() < deadline:
            events = segments.find_old_events(before)
            if not events:
                return
            segment = segments.write_segment(events)
            with transaction.atomic():
                count = segments.remove_events(segment)
                details = {"removed": count, "file": segment.name, "sha256": segment.sha256}
                record("trail.sealed", details=details)
            done.removed += count


def find_old_jobs(before: datetime) -> QuerySet[Job]:
    """Return jobs that ended before this time and have nothing unfinished, oldest first."""
    jobs = Job.objects.filter(state__in=states.ENDED_JOBS, ended_at__lt=before)
    being_recalled = Task.objects.filter(
        recalled_deliveries__isnull=False, recalled_deliveries__recall__ended_at=None
    )
    to_review = WithheldImages.objects.filter(decision=ReviewDecision.OPEN)
    return (
        jobs.exclude(pk__in=Task.objects.exclude(state__in=states.ENDED_TASKS).values("job"))
        .exclude(pk__in=to_review.values("item__task__job"))
        .exclude(pk__in=ArchiveFile.objects.filter(removed_at=None).values("job"))
        .exclude(pending_archive_files__isnull=False)
        .exclude(pk__in=being_recalled.values("job"))
        .exclude(pk__in=deliveries.jobs_due().values("pk"))
        .select_related("owner", "project", "destination")
        .order_by("ended_at", "pk")
    )


def waits_for_recall(job: Job) -> bool:
    """Return whether a patient of the job is blocked, so that a recall may still need its rows."""
    if not blocking.has_entries():
        return False
    for task in job.tasks.select_related("source").iterator(chunk_size=100):
        task.job = job
        try:
            if block_check.is_on_block_list(task):
                return True
        except DecryptionError:
            continue
    return False


def delete_job(job: Job, before: datetime) -> bool:
    """Write and seal the ledger of a job, and delete the job with its rows.

    Returns False, and deletes nothing, if the job has changed meanwhile.
    """
    ledger = ledgers.write_ledger(job)
    with transaction.atomic():
        old = find_old_jobs(before).filter(pk=job.pk, ended_at=job.ended_at)
        locked = Job.objects.select_for_update(of=("self",)).filter(pk=job.pk)
        if not locked.exists() or not old.exists():
            JobLedger.objects.filter(job=job.pk, sealed_at=None).delete()
            return False
        details: dict[str, Any] = {"images": 0, "ended": str(job.ended_at)}
        if ledger is not None:
            details |= {"images": ledger.images, "ledger": ledgers.seal_ledger(ledger)}
        archives.delete_job_files(job)
        number = job.pk
        job.delete()
        record(ledgers.EXPIRED_EVENT, about=f"job:{number}", details=details)
    return True


def _find_ended_tokens(before: datetime) -> QuerySet[ApiToken]:
    return ApiToken.objects.filter(Q(expires_at__lt=before) | Q(revoked_at__lt=before))


def _find_ended_links(before: datetime) -> QuerySet[OneTimeLink]:
    return OneTimeLink.objects.filter(Q(expires_at__lt=before) | Q(used_at__lt=before))


def _find_ended_sessions(before: datetime) -> QuerySet[UserSession]:
    idle = timedelta(seconds=settings.SESSION_IDLE_S)
    return UserSession.objects.filter(
        Q(expires_at__lte=before) | Q(last_seen_at__lte=before - idle)
    )


def _find_old_usage(model: type[models.Model]) -> Callable[[datetime], QuerySet[Any]]:
    return lambda before: model._default_manager.filter(day__lt=timezone.localdate(before))


CLEANERS: Mapping[DataKind, tuple[Cleaner, ...]] = {
    DataKind.DRAFTS: (
        RowCleaner(lambda before: OrderDraft.objects.filter(updated_at__lt=before), "updated_at"),
        RowCleaner(
            lambda before: ConsentUpload.objects.filter(created_at__lt=before), "created_at"
        ),
    ),
    DataKind.COLUMNS: (
        RowCleaner(lambda before: SheetColumns.objects.filter(used_at__lt=before), "used_at"),
    ),
    DataKind.ARCHIVES: (ArchiveCleaner(),),
    DataKind.QUARANTINE: (QuarantineCleaner(),),
    DataKind.NOTIFICATIONS: (
        RowCleaner(
            lambda before: Notification.objects.filter(created_at__lt=before),
            "created_at",
            lambda row: str(row.message),
        ),
    ),
    DataKind.TOKENS: (
        RowCleaner(_find_ended_tokens, "created_at"),
        RowCleaner(_find_ended_links, "created_at"),
        RowCleaner(
            # A browser is forgotten a year after its last use in addition to the period.
            lambda before: KnownBrowser.objects.filter(
                last_used_at__lt=before - timedelta(days=365)
            ),
            "last_used_at",
        ),
    ),
    DataKind.REQUESTS: (
        RowCleaner(
            lambda before: AccountRequest.objects.filter(created_at__lt=before), "created_at"
        ),
    ),
    DataKind.SESSIONS: (
        RowCleaner(_find_ended_sessions, "last_seen_at", lambda row: f"{row.user or '–'}"),
    ),
    DataKind.USAGE: (
        RowCleaner(_find_old_usage(NodeDailyUsage), "day"),
        RowCleaner(lambda before: NodeHourlyUsage.objects.filter(hour__lt=before), "hour"),
        RowCleaner(_find_old_usage(UserDailyUsage), "day"),
        RowCleaner(lambda before: AlarmMail.objects.filter(created_at__lt=before), "created_at"),
        RowCleaner(
            lambda before: AuditHeadMail.objects.filter(created_at__lt=before), "created_at"
        ),
        RowCleaner(lambda before: Alarm.objects.filter(ended_at__lt=before), "ended_at"),
    ),
    DataKind.JOBS: (JobCleaner(),),
    DataKind.TRAIL: (TrailCleaner(),),
}
"""In the order of cleaning: 7-Zip files before their jobs."""


def clean_all() -> None:
    """Delete what is due of all kinds, for at most `MAX_CLEANING_S`. An error ends one kind only."""
    deadline = time.monotonic() + MAX_CLEANING_S
    for kind in CLEANERS:
        clean_kind(kind, deadline)


def clean_kind(kind: DataKind, deadline: float) -> None:
    """Delete what is due of one kind, and note the result for the pages."""
    before = get_cutoff(kind)
    if before is None:
        LastCleaning.objects.filter(kind=kind).delete()
        return
    done, error = Outcome(), ""
    try:
        for cleaner in CLEANERS[kind]:
            cleaner.clean(kind, before, deadline, done)
    except (DatabaseError, OSError, AditError, DecryptionError, SegmentUnreadable) as reason:
        error = type(reason).__name__
        log.error("The cleaning of %s has failed (%s).", kind, error)
    if done.failed:
        log.warning("%d of %s could not be deleted.", done.failed, kind)
    LastCleaning.objects.update_or_create(
        kind=kind,
        defaults={
            "at": timezone.now(),
            "removed": done.removed,
            "failed": done.failed,
            "error": error,
        },
    )


def preview_kind(kind: DataKind, before: datetime | None) -> Preview:
    """Return what the next cleaning would delete if the period ended at this time."""
    if before is None:
        return Preview()
    parts = [cleaner.preview(before) for cleaner in CLEANERS[kind]]
    return Preview(
        count=sum(part.count for part in parts),
        size_bytes=sum(part.size_bytes for part in parts),
        oldest=min((part.oldest for part in parts if part.oldest), key=str, default=None),
        first=[text for part in parts for text in part.first][:SHOWN_ROWS],
        kept=[text for part in parts for text in part.kept],
    )


def list_problems() -> Iterator[LastCleaning]:
    """Yield the cleanings that failed or left something."""
    yield from LastCleaning.objects.filter(Q(failed__gt=0) | ~Q(error=""))


def _record_cleaning(kind: DataKind, count: int) -> None:
    if count:
        record("retention.cleaned", details={"kind": kind, "removed": count})
