"""Which data goes after how many days, and which stays: one table, walked with a moved clock."""

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.conf import settings
from django.db import models
from django.utils import timezone

from adit.accounts.models import KnownBrowser, User, UserSession
from adit.administration.models import AccountRequest, OneTimeLink
from adit.api_tokens.models import ApiToken
from adit.audit import trail
from adit.audit.models import AuditEvent
from adit.blocklist import blocking
from adit.consent.models import ConsentUpload
from adit.jobs.models import (
    ArchiveFile,
    Job,
    JobState,
    OrderDraft,
    ReviewDecision,
    SeriesResult,
    SheetColumns,
    WithheldImages,
)
from adit.nodes.models import (
    Alarm,
    AlarmMail,
    AuditHeadMail,
    Node,
    NodeDailyUsage,
    NodeHourlyUsage,
    UserDailyUsage,
)
from adit.notifications.models import NotificationKind
from adit.notifications.services import notify
from adit.projects.models import Project
from adit.projects.services import default_project
from adit.retention import cleaning
from adit.retention.models import LastCleaning, RetentionPeriod
from adit.retention.periods import DataKind, get_cutoff
from adit_engine.messages import Message

pytestmark = pytest.mark.django_db

DAYS = (0.5, 2, 13, 15, 29, 31, 89, 93, 364, 366, 454, 460, 729, 731, 5000)
"""The days on which the table is walked."""
NEVER = None
TABLE: dict[str, float | None] = {
    # what: the day on which it has gone
    "draft": 2,
    "consent upload": 2,
    "column choice": 366,
    "notification": 93,
    "expired token": 93,
    "revoked token": 93,
    "valid token": NEVER,
    "used link": 93,
    "expired link": 93,
    "unused browser": 460,
    "request for an account": 31,
    "ended session": 0.5,
    "session of two days": 2,
    "use of a node": 93,
    "hour of a node": 93,
    "use by a person": 93,
    "ended alarm": 93,
    "open alarm": NEVER,
    "mail about alarms": 93,
    "mail of the trail": 93,
    "quarantined image": 31,
    "7-Zip file": 15,
    "complete job": 731,
    "job with gaps": 731,
    "failed job": 731,
    "canceled job": 731,
    "archived job": 731,
    "job of the 7-Zip file": 731,
    "job with decided review": 731,
    "job whose recall has ended": 731,
    "job with open review": NEVER,
    "job of a blocked patient": NEVER,
    "running job": NEVER,
    "waiting job": NEVER,
    "job before approval": NEVER,
    "job that waits for its owner": NEVER,
    "held job": NEVER,
    "job being canceled": NEVER,
    "complete job with an open task": NEVER,
}


