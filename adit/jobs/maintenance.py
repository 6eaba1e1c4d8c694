"""Periodic maintenance of jobs, called by the scheduler.

Raises alarms for jobs that have made no progress for two days, and fails pending tasks of
research projects that have ended.
"""

from collections.abc import Iterable
from datetime import timedelta

from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from adit.jobs import states, task_groups
from adit.jobs.models import Job, JobState, Task, TaskState
from adit.nodes import alarms
from adit.nodes.models import Alarm
from adit.projects import services
from adit.projects.models import Project
from adit_engine.messages import Message, join_messages

STALLED_AFTER = timedelta(hours=48)
MAX_ALARMS = 50
_ACTIVE = (JobState.PENDING, JobState.IN_PROGRESS, JobState.CANCELING)


def update_stalled_alarms() -> int:
    """Raise an alarm for each stalled job and end the others; return how many."""
    stuck = list(_stalled_jobs())
    for job in stuck:
        hours = int(STALLED_AFTER.total_seconds()) // 3600
        stalled = Message("job.stalled", job=job.pk, hours=hours)
        message = join_messages([stalled, *task_groups.wait_reasons(job)[:1]])
        alarms.raise_alarm(Alarm.Cause.STUCK, _alarm_subject(job), message or stalled)
    alarms.end_other_alarms(Alarm.Cause.STUCK, map(_alarm_subject, stuck))
    return len(stuck)


def _stalled_jobs() -> Iterable[Job]:
    """Active jobs without progress. Jobs with a running task are excluded.

    The worker ends a running task that makes no progress.
    """
    last = Greatest(
        "created_at",
        Coalesce(Max("tasks__started_at"), "created_at"),
        Coalesce(Max("tasks__ended_at"), "created_at"),
    )
    running = Task.objects.filter(state=TaskState.IN_PROGRESS).values("job")
    under_way = Job.objects.filter(state__in=_ACTIVE).exclude(pk__in=running)
    before = timezone.now() - STALLED_AFTER
    return under_way.annotate(last_at=last).filter(last_at__lt=before).order_by("pk")[:MAX_ALARMS]


def _alarm_subject(job: Job) -> str:
    return f"job:{job.pk}"


def fail_tasks_of_ended_projects() -> int:
    """Fail the pending tasks of ended research projects; return how many.

    Running tasks are stopped by their lease.
    """
    count = 0
    for project in Project.objects.filter(services.ended_filter(), is_default=False):
        why = services.explain_ended(project)
        if not why:
            continue
        waiting = Task.objects.filter(
            state=TaskState.PENDING, job__project=project, job__state__in=states.RUNNABLE_JOBS
        )
        for pk in list(waiting.values_list("pk", flat=True)):
            count += _fail_task(pk, why)
    return count


def _fail_task(pk: int, reason: Message) -> bool:
    with transaction.atomic():
        task = Task.objects.filter(pk=pk, state=TaskState.PENDING).first()
        if task is None:
            return False
        states.lock_job(task.job_id)
        try:
            states.move_row(task, TaskState.FAILURE, reason)
        except states.StaleRow:
            return False
    return True
