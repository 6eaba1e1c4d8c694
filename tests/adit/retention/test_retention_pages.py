"""Pages of retention: administrators change periods and see before what a change deletes."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from adit.accounts.models import User
from adit.audit.models import AuditEvent
from adit.config.celery import app
from adit.jobs.models import ArchiveFile, Job
from adit.retention import tasks
from adit.retention.models import RetentionPeriod
from adit.retention.periods import DataKind, get_days

pytestmark = pytest.mark.django_db


def current_periods(**changes: object) -> dict[str, object]:
    days = {kind.value: get_days(kind) for kind in DataKind}
    return {name: "" if value is None else value for name, value in {**days, **changes}.items()}


def test_an_administrator_changes_periods_and_it_is_recorded(
    root: User, as_user: Callable[..., Client], make_job: Callable[..., Job]
) -> None:
    now = timezone.now()
    file = ArchiveFile.objects.create(
        job=make_job(root),
        round=0,
        name="a.7z",
        size_bytes=1,
        images=1,
        built_at=now,
        expires_at=now + timedelta(days=14),
    )
    values = current_periods(jobs="", notifications=30, archives=7)

    page = as_user(root).post(reverse("retention"), values, follow=True).content.decode()

    assert "Saved." in page
    assert [get_days(kind) for kind in (DataKind.JOBS, DataKind.NOTIFICATIONS)] == [None, 30]
    file.refresh_from_db()
    assert file.expires_at == now + timedelta(days=7)
    event = AuditEvent.objects.get(action="retention.changed")
    assert event.details["changes"] == {
        "jobs": {"from": 730, "to": None},
        "archives": {"from": 14, "to": 7},
        "notifications": {"from": 90, "to": 30},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [("jobs", "29"), ("drafts", ""), ("drafts", "8"), ("archives", "0"), ("usage", "-1")],
)
def test_periods_outside_the_bounds_are_refused_and_nothing_is_saved(
    field: str, value: str, root: User, as_user: Callable[..., Client]
) -> None:
    answer = as_user(root).post(reverse("retention"), current_periods(**{field: value}))

    assert answer.status_code == 422
    assert not RetentionPeriod.objects.exists()


def test_the_preview_shows_what_proposed_periods_would_delete_and_deletes_nothing(
    root: User, as_user: Callable[..., Client], make_job: Callable[..., Job]
) -> None:
    job = make_job(root, ended_at=timezone.now() - timedelta(days=100))
    client, address = as_user(root), reverse("retention_preview")

    now = client.get(address).content.decode()
    proposed = client.get(address, current_periods(jobs=30)).content.decode()

    assert f"Job {job.pk} of root" not in now
    assert f"Job {job.pk} of root" in proposed
    assert "They are not saved." in proposed
    assert Job.objects.filter(pk=job.pk).exists()
    assert get_days(DataKind.JOBS) == 730


def test_the_scheduler_deletes_expired_data_and_the_command_does_it_by_hand(
    root: User, make_job: Callable[..., Job], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tasks.clean.name in {entry["task"] for entry in app.conf.beat_schedule.values()}
    for days in (800, 900):
        make_job(root, ended_at=timezone.now() - timedelta(days=days))

    call_command("retention", "preview")
    assert "Finished jobs: 2 due" in capsys.readouterr().out
    call_command("retention", "clean")

    assert "Finished jobs: 0 due" in capsys.readouterr().out
    assert not Job.objects.exists()