@pytest.fixture
def rows(
    root: User,
    coordinator: User,
    source: Node,
    make_node: Callable[..., Node],
    make_job: Callable[..., Job],
    make_item: Callable[..., SeriesResult],
    make_project: Callable[..., Project],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, models.Model | Path]:
    """One row, or file, for each line of the table."""
    now = timezone.now()
    monkeypatch.setattr(settings, "SPOOL_DIR", tmp_path / "spool")
    (tmp_path / "spool" / "_quarantine").mkdir(parents=True)
    image = tmp_path / "spool" / "_quarantine" / f"{1:020}-000001.dcm"
    image.write_bytes(b"x" * 700)

    (tmp_path / "archives").mkdir()
    folders = {"path": str(tmp_path / "archives"), "staging": str(tmp_path / "staged")}
    seven_zip = make_node("7-Zip", kind="archive", settings=folders)
    (tmp_path / "archives" / "job-1.7z").write_bytes(b"7z")

    def job(state: JobState, **values: Any) -> Job:
        return make_job(coordinator, state=state, ended_at=now, **values)

    def withheld(decision: ReviewDecision) -> Job:
        made = job(JobState.SUCCESS)
        item = make_item(made.tasks.get(), expected=1, withheld=1)
        WithheldImages.objects.create(
            item=item,
            code="conversion",
            reason=Message("conversion.capture"),
            images=1,
            decision=decision,
        )
        return made

    packed = job(JobState.SUCCESS)
    Job.objects.filter(pk=packed.pk).update(destination=seven_zip)
    file = ArchiveFile.objects.create(
        job=packed,
        round=0,
        name="job-1.7z",
        size_bytes=2,
        images=1,
        built_at=now,
        expires_at=now + timedelta(days=14),
    )
    half_open = job(JobState.SUCCESS, tasks=2)
    half_open.tasks.filter(position=2).update(state="pending")
    recalled = job(JobState.SUCCESS)
    recalled.tasks.update(recalled_at=now)
    blocked_in = make_project("LUNG")
    blocked = job(JobState.SUCCESS, project=blocked_in)
    dpo = root
    blocking.block_patient(
        dpo, blocked_in, "PACS1", "PID-0815", reason="objection", withdrawn_on=date.today()
    )
    notify([coordinator], NotificationKind.JOB_FINISHED, Message("job.not-yours"), "/jobs/1/")
    token = {"user": coordinator, "name": "t", "digest": "d"}
    alarm = {"cause": Alarm.Cause.DISK, "first_at": now, "last_at": now}
    session = {"data": "", "last_seen_at": now}
    return {
        "draft": OrderDraft.objects.create(user=coordinator, key="k", content={}),
        "consent upload": ConsentUpload.objects.create(
            user=coordinator, project=default_project(), sealed=b""
        ),
        "column choice": SheetColumns.objects.create(
            user=coordinator, kind="query", signature="s", header_line=1, used_at=now
        ),
        "notification": coordinator.notifications.get(),
        "expired token": ApiToken.objects.create(prefix="1", expires_at=now, **token),
        "revoked token": ApiToken.objects.create(prefix="2", revoked_at=now, **token),
        "valid token": ApiToken.objects.create(prefix="3", **token),
        "used link": OneTimeLink.objects.create(
            user=coordinator, digest="1", expires_at=now + timedelta(days=9999), used_at=now
        ),
        "expired link": OneTimeLink.objects.create(user=root, digest="2", expires_at=now),
        "unused browser": KnownBrowser.objects.create(
            user=coordinator, digest="1", last_used_at=now
        ),
        "request for an account": AccountRequest.objects.create(username="new"),
        "ended session": UserSession.objects.create(digest="1", expires_at=now, **session),
        "session of two days": UserSession.objects.create(
            digest="2",
            expires_at=now + timedelta(days=2),
            data="",
            last_seen_at=now + timedelta(days=1.5),
        ),
        "use of a node": NodeDailyUsage.objects.create(
            node=source, day=timezone.localdate(), lane="search"
        ),
        "hour of a node": NodeHourlyUsage.objects.create(node=source, hour=now),
        "use by a person": UserDailyUsage.objects.create(
            user=coordinator, day=timezone.localdate()
        ),
        "ended alarm": Alarm.objects.create(subject="1", ended_at=now, **alarm),
        "open alarm": Alarm.objects.create(subject="2", **alarm),
        "mail about alarms": AlarmMail.objects.create(address="a@example.org"),
        "mail of the trail": AuditHeadMail.objects.create(
            address="a@example.org", count=1, hash="0"
        ),
        "quarantined image": image,
        "7-Zip file": file,
        "complete job": job(JobState.SUCCESS),
        "job with gaps": job(JobState.WARNING),
        "failed job": job(JobState.FAILURE),
        "canceled job": job(JobState.CANCELED),
        "archived job": job(JobState.SUCCESS, archived_at=now),
        "job of the 7-Zip file": packed,
        "job with decided review": withheld(ReviewDecision.LEFT),
        "job whose recall has ended": recalled,
        "job with open review": withheld(ReviewDecision.OPEN),
        "job of a blocked patient": blocked,
        "running job": job(JobState.IN_PROGRESS),
        "waiting job": job(JobState.PENDING),
        "job before approval": job(JobState.WAITING_FOR_APPROVAL),
        "job that waits for its owner": job(JobState.WAITING_FOR_OWNER),
        "held job": job(JobState.HELD),
        "job being canceled": job(JobState.CANCELING),
        "complete job with an open task": half_open,
    }


