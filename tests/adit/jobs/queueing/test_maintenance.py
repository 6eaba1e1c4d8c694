"""A job without progress for 48 hours raises an alarm until it continues."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from adit.jobs import maintenance
from adit.jobs.models import Job, Task
from adit.nodes.models import Alarm

pytestmark = pytest.mark.django_db(transaction=True)

Ordering = Callable[..., Job]


def test_a_stalled_job_raises_an_alarm_until_it_makes_progress(order_studies: Ordering) -> None:
    job, young = order_studies("1"), order_studies("2")
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - timedelta(hours=49))

    assert maintenance.update_stalled_alarms() == 1
    alarm = Alarm.objects.get()
    assert (alarm.cause, alarm.subject) == (Alarm.Cause.STUCK, f"job:{job.pk}")
    assert f"Job {job.pk} has made no progress for 48 hours" in str(alarm.text)
    assert str(young.pk) not in alarm.subject
    Task.objects.filter(job=job).update(started_at=timezone.now())
    assert maintenance.update_stalled_alarms() == 0
    alarm.refresh_from_db()
    assert alarm.ended_at is not None