def exists(row: models.Model | Path) -> bool:
    if isinstance(row, Path):
        return row.exists()
    if isinstance(row, ArchiveFile):
        return ArchiveFile.objects.filter(pk=row.pk, removed_at=None).exists()
    return type(row)._default_manager.filter(pk=row.pk).exists()


def count_previewed() -> int:
    found = (cleaning.preview_kind(kind, get_cutoff(kind)) for kind in DataKind)
    return sum(preview.count for preview in found)


def test_each_kind_of_data_goes_after_its_period_and_not_before(
    rows: dict[str, models.Model | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(rows) == set(TABLE)
    monkeypatch.setattr(cleaning, "PORTION", 1)
    start, gone = timezone.now(), dict.fromkeys(TABLE, NEVER)
    for day in DAYS:
        with time_machine.travel(start + timedelta(days=day), tick=True):
            previewed = count_previewed()
            cleaning.clean_all()
            removed = sum(row.removed for row in LastCleaning.objects.all())
            assert removed == previewed, f"the preview of day {day} must be exact"
        for name, row in rows.items():
            if gone[name] is NEVER and not exists(row):
                gone[name] = day

    assert gone == TABLE
    assert not cleaning.preview_kind(DataKind.DRAFTS, timezone.now()).count
    removed_in_trail = sum(
        event.details["removed"] for event in AuditEvent.objects.filter(action="retention.cleaned")
    )
    expired_jobs = AuditEvent.objects.filter(action="job.expired").count()
    assert removed_in_trail + expired_jobs + 1 == sum(day is not None for day in TABLE.values())
    assert trail.verify_chain() is None


def test_what_is_kept_for_ever_stays(coordinator: User, make_job: Callable[..., Job]) -> None:
    job = make_job(coordinator, ended_at=timezone.now())
    RetentionPeriod.objects.create(kind=DataKind.JOBS, days=None)

    with time_machine.travel(timezone.now() + timedelta(days=9000)):
        cleaning.clean_all()

    assert exists(job)


HANDLED_BY_ITS_OBJECT = {
    # deleted with the job, task, node, user, group, mail or notification that they belong to
    *("jobs.Task", "jobs.TaskGroup", "jobs.SeriesResult", "jobs.ResultLine", "jobs.JobMail"),
    *("jobs.WithheldImages", "jobs.RuledImages", "jobs.PendingArchiveFile", "jobs.LastClaim"),
    *("notifications.NotificationMail", "notifications.MailChoice", "nodes.NodeTestResult"),
    *("nodes.NodeAccess", "nodes.Budget", "nodes.CircuitBreaker", "accounts.SecondFactorGroup"),
    *("account.EmailAddress", "account.EmailConfirmation", "mfa.Authenticator"),
    *("socialaccount.SocialAccount", "socialaccount.SocialToken", "socialaccount.SocialApp"),
}
ENDS_BY_ITSELF = {
    # deleted by the process that uses them, after minutes, a day, or when replaced
    *("api.IdempotentRequest", "webhooks.WebhookDelivery"),
    *("nodes.Slot", "nodes.MoveInProgress", "nodes.PendingCommitment", "nodes.UnexpectedSender"),
    *("monitoring.ProcessSign", "monitoring.DiskUsage", "sessions.Session"),
}
KEPT = {
    # as long as the installation: accounts, configuration, evidence
    *("accounts.User", "auth.Group", "auth.Permission", "contenttypes.ContentType"),
    *("nodes.Node", "nodes.SharedFolder", "projects.ProfileVersion", "projects.Project"),
    *("projects.Patient", "projects.MergedPatientId", "projects.ApprovalDocument"),
    *("jobs.DeliveredSeries", "jobs.DeviceDecision"),
    *("blocklist.BlockedPatient", "audit.AuditEvent", "audit.ChainHead"),
    *("consent.ConsentVersion", "consent.ConsentEntry"),
    *("audit.AuditSegment", "webhooks.Webhook"),
    *("retention.RetentionPeriod", "retention.LastCleaning"),
    *("retention.JobLedger", "retention.LedgerPart", "dicomweb.Retrieval"),
    *("recall.Recall", "recall.RecalledDelivery", "recall.RecipientConfirmation"),
}


def test_every_model_has_a_decision_about_its_retention(
    rows: dict[str, models.Model | Path],
) -> None:
    walked = {row._meta.label for row in rows.values() if isinstance(row, models.Model)}
    decided = walked | HANDLED_BY_ITS_OBJECT | ENDS_BY_ITSELF | KEPT
    every = {model._meta.label for model in apps.get_models()}

    assert every - decided == set(), "decide how long rows of this model are kept"
    assert walked.isdisjoint(HANDLED_BY_ITS_OBJECT | ENDS_BY_ITSELF | KEPT)


def test_a_crash_between_two_portions_loses_neither_rows_nor_events(
    coordinator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    for number in range(5):
        OrderDraft.objects.create(user=coordinator, key=f"key {number}", content={})
    monkeypatch.setattr(cleaning, "PORTION", 2)
    real, calls = cleaning.record, []

    def killed_at_the_second(*args: Any, **values: Any) -> AuditEvent:
        calls.append(args)
        if len(calls) == 2:
            raise Killed
        return real(*args, **values)

    with time_machine.travel(timezone.now() + timedelta(days=3)):
        monkeypatch.setattr(cleaning, "record", killed_at_the_second)
        with pytest.raises(Killed):
            cleaning.clean_all()
        assert (OrderDraft.objects.count(), count_removed()) == (3, 2)
        monkeypatch.setattr(cleaning, "record", real)
        cleaning.clean_all()

    assert (OrderDraft.objects.count(), count_removed()) == (0, 5)


def count_removed() -> int:
    events = AuditEvent.objects.filter(action="retention.cleaned", details__kind="drafts")
    return sum(event.details["removed"] for event in events)


def test_a_file_that_cannot_be_deleted_is_said_and_tried_again(
    rows: dict[str, models.Model | Path], as_user: Callable[..., Any], root: User
) -> None:
    image = rows["quarantined image"]
    assert isinstance(image, Path)
    archive = image.parents[2] / "archives" / "job-1.7z"
    for path in (image, archive):
        path.unlink()
        path.mkdir()
    OrderDraft.objects.all().delete()

    with time_machine.travel(timezone.now() + timedelta(days=40)):
        cleaning.clean_all()
        failed = {row.kind: row.failed for row in cleaning.list_problems()}
        page = as_user(root).get("/system/").content.decode()
        for path in (image, archive):
            path.rmdir()
            path.write_bytes(b"")
        cleaning.clean_all()

    assert failed == {DataKind.ARCHIVES: 1, DataKind.QUARANTINE: 1}
    assert "7-Zip files: 1 could not be deleted." in page
    assert not image.exists()
    assert not archive.exists()
    assert not list(cleaning.list_problems())


def test_an_error_in_one_kind_does_not_stop_the_others(
    rows: dict[str, models.Model | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_before: object) -> None:
        raise PermissionError("a path")

    monkeypatch.setattr("adit.nodes.receiving.quarantine.find_old_images", fail)
    with time_machine.travel(timezone.now() + timedelta(days=800)):
        cleaning.clean_all()

    problem = LastCleaning.objects.exclude(error="").get()
    assert (problem.kind, problem.error) == (DataKind.QUARANTINE, "PermissionError")
    assert not exists(rows["complete job"])
